"""Helios `cluster_log.csv`: jobs of SenseTime's clusters (docs/reference/traces/helios.md)."""

from __future__ import annotations

from collections import Counter

from fairlead.model import limits
from fairlead.sim.traces.gangs import spread
from fairlead.sim.traces.lines import Lines, assemble
from fairlead.sim.traces.table import from_first, rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = (
    *("job_id", "user", "vc", "gpu_num", "cpu_num", "node_num", "state"),
    *("submit_time", "start_time", "end_time", "duration"),
)


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; jobs without a start never ran; the column `queue` is a wait, no name."""
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for row in rows(path, lines, COLUMNS):
        gpus, cores = row.whole("gpu_num"), row.whole("cpu_num")
        nodes = row.whole("node_num", 0, limits.MEMBERS_MAX)
        submit = row.moment("submit_time")
        if row.blank("start_time"):
            dropped["no start_time (never ran)"] += 1
        elif row.blank("end_time") or row.blank("duration"):
            dropped["no end_time (still ran)"] += 1
        elif not gpus and not cores:
            dropped["neither GPUs nor cores"] += 1
        else:
            jobs.append(
                TraceJob(
                    id=row.key("job_id"),
                    submit_ms=submit,
                    run_ms=row.ms("duration"),
                    shape=spread(nodes, gpus=gpus, cpu_milli=1000 * cores),
                    user=row.text("user"),
                    tenant=row.text("vc") or "default",
                )
            )
    jobs, notes = from_first(jobs)
    return assemble(path, "helios", jobs, dropped, notes=notes)
