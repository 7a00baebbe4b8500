"""What is in a trace, for `fairlead sim trace info`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from fairlead.model.resources import CPU, GPU, WHOLE_GPU_MILLI, Shape, asked_in_all
from fairlead.sim.cluster import Cluster
from fairlead.sim.workload import Trace, TraceJob

WIDTHS_SHOWN = 8


class TraceInfo(msgspec.Struct, frozen=True):
    """A summary of a trace. `widths` are the commonest requests, by number of jobs.

    `asked` and `work_s` are in `unit`: processors where the trace asks for them, else GPUs, else
    cores. `load_ratio` is work over capacity during the submissions, on the cluster asked for or
    else the processors that the header names; None where neither is known.
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
    unit: str
    asked: float  # by all jobs together
    work_s: float  # of all jobs: what they asked for times how long they ran
    kinds: dict[str, int]  # jobs by what they ask for: one GPU, a share of one, …
    deadlines: int
    deadlines_too_short: int  # jobs that run for longer than their deadline leaves from the start

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body


def summarise_trace(trace: Trace, cluster: Cluster | None = None) -> TraceInfo:
    """Return a summary of the trace; the load is that on the cluster, where there is one."""
    jobs = trace.jobs
    widths = Counter(map(_request, jobs))
    common = sorted(widths.items(), key=lambda item: (-item[1], item[0]))
    first, last = jobs[0].submit_ms, jobs[-1].submit_ms
    unit = unit_of(jobs)
    asked_milli = [milli(job, unit) for job in jobs]
    due = [job for job in jobs if job.deadline_ms is not None]
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
        load_ratio=_load(trace, cluster, last - first),
        notes=trace.notes,
        unit=unit,
        asked=sum(asked_milli) / 1000,
        work_s=sum(job.run_ms * each for job, each in zip(jobs, asked_milli, strict=True)) / 1e6,
        kinds=dict(sorted(Counter(map(_kind, jobs)).items())),
        deadlines=len(due),
        deadlines_too_short=sum(job.submit_ms + job.run_ms > (job.deadline_ms or 0) for job in due),
    )


def unit_of(jobs: Sequence[TraceJob]) -> str:
    """Return what the jobs of a trace are counted in: "processors", "GPUs" or "cores"."""
    if any(job.processors for job in jobs):
        return "processors"
    shapes = [job.shape for job in jobs if job.shape]
    return "GPUs" if any(asked_in_all(shape)[GPU] for shape in shapes) else "cores"


def milli(job: TraceJob, unit: str) -> int:
    """Return the thousandths of the unit that a job asks for, all members together."""
    if job.shape is None:
        return 1000 * job.processors
    return asked_in_all(job.shape)[CPU if unit == "cores" else GPU]


def _load(trace: Trace, cluster: Cluster | None, span_ms: int) -> float | None:
    """Return the work of the jobs over what the processors could do while they came."""
    if cluster is not None:
        unit, capacity = f"{cluster.kind}s", cluster.capacity_milli
    elif trace.processors and all(job.processors for job in trace.jobs):
        unit, capacity = "processors", 1000 * trace.processors
    else:
        return None
    if span_ms <= 0:
        return None
    return sum(job.run_ms * milli(job, unit) for job in trace.jobs) / (capacity * span_ms)


def _kind(job: TraceJob) -> str:
    if job.shape is None:
        return "processors"
    asked = asked_in_all(job.shape)[GPU]
    if any(kind.gpus or kind.gpu_parts for kind in job.shape.parts()):
        several = asked > WHOLE_GPU_MILLI or any(k.devices > 1 for k in job.shape.parts())
        return "several GPUs" if several else "one GPU"
    return "a share of a GPU" if asked else "no GPU"


def _request(job: TraceJob) -> str:
    """Return what a job asks for, in a few words: "4 processors", "8 x 2 GPUs"."""
    if job.shape is None:
        return _plural(job.processors, "processor")
    return " + ".join(_kind_of_member(kind) for kind in job.shape.parts())


def _kind_of_member(shape: Shape) -> str:
    if shape.gpus and not shape.gpu_milli:
        each = _plural(shape.gpus, "GPU")
    elif shape.gpu_milli:
        count = shape.gpus + shape.gpu_milli / 1000
        each = f"{count:g} GPU" + ("s" if count > 1 else "")
    else:
        each = f"{shape.cpu_milli / 1000:g} core" + ("s" if shape.cpu_milli != 1000 else "")
    return each if shape.members == 1 else f"{shape.members} x {each}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"
