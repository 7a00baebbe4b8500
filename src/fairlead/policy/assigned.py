"""Carries out assignments: whoever waits and has a place in the plan starts there, the rest after.

A plan is wanted as soon as anything has changed since the last one, and nobody who runs is moved.
Where an answer can be expected (`awaited`, says the world that asks), only those start meanwhile
that the last plan has a place for. With nobody to ask, or an answer that does not come, jobs start
in the policy's order, each where it is fastest of what is free.
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
from fairlead.policy.rounds import Claim, Rounds

ASSIGNMENT = "assignment"  # the name of the plan


class Assigned(Rounds):
    """The part of a pipeline that carries out plans for those that wait."""

    at_once = True

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
        self.pipeline.bind(core)
        yield from self._place(core, self._claims(core, []))
        if self.awaited and self.due(core):
            return
        self.pipeline.queue.sync(core)
        yield from self._place(core, self._others(core))

    def _claims(self, core: Core, movable: list[Job]) -> list[Claim]:
        """Return the places of those that wait, in the order of the plan."""
        waiting = ((job_id, core.pending.get(job_id)) for job_id in core.advice.of)
        of = core.advice.of
        return [
            Claim((at,), job, of[job_id].on[0][0])
            for at, (job_id, job) in enumerate(waiting)
            if job is not None
        ]

    def _others(self, core: Core) -> list[Claim]:
        """Return the waiting jobs in the policy's order: each first where it is fastest."""
        models = sorted({each.model for node in core.nodes for each in node.spec.devices})
        found = []
        for claim in super()._others(core):
            speeds = [(core.speeds.of(claim.job.spec, model) or 0, model) for model in models]
            for speed, model in sorted(speeds, key=lambda each: (-each[0], each[1])):
                if speed:
                    found.append(Claim(claim.rank, claim.job, model))
            found.append(claim)
        return found
