"""Oracle of quotas and limits: nothing is placed that takes anybody beyond what it may hold.

The rules are told here once more, plainly and from the durable log alone: who holds what is summed
up anew at every placement, and each limit is looked at by its definition (algorithms.md 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from fairlead.model.events import (
    AnyEvent,
    Grown,
    Placed,
    QueueDeleted,
    QueueSet,
    UserDeleted,
    UserSet,
)
from fairlead.model.jobs import EVERYBODY, LIVE, JobSpec, Queue, User
from fairlead.model.resources import DIMENSIONS, GPU, WHOLE_GPU_MILLI, Slot
from fairlead.sim.faults.known import Violation

if TYPE_CHECKING:
    from fairlead.sim.faults.oracles import Oracles

Amounts: TypeAlias = dict[str, int]


class Sharing:
    """Looks at each durable event before the shadow core has applied it."""

    def __init__(self, oracles: Oracles) -> None:
        self.oracles = oracles
        self.queues: dict[str, Queue] = {}
        self.users: dict[str, User] = {}

    def before(self, event: AnyEvent) -> None:
        """Judge an event by what was before it."""
        match event:
            case QueueSet(queue=queue):
                self.queues[queue.name] = queue
            case QueueDeleted(name=name):
                self.queues.pop(name, None)
            case UserSet(user=user):
                self.users[user.name] = user
            case UserDeleted(name=name):
                self.users.pop(name, None)
            case Placed() | Grown() if self.queues or self.users:
                self._placed(event)
            case _:
                pass

    def _placed(self, event: Placed | Grown) -> None:
        shadow = self.oracles.shadow
        mine = self.oracles.specs[event.job]
        asked = self.amounts(mine, event.slots)
        held: list[tuple[JobSpec, Amounts]] = [(mine, asked)]
        for job in shadow.jobs.values():
            if job.phase in LIVE:
                held.append((job.spec, self.amounts(job.spec, job.slots)))
        self._check_user(event, mine, asked, held)
        for queue in self.path(mine.queue):
            here = [each for each in held if queue in self.path(each[0].queue)]
            starts = isinstance(event, Placed)
            if starts and queue.live_max is not None and len(here) > queue.live_max:
                self._broken(event, f"queue {queue.name}: {len(here)} of {queue.live_max} jobs")
            self._check_most(event, f"queue {queue.name}", queue.most, asked, here)
        for name, amount in asked.items():
            if amount and self.governed(name):
                self._check_cohort(event, name, mine.queue, held)

    def governed(self, name: str) -> bool:
        """Whether somebody is guaranteed a part of a resource."""
        queues = self.queues.values()
        return any(name in {**each.quota, **each.borrow, **each.lend} for each in queues)

    def _broken(self, event: Placed | Grown, what: str) -> None:
        raise Violation("over-quota", f"{event}: {what}", event.job)

    def amounts(self, spec: JobSpec, slots: Sequence[Slot], ranks: Sequence[int] = ()) -> Amounts:
        """Return what these slots hold, by resource; `ranks` whose they are, if not the first."""
        found: Amounts = {}
        for rank, slot in zip(ranks or range(len(slots)), slots, strict=True):
            shape = spec.shape.of(rank)
            for name, amount in zip(DIMENSIONS, (*shape.amounts(), 0, 0), strict=True):
                found[name] = found.get(name, 0) + amount
            for place, index in enumerate(slot.devices):
                device = self.oracles.shadow.nodes[slot.node].spec.devices[index]
                whole = place < shape.gpus
                milli = WHOLE_GPU_MILLI if whole else shape.shares[place - shape.gpus]
                size = device.memory_mib if whole else shape.gpu_memory_mib
                for name, amount in (
                    (DIMENSIONS[GPU], milli),
                    (f"{DIMENSIONS[GPU]}/{device.model}", milli),
                    (DIMENSIONS[GPU + 1], size),
                ):
                    found[name] = found.get(name, 0) + amount
        return found

    def path(self, name: str) -> list[Queue]:
        """Return a queue and all above it."""
        found = []
        while name in self.queues:
            found.append(self.queues[name])
            name = self.queues[name].parent
        return found

    def _check_user(
        self,
        event: Placed | Grown,
        mine: JobSpec,
        asked: Amounts,
        held: list[tuple[JobSpec, Amounts]],
    ) -> None:
        user = self.users.get(mine.user) or self.users.get(EVERYBODY)
        if user is None:
            return
        here = [each for each in held if each[0].user == mine.user]
        starts = isinstance(event, Placed)
        if starts and user.live_max is not None and len(here) > user.live_max:
            self._broken(event, f"user {mine.user}: {len(here)} of {user.live_max} jobs")
        self._check_most(event, f"user {mine.user}", user.most, asked, here)

    def _check_most(
        self,
        event: Placed | Grown,
        who: str,
        most: Amounts,
        asked: Amounts,
        here: list[tuple[JobSpec, Amounts]],
    ) -> None:
        for name, limit in most.items():
            total = sum(amounts.get(name, 0) for _, amounts in here)
            if asked.get(name, 0) and total > limit:
                self._broken(event, f"{who} holds {total} {name} of {limit}")

    # ---- quota, borrowing, lending: each by its definition ------------------------------------

    def _check_cohort(
        self, event: Placed | Grown, name: str, queue: str, held: list[tuple[JobSpec, Amounts]]
    ) -> None:
        before: Amounts = {}
        for spec, amounts in held[1:]:
            before[spec.queue] = before.get(spec.queue, 0) + amounts.get(name, 0)
        own = {**before, queue: before.get(queue, 0) + held[0][1][name]}
        for each in self.path(queue):
            used, quota = self.used(each.name, name, own), self.subtree(each.name, name)
            if used == self.used(each.name, name, before):
                return  # it takes what this queue lends to nobody: nothing changes above
            borrow = each.borrow.get(name)
            if borrow is not None and used > quota + borrow:
                what = f"queue {each.name} uses {used} {name} of {quota} and {borrow} borrowed"
                self._broken(event, what)
        top = [each.name for each in self.queues.values() if each.parent not in self.queues]
        used = self._used_of_all(top, name, own)
        quota = max(0, self._capacity(name) - sum(self.subtree(child, name) for child in top))
        quota += sum(self.subtree(child, name) - self._local(child, name) for child in top)
        if used > quota and used > self._used_of_all(top, name, before):
            self._broken(event, f"the cluster lends {used} {name} of {quota}")

    def _used_of_all(self, top: list[str], name: str, own: Amounts) -> int:
        loose = sum(amount for queue, amount in own.items() if queue not in self.queues)
        return loose + sum(self._excess(child, name, own) for child in top)

    def _capacity(self, name: str) -> int:
        shadow = self.oracles.shadow
        up = [index for index, node in enumerate(shadow.nodes) if node.up]
        if name in DIMENSIONS:
            return sum(int(shadow.ledger.capacity[DIMENSIONS.index(name), node]) for node in up)
        return WHOLE_GPU_MILLI * sum(
            f"{DIMENSIONS[GPU]}/{device.model}" == name
            for node in up
            for device in shadow.nodes[node].spec.devices
        )

    def below(self, queue: str) -> list[str]:
        """Return the queues right below one."""
        return [each.name for each in self.queues.values() if each.parent == queue]

    def subtree(self, queue: str, name: str) -> int:
        """Return the quota of a queue with what those below it lend."""
        below = self.below(queue)
        lent = sum(self.subtree(child, name) - self._local(child, name) for child in below)
        return self.queues[queue].quota.get(name, 0) + lent

    def _local(self, queue: str, name: str) -> int:
        lend = self.queues[queue].lend.get(name)
        return 0 if lend is None else max(0, self.subtree(queue, name) - lend)

    def used(self, queue: str, name: str, own: Amounts) -> int:
        """Return what is used of a queue's quota; `own`: what is held in each queue itself."""
        below = sum(self._excess(child, name, own) for child in self.below(queue))
        return own.get(queue, 0) + below

    def _excess(self, queue: str, name: str, own: Amounts) -> int:
        return max(0, self.used(queue, name, own) - self._local(queue, name))
