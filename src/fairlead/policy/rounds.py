"""Carries out a plan in rounds: places change hands when one begins (algorithms.md 5.1, to rounds).

A plan says for which part of its time a job is to run on which device model. In each round whoever
has had the least of what it was promised on a model is first there (lines.py, grants.py). What is
left goes to jobs that no plan knows of, or that are beyond their share, in the policy's order, each
on the model on which it is fastest: a plan that is late or wrong costs speed, never work. Every
placement is checked against the ledger as it is. Nothing is remembered between passes: while those
that have to go still hold on, every pass of a round's beginning comes to the same choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.speeds import model_of
from fairlead.model.advice import Question
from fairlead.model.base import Ms
from fairlead.model.events import AnyEvent, Placed, StopDecided
from fairlead.model.jobs import LIVE, Phase
from fairlead.model.resources import Slot
from fairlead.policy.finish import HANDOVER, round_start
from fairlead.policy.grants import Grants, live
from fairlead.policy.lines import Lines
from fairlead.policy.preempt import free_now, stoppable
from fairlead.policy.question import Known, fastest_first, question, stale

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline


class Rounds:
    """The part of a pipeline that carries out plans."""

    at_once = False  # whether plans are wanted as soon as things change, or for each round

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.awaited = False  # whether a plan that is due will be there soon, says the world
        self._core: Core | None = None
        self._lines = Lines()
        self._asked: Core | None = None
        self._known = Known()

    def due(self, core: Core) -> bool:
        """Whether to ask for a plan now: a round begins, and things have changed since the last."""
        lease = core.policy.lease_ms
        return bool(core.jobs) and core.clock == round_start(core.clock, lease) and stale(core)

    def question(self, core: Core, now: Ms | None = None) -> Question:
        """Return what to ask, by default as of the turn."""
        if self._asked is not core:
            self._asked, self._known = core, Known()
        return question(core, now, self._known)

    def wake_at(self, core: Core) -> Ms | None:
        """Return when the next round begins in which somebody's place may be another one."""
        if not core.jobs or (not core.pending and not stale(core) and _settled(core)):
            return None
        lease = self.pipeline.config.lease_ms
        return round_start(core.clock, lease) + lease

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield stops and placements."""
        if self._core is not core:
            self._core, self._lines = core, Lines()
        config = self.pipeline.config
        begun = round_start(core.clock, config.lease_ms)
        beginning = core.clock - begun <= config.lease_ms // HANDOVER
        movable = stoppable(core, config) if beginning else []
        # By our clock, not a node's: whoever was placed in this round stays for the rest of it.
        movable = [job for job in movable if (job.placed_ms or 0) < begun]
        if movable or core.pending:
            grants = Grants(core, self.pipeline, self._lines, movable, beginning)
            grants.decide()
            for job in movable:
                if (why := _must_go(grants, job)) is not None:
                    because = f"{config.plan} plan: its lease is over, {why}"
                    yield StopDecided(
                        job=job.id, attempt=job.attempt, then=Phase.PENDING, because=because
                    )
            yield from self._take(core, grants)
        if not (beginning and any(_makes_room(job) for job in live(core))):
            yield from self._others(core)

    def _take(self, core: Core, grants: Grants) -> Iterator[AnyEvent]:
        """Start those to whom something was given, where it is free already."""
        pipeline = self.pipeline
        claimed = bool(core.reservations or core.promises)
        because = f"{core.advice.event.adviser} plan, {pipeline.because}"
        for job_id in grants.widest_first():
            job = core.pending.get(job_id)
            if job is None or pipeline.over_quota(core, job):
                continue
            slots = grants.places.get(job_id)
            request = pipeline.on_model(core, job, grants.models[job_id])
            if claimed:
                slots = pipeline.beside_claims(core, job, request)
            elif slots is None:
                slots = pipeline.fit.gang(request)
            elif not free_now(core, request, slots):
                slots = None
            if slots is not None:
                yield Placed(job=job_id, attempt=job.attempt + 1, slots=slots, because=because)

    def _others(self, core: Core) -> Iterator[AnyEvent]:
        """Start what waits where it is fastest, in the policy's order, as long as it fits."""
        pipeline = self.pipeline
        queue, strict = pipeline.queue, pipeline.overtake_ms == 0
        queue.sync(core)
        models: list[str] | None = None
        while (found := queue.best(core)) is not None:
            entry, group = found
            if strict and queue.stuck and entry > min(queue.stuck.values()):
                return
            job = core.pending[entry[2]]
            if self.held_back(core, job):
                return
            if pipeline.over_quota(core, job):
                queue.park(entry, group, queue.gated)
                continue
            if models is None:
                models = fastest_first(core, list(pipeline.nodes_of(core)))
            slots = self._fastest(core, job, models)
            if slots is not None:
                because = f"beside the plan, {pipeline.because}"
                yield Placed(job=job.id, attempt=job.attempt + 1, slots=slots, because=because)
            elif strict and pipeline.possible(core, job):
                queue.park(entry, group, queue.stuck)
            else:
                queue.park(entry, group, queue.gated)

    def held_back(self, core: Core, job: Job) -> bool:
        """Whether a job beside the plan, and all after it, wait for the next one."""
        return False

    def _fastest(self, core: Core, job: Job, models: list[str]) -> tuple[Slot, ...] | None:
        """Return places on the fastest model that has some; a gang is on one, if that can be."""
        pipeline = self.pipeline
        request = core.shares.request(job)
        find = pipeline.fit.gang
        if core.reservations or core.promises:
            return pipeline.beside_claims(core, job, request)
        if not request.picks:
            return find(request)
        if find(request) is None:
            return None
        if not pipeline.config.blind:
            speeds = {model: core.speeds.of(job.spec, model) or 0 for model in models}
            models = sorted(models, key=lambda each: -speeds[each])  # of equals as they were
        for model in models:
            if request.models and model not in request.models:
                continue
            slots = find(pipeline.on_model(core, job, model))
            if slots is not None:
                return slots
        return find(request)


def _must_go(grants: Grants, job: Job) -> str | None:
    """Return why a job has to leave its place in this round; None: it keeps it."""
    model = grants.models.get(job.id)
    if model is None:
        return "others come first in this round"
    if model != grants.here[job.id]:
        return f"it goes to {model or 'a node without devices'}"
    return None if grants.places.get(job.id, job.slots) == job.slots else "it makes room for a gang"


def _makes_room(job: Job) -> bool:
    """Whether a job is on its way out to make room: what it leaves was given to another."""
    return job.phase is Phase.STOPPING and job.then is Phase.PENDING


def _settled(core: Core) -> bool:
    """Whether every job of the plan is on the one model where it is to be all the time."""
    for job_id, job in core.jobs.items():
        share = core.advice.of.get(job_id)
        if job.phase not in LIVE or share is None or len(share.on) != 1:
            return False
        if share.on[0][0] != model_of(core, job.slots):
            return False
    return True
