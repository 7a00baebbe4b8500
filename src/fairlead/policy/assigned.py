"""Carries out assignments: whoever waits and has a place in the plan starts there, the rest after.

A plan is wanted as soon as anything has changed since the last one, and nobody who runs is moved.
Where an answer can be expected (`awaited`, says the world that asks), others wait for it; those
that a plan was asked for and has no place for start when it comes. With nobody to ask, or an answer
that does not come, jobs start in the policy's order, each where it is fastest of what is free.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from fairlead.core.engine import Core
from fairlead.core.fits import members_that_fit
from fairlead.core.jobs import Job
from fairlead.model.advice import Question
from fairlead.model.base import Ms
from fairlead.model.events import AnyEvent
from fairlead.policy.question import question, stale
from fairlead.policy.rounds import Rounds

ASSIGNMENT = "assignment"  # the name of the plan


class Assigned(Rounds):
    """The part of a pipeline that carries out plans for those that wait."""

    at_once = True
    _hold = False  # whether a plan that is due will be there soon

    def due(self, core: Core) -> bool:
        """Whether to ask for a plan now: somebody waits, things have changed, there is room."""
        if not core.pending or not stale(core):
            return False
        shapes = {job.shape_id for job in core.pending.values()}
        requests = (core.shapes[shape] for shape in sorted(shapes))
        return any(
            members_that_fit(core.ledger, each, empty=False) >= each.members for each in requests
        )

    def question(self, core: Core, now: Ms | None = None) -> Question:
        """Return what to ask; whom a quota keeps from starting is not in it."""
        self.pipeline.bind(core)
        asked = question(core, now)
        over = {job.id for job in core.pending.values() if self.pipeline.over_quota(core, job)}
        if not over:
            return asked
        return replace(asked, jobs=tuple([job for job in asked.jobs if job.job not in over]))

    def wake_at(self, core: Core) -> Ms | None:
        """Return None: every chance to start is an event."""
        return None

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield placements."""
        yield from self._planned(core)
        self._hold = self.awaited and self.due(core)
        yield from self._others(core)

    def held_back(self, core: Core, job: Job) -> bool:
        """Whether a job beside the plan waits for the next one.

        When a plan has just come, those that it was asked for and has no place for do not.
        """
        advice = core.advice
        asked = bool(advice.seen) and job.id < advice.seen[0]
        return self._hold and not (asked and advice.at_ms == core.clock)

    def _planned(self, core: Core) -> Iterator[AnyEvent]:
        """Start those that wait and have a place in the plan, in its order, where they fit."""
        plan, advice = self.pipeline.config.plan, core.advice
        if advice.event.adviser != plan:
            return  # it was made for another policy
        jobs = [
            (core.pending[job_id], share.on[0][0])
            for job_id, share in advice.of.items()
            if job_id in core.pending and share.on
        ]
        yield from self.pipeline.start_on(core, jobs, f"{plan} plan")
