"""Acme `trace_{seren,kalos}.csv`: jobs of two clusters for language models (…/traces/acme.md)."""

from __future__ import annotations

from collections import Counter

from fairlead.model import limits
from fairlead.model.base import Ms
from fairlead.sim.traces.gangs import spread
from fairlead.sim.traces.lines import Lines, assemble
from fairlead.sim.traces.table import Row, from_first, rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = (
    *("job_id", "user", "node_num", "gpu_num", "cpu_num", "type", "state"),
    *("submit_time", "start_time", "end_time"),
)


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; the tenant is the type of work, the only group that the file names."""
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for row in rows(path, lines, COLUMNS):
        gpus, cores = row.whole("gpu_num"), row.whole("cpu_num")
        nodes = row.whole("node_num", 0, limits.MEMBERS_MAX)
        submit = row.moment("submit_time", zone=True)
        memory = 0.0
        if not row.blank("mem_per_pod_GB"):
            memory = row.number("mem_per_pod_GB", 0, limits.AMOUNT_MAX // 1024)
        if row.blank("start_time"):
            dropped["no start_time (never ran)"] += 1
        elif row.blank("end_time"):
            dropped["no end_time (still ran)"] += 1
        elif not gpus and not cores:
            dropped["neither GPUs nor cores"] += 1
        else:
            jobs.append(
                TraceJob(
                    id=row.key("job_id"),
                    submit_ms=submit,
                    run_ms=_run(row),
                    shape=spread(
                        nodes, gpus=gpus, cpu_milli=1000 * cores, member_mib=round(1024 * memory)
                    ),
                    user=row.text("user"),
                    tenant=row.text("type") or "default",
                )
            )
    jobs, notes = from_first(jobs)
    return assemble(path, "acme", jobs, dropped, notes=notes)


def _run(row: Row) -> Ms:
    """Return end - start: `duration` counts from the submission in one of the two files."""
    run = row.moment("end_time", zone=True) - row.moment("start_time", zone=True)
    if run < 0:
        raise row.wrong("end_time", "a time from start_time on")
    return run
