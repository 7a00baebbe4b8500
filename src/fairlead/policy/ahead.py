"""What will happen: the production policy run forward on a copy of the live state.

Each run draws how long every job takes from what is believed of it: its forecast, given that it
has run so long already. The same core and the same policy then decide as they would; when each
waiting job starts is written down. Several runs give a distribution. Jobs that have yet to be
submitted are in none of them: what their coming does to the truth is learned by comparing
(policy/eta.py).

Pure: the draws are fixed by the job's number and the run's, and spread evenly over each job's
distribution. Cost: per run one copy of the core, and one turn for each start and each end before
the last waiting job has started.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import pairwise

from msgspec.structs import replace

from fairlead.core.due import due_stops
from fairlead.core.ends import FAR, total_run_ms
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.turn import Policy, Scheduler
from fairlead.model.base import JobId, Ms
from fairlead.model.events import (
    AnyEvent,
    Grown,
    MemberEnded,
    MemberStarted,
    Placed,
    Shrunk,
    StopDecided,
)
from fairlead.model.jobs import FORECAST_PERCENTS, LIVE, Exit, Phase, PolicyConfig

TURNS_PER_JOB = 20  # a run that takes more is cut off: then nobody knows
MILLION = 1_000_000
GRID_FROM = 64  # running jobs
GRID_STEPS = 64
_DONE, _STOPPED = Exit(code=0), Exit(signal=15)
# What users ask for and what they use: of a job of which only the limit is known, quantiles of
# the share of it that it will run, in thousandths, at FORECAST_PERCENTS. Fitted to no trace.
_SHARE_OF_LIMIT = (5, 20, 80, 250, 600, 900, 1000)


def starts_ahead(
    core: Core, *, runs: int, asked: Iterable[JobId] | None = None
) -> dict[JobId, list[Ms | None]]:
    """Return for each waiting job (or those asked for) when it starts, one time per run.

    None: it had not started when the run ended, or nothing that is known lets it start.
    """
    wanted = list(core.pending if asked is None else asked)
    found: dict[JobId, list[Ms | None]] = {job: [] for job in wanted}
    for number in range(runs):
        starts = Ahead(core.clone(), number, runs).run(wanted)
        for job in wanted:
            found[job].append(starts.get(job))
    return found


def drawn_run_ms(job: Job, ran_ms: Ms, number: int, runs: int) -> Ms:
    """Return how long an attempt of a job runs in a run, given that it has run for ran_ms.

    The `runs` values of one job are its quantiles at even steps, in an order of its own.
    """
    step = 1 + job.id % max(runs - 1, 1)  # coprime with a prime number of runs
    part = (number * step + job.id) % runs
    share = MILLION * (2 * part + 1) // (2 * runs)
    points = _points(job)
    done = job.served_ms + ran_ms
    below = _share_below(points, done)
    share = below + (MILLION - below) * share // MILLION
    total = _value_at(points, share)
    if total <= done:  # it has outlived all that was believed of it: half to three times as long
        total = done + max(done, 1000) * (1 + 2 * part) // (2 * runs) + 1
    run_ms = max(1, total - job.served_ms)
    return run_ms if job.spec.limit_ms is None else min(run_ms, job.spec.limit_ms)


def _points(job: Job) -> Sequence[tuple[int, Ms]]:
    """Return what is believed of a job's run time as (share of a million, ms), ascending."""
    forecast, limit = job.forecast, job.spec.limit_ms
    if forecast is not None and forecast.quantiles_ms:
        values: Sequence[Ms] = forecast.quantiles_ms
    else:
        total = total_run_ms(job)
        if total is not None:
            return ((0, total), (MILLION, total))
        if limit is None:
            return ((0, 60_000), (MILLION, 24 * 3_600_000))
        values = [max(1, limit * share // 1000) for share in _SHARE_OF_LIMIT]
    points = [
        (percent * 10_000, value) for percent, value in zip(FORECAST_PERCENTS, values, strict=True)
    ]
    low, high = points[0][1], points[-1][1]
    most = 2 * high if limit is None else max(limit, high)
    return ((0, low // 2), *points, (MILLION, min(most, 4 * high)))


def _share_below(points: Sequence[tuple[int, Ms]], ms: Ms) -> int:
    """Return which share of a million runs for less than so long."""
    for (low, low_ms), (high, high_ms) in pairwise(points):
        if ms < high_ms:
            if ms <= low_ms:
                return low
            return low + (high - low) * (ms - low_ms) // (high_ms - low_ms)
    return MILLION


def _value_at(points: Sequence[tuple[int, Ms]], share: int) -> Ms:
    """Return the run time that this share of a million does not exceed."""
    for (low, low_ms), (high, high_ms) in pairwise(points):
        if share <= high:
            return low_ms + (high_ms - low_ms) * max(share - low, 0) // max(high - low, 1)
    return points[-1][1]


def _grid(now: Ms, ends: Sequence[Ms]) -> Ms:
    """Return the steps in which many ends are looked at: a part of the time that half of them take.

    1: each on its own, where there are few.
    """
    if len(ends) <= GRID_FROM:
        return 1
    return max(1, (sorted(ends)[len(ends) // 2] - now) // GRID_STEPS)


def _without_moves(config: PolicyConfig) -> Policy:
    """Return the policy, but for moves that nobody has decided yet: a search in every turn of
    every run takes too long, and what they bring about is learned by comparing."""
    from fairlead.policy.registry import build

    return build(replace(config, defrag="never"))


class Ahead:
    """One run into the future of a core of which it owns the copy."""

    def __init__(self, core: Core, number: int, runs: int) -> None:
        self.core, self.number, self.runs = core, number, runs
        self.scheduler = Scheduler(core, _without_moves)
        self.ends: list[tuple[Ms, JobId, int]] = []  # heap: end, job, attempt
        self.starts: dict[JobId, Ms] = {}
        for _, job_id in core.ends.sorted:
            job = core.jobs[job_id]
            if job.phase is Phase.STOPPING:
                end = max(core.clock, core.ends.get(job_id))
            else:
                started = core.clock if job.started_ms is None else job.started_ms
                ran = max(core.clock - started, 0)
                end = max(started + drawn_run_ms(job, ran, number, runs), core.clock + 1)
            self.ends.append((end, job_id, job.attempt))
        self.grid = _grid(core.clock, [end for end, _, _ in self.ends])
        self.ends = [(self.rounded(end), job, attempt) for end, job, attempt in self.ends]
        heapq.heapify(self.ends)

    def rounded(self, end: Ms) -> Ms:
        """Return an end on the grid: ends that are near each other are decided upon together."""
        grid = self.grid
        return self.core.clock - (self.core.clock - end) // grid * grid if grid > 1 else end

    def run(self, wanted: Sequence[JobId]) -> dict[JobId, Ms]:
        """Go on until all that were asked for have started; return when they did."""
        core = self.core
        missing = set(wanted)
        turns = TURNS_PER_JOB * (len(core.jobs) + 1)
        self.turn(core.clock, [])
        missing -= self.starts.keys()
        while missing and turns:
            turns -= 1
            wake = self.scheduler.next_wake()
            now = min(FAR if wake is None else wake, self.ends[0][0] if self.ends else FAR)
            if now >= FAR:
                break
            now = max(now, core.clock)
            self.turn(now, self.due(now))
            missing -= self.starts.keys()
        return self.starts

    def due(self, now: Ms) -> list[AnyEvent]:
        """Return what ends by now: of itself, or at its time limit."""
        events: list[AnyEvent] = []
        while self.ends and self.ends[0][0] <= now:
            _, job_id, attempt = heapq.heappop(self.ends)
            events += self.gone(job_id, attempt, _DONE)
        ended = {event.job for event in events if isinstance(event, MemberEnded)}
        for stop in due_stops(self.core, now):
            if stop.job not in ended:
                events.append(stop)
                events += self.gone(stop.job, stop.attempt, _STOPPED)
        return events

    def gone(self, job_id: JobId, attempt: int, exit: Exit) -> list[AnyEvent]:
        """Return the ends of all members that still live; none of an attempt that is over."""
        job = self.core.jobs.get(job_id)
        if job is None or job.attempt != attempt or job.phase not in LIVE:
            return []
        return [
            MemberEnded(job=job_id, attempt=attempt, rank=rank, exit=exit)
            for rank in job.ranks
            if rank not in job.exits
        ]

    def resized(self, job_id: JobId, now: Ms) -> list[AnyEvent]:
        """Let members of an elastic job come and leave at once; it still ends when it would have.

        Faster with more members: how much nobody knows.
        """
        job = self.core.jobs.get(job_id)
        if job is None or job.team is None:
            return []
        for rank in job.ranks:
            if rank not in job.started:
                self.core.apply(now, MemberStarted(job_id, job.attempt, rank))
        leaving = sorted(job.team.leaving)
        return [MemberEnded(job_id, job.attempt, _STOPPED, rank) for rank in leaving]

    def turn(self, now: Ms, inbox: list[AnyEvent]) -> None:
        """Let the scheduler decide, and obey at once."""
        core = self.core
        while True:
            events = self.scheduler.turn(now, inbox).events
            stopped: list[AnyEvent] = []
            for event in events[len(inbox) :]:
                if isinstance(event, Placed | Grown | Shrunk):
                    stopped += self.resized(event.job, now)
                if isinstance(event, Placed):
                    self.starts.setdefault(event.job, now)
                    job = core.jobs[event.job]
                    for rank in range(len(event.slots)):
                        core.apply(now, MemberStarted(event.job, event.attempt, rank))
                    run_ms = drawn_run_ms(job, 0, self.number, self.runs)
                    end = self.rounded(now + run_ms)
                    heapq.heappush(self.ends, (end, event.job, event.attempt))
                elif isinstance(event, StopDecided):
                    stopped += self.gone(event.job, event.attempt, _STOPPED)
            if not stopped:
                return
            inbox = stopped
