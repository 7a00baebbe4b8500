"""What would happen if jobs were submitted now: tried on a copy, nothing is decided.

The policy decides once on a copy that has the jobs: where they start now, and who would have to
make room. Then the future is run twice, with them and without; the draws of a job are the same in
both, so that what differs is their doing (policy/ahead.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.base import JobId, Ms, Record
from fairlead.model.events import AnyEvent, Placed, Promised, StopDecided, Submitted
from fairlead.model.jobs import Phase
from fairlead.policy.ahead import starts_ahead
from fairlead.policy.eta import runs_for
from fairlead.policy.explain import reasons
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.registry import build

WAITING_MAX = 1000  # others whose delay is asked for, the first in the order
DELAYED_MIN_MS = 1_000  # less is no delay that anybody notices
DELAYED_SHOWN = 5
JOBS_SHOWN = 100


class PlannedJob(Record, frozen=True, omit_defaults=False):
    """What would become of one of the jobs."""

    nodes: tuple[str, ...] = ()  # where it starts now; none: it waits
    reason: str = ""  # why it waits
    position: int | None = None  # among all that wait, from 1; None: it does not wait
    starts_ms: tuple[Ms | None, ...] = ()  # when it starts, one time per run
    promised_ms: Ms | None = None  # it is promised to start by then


class Delay(Record, frozen=True, omit_defaults=False):
    """A waiting job that would start later."""

    job: JobId
    likely_ms: Ms  # when it would start without the new jobs
    later_ms: Ms


class WhatIf(Record, frozen=True, omit_defaults=False):
    """What would happen."""

    jobs: tuple[PlannedJob, ...]  # the first of them, in the order of submission
    count: int  # all of them
    start_now: int
    preempts: tuple[JobId, ...] = ()
    delays: tuple[Delay, ...] = ()  # the worst first
    delayed: int = 0  # how many in all


def what_if(core: Core, events: Sequence[AnyEvent]) -> WhatIf:
    """Return what would happen if these came to pass at the core's clock, submissions above all.

    The core must be a copy.
    """
    before = core.clone()
    for event in events:
        core.apply(core.clock, event)
    ids = [event.job for event in events if isinstance(event, Submitted)]
    after = core.clone()
    scheduler = Scheduler(core, build)
    decided = scheduler.turn(core.clock, []).events
    placed = {event.job: event for event in decided if isinstance(event, Placed)}
    promised = {e.job: e.start_ms for e in (*events, *decided) if isinstance(e, Promised)}
    assert isinstance(scheduler.policy, Pipeline)
    why = reasons(core, scheduler.policy)  # in the order of the queue
    position = {job: at for at, job in enumerate(why, 1)}
    shown = ids[:JOBS_SHOWN]
    mine = set(ids)
    others = [job for job in why if job not in mine and job in before.pending][:WAITING_MAX]
    runs = runs_for(after)
    asked = [*(job for job in shown if job not in placed), *others]
    starts = starts_ahead(after, runs=runs, asked=asked) if asked else {}
    usual = starts_ahead(before, runs=runs, asked=others) if others else {}
    delays = [each for job in others if (each := _delay(job, usual[job], starts[job])) is not None]
    delays.sort(key=lambda each: (-each.later_ms, each.job))
    return WhatIf(
        jobs=tuple(
            PlannedJob(
                nodes=_nodes(core, placed[job]) if job in placed else (),
                position=position.get(job),
                reason=why.get(job, ""),
                starts_ms=tuple(starts.get(job, ())),
                promised_ms=None if job in placed else promised.get(job),
            )
            for job in shown
        ),
        count=len(ids),
        start_now=sum(job in placed for job in ids),
        preempts=tuple(
            event.job
            for event in decided
            if isinstance(event, StopDecided) and event.then is Phase.PENDING
        ),
        delays=tuple(delays[:DELAYED_SHOWN]),
        delayed=len(delays),
    )


def _nodes(core: Core, placed: Placed) -> tuple[str, ...]:
    return tuple(core.nodes[slot.node].spec.name for slot in placed.slots)


def _delay(job: JobId, usual: Sequence[Ms | None], now: Sequence[Ms | None]) -> Delay | None:
    """Return by how much a job starts later in the middle of all runs; None: it does not."""
    pairs = [(a, b) for a, b in zip(usual, now, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    later = sorted(b - a for a, b in pairs)[len(pairs) // 2]
    likely = sorted(a for a, _ in pairs)[(len(pairs) - 1) // 2]
    return Delay(job=job, likely_ms=likely, later_ms=later) if later >= DELAYED_MIN_MS else None
