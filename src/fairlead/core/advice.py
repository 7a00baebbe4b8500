"""The plan that holds now, and what each job has received of it (algorithms.md 5.1, to rounds)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from fairlead.core.jobs import Job
from fairlead.core.speeds import model_of, parted, progressed, speed_deleted, speed_set
from fairlead.model.advice import WHOLE, Share
from fairlead.model.base import JobId, Ms
from fairlead.model.events import Advised, Event, Parted, Progressed, SpeedDeleted, SpeedSet
from fairlead.model.jobs import Phase

if TYPE_CHECKING:
    from fairlead.core.engine import Core

Seen: TypeAlias = tuple[int, ...]
OWED_LEASES = 4
NOBODY = Advised(adviser="", plan=())


class Advice:
    """The plan of one core. Only its handlers write to it."""

    def __init__(self) -> None:
        self.event = NOBODY
        self.at_ms: Ms = 0
        self.of: dict[JobId, Share] = {}  # jobs of the plan that are still there
        self.received: dict[tuple[JobId, str], Ms] = {}  # since then, by runs that are over
        # What earlier plans promised beyond what was received, in millionths of ms.
        self.owed: dict[tuple[JobId, str], int] = {}
        self.seen: Seen = ()  # the state of affairs that it was made for
        self.there: tuple[int, Seen] = (-1, ())  # what nodes have, as of a layout of the ledger

    def copy(self) -> Advice:
        """Return an independent copy."""
        other = Advice()
        other.event, other.at_ms, other.seen = self.event, self.at_ms, self.seen
        other.of, other.received, other.owed = dict(self.of), dict(self.received), dict(self.owed)
        return other

    def received_ms(self, core: Core, job: Job, model: str, until_ms: Ms | None = None) -> Ms:
        """Return for how long a job has run on a model since the plan was made, by default now."""
        received = self.received.get((job.id, model), 0)
        if job.phase is not Phase.RUNNING or job.started_ms is None:
            return received
        until_ms = core.clock if until_ms is None else until_ms
        here = model_of(core, job.slots) == model
        return received + max(0, until_ms - max(job.started_ms, self.at_ms)) * here

    def gone(self, core: Core, job: Job) -> None:
        """An attempt is over; a job that ends for good leaves the plan."""
        if job.id not in self.of:
            return
        if job.phase is Phase.PENDING:
            if job.started_ms is not None:
                key = (job.id, model_of(core, job.slots))
                ran = max(0, job.last_ms - max(job.started_ms, self.at_ms))
                self.received[key] = self.received.get(key, 0) + ran
            return
        for model, _ in self.of.pop(job.id).on:
            self.received.pop((job.id, model), None)
            self.owed.pop((job.id, model), None)


def seen_of(core: Core) -> Seen:
    """Return the state of affairs, the next job first: a plan for another one is stale."""
    advice, layout = core.advice, core.ledger.layout
    if advice.there[0] != layout:
        up = [index for index, node in enumerate(core.nodes) if node.up]
        advice.there = (layout, tuple(core.ledger.capacity[:, up].sum(axis=1).tolist()))
    return (core.next_job, len(core.jobs), core.speeds.version, *advice.there[1])


def advised(core: Core, event: Advised) -> None:
    """A plan was made. Jobs that have ended meanwhile are not in it. O(jobs in the plan)."""
    old, advice = core.advice, Advice()
    advice.event, advice.at_ms, advice.seen = event, core.now, event.seen or seen_of(core)
    jobs = core.jobs
    advice.of = {job: share for share in event.plan for job in share.jobs if job in jobs}
    passed = core.now - old.at_ms
    most = OWED_LEASES * core.policy.lease_ms * WHOLE  # what cannot be had is not owed for ever
    for job_id in advice.of:
        share, job = old.of.get(job_id), jobs[job_id]
        runs = job.phase is Phase.RUNNING
        for model, part in () if share is None else share.on:
            key = (job_id, model)
            received = old.received_ms(core, job, model) if runs else old.received.get(key, 0)
            owed = old.owed.get(key, 0) + part * passed - received * WHOLE
            owed = max(-most, min(most, owed))
            if owed:
                advice.owed[key] = owed
    core.advice = advice
    core.wakeups += 1


def handlers(core: Core) -> dict[type[Event], Callable[[Any], None]]:
    """Return what applies the events of plans and of the speeds that they go by."""
    return {
        Progressed: partial(progressed, core),
        SpeedSet: partial(speed_set, core),
        SpeedDeleted: partial(speed_deleted, core),
        Parted: partial(parted, core),
        Advised: partial(advised, core),
    }
