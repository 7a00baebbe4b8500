"""Jobs that share a GPU: how fast each is beside the others, and what they say of it.

The truth is in the trace (`beside`); the scheduler learns of it only by what jobs report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core import together
from fairlead.core.jobs import Job
from fairlead.model.base import Misuse, Ms
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import Phase
from fairlead.sim.pace import ONE

if TYPE_CHECKING:
    from fairlead.sim.replay import World


class Company:
    """Who is beside whom in one world. Does nothing where nobody is slower beside others."""

    def __init__(self, world: World, share: str) -> None:
        self.world = world
        self.beside = {
            index: dict(job.beside) for index, job in enumerate(world.jobs) if job.beside
        }
        self.reporting = share != "any"
        if self.reporting and world.rules.event_order == "reference":
            raise Misuse(
                "who shares a GPU cannot be decided event by event",
                field="event-order",
                hint="leave --event-order out",
            )

    def before(self, now: Ms, inbox: list[AnyEvent]) -> None:
        """Let those who share, or could, say how far they are; before anybody comes or goes."""
        if self.reporting:
            inbox[:0] = [self.world.report(now, job.id) for job in self._running()]

    def after(self, now: Ms) -> None:
        """Go on at the speeds that the new company allows."""
        world = self.world
        for job in self._running() if self.beside or self.reporting else ():
            factor = self._factor(job)
            pace = world.paces[job.id - 1]
            if factor != pace.company:
                world.expect(job.id, pace.accompany(now, factor))
            if self.reporting:
                world.core.apply(now, world.report(now, job.id))

    def _running(self) -> list[Job]:
        core, truth = self.world.core, self.world.jobs
        jobs = [core.jobs[job_id] for _, job_id in core.ends.sorted]
        some = [job for job in jobs if job.spec.shape.gpu_milli and truth[job.id - 1].rates]
        return [job for job in some if job.phase is Phase.RUNNING]

    def _factor(self, job: Job) -> int:
        """Return the speed beside those who are there, in thousandths of that alone."""
        factor, truth = ONE, self.beside.get(job.id - 1, {})
        for other in together.beside(self.world.core, job):
            factor = factor * truth.get(other.spec.kind, ONE) // ONE
        return max(factor, 1)
