"""What a replay amounts to: waits, completion, slowdown, utilisation, and a fingerprint.

Waits and completions are exact integers of milliseconds until they are averaged. Percentiles are
by nearest rank: the 99th is the least value that at least 99 % of the jobs did not exceed, and the
median is the 50th.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.sim.outcome import Outcome

SLOWDOWN_TAU_MS = 10_000
Times = npt.NDArray[np.int64]


class Columns(msgspec.Struct, frozen=True):
    """The jobs of an outcome as columns: times in ms, use in thousandths of a processor.

    `pauses` are what preempted jobs waited between two attempts: job, from, until.
    """

    submit: Times
    start: Times
    end: Times
    used_milli: Times
    needed: Times  # run time, if nobody stops it
    pauses: tuple[Times, Times, Times]
    # What elastic jobs use beyond what they do with their least members: job, when, change of it.
    extra: tuple[Times, Times, Times]

    @property
    def paused(self) -> Times:
        """How long each job did not run between its first start and its end."""
        total = np.zeros(len(self.submit), np.int64)
        job, begun, ended = self.pauses
        np.add.at(total, job, ended - begun)
        return total

    @property
    def wait(self) -> Times:
        """How long each job waited, also after it was preempted."""
        return self.start - self.submit + self.paused

    @property
    def extra_work(self) -> list[int]:
        """What each job used beyond its least members: thousandths of a processor x ms."""
        work = [0] * len(self.submit)
        for job, at, change in zip(*(each.tolist() for each in self.extra), strict=True):
            work[job] -= at * change  # the changes of a job add up to nothing
        return work

    @property
    def held(self) -> Times:
        """How long each job held its place, over all attempts."""
        return self.end - self.start - self.paused


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a part of a replay's jobs; `share_ratio` is its part of all time used."""

    jobs: int
    mean_wait_s: float
    median_wait_s: float
    p95_wait_s: float
    p99_wait_s: float
    mean_completion_s: float
    mean_bounded_slowdown: float
    median_bounded_slowdown: float
    p95_bounded_slowdown: float
    share_ratio: float


class TenantRow(Figures, frozen=True, kw_only=True):
    """The figures of one tenant."""

    tenant: str


class SizeRow(Figures, frozen=True, kw_only=True):
    """The figures of the jobs that asked for so many processors, as `size_class` names it."""

    size: str


_ONLY_IF_ANY = (
    *("timeouts", "preemptions", "lost_s", "rejected", "dropped", "resizes"),
    *("mean_members", "mean_members_least"),
    *("deadlocks", "refused", "acquiring_s"),
)


class Summary(msgspec.Struct, frozen=True):
    """The figures of one replay. Seconds, but for the ratios, the counts and the digest."""

    policy: str
    jobs: int
    mean_wait_s: float
    mean_completion_s: float
    mean_bounded_slowdown: float
    p99_wait_s: float
    makespan_s: float
    utilisation_ratio: float
    wall_s: float
    cpu_s: float
    jobs_per_s: float
    digest: str
    median_wait_s: float
    p95_wait_s: float
    median_bounded_slowdown: float
    p95_bounded_slowdown: float
    by_size: list[SizeRow]
    timeouts: int = 0
    preemptions: int = 0
    lost_s: float = 0.0  # that preempted jobs ran for nothing, all together
    rejected: dict[str, int] = {}
    dropped: dict[str, int] = {}
    deadlocks: int = 0  # jobs that were stopped to break one
    refused: int = 0  # jobs that failed since they acquired out of order
    acquiring_s: float = 0.0  # that running jobs waited for named resources, all together
    resizes: int = 0  # how often elastic jobs grew or shrank while they ran
    mean_members: float = 0.0  # that elastic jobs had while they ran, over time
    mean_members_least: float = 0.0  # that they would have had without growing

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`; counts of what went wrong only where there are any."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return {key: value for key, value in body.items() if value or key not in _ONLY_IF_ANY}


def columns(outcome: Outcome) -> Columns:
    """Return the outcome as columns, in the workload's order."""
    jobs = outcome.workload.jobs
    used = [outcome.cluster.used_milli(job.spec.shape) for job in jobs]
    pauses = np.array(outcome.pauses, np.int64).reshape(-1, 3)
    return Columns(
        submit=np.array([job.submit_ms for job in jobs], np.int64),
        start=np.array(outcome.start_ms, np.int64),
        end=np.array(outcome.end_ms, np.int64),
        used_milli=np.array(used, np.int64),
        needed=np.array([job.run_ms for job in jobs], np.int64),
        pauses=(pauses[:, 0], pauses[:, 1], pauses[:, 2]),
        extra=_extra(outcome),
    )


def _extra(outcome: Outcome) -> tuple[Times, Times, Times]:
    level: dict[int, int] = {}
    changes: list[tuple[int, int, int]] = []
    for index, at, members in outcome.sizes:
        shape = outcome.workload.jobs[index].spec.shape
        each = outcome.cluster.used_milli(shape) // shape.members
        now = max(members - shape.members, 0) * each
        changes.append((index, at, now - level.get(index, 0)))
        level[index] = now
    found = np.array(changes, np.int64).reshape(-1, 3)
    return found[:, 0], found[:, 1], found[:, 2]


def resizing(outcome: Outcome) -> tuple[int, float, float]:
    """Return how often elastic jobs were resized, their mean members over time, and the least."""
    since: dict[int, tuple[int, int]] = {}
    resizes = area = least = span = 0
    for index, at, members in outcome.sizes:
        begun, before = since.get(index, (at, 0))
        if before:
            area += before * (at - begun)
            least += outcome.workload.jobs[index].spec.shape.members * (at - begun)
            span += at - begun
            resizes += members > 0
        since[index] = (at, members)
    return resizes, area / span if span else 0.0, least / span if span else 0.0


def summarise(outcome: Outcome) -> Summary:
    """Return the figures of a replay (docs/reference/traces defines each)."""
    cols = columns(outcome)
    count = len(cols.submit)
    wait, completion, run = cols.wait, cols.end - cols.submit, cols.held
    slowdown = bounded_slowdown(cols)
    makespan = int(cols.end.max() - cols.submit.min())
    busy = float((cols.used_milli.astype(np.float64) * run).sum()) + sum(cols.extra_work)
    resizes, mean_members, mean_least = resizing(outcome)
    return Summary(
        policy=outcome.policy,
        jobs=count,
        mean_wait_s=_mean_s(wait),
        mean_completion_s=_mean_s(completion),
        mean_bounded_slowdown=float(slowdown.mean()),
        p99_wait_s=_percentile_s(wait, 99),
        makespan_s=makespan / 1000,
        utilisation_ratio=busy / (outcome.cluster.capacity_milli * makespan) if makespan else 0.0,
        wall_s=round(outcome.wall_s, 6),
        cpu_s=round(outcome.cpu_s, 6),
        jobs_per_s=round(count / outcome.cpu_s, 1) if outcome.cpu_s else 0.0,
        digest=digest(outcome),
        median_wait_s=_percentile_s(wait, 50),
        p95_wait_s=_percentile_s(wait, 95),
        median_bounded_slowdown=float(percentile(slowdown, 50)),
        p95_bounded_slowdown=float(percentile(slowdown, 95)),
        by_size=by_size(outcome),
        timeouts=outcome.timeouts,
        preemptions=sum(outcome.preempted),
        lost_s=outcome.lost_ms / 1000,
        deadlocks=outcome.deadlocks,
        refused=outcome.refused,
        acquiring_s=outcome.acquiring_ms / 1000,
        rejected=outcome.workload.rejected,
        dropped=outcome.workload.dropped,
        resizes=resizes,
        mean_members=round(mean_members, 6),
        mean_members_least=round(mean_least, 6),
    )


def bounded_slowdown(cols: Columns) -> npt.NDArray[np.float64]:
    """Return each job's completion over its run time, short runs as 10 s, never below 1.

    What a job ran again or for nothing, because it was preempted, is no run time.
    """
    run = np.maximum(np.minimum(cols.held, cols.needed), SLOWDOWN_TAU_MS)
    slowdown: npt.NDArray[np.float64] = np.maximum(1.0, (cols.end - cols.submit) / run)
    return slowdown


def percentile(values: npt.NDArray[Any], percent: int) -> Any:
    """Return the least of the values that at least so many per cent of them do not exceed."""
    # The rank in integers: 0.95 x 20 may or may not be 19, and then it is a different job.
    rank = max(-(-len(values) * percent // 100), 1)
    return np.partition(values, rank - 1)[rank - 1]


def _percentile_s(times: Times, percent: int) -> float:
    return int(percentile(times, percent)) / 1000


def _mean_s(times: Times) -> float:
    return int(times.sum()) / len(times) / 1000


def by_tenant(outcome: Outcome) -> list[TenantRow]:
    """Return the figures per tenant, the one that used most first."""
    names = [job.spec.tenant for job in outcome.workload.jobs]
    rows = [TenantRow(tenant=name, **body) for name, body in grouped(columns(outcome), names)]
    return sorted(rows, key=lambda row: (-row.share_ratio, row.tenant))


def by_size(outcome: Outcome) -> list[SizeRow]:
    """Return the figures per class of sizes, the smallest jobs first; empty classes are absent."""
    cols = columns(outcome)
    names = [size_class(used) for used in cols.used_milli.tolist()]
    first: dict[str, int] = {}
    for name, used in zip(names, cols.used_milli.tolist(), strict=True):
        first[name] = min(used, first.get(name, used))
    rows = [SizeRow(size=name, **body) for name, body in grouped(cols, names)]
    return sorted(rows, key=lambda row: first[row.size])


def size_class(used_milli: int) -> str:
    """Return the class of a job's size: "0", "under 1", "1", "2", "3-4", "5-8", doubling on."""
    if used_milli < 1000:
        return "under 1" if used_milli else "0"
    processors = -(-used_milli // 1000)
    most: int = 1 << (processors - 1).bit_length()
    return str(most) if most <= 2 else f"{most // 2 + 1}-{most}"


def grouped(cols: Columns, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the fields of `Figures` of the jobs of each name; `names` has one for every job."""
    known, which = np.unique(np.array(names), return_inverse=True)
    wait, completion, slowdown = cols.wait, cols.end - cols.submit, bounded_slowdown(cols)
    # In Python's integers: processors x milliseconds of a long trace do not fit into 64 bits.
    work = [0] * len(known)
    pieces = (which, cols.used_milli, cols.held)
    for index, used, run in zip(*(piece.tolist() for piece in pieces), strict=True):
        work[index] += used * run
    for index, extra in zip(which.tolist(), cols.extra_work, strict=True):
        work[index] += extra
    total = sum(work) or 1
    order = np.argsort(which, kind="stable")  # one sort instead of a scan of all jobs per name
    parts = np.split(order, np.cumsum(np.bincount(which, minlength=len(known)))[:-1])
    for name, mine, used in zip(known.tolist(), parts, work, strict=True):
        yield (
            name,
            {
                "jobs": len(mine),
                "mean_wait_s": _mean_s(wait[mine]),
                "median_wait_s": _percentile_s(wait[mine], 50),
                "p95_wait_s": _percentile_s(wait[mine], 95),
                "p99_wait_s": _percentile_s(wait[mine], 99),
                "mean_completion_s": _mean_s(completion[mine]),
                "mean_bounded_slowdown": float(slowdown[mine].mean()),
                "median_bounded_slowdown": float(percentile(slowdown[mine], 50)),
                "p95_bounded_slowdown": float(percentile(slowdown[mine], 95)),
                "share_ratio": used / total,
            },
        )


def digest(outcome: Outcome) -> str:
    """Return a fingerprint of (job, start, end, nodes) of all jobs: equal for equal schedules."""
    hasher = blake2b(digest_size=16)
    for job, start, end, nodes in zip(
        outcome.workload.jobs, outcome.start_ms, outcome.end_ms, outcome.nodes, strict=True
    ):
        hasher.update(f"{job.id!r} {start} {end} {nodes}\n".encode())
    if outcome.sizes:
        hasher.update(repr(outcome.sizes).encode())
    return hasher.hexdigest()


def write_starts(outcome: Outcome, file: IO[str]) -> None:
    """Write one row per job, in order of submission; `nodes` is like node3+node4*2."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("job", "submit_s", "start_s", "end_s", "nodes"))
    for job, start, end, nodes in zip(
        outcome.workload.jobs, outcome.start_ms, outcome.end_ms, outcome.nodes, strict=True
    ):
        where = "+".join(_named(outcome, nodes))
        writer.writerow((job.id, _seconds(job.submit_ms), _seconds(start), _seconds(end), where))


def _named(outcome: Outcome, nodes: tuple[int, ...]) -> Iterator[str]:
    for node, count in Counter(nodes).items():
        name = outcome.cluster.nodes[node].name
        yield name if count == 1 else f"{name}*{count}"


def _seconds(ms: int) -> str:
    whole, rest = divmod(ms, 1000)
    return f"{whole}.{rest:03d}".rstrip("0") if rest else str(whole)


def steps(at: Times, change: Times) -> tuple[Times, Times]:
    """Return the step function of summed changes: instants, and the value from each one on."""
    instants, where = np.unique(at, return_inverse=True)
    total = np.zeros(len(instants), np.int64)
    np.add.at(total, where, change)
    return instants, np.cumsum(total)


def queue_length(cols: Columns) -> tuple[Times, Times]:
    """Return the number of waiting jobs over time, as steps."""
    _, begun, ended = cols.pauses
    begins, ends = np.concatenate((cols.submit, begun)), np.concatenate((cols.start, ended))
    ones = np.ones(len(begins), np.int64)
    return steps(np.concatenate((begins, ends)), np.concatenate((ones, -ones)))


def busy_milli(cols: Columns) -> tuple[Times, Times]:
    """Return the thousandths of processors in use over time, as steps."""
    job, begun, ended = cols.pauses
    used = np.concatenate((cols.used_milli, cols.used_milli[job]))
    begins, ends = np.concatenate((cols.start, ended)), np.concatenate((cols.end, begun))
    _, at, change = cols.extra
    return steps(np.concatenate((begins, ends, at)), np.concatenate((used, -used, change)))


def binned(instants: Times, values: Times, low: int, high: int, bins: int) -> npt.NDArray[Any]:
    """Return the time-weighted means of a step function over equal bins of [low, high] ms.

    Exact: each bin is an integral, so that a short peak cannot fall between two samples.
    """
    edges = np.linspace(low, high, bins + 1)
    level = np.concatenate(([0.0], values.astype(np.float64)))
    widths = np.diff(instants, append=instants[-1])
    area = np.concatenate(([0.0], np.cumsum(values.astype(np.float64) * widths)))
    index = np.searchsorted(instants, edges, side="right")
    before = np.maximum(index - 1, 0)
    integral = area[before] + level[index] * (edges - instants[before])
    return np.diff(integral) / np.maximum(np.diff(edges), 1e-9)
