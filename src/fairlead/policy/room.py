"""What would be free for one waiting job if others were gone: on the nodes, and of its quota.

Whoever is stopping counts as gone, and so do members that leave an elastic gang. What is reserved,
promised for deadlines or held for others is not for it. Changes only its own copies. Cost:
O(nodes that fit + branches) to make, O(slots of the job) for each that is thought away.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from fairlead.core.cohort import Branch
from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import UP, Request
from fairlead.core.models import narrowed, planned
from fairlead.core.reserve import limit_of
from fairlead.model.base import JobId, NodeId
from fairlead.model.jobs import Phase
from fairlead.model.resources import GPU, WHOLE_GPU_MILLI, Slot, asked_in_all
from fairlead.policy.fence import Fence
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.seats import Seats
from fairlead.policy.place.trial import Trial

NOBODY = 2**30  # more than can be chosen: it never fits


class Tree:
    """The quotas, with some jobs thought away."""

    def __init__(self, core: Core, stopping: Iterable[Job]) -> None:
        self.core = core
        core.shares.sync()
        self.branches: dict[str, Branch] = {}
        waiting = [core.shares.root.copy(None)]
        while waiting:
            branch = waiting.pop()
            self.branches[branch.name] = branch
            waiting += branch.children
        for job in stopping:
            self.move(job, -1)
        for job in core.elastic.values():
            self._move(job, job.leaving, -1)

    def move(self, job: Job, sign: int) -> None:
        """Book what a live job holds, or (-1) think it away. Who leaves it is gone already."""
        self._move(job, job.staying, sign)

    def _move(self, job: Job, slots: tuple[Slot, ...], sign: int) -> None:
        shares, leaf = self.core.shares, self.branches[job.spec.queue]
        if shares.governed:
            held = shares.holdings(job, slots)
            for row in shares.governed:
                leaf.use(row, sign * held[row])

    def entitled(self, job: Job, asked: Sequence[tuple[int, int]]) -> list[Branch]:
        """Return the branches above a waiting job that would be within their quotas with it."""
        leaf = self.branches[job.spec.queue]
        for row, amount in asked:
            leaf.use(row, amount)
        path = leaf.above()[:-1]
        found = [each for each in path if all(not each.borrowed(row) for row, _ in asked)]
        for row, amount in asked:
            leaf.use(row, -amount)
        return found


class Room:
    """The nodes, with some jobs thought away."""

    def __init__(
        self, core: Core, fit: Fit, job: Job, stopping: Iterable[Job], model: str = ""
    ) -> None:
        self.core, self.fit = core, fit
        self.request: Request = planned(core, job)
        if model:  # on GPUs of this type alone
            self.request = Request(narrowed(job.spec.shape, (model,)) or job.spec.shape)
        self.fence = Fence(core, job, min(core.clock + limit_of(job), FAR))
        self.gone: set[JobId] = set()
        self.trials: dict[NodeId, Trial] = {}
        self.seats = Seats(fit, self.request)
        request, ledger = self.request, core.ledger
        room = ledger.room[:, : ledger.count]
        fits = np.ones(ledger.count, np.bool_)
        for row, amount in request.need:
            fits &= room[row] >= amount
        for node in np.flatnonzero(fits).tolist():
            self._recount(node)
        for each in stopping:
            self.move(each, 1)
        for each in core.elastic.values():
            self._move(each, each.leaving, 1)

    def move(self, job: Job, sign: int) -> None:
        """Think a live job away (+1), or back (-1). Who leaves it is gone already."""
        if sign > 0:
            self.gone.add(job.id)
        else:
            self.gone.discard(job.id)
        self._move(job, job.staying, sign)

    def _move(self, job: Job, slots: tuple[Slot, ...], sign: int) -> None:
        for its, those in self.core.shapes[job.shape_id].split(slots):
            for slot in those:
                self._trial(slot.node).move(its, slot.devices, sign)
        for node in {slot.node for slot in slots}:
            self._recount(node)

    def fits(self) -> bool:
        """Whether all members fit together, by the rules of their shape."""
        return self.seats.enough(self._usable)

    def slots(self) -> tuple[Slot, ...]:
        """Return where the members go, the best nodes first; they fit."""
        return self.seats.slots({node: self._usable(node).copy() for node in self.seats.nodes()})

    def least(self, jobs: Sequence[Job]) -> int:
        """Return a number of these jobs of which surely none fewer have to go; 0 if it fits.

        By amounts alone, resource by resource: on one node where all members must be on one, else
        on all together.
        """
        if self.fits():
            return 0
        request = self.request
        together = request.members == 1 or request.shape.spread == "same-node"
        given = {node: self._given(jobs, node) for node in _nodes(jobs)}
        if together:
            return min(
                (self._cover([node], those) for node, those in given.items()), default=NOBODY
            )
        merged: dict[JobId, list[int]] = {}
        for those in given.values():
            for job_id, amounts in those.items():
                have = merged.setdefault(job_id, [0] * len(amounts))
                merged[job_id] = [a + b for a, b in zip(have, amounts, strict=True)]
        up = [node for node in range(self.core.ledger.count) if self._open(node)]
        return self._cover(up, merged)

    def _given(self, jobs: Sequence[Job], node: NodeId) -> dict[JobId, list[int]]:
        """Return what each of these jobs holds of a node, in the order of `_needed`."""
        found: dict[JobId, list[int]] = {}
        for job in jobs:
            amounts, there = [0] * (GPU + 1), False
            for its, slots in self.core.shapes[job.shape_id].split(job.staying):
                count = sum(slot.node == node for slot in slots)
                each = (*its.host, WHOLE_GPU_MILLI * its.gpus + sum(its.shares))
                amounts = [have + count * more for have, more in zip(amounts, each, strict=True)]
                there = there or count > 0
            if there:
                found[job.id] = [amounts[row] for row, _ in self._needed()]
        return found

    def _needed(self) -> list[tuple[int, int]]:
        """Return (row, amount) of what all members need together."""
        asked = asked_in_all(self.request.shape)[: GPU + 1]
        return [(row, amount) for row, amount in enumerate(asked) if amount]

    def _cover(self, nodes: Sequence[NodeId], given: dict[JobId, list[int]]) -> int:
        """Return how many of the largest it takes to make up what is missing of each amount."""
        most = 1  # it does not fit now, so one at least
        for at, (row, amount) in enumerate(self._needed()):
            missing = amount - sum(max(0, self._usable(node).free[row]) for node in nodes)
            count = 0
            for held in sorted((each[at] for each in given.values()), reverse=True):
                if missing <= 0:
                    break
                missing -= held
                count += 1
            if missing > 0:
                return NOBODY
            most = max(most, count)
        return most

    def _open(self, node: NodeId) -> bool:
        return bool(self.core.ledger.room.item(UP, node)) and node not in self.fence.closed

    def _trial(self, node: NodeId) -> Trial:
        trial = self.trials.get(node)
        if trial is None:
            trial = self.trials[node] = Trial.now(self.core.ledger, node)
        return trial

    def _usable(self, node: NodeId) -> Trial:
        trial = self.trials.get(node)
        if trial is None:
            trial = Trial.now(self.core.ledger, node)
        return self.fence.within(node, trial, self.gone)

    def _recount(self, node: NodeId) -> None:
        self.seats.set(node, self._usable(node) if self._open(node) else None)


def stopping(core: Core) -> list[Job]:
    """Return the jobs that are on their way out."""
    jobs = (core.jobs[job_id] for _, job_id in core.ends.sorted)
    return [job for job in jobs if job.phase is Phase.STOPPING]


def _nodes(jobs: Sequence[Job]) -> Iterator[NodeId]:
    return iter(sorted({slot.node for job in jobs for slot in job.slots}))
