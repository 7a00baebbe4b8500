"""ElasticFlow: jobs with deadlines, as CSV in seconds (docs/reference/traces/elasticflow.md)."""

from __future__ import annotations

from collections import Counter

from fairlead.sim.traces.lines import Lines, assemble
from fairlead.sim.traces.table import rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = ("job_id", "submit_time", "model_name", "ddl", "num_gpu", "duration")


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; deadlines are on the same clock as submissions."""
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for row in rows(path, lines, COLUMNS):
        gpus = row.whole("num_gpu")
        job = TraceJob(
            id=row.key("job_id"),
            submit_ms=row.ms("submit_time"),
            run_ms=row.ms("duration"),
            processors=gpus,
            name=row.text("model_name"),
            deadline_ms=None if row.blank("ddl") else row.ms("ddl"),
        )
        if gpus:
            jobs.append(job)
        else:
            dropped["0 GPUs"] += 1
    return assemble(path, "elasticflow", jobs, dropped)
