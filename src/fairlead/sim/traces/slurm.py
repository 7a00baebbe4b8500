"""Event files of the Slurm simulator: a submission per line (docs/reference/traces/slurm.md).

`-dt 49 -e submit_batch_job | -J name -sim-walltime 1201 --uid=user1 -t 00:30:00 -n 12 job.sh`
"""

from __future__ import annotations

import re
import shlex
from collections import Counter

from fairlead.model import limits
from fairlead.model.base import Ms
from fairlead.model.resources import Shape
from fairlead.sim.traces.lines import PROCESSORS_MAX, Lines, assemble, damaged, shown
from fairlead.sim.traces.table import MINUTE_MS, SECOND_MS, Row
from fairlead.sim.workload import Trace, TraceJob

EVENT = "submit_batch_job"
_LONG = {
    **{"-J": "--job-name", "-t": "--time", "-n": "--ntasks", "-N": "--nodes", "-A": "--account"},
    **{"-p": "--partition", "-q": "--qos", "-C": "--constraint", "-c": "--cpus-per-task"},
}
_FLAGS = ("--exclusive",)
_SIZE = re.compile(r"(\d{1,15})([KMGT]?)B?", re.ASCII)
_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}
_TIME = re.compile(r"(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?", re.ASCII)
_GRES = re.compile(r"gpu(?::[^\d:][^:]*)?(?::(\d{1,9}))?", re.ASCII)


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; ids are positions in the file, so that they order what comes together."""
    jobs: list[TraceJob] = []
    unheeded: Counter[str] = Counter()
    for position, (number, line) in enumerate(
        (pair for pair in lines if not pair[1].startswith(b"#")), 1
    ):
        row = Row(path, number, _options(path, number, line))
        for name in ("--exclusive", "--constraint"):
            unheeded[name] += name in row.cells
        limit = _limit(row)
        jobs.append(
            TraceJob(
                id=position,
                submit_ms=row.ms("-dt"),
                run_ms=_run(row, limit),
                shape=_shape(row),
                name=row.text("--job-name"),
                user=row.text("--uid"),
                tenant=row.text("--account") or "default",
                queue=row.text("--partition") or "default",
                limit_ms=limit,
            )
        )
    notes = {f"not heeded, {name}": f"{count:,} jobs" for name, count in unheeded.items() if count}
    return assemble(path, "slurm", jobs, {}, notes=notes)


def _options(path: str, number: int, line: bytes) -> dict[str, str]:
    """Return the options of one line by their long names."""
    text = line.decode("utf-8", "replace")
    event, bar, command = text.partition("|")
    try:
        words = [*event.split(), *(shlex.split(command) if '"' in text else command.split())]
    except ValueError:
        words = []
    if not bar or EVENT not in words:
        raise damaged(
            path,
            number,
            f"found {shown(line)}, expected -dt SECONDS -e {EVENT} | options of sbatch",
            hint="every line of an event file is one submission",
        )
    cells: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            continue
        name, equals, value = word.partition("=")
        name = _LONG.get(name, name)
        if name not in _FLAGS and not equals:
            value = next(rest, "")
        cells[name] = value
    for needed in ("-dt", "-sim-walltime"):
        if needed not in cells:
            raise damaged(
                path, number, f"found no {needed}, expected one in every line", field=needed
            )
    return cells


def _limit(row: Row) -> Ms | None:
    """Return -t: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    if "--time" not in row.cells:
        return None
    found = _TIME.fullmatch(row.cells["--time"])
    if not found:
        raise row.wrong("--time", "a time such as 30, 30:00, 12:00:00 or 3-00:00:00")
    days, first, second, third = (int(group) if group else None for group in found.groups())
    assert first is not None  # the pattern needs it
    if days is not None:
        minutes = 60 * (24 * days + first) + (second or 0)
        seconds = third or 0
    elif third is not None:
        minutes, seconds = 60 * first + (second or 0), third
    else:
        minutes, seconds = first, second or 0
    limit = MINUTE_MS * minutes + SECOND_MS * seconds
    return limit if 0 < limit <= limits.LIMIT_MS_MAX else None


def _run(row: Row, limit: Ms | None) -> Ms:
    """Return the run time; -1 is a job that needs all of its limit and ends well."""
    if limit is not None and row.number("-sim-walltime", -1) == -1:
        return limit
    return row.ms("-sim-walltime")


def _shape(row: Row) -> Shape:
    """Return a member per node, as many as -N says or as the tasks fill."""

    def count(name: str, most: int = PROCESSORS_MAX) -> int:
        # -N may be a range; the scheduler then starts with the least.
        text = row.cells.get(name, "1").partition("-")[0]
        return Row(row.path, row.line, {name: text}).whole(name, 1, most)

    tasks, nodes = count("--ntasks"), count("--nodes", limits.MEMBERS_MAX)
    if "--nodes" in row.cells:
        tasks = max(tasks, nodes)
    elif "--ntasks-per-node" in row.cells:
        nodes = -(-tasks // count("--ntasks-per-node"))
    return Shape(
        cpu_milli=1000 * count("--cpus-per-task") * -(-tasks // nodes),
        memory_mib=_memory(row),
        gpus=_gpus(row),
        members=nodes,
    )


def _memory(row: Row) -> int:
    if "--mem" not in row.cells:
        return 0
    found = _SIZE.fullmatch(row.cells["--mem"].upper())
    amount = round(int(found[1]) * _MIB[found[2]]) if found else -1
    if not 0 <= amount <= limits.AMOUNT_MAX:
        raise row.wrong("--mem", "a size per node such as 32000M or 64G")
    return amount


def _gpus(row: Row) -> int:
    if "--gres" not in row.cells:
        return 0
    found = [_GRES.fullmatch(part) for part in row.cells["--gres"].split(",")]
    gpus = sum(int(each[1] or 1) for each in found if each)
    if gpus > limits.DEVICES_PER_NODE_MAX:
        raise row.wrong("--gres", f"at most {limits.DEVICES_PER_NODE_MAX} GPUs per node")
    return gpus
