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
from fairlead.model.events import AnyEvent, Forecasted, Placed, Promised, StopDecided, Submitted
from fairlead.model.jobs import Forecast, JobSpec, Phase
from fairlead.policy.ahead import starts_ahead
from fairlead.policy.eta import runs_for
from fairlead.policy.registry import build

WAITING_MAX = 1000  # others whose delay is asked for, the first in the order
DELAYED_MIN_MS = 1_000  # less is no delay that anybody notices
DELAYED_SHOWN = 5
JOBS_SHOWN = 100


class PlannedJob(Record, frozen=True, omit_defaults=False):
    """What would become of one of the jobs."""

    index: int  # in the order of the submission, from 0
    name: str
    nodes: tuple[str, ...] = ()  # where it starts now; none: it waits
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

    jobs: tuple[PlannedJob, ...]
    preempts: tuple[JobId, ...] = ()
    delays: tuple[Delay, ...] = ()  # the worst first
    delayed: int = 0  # how many in all


def what_if(
    core: Core,
    specs: Sequence[JobSpec],
    forecasts: Sequence[Forecast | None] = (),
    extra: Sequence[AnyEvent] = (),
) -> WhatIf:
    """Return what would happen if these were submitted at the core's clock.

    The core must be a copy. `extra`: what would be decided together with the submission.
    """
    before = core.clone()
    ids = list(range(core.next_job, core.next_job + len(specs)))
    events: list[AnyEvent] = []
    for number, (job, spec) in enumerate(zip(ids, specs, strict=True)):
        events.append(Submitted(job=job, spec=spec))
        forecast = forecasts[number] if number < len(forecasts) else None
        if forecast is not None:
            events.append(Forecasted(job=job, forecast=forecast))
    for event in (*events, *extra):
        core.apply(core.clock, event)
    after = core.clone()
    decided = Scheduler(core, build).turn(core.clock, []).events
    placed = {event.job: event for event in decided if isinstance(event, Placed)}
    promised = {e.job: e.start_ms for e in (*extra, *decided) if isinstance(e, Promised)}
    preempts = tuple(
        event.job
        for event in decided
        if isinstance(event, StopDecided) and event.then is Phase.PENDING
    )
    pipeline = build(core.policy)
    pipeline.bind(core)
    order = {job.id: at for at, job in enumerate(pipeline.queue.in_order(core), 1)}
    shown = [job for job in ids if job not in placed][:JOBS_SHOWN]
    runs = runs_for(after)
    mine = set(ids)
    others = [job for job in order if job not in mine and job in before.pending][:WAITING_MAX]
    starts = starts_ahead(after, runs=runs, asked=[*shown, *others]) if shown or others else {}
    usual = starts_ahead(before, runs=runs, asked=others) if others else {}
    delays = sorted(
        (each for job in others if (each := _delay(job, usual[job], starts[job])) is not None),
        key=lambda each: (-each.later_ms, each.job),
    )
    jobs = tuple(
        PlannedJob(
            index=number,
            name=specs[number].name,
            nodes=_nodes(core, placed[job]) if job in placed else (),
            position=order.get(job),
            starts_ms=tuple(starts.get(job, ())),
            promised_ms=None if job in placed else promised.get(job),
        )
        for number, job in enumerate(ids[:JOBS_SHOWN])
    )
    return WhatIf(
        jobs=jobs, preempts=preempts, delays=tuple(delays[:DELAYED_SHOWN]), delayed=len(delays)
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
