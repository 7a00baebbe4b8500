"""How good ETAs are: asked while a trace is replayed, compared with what came true."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent, Placed, StopDecided
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.ahead import starts_ahead
from fairlead.policy.eta import RUNS, Eta, Etas
from fairlead.sim.cluster import Cluster
from fairlead.sim.outcome import DEFAULT_RULES, Rules
from fairlead.sim.replay import Predictor, Progress, World
from fairlead.sim.workload import Workload


class EtaReport(msgspec.Struct, frozen=True):
    """What the first estimates of the jobs that had to wait were worth. Seconds, but for ratios.

    `coverage_ratio` is the share of starts inside the band that was shown (80 % is promised),
    `raw_coverage_ratio` that of the band before it was put right by earlier errors.
    `too_early_ratio` and `too_late_ratio`: started before the earliest, after the latest.
    """

    policy: str
    jobs: int
    waited: int
    compared: int
    coverage_ratio: float
    raw_coverage_ratio: float
    too_early_ratio: float
    too_late_ratio: float
    mean_wait_s: float
    mean_error_s: float  # of the likely start, without sign
    median_error_s: float
    bias_s: float  # mean of true start - likely start
    mean_band_s: float
    unknown: int  # jobs of which no estimate could be made

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body


class Compared(NamedTuple):
    """One estimate and the truth, in ms."""

    made: Ms
    likely: Ms
    low: Ms  # before it was put right
    high: Ms
    eta: Eta
    started: Ms


class Watched(World):
    """A world in which every `every`-th job that has to wait asks when it will start."""

    def __init__(self, *args: Any, every: int) -> None:
        super().__init__(*args)
        self.every = every
        self.etas = Etas()
        self.seen = 0  # jobs up to this number have been asked, or started at once
        self.waited = self.unknown = 0
        self.compared: list[Compared] = []

    def turn(self, now: Ms, inbox: list[AnyEvent], *, timers: bool = True) -> None:
        """Let the scheduler decide; then ask for the jobs that came and could not start."""
        super().turn(now, inbox, timers=timers)
        core = self.core
        came = range(self.seen + 1, core.next_job)
        self.seen = core.next_job - 1
        waiting = [job for job in came if job in core.pending]
        asked: list[JobId] = []
        for job in waiting:
            self.waited += 1
            if self.waited % self.every == 0:
                asked.append(job)
        if asked:
            starts = starts_ahead(core, runs=RUNS[0], asked=asked)
            self.etas.take(core.seq, core.clock, starts)
            self.unknown += sum(self.etas.of[job].likely_ms is None for job in asked)

    def obey(self, now: Ms, decisions: Sequence[AnyEvent]) -> list[StopDecided]:
        """Start what was placed; compare its estimate first."""
        for event in decisions:
            if isinstance(event, Placed) and event.attempt == 1:
                self._compare(now, self.core.jobs[event.job])
        return super().obey(now, decisions)

    def _compare(self, now: Ms, job: Job) -> None:
        first = self.etas.first(job.id)
        if first is not None:
            raw, eta = first
            self.compared.append(
                Compared(raw.made_ms, raw.likely_ms, raw.low_ms, raw.high_ms, eta, now)
            )
            self.etas.started(job)


def measure(
    workload: Workload,
    cluster: Cluster,
    policy: PolicyConfig,
    *,
    name: str,
    every: int = 1,
    rules: Rules = DEFAULT_RULES,
    predictor: Predictor | None = None,
    progress: Progress | None = None,
) -> EtaReport:
    """Replay a workload, asking for every `every`-th job that has to wait; return the errors."""
    world = Watched(workload, cluster, policy, rules, predictor, every=every)
    world.run(progress, None)
    world.check_conservation()
    rows = world.compared
    count = len(rows)
    errors = [row.started - row.likely for row in rows]

    def share(hits: int) -> float:
        return hits / count if count else 0.0

    def seconds(values: Sequence[int]) -> float:
        return round(statistics.fmean(values) / 1000, 3) if values else 0.0

    return EtaReport(
        policy=name,
        jobs=len(workload.jobs),
        waited=world.waited,
        compared=count,
        coverage_ratio=share(sum(_early(row) == _late(row) for row in rows)),
        raw_coverage_ratio=share(sum(row.low <= row.started <= row.high for row in rows)),
        too_early_ratio=share(sum(_early(row) for row in rows)),
        too_late_ratio=share(sum(_late(row) for row in rows)),
        mean_wait_s=seconds([row.started - row.made for row in rows]),
        mean_error_s=seconds([abs(error) for error in errors]),
        median_error_s=round(statistics.median(map(abs, errors)) / 1000, 3) if errors else 0.0,
        bias_s=seconds(errors),
        mean_band_s=seconds(
            [(row.eta.latest_ms or 0) - (row.eta.earliest_ms or 0) for row in rows]
        ),
        unknown=world.unknown,
    )


def _early(row: Compared) -> bool:
    return row.eta.earliest_ms is not None and row.started < row.eta.earliest_ms


def _late(row: Compared) -> bool:
    return row.eta.latest_ms is not None and row.started > row.eta.latest_ms


def _width(eta: Eta) -> Ms:
    if eta.earliest_ms is None or eta.latest_ms is None:
        return 0
    return eta.latest_ms - eta.earliest_ms
