"""Muri: jobs derived from Philly, as CSV in milliseconds (docs/reference/traces/muri.md)."""

from __future__ import annotations

from collections import Counter

from fairlead.sim.traces.lines import Lines, assemble
from fairlead.sim.traces.table import rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = ("job_id", "num_gpu", "submit_time", "model_name", "duration", "iteration_time")


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; every time in the file is in milliseconds."""
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for row in rows(path, lines, COLUMNS):
        gpus = row.whole("num_gpu")
        job = TraceJob(
            id=row.key("job_id"),
            submit_ms=row.ms("submit_time", 1),
            run_ms=row.ms("duration", 1),
            processors=gpus,
            name=row.text("model_name"),
        )
        if gpus:
            jobs.append(job)
        else:
            dropped["0 GPUs"] += 1
    return assemble(path, "muri", jobs, dropped)
