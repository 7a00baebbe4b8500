"""What is simulated: the jobs of a trace, fitted to a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from fairlead.model.base import Misuse, Ms, Record, Refused
from fairlead.model.events import AnyEvent, SpeedSet
from fairlead.model.jobs import JobSpec, Resource, Speed
from fairlead.model.resources import Shape, width_milli
from fairlead.sim.cluster import NAMELESS, Cluster, parse_cluster, pool
from fairlead.sim.steps import Step

Estimates: TypeAlias = Literal["exact", "limit", "recorded"]
Rates: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
Admit: TypeAlias = Callable[[JobSpec], None]  # raises Refused if the job can never run


class TraceJob(Record, frozen=True):
    """One job of a trace: when it came, how long it ran, what it asked for.

    It asks for either `processors`, which are whatever the cluster is made of, or a `shape`.
    """

    id: int | str
    submit_ms: Ms
    run_ms: Ms
    processors: int = 0
    shape: Shape | None = None
    name: str = ""
    user: str = ""
    tenant: str = "default"
    queue: str = "default"
    priority: int = 50
    limit_ms: Ms | None = None
    expected_ms: Ms | None = None  # what was believed of its run time when it came
    deadline_ms: Ms | None = None  # when it had to be done, on the clock of submit_ms
    # Elastic: it may have up to so many members; how much faster it is with shape.members, one
    # more, …, in thousandths of its speed with shape.members. (): in proportion.
    members_max: int = 0
    speedups: tuple[int, ...] = ()
    counted: tuple[tuple[str, int], ...] = ()  # named resources, held while it runs
    may_acquire: tuple[tuple[str, int], ...] = ()
    steps: tuple[Step, ...] = ()
    # On devices of several models it is as fast as these say: steps per million seconds of the
    # whole job, by model, with shape.members, one more, … members. run_ms is then on the fastest.
    job_type: str = ""
    total_steps: int = 0
    rates: Rates = ()
    # Beside a job of that type on one GPU it is so fast, in thousandths of its speed alone.
    beside: tuple[tuple[str, int], ...] = ()

    def place_in_order(self) -> tuple[Ms, bool, int | str]:
        """Return the sort key (submit, id): numbers before words."""
        return (self.submit_ms, isinstance(self.id, str), self.id)


class Trace(Record, frozen=True):
    """A trace as read: its jobs by (submit, id), and what its reader left out, by reason."""

    path: str
    format: str
    jobs: tuple[TraceJob, ...]
    dropped: dict[str, int] = {}
    processors: int | None = None  # of the machine it was recorded on, as its header says
    cluster: str = ""  # the specification its header names
    notes: dict[str, str] = {}  # the rest of the header
    resources: tuple[Resource, ...] = ()  # named ones, as its header says


class SimJob(msgspec.Struct, frozen=True):
    """One accepted job: the job as the scheduler sees it, and the truth that only the world knows.

    `run_ms` is how long it runs if nobody stops it, an elastic one with its least members;
    the scheduler sees `spec.expected_ms`. `speedups`, `rates` and `beside` as in TraceJob.
    """

    id: int | str
    submit_ms: Ms
    run_ms: Ms
    spec: JobSpec
    speedups: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()
    total_steps: int = 0
    rates: Rates = ()
    beside: tuple[tuple[str, int], ...] = ()


class Workload(msgspec.Struct, frozen=True):
    """Accepted jobs by (submit, id); `rejected` and `dropped` count the others by reason."""

    jobs: tuple[SimJob, ...]
    rejected: dict[str, int]
    dropped: dict[str, int]


def in_order(path: str, jobs: Iterable[TraceJob]) -> tuple[TraceJob, ...]:
    """Return the jobs by (submit, id), so that the order of lines in a file means nothing."""
    ordered = tuple(sorted(jobs, key=TraceJob.place_in_order))
    if not ordered:
        raise Misuse(f"{path} has no jobs", field="trace", hint="try: fairlead sim generate")
    return ordered


def cluster_for(trace: Trace, asked: str | None) -> Cluster:
    """Return the cluster asked for, else the one that the trace's header names."""
    if asked:
        return parse_cluster(asked)
    if trace.cluster:
        return parse_cluster(trace.cluster)
    if trace.processors:
        return pool(trace.processors)
    beside = Path(trace.path.removesuffix(".gz") + ".machines")  # as some logs come with
    raise Misuse(
        f"{trace.path} does not say what cluster it ran on",
        field="cluster",
        hint=f"add --cluster {beside}"
        if beside.exists()
        else "add for example --cluster pool:96 or --cluster 12x8gpu",
    )


def fit(
    trace: Trace,
    cluster: Cluster,
    admit: Admit,
    *,
    estimates: Estimates = "exact",
    limit_jobs: int | None = None,
) -> Workload:
    """Return the workload of the trace's first `limit_jobs` jobs (default: all) on the cluster.

    What can never run there is left out and counted under the scheduler's own words.
    Raises Refused if nothing remains.
    """
    shapes: dict[int, Shape] = {}
    there = {device.model for node in cluster.nodes for device in node.devices}
    known: dict[Rates, Rates] = {}  # on what is there
    refusals: dict[object, str] = {}
    rejected: Counter[str] = Counter()
    jobs: list[SimJob] = []
    for job in trace.jobs[:limit_jobs]:
        shape = job.shape
        if shape is None:
            shape = shapes.get(job.processors)
            if shape is None:
                shape = shapes[job.processors] = cluster.shape(job.processors)
        rates = known.get(job.rates)
        if rates is None:
            here = tuple(row for row in job.rates if row[0] in there)
            rates = known[job.rates] = here if there - {NAMELESS} else ()
        if rates or (job.rates and there - {NAMELESS}):
            if not any(row[0] > 0 for _, row in rates):
                rejected["it runs on none of the GPU models that there are"] += 1
                continue
            shape = _where_it_runs(rates, shape)
        spec = _spec(job, shape, estimates)
        kind = (shape, spec.counted, spec.may_acquire)
        if kind not in refusals:
            refusals[kind] = _refusal(spec, admit)
        if refusals[kind]:
            rejected[refusals[kind]] += 1
        else:
            truth = (job.speedups, job.steps, job.total_steps if rates else 0, rates, job.beside)
            jobs.append(SimJob(job.id, job.submit_ms, job.run_ms, spec, *truth))
    if not jobs:
        (reason, count), *_ = rejected.most_common(1)
        raise Refused(
            f"no job of {trace.path} can run on {cluster.spec}; {count:,} of them: {reason}",
            field="cluster",
            hint="choose a larger --cluster",
        )
    return Workload(tuple(jobs), dict(sorted(rejected.items())), trace.dropped)


def _where_it_runs(known: Rates, shape: Shape) -> Shape:
    """Return the shape for the models alone on which the job gets anywhere."""
    runs = {model for model, rates in known if rates[0] > 0}
    models = runs & set(shape.gpu_models) if shape.gpu_models else runs
    return replace(shape, gpu_models=tuple(sorted(models)))


def told(workload: Workload) -> list[AnyEvent]:
    """Return the speeds of all jobs as facts: what a scheduler knows that was told them."""
    speeds: dict[tuple[str, int, str], int] = {}
    for job in workload.jobs:
        each = width_milli(job.spec.shape) // job.spec.shape.members
        for model, rates in job.rates:
            for more, rate in enumerate(rates):
                width = each * (job.spec.shape.members + more)
                speeds[job.spec.kind, width, model] = rate
    return [SpeedSet(speed=Speed(*key, rate)) for key, rate in sorted(speeds.items())]


def _refusal(spec: JobSpec, admit: Admit) -> str:
    try:
        admit(spec)
    except Misuse as no:  # Refused, or beyond a limit
        return no.message
    return ""


def _spec(job: TraceJob, shape: Shape, estimates: Estimates) -> JobSpec:
    expected: Ms | None = job.run_ms
    if estimates == "limit" and job.limit_ms is not None:
        expected = job.limit_ms
    elif estimates == "recorded":
        expected = job.limit_ms if job.expected_ms is None else job.expected_ms
    return JobSpec(
        shape=shape,
        name=job.name,
        user=job.user,
        tenant=job.tenant,
        queue=job.queue,
        priority=job.priority,
        limit_ms=job.limit_ms,
        expected_ms=expected,
        deadline_ms=job.deadline_ms,
        counted=job.counted,
        may_acquire=job.may_acquire,
        members_max=job.members_max,
        job_type=job.job_type,
        steps=job.total_steps,
    )
