"""What is in a trace, for `fairlead sim trace info`."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.sim.workload import Trace, TraceJob

WIDTHS_SHOWN = 8


class TraceInfo(msgspec.Struct, frozen=True):
    """A summary of a trace. `widths` are the commonest requests, by number of jobs.

    `load_ratio` is work over capacity during the submissions, where the trace says how many
    processors there were and asks for processors; else None.
    """

    path: str
    format: str
    jobs: int
    dropped: dict[str, int]
    processors: int | None
    cluster: str
    first_submit_s: float
    last_submit_s: float
    mean_run_s: float
    longest_run_s: float
    over_limit: int  # jobs that ran longer than their own limit
    tenants: int
    users: int
    queues: int
    widths: dict[str, int]
    load_ratio: float | None
    notes: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body


def summarise_trace(trace: Trace) -> TraceInfo:
    """Return a summary of the trace."""
    jobs = trace.jobs
    widths: dict[str, int] = {}
    for job in jobs:
        words = _request(job)
        widths[words] = widths.get(words, 0) + 1
    common = sorted(widths.items(), key=lambda item: (-item[1], item[0]))
    first, last = jobs[0].submit_ms, jobs[-1].submit_ms
    load = None
    if trace.processors and last > first and all(job.processors for job in jobs):
        work = sum(job.run_ms * job.processors for job in jobs)
        load = work / (trace.processors * (last - first))
    return TraceInfo(
        path=trace.path,
        format=trace.format,
        jobs=len(jobs),
        dropped=trace.dropped,
        processors=trace.processors,
        cluster=trace.cluster,
        first_submit_s=first / 1000,
        last_submit_s=last / 1000,
        mean_run_s=sum(job.run_ms for job in jobs) / len(jobs) / 1000,
        longest_run_s=max(job.run_ms for job in jobs) / 1000,
        over_limit=sum(job.limit_ms is not None and job.run_ms > job.limit_ms for job in jobs),
        tenants=len({job.tenant for job in jobs}),
        users=len({job.user for job in jobs}),
        queues=len({job.queue for job in jobs}),
        widths=dict(common[:WIDTHS_SHOWN]),
        load_ratio=load,
        notes=trace.notes,
    )


def _request(job: TraceJob) -> str:
    """Return what a job asks for, in a few words: "4 processors", "8 x 2 GPUs"."""
    if job.shape is None:
        return _plural(job.processors, "processor")
    shape = job.shape
    if shape.gpus:
        each = _plural(shape.gpus, "GPU")
    elif shape.gpu_milli:
        each = f"{shape.gpu_milli / 1000:g} GPU"
    else:
        each = f"{shape.cpu_milli / 1000:g} core" + ("s" if shape.cpu_milli != 1000 else "")
    return each if shape.members == 1 else f"{shape.members} x {each}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"
