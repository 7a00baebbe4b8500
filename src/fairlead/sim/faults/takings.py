"""Oracle of what is taken from running jobs for one that waits, and held for it until it starts.

By the durable log alone: who was stopped for whom, whether that one had a right to it, whether it
is held for it from then on, and whether anybody else gets any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.core.future import request_of
from fairlead.core.jobs import Job
from fairlead.model.base import JobId
from fairlead.model.events import AnyEvent, Grown, Placed, Promised, StopDecided
from fairlead.model.jobs import LIVE, JobSpec, Phase, PolicyConfig
from fairlead.policy.place.trial import Trial
from fairlead.sim.faults.known import Violation
from fairlead.sim.faults.sharing import Amounts

if TYPE_CHECKING:
    from fairlead.sim.faults.oracles import Oracles


class Takings:
    """Looks at stops for the sake of waiting jobs, and at what becomes of them."""

    def __init__(self, oracles: Oracles) -> None:
        self.oracles = oracles
        self._stopped: dict[JobId, JobId] = {}  # in this batch: victim -> for whom
        self._sound: set[JobId] = set()  # holds that fit when they were looked at last

    def within(self, event: StopDecided) -> bool:
        """Whether the victim is of the queue of the one it makes room for."""
        return self.oracles.specs[event.job].queue == self._mine(event).queue

    def _mine(self, event: StopDecided) -> JobSpec:
        assert event.beneficiary is not None
        return self.oracles.specs[event.beneficiary]

    def judge(self, event: StopDecided, config: PolicyConfig) -> None:
        """Raise Violation if the beneficiary has no right to the victim's place."""
        shadow, victim, mine = self.oracles.shadow, self.oracles.specs[event.job], self._mine(event)
        waiting = shadow.jobs.get(event.beneficiary or 0)
        if waiting is None or waiting.phase is not Phase.PENDING:
            raise Violation("preempted-in-vain", f"{event}: for nobody who waits", event.job)
        self._stopped[event.job] = waiting.id
        lower = victim.priority < mine.priority
        if victim.queue == mine.queue:
            if config.within == "never" or not lower:
                raise Violation("preempted-in-spite", f"{event}: {victim.priority}", event.job)
            return
        if config.reclaim == "never" or (config.reclaim == "lower-priority" and not lower):
            raise Violation("preempted-in-spite", f"{event}: {config.reclaim}", event.job)
        if not self._borrows(victim, mine):
            raise Violation("not-lent", f"{event}: its queue has no more than its own", event.job)
        if not self._guaranteed(waiting):
            raise Violation("not-owed", f"{event}: job {waiting.id} is beyond its quota", event.job)

    def _own(self) -> dict[str, dict[str, int]]:
        """Return by resource and queue what is held by those that stay, or held for somebody."""
        shadow, sharing = self.oracles.shadow, self.oracles.sharing
        found: dict[str, dict[str, int]] = {}
        for job in shadow.jobs.values():
            slots = job.slots if job.phase in LIVE and job.phase is not Phase.STOPPING else ()
            ranks: Sequence[int] = ()
            if job.phase is Phase.PENDING and job.promise and job.promise.until_ms is not None:
                slots, ranks = job.promise.slots, job.promise.ranks
            for name, amount in sharing.amounts(job.spec, slots, ranks).items():
                by_queue = found.setdefault(name, {})
                by_queue[job.spec.queue] = by_queue.get(job.spec.queue, 0) + amount
        return found

    def _asked(self, spec: JobSpec) -> Amounts:
        shape = spec.shape
        shares = self.oracles.shadow.shares
        return {shares.rows[row]: amount for row, amount in shares.ask(shape)}

    def _types(self, spec: JobSpec) -> list[str]:
        """Return the GPU types that a job takes, as resources: it may take back of any of them."""
        shares = self.oracles.shadow.shares
        models: set[str] = set()
        for shape in spec.shape.parts():
            if shape.gpus or shape.gpu_milli:
                models.update(shape.gpu_models or shares.models)
        names = [shares.rows[row] for row in shares.models.values()]
        return [name for name in names if name.partition("/")[2] in models]

    def _borrows(self, victim: JobSpec, mine: JobSpec) -> bool:
        """Whether the victim's queue, and all above it up to where the two meet, use more than
        their own of something that the other asks for."""
        sharing, own = self.oracles.sharing, self._own()
        common = {each.name for each in sharing.path(mine.queue)}
        path = [each.name for each in sharing.path(victim.queue) if each.name not in common]
        if victim.queue not in sharing.queues:
            return True  # it has nothing of its own
        for name in (*self._asked(mine), *self._types(mine)):
            if not sharing.governed(name) or not path:
                continue
            held = own.get(name, {})
            if all(sharing.used(each, name, held) > sharing.subtree(each, name) for each in path):
                return True
        return False

    def _guaranteed(self, job: Job) -> bool:
        """Whether a queue above the waiting job is within its quota with it."""
        sharing, own = self.oracles.sharing, self._own()
        asked = {n: a for n, a in self._asked(job.spec).items() if sharing.governed(n)}
        held = job.promise is not None and job.promise.until_ms is not None
        for each in sharing.path(job.spec.queue):
            inside = True
            for name, amount in asked.items():
                by_queue = dict(own.get(name, {}))
                if not held:
                    by_queue[job.spec.queue] = by_queue.get(job.spec.queue, 0) + amount
                used = sharing.used(each.name, name, by_queue)
                inside &= used <= sharing.subtree(each.name, name)
            if inside:
                return True
        return False

    # ---- what is held -------------------------------------------------------------------------

    def batch(self) -> None:
        """A batch is durable and applied: what was freed is held, or taken already."""
        stopped, self._stopped = self._stopped, {}
        for victim, job_id in stopped.items():
            job = self.oracles.shadow.jobs.get(job_id)
            waits = job is not None and job.phase is Phase.PENDING
            if waits and (job is None or job.promise is None or job.promise.until_ms is None):
                raise Violation("not-held", f"job {victim} made room for {job_id}", job_id)

    def after(self, event: AnyEvent) -> None:
        """The shadow has applied an event: was anybody given what is held for another?"""
        holds = [
            job
            for job in self.oracles.shadow.promises.values()
            if job.promise is not None and job.promise.until_ms is not None
        ]
        if not holds:
            self._sound.clear()
            return
        before = self._sound
        self._sound = {job.id for job in holds if self._fits(job)}
        if isinstance(event, Placed | Grown | Promised):
            for job in holds:
                if job.id in before and job.id not in self._sound and job.id != event.job:
                    raise Violation("hold-taken", f"{event}: was held for job {job.id}", job.id)

    def _fits(self, job: Job) -> bool:
        """Whether a job fits where its hold is, once all that leave have left."""
        shadow = self.oracles.shadow
        assert job.promise is not None
        trials = {
            slot.node: Trial.now(shadow.ledger, slot.node)
            for slot in job.promise.slots
            if shadow.nodes[slot.node].up
        }
        for other in shadow.jobs.values():
            gone = other.slots if other.phase is Phase.STOPPING else other.leaving
            for its, slots in shadow.shapes[other.shape_id].split(gone):
                for slot in slots if other.phase in LIVE else ():
                    if slot.node in trials:
                        trials[slot.node].move(its, slot.devices, 1)
        for its, slots in request_of(shadow, job).split(job.promise.slots):
            for slot in slots:
                trial = trials.get(slot.node)
                if trial is None or not trial.has_room(its, slot.devices):
                    return False
                trial.move(its, slot.devices, -1)
        return True
