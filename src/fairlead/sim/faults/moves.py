"""Oracle of jobs that are moved to make room: stopped once there is a place, for one that waits.

By the durable log alone: a job is stopped to be moved only after it was said where to and for whom,
while the room that it makes is held for that one, and when its new place is free, or will be once
all who move for the same one have left (then one of them has to be the first).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core.jobs import Job
from fairlead.model.events import StopDecided
from fairlead.model.jobs import LIVE, Phase, PolicyConfig
from fairlead.policy.place.trial import Trial
from fairlead.sim.faults.known import Violation

if TYPE_CHECKING:
    from fairlead.sim.faults.oracles import Oracles


class Moves:
    """Looks at stops of jobs that are to move."""

    def __init__(self, oracles: Oracles) -> None:
        self.oracles = oracles
        self.seen = 0

    def is_move(self, event: StopDecided) -> bool:
        """Whether a job is stopped to be moved, as was said before."""
        promise = self.oracles.shadow.jobs[event.job].promise
        return promise is not None and promise.move_for == (event.beneficiary or 0)

    def judge(self, event: StopDecided, config: PolicyConfig) -> None:
        """Raise Violation if the job should have stayed."""
        shadow, job = self.oracles.shadow, self.oracles.shadow.jobs[event.job]
        waiting = shadow.jobs.get(event.beneficiary or 0)
        held = waiting is not None and waiting.promise and waiting.promise.until_ms is not None
        if waiting is None or waiting.phase is not Phase.PENDING or not held:
            raise Violation("moved-in-vain", f"{event}: nothing is held for it", event.job)
        if config.defrag == "never":
            raise Violation("moved-in-spite", f"{event}: {config.defrag}", event.job)
        if not self._free(job, [job]) and not self._circle(job):
            raise Violation("moved-too-early", f"{event}: its place is not free", event.job)
        self.seen += 1

    def _circle(self, job: Job) -> bool:
        """Whether all who move for the same one still run, and it is free once they have left."""
        assert job.promise is not None
        shadow, whom = self.oracles.shadow, job.promise.move_for
        those = [each for each in shadow.promises.values() if each.promise]
        those = [each for each in those if each.promise and each.promise.move_for == whom]
        running = all(each.phase in (Phase.STARTING, Phase.RUNNING) for each in those)
        return running and self._free(job, those)

    def _free(self, job: Job, gone: list[Job]) -> bool:
        """Whether a job's new place is free if these were not where they are."""
        shadow = self.oracles.shadow
        assert job.promise is not None
        request = shadow.shapes[job.shape_id]
        nodes = {slot.node for slot in job.promise.slots}
        trials = {node: Trial.now(shadow.ledger, node) for node in nodes}
        for each in gone:
            for slot in each.slots if each.phase in LIVE else ():
                if slot.node in trials:
                    trials[slot.node].move(shadow.shapes[each.shape_id], slot.devices, 1)
        for slot in job.promise.slots:
            trial = trials[slot.node]
            if not shadow.nodes[slot.node].up or not trial.has_room(request, slot.devices):
                return False
            trial.move(request, slot.devices, -1)
        return True
