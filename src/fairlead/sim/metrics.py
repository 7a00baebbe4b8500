"""What a replay amounts to: waits, completion, slowdown, utilisation, and a fingerprint.

Waits and completions are exact integers of milliseconds until they are averaged. The 99th
percentile is the nearest rank: the least wait that at least 99 % of the jobs did not exceed.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.sim.replay import Outcome

SLOWDOWN_TAU_MS = 10_000
Times = npt.NDArray[np.int64]


class Columns(msgspec.Struct, frozen=True):
    """The jobs of an outcome as columns: times in ms, use in thousandths of a processor."""

    submit: Times
    start: Times
    end: Times
    used_milli: Times


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
    timeouts: int = 0
    rejected: dict[str, int] = {}
    dropped: dict[str, int] = {}

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`; counts of what went wrong only where there are any."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return {
            key: value
            for key, value in body.items()
            if value or key not in ("timeouts", "rejected", "dropped")
        }


class TenantRow(msgspec.Struct, frozen=True):
    """The figures of one tenant; `share_ratio` is its part of all processor time used."""

    tenant: str
    jobs: int
    mean_wait_s: float
    p99_wait_s: float
    mean_completion_s: float
    share_ratio: float


def columns(outcome: Outcome) -> Columns:
    """Return the outcome as columns, in the workload's order."""
    jobs = outcome.workload.jobs
    used = [outcome.cluster.used_milli(job.spec.shape) for job in jobs]
    return Columns(
        submit=np.array([job.submit_ms for job in jobs], np.int64),
        start=np.array(outcome.start_ms, np.int64),
        end=np.array(outcome.end_ms, np.int64),
        used_milli=np.array(used, np.int64),
    )


def summarise(outcome: Outcome) -> Summary:
    """Return the figures of a replay (docs/reference/traces defines each)."""
    cols = columns(outcome)
    count = len(cols.submit)
    wait, completion, run = cols.start - cols.submit, cols.end - cols.submit, cols.end - cols.start
    slowdown = np.maximum(1.0, completion / np.maximum(run, SLOWDOWN_TAU_MS))
    makespan = int(cols.end.max() - cols.submit.min())
    busy = float((cols.used_milli.astype(np.float64) * run).sum())
    return Summary(
        policy=outcome.policy,
        jobs=count,
        mean_wait_s=_mean_s(wait),
        mean_completion_s=_mean_s(completion),
        mean_bounded_slowdown=float(slowdown.mean()),
        p99_wait_s=_p99_s(wait),
        makespan_s=makespan / 1000,
        utilisation_ratio=busy / (outcome.cluster.capacity_milli * makespan) if makespan else 0.0,
        wall_s=round(outcome.wall_s, 6),
        cpu_s=round(outcome.cpu_s, 6),
        jobs_per_s=round(count / max(outcome.cpu_s, 1e-9), 1),
        digest=digest(outcome),
        timeouts=outcome.timeouts,
        rejected=outcome.workload.rejected,
        dropped=outcome.workload.dropped,
    )


def _p99_s(times: Times) -> float:
    return float(np.percentile(times, 99, method="inverted_cdf")) / 1000


def _mean_s(times: Times) -> float:
    return int(times.sum()) / len(times) / 1000


def by_tenant(outcome: Outcome) -> list[TenantRow]:
    """Return the figures per tenant, the one that used most first."""
    cols = columns(outcome)
    names = np.array([job.spec.tenant for job in outcome.workload.jobs])
    work = cols.used_milli.astype(np.float64) * (cols.end - cols.start)
    total = float(work.sum()) or 1.0
    rows = []
    for name in sorted(set(names.tolist())):
        mine = names == name
        wait = (cols.start - cols.submit)[mine]
        rows.append(
            TenantRow(
                tenant=name,
                jobs=len(wait),
                mean_wait_s=_mean_s(wait),
                p99_wait_s=_p99_s(wait),
                mean_completion_s=_mean_s((cols.end - cols.submit)[mine]),
                share_ratio=float(work[mine].sum()) / total,
            )
        )
    return sorted(rows, key=lambda row: (-row.share_ratio, row.tenant))


def digest(outcome: Outcome) -> str:
    """Return a fingerprint of (job, start, end, nodes) of all jobs: equal for equal schedules."""
    hasher = blake2b(digest_size=16)
    for job, start, end, nodes in zip(
        outcome.workload.jobs, outcome.start_ms, outcome.end_ms, outcome.nodes, strict=True
    ):
        hasher.update(f"{job.id!r} {start} {end} {nodes}\n".encode())
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
    ones = np.ones(len(cols.submit), np.int64)
    return steps(np.concatenate((cols.submit, cols.start)), np.concatenate((ones, -ones)))


def busy_milli(cols: Columns) -> tuple[Times, Times]:
    """Return the thousandths of processors in use over time, as steps."""
    used = cols.used_milli
    return steps(np.concatenate((cols.start, cols.end)), np.concatenate((used, -used)))


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
