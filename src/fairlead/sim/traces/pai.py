"""Alibaba 2020 (PAI): the task table, with or without a header (docs/reference/traces/pai.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fairlead.model import limits
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape
from fairlead.sim.traces.lines import Lines, assemble
from fairlead.sim.traces.table import Row, cells_of, header, rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = (
    *("job_name", "task_name", "inst_num", "status", "start_time", "end_time"),
    *("plan_cpu", "plan_mem", "plan_gpu", "gpu_type"),
)
# The other tables, by their columns: told apart to say which one is needed.
OTHERS = {
    ("job_name", "inst_id", "user", "status", "start_time", "end_time"): "job",
    (
        *("job_name", "task_name", "inst_name", "worker_name", "inst_id"),
        *("status", "start_time", "end_time", "machine"),
    ): "instance",
}
_PERCENT_MILLI = 10  # thousandths in a percent
_NOTES = {"submitted": "when the task was launched: the table does not have the submission"}


def is_task(names: list[str]) -> bool:
    """Return whether these cells are a line of the task table, which has no header of its own."""
    states = ("Terminated", "Failed", "Running", "Waiting")
    return len(names) == len(COLUMNS) and names[3] in states


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace: one job per task, a gang of its instances."""
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    rounded = 0
    for row in _rows(path, lines):
        members = row.whole("inst_num", 0, limits.MEMBERS_MAX) if not row.blank("inst_num") else 0
        if row.blank("start_time"):
            dropped["no start_time (never ran)"] += 1
            continue
        if row.blank("end_time"):
            dropped["no end_time (still ran)"] += 1
            continue
        submit, run = row.ms("start_time"), row.ms("end_time") - row.ms("start_time")
        if run < 0:
            raise row.wrong("end_time", "a time from start_time on")
        if not members:
            dropped["no instances"] += 1
            continue
        gpu_milli = _amount(row, "plan_gpu", _PERCENT_MILLI)
        rounded += gpu_milli > WHOLE_GPU_MILLI and gpu_milli % WHOLE_GPU_MILLI > 0
        jobs.append(
            TraceJob(
                id=f"{row.text('job_name')}/{row.text('task_name')}",
                submit_ms=submit,
                run_ms=run,
                shape=_shape(row, gpu_milli, members),
                name=row.text("task_name"),
            )
        )
    notes = dict(_NOTES)
    if rounded:
        notes["rounded up"] = f"{rounded:,} tasks asked for more than one GPU, but not whole ones"
    return assemble(path, "pai", jobs, dropped, notes=notes)


def _rows(path: str, lines: Lines) -> Iterator[Row]:
    if is_task(header(lines[0][1])):
        return cells_of(path, lines, COLUMNS)
    return rows(path, lines, COLUMNS)


def _amount(row: Row, name: str, unit: int) -> int:
    if row.blank(name):
        return 0
    return round(unit * row.number(name, 0, limits.AMOUNT_MAX / unit))


def _shape(row: Row, gpu_milli: int, members: int) -> Shape:
    share = gpu_milli < WHOLE_GPU_MILLI
    return Shape(
        cpu_milli=_amount(row, "plan_cpu", _PERCENT_MILLI),
        memory_mib=_amount(row, "plan_mem", 1024),
        gpus=0 if share else -(-gpu_milli // WHOLE_GPU_MILLI),
        gpu_milli=gpu_milli if share else 0,
        members=members,
    )
