"""Oracle of elastic gangs: never less than the least, never more than the most, nobody twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.model.events import AnyEvent, Grown, MemberEnded, NodeJoined, NodeLost, Shrunk
from fairlead.model.jobs import Phase
from fairlead.sim.faults.known import Attempt, Violation
from fairlead.sim.faults.truth import close_enough

if TYPE_CHECKING:
    from fairlead.sim.faults.oracles import Oracles


class Elastic:
    """Follows who joins and leaves while a job runs."""

    def __init__(self, oracles: Oracles) -> None:
        self.oracles = oracles

    def grown(self, event: Grown) -> None:
        """Members join."""
        job, spec = event.job, self.oracles.specs[event.job]
        attempt = self._running(event)
        size = len(attempt.staying()) + len(event.slots)
        if size > spec.members_max:
            raise Violation("grown-too-large", f"{event}: {size} of {spec.members_max}", job)
        slots = [*attempt.slots.values(), *event.slots]
        if not close_enough(spec.shape, [self.oracles.nodes[slot.node].spec for slot in slots]):
            raise Violation("topology", f"{event}, asked for {spec.shape.within}", job)
        for slot in event.slots:
            self.oracles.check_slot(slot, spec.shape, job)
            attempt.slots[attempt.unused] = slot
            attempt.unused += 1

    def shrunk(self, event: Shrunk) -> None:
        """The last members have to leave."""
        attempt, spec = self._running(event), self.oracles.specs[event.job]
        if not spec.shape.members <= event.members < len(attempt.staying()):
            raise Violation("shrunk-too-far", f"{event}: {attempt.staying()}", event.job)
        for rank in attempt.staying()[event.members :]:
            attempt.leaving[rank] = self.oracles.world.now

    def _running(self, event: Grown | Shrunk) -> Attempt:
        attempt = self.oracles.live.get(event.job)
        if attempt is None or attempt.number != event.attempt or attempt.doomed is not None:
            raise Violation("resized-at-its-end", f"{event}", event.job)
        if not self.oracles.specs[event.job].members_max or attempt.running_ms is None:
            raise Violation("resized-against-its-will", f"{event}", event.job)
        return attempt

    def left(self, attempt: Attempt, rank: int) -> None:
        """A member that was told to leave is gone; the job goes on without it."""
        del attempt.slots[rank], attempt.leaving[rank]
        self.oracles.settle(attempt)

    def after(self, event: AnyEvent) -> None:
        """The shadow has applied the loss of a member: does the job go on without it?

        It may, with its least number of members; then those that are gone are out of it.
        """
        if not isinstance(event, MemberEnded | NodeLost | NodeJoined):
            return
        for job in list(self.oracles.shadow.elastic.values()):
            attempt = self.oracles.live.get(job.id)
            if attempt is None or job.team is None or job.phase is not Phase.RUNNING:
                continue
            out = [rank for rank in attempt.slots if rank not in job.team.numbers]
            for rank in out:
                del attempt.slots[rank], attempt.ended[rank]
                attempt.doomed = None
            if set(attempt.slots) != set(job.team.numbers):
                text = f"{sorted(attempt.slots)}, the core says {job.team.numbers}"
                raise Violation("other-members", text, job.id)
            if out and len(attempt.staying()) < job.spec.shape.members:
                raise Violation("partial-gang", f"job {job.id}: {attempt.staying()}", job.id)
