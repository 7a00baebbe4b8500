"""Chronus: jobs derived from Philly with deadlines, in minutes (docs/reference/traces/chronus.md).

A deadline counts from the submission. It is the last time at which the job's end is worth
anything: strict jobs have one, soft jobs lose value step by step, best-effort jobs have none.
"""

from __future__ import annotations

from collections import Counter

from fairlead.model.base import Ms
from fairlead.sim.traces.lines import TIME_MS_MAX, Lines, assemble
from fairlead.sim.traces.table import MINUTE_MS, Row, rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = ("job_id", "user", "num_gpu", "submit_time", "duration", "expect_time_list", "job_type")
KINDS = ("strict", "soft", "best")


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; the queue is the class of the job: strict, soft or best."""
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for row in rows(path, lines, COLUMNS):
        kind = row.text("job_type")
        if kind not in KINDS:
            raise row.wrong("job_type", f"one of {', '.join(KINDS)}")
        gpus = row.whole("num_gpu")
        submit = row.ms("submit_time", MINUTE_MS)
        job = TraceJob(
            id=row.key("job_id"),
            submit_ms=submit,
            run_ms=row.ms("duration", MINUTE_MS),
            processors=gpus,
            name=row.text("model_name"),
            tenant=row.text("user") or "default",
            queue=kind,
            deadline_ms=None if kind == "best" else submit + _latest(row),
        )
        if gpus:
            jobs.append(job)
        else:
            dropped["0 GPUs (a fraction of one, rounded down)"] += 1
    return assemble(path, "chronus", jobs, dropped)


def _latest(row: Row) -> Ms:
    try:
        latest = max(int(text) for text in row.cells["expect_time_list"].split("-"))
    except ValueError:
        latest = -1
    if not 0 <= latest <= TIME_MS_MAX // MINUTE_MS:
        raise row.wrong("expect_time_list", "minutes, separated by -", "for example 159-189-229")
    return latest * MINUTE_MS
