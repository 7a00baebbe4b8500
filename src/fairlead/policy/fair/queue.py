"""Pending jobs by who is to start them: a heap of groups for every user of every queue.

Inside one of these leaves jobs keep the order of their keys. Who of the leaves is next is for a
walk to say (orders.py): it changes with every launch.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import Ms, ShapeId
from fairlead.policy.order import Order
from fairlead.policy.queue import SEP, Entry, Group, GroupId, Queue

LeafKey: TypeAlias = tuple[str, ...]  # queue and user; and what else tells leaves apart
Listing: TypeAlias = Callable[[Core], Iterable[tuple[Entry, Job]]]


class FairQueue(Queue):
    """All pending jobs of a core by leaves. `apart`: jobs of different priority or shape of one
    user compete with each other like those of different users, and are leaves of their own."""

    def __init__(
        self, order: Order, run_of: Callable[[Job], Ms] | None, listing: Listing, *, apart: bool
    ) -> None:
        super().__init__(order, run_of)
        self.apart, self._listing = apart, listing
        self.leaves: dict[LeafKey, list[tuple[Entry, GroupId]]] = {}
        self._leaf_of: dict[GroupId, LeafKey] = {}

    def _payer(self, job: Job) -> str:
        payer = f"{SEP}{job.spec.queue}{SEP}{job.spec.user}"
        return f"{payer}{SEP}{job.spec.priority}" if self.apart else payer

    def leaf_of(self, group: GroupId) -> LeafKey:
        """Return whose a group is."""
        found = self._leaf_of.get(group)
        if found is None:
            shape, words = group
            rest, *names = words.split(SEP)
            found = (*names, rest, str(shape)) if self.apart else tuple(names)
            self._leaf_of[group] = found
        return found

    def _clear(self) -> None:
        super()._clear()
        self.leaves.clear()
        self._leaf_of.clear()

    def _push(self, group: GroupId, entry: Entry) -> None:
        self._queued[group] = entry
        heapq.heappush(self.leaves.setdefault(self.leaf_of(group), []), (entry, group))

    def first(self, core: Core, leaf: LeafKey) -> tuple[Entry, Group] | None:
        """Return the best entry of a leaf's groups that are not parked."""
        heads = self.leaves.get(leaf)
        while heads:
            entry, group_id = heads[0]
            if self._queued.get(group_id) != entry:
                heapq.heappop(heads)
                continue
            group = self.groups[group_id]
            first = group.first(core)
            if first == entry:
                return entry, group
            if first is not None:
                self._queued[group_id] = first
                heapq.heapreplace(heads, (first, group_id))
            else:
                heapq.heappop(heads)
                del self._queued[group_id], self.groups[group_id], self._leaf_of[group_id]
        if heads is not None:
            del self.leaves[leaf]
        return None

    def best(self, core: Core) -> tuple[Entry, Group] | None:
        """There is no best of all without a walk."""
        raise AssertionError("leaves are walked, not queued")

    def park(self, entry: Entry, group: Group, where: dict[GroupId, Entry]) -> None:
        """Set the best group of its leaf aside until something wakes it."""
        heads = self.leaves[self.leaf_of(group.id)]
        assert heads[0] == (entry, group.id)
        heapq.heappop(heads)
        del self._queued[group.id]
        where[group.id] = entry

    def _wake(self) -> None:
        """Take back those that were over quota; of the others those that may fit (`unpark`)."""
        for group, entry in self.gated.items():
            self._push(group, entry)
        self.gated.clear()

    def unpark(self, core: Core, closed: Collection[ShapeId], ends: Callable[[Job], bool]) -> None:
        """Take back those that did not fit, but for closed shapes whose first job does not end the
        pass; O(groups that did not fit)."""
        pending = core.pending
        back = [
            group
            for group, entry in self.stuck.items()
            if group[0] not in closed or ((job := pending.get(entry[2])) is not None and ends(job))
        ]
        for group in back:
            self._push(group, self.stuck.pop(group))

    def in_order(self, core: Core) -> list[Job]:
        """Return all pending jobs in the order in which they would start if all fitted."""
        return [job for _, job in self._listing(core)]
