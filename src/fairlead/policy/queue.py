"""Pending jobs in order, grouped so that a round looks at classes of jobs and not at jobs.

Jobs of one group ask for the same shape (and count against the same quota): if the first of them
does not fit, none does. Beside reservations that depends on the tenant and on how long a job may
run too, so these are then part of the group. A group is a list sorted once; a heap holds the first
of each group.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

from fairlead.core.ends import FAR, believed_run_ms
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Ms
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.order import Order

GroupId: TypeAlias = tuple[int, str]  # shape, and what else tells jobs apart: "" is nothing
# The key, whose last item is the job's id; a token; the believed run time where plans need it.
Entry: TypeAlias = tuple[int, int, int, int, int]


ANY: Ms = FAR + 1  # longer than any run time that is believed
SEP = "\x1f"  # between names, which have none

COMPACT_MIN = 64  # entries of jobs that wait no more, which a group may carry along


class Group:
    """Entries of one group, best first from `start` on."""

    __slots__ = ("entries", "id", "start")

    def __init__(self, group: GroupId) -> None:
        self.id = group
        self.entries: list[Entry] = []
        self.start = 0

    def first(self, core: Core) -> Entry | None:
        """Return the best entry that still waits; forget those before it that do not."""
        entries = self.entries
        while self.start < len(entries):
            entry = entries[self.start]
            job = core.pending.get(entry[2])
            if job is not None and job.token == entry[3]:
                return entry
            self.start += 1
            if self.start > 1024 and self.start * 2 > len(entries):
                del entries[: self.start]
                self.start = 0
        entries.clear()
        self.start = 0
        return None

    def compact(self, core: Core) -> None:
        """Drop the entries of jobs that wait no more, where there are many."""
        if len(self.entries) - self.start > 2 * len(core.pending) + COMPACT_MIN:
            self.entries = [each for each in self.entries[self.start :] if _waits(core, each)]
            self.start = 0

    def waiting(self, core: Core) -> Iterator[tuple[Entry, Job]]:
        """Yield the entries that still wait, with their jobs, best first."""
        self.compact(core)
        for entry in self.entries[self.start :]:
            job = core.pending.get(entry[2])
            if job is not None and job.token == entry[3]:
                yield entry, job

    def next_below(self, core: Core, index: int, run_ms: Ms) -> int | None:
        """Return the place, from `index` on, of a job that waits and runs for less than run_ms."""
        entries, pending = self.entries, core.pending
        for at in range(index, len(entries)):
            entry = entries[at]
            if entry[4] < run_ms:
                job = pending.get(entry[2])
                if job is not None and job.token == entry[3]:
                    return at
        return None

    def add(self, entry: Entry) -> None:
        """Insert an entry at its place."""
        if not self.entries or entry > self.entries[-1]:
            self.entries.append(entry)
        else:
            insort(self.entries, entry, lo=self.start)

    def add_all(self, fresh: list[Entry]) -> None:
        """Insert many entries: sorting a nearly sorted list is one pass."""
        del self.entries[: self.start]
        self.start = 0
        self.entries += fresh
        self.entries.sort()


def _waits(core: Core, entry: Entry) -> bool:
    job = core.pending.get(entry[2])
    return job is not None and job.token == entry[3]


def merged(
    core: Core,
    groups: Sequence[tuple[GroupId, Group]],
    closed: Collection[GroupId],
    refused: Mapping[GroupId, Ms],
) -> Iterator[tuple[Entry, Job]]:
    """Yield the waiting jobs of groups, best first, while their groups are not closed; only those
    that run for less than was refused to their group. Both may change meanwhile."""
    heap: list[tuple[Entry, int, int]] = []
    for number, (_, group) in enumerate(groups):
        if (at := group.next_below(core, group.start, ANY)) is not None:
            heap.append((group.entries[at], number, at))
    heapq.heapify(heap)
    while heap:
        entry, number, at = heapq.heappop(heap)
        yield entry, core.pending[entry[2]]
        group_id, group = groups[number]
        if group_id not in closed:
            after = group.next_below(core, at + 1, refused.get(group_id, ANY))
            if after is not None:
                heapq.heappush(heap, (group.entries[after], number, after))


class Queue:
    """All pending jobs of a core in the order of a policy. Derived state: rebuilt at any time."""

    def __init__(self, order: Order, run_of: Callable[[Job], Ms] | None = None) -> None:
        self.order, self.run_of = order, run_of
        self.groups: dict[GroupId, Group] = {}
        # Groups to look at, best first. `_queued` says which entry of the heap speaks for a group;
        # others of the same group are left over and skipped.
        self._heads: list[tuple[Entry, GroupId]] = []
        self._queued: dict[GroupId, Entry] = {}
        self.stuck: dict[GroupId, Entry] = {}  # fit nowhere, until something wakes them
        self.gated: dict[GroupId, Entry] = {}  # over quota, or waiting for a node to come back
        self.fresh: list[JobId] = []  # what `sync` took in, for a reader that asks for it
        self.keep_fresh = False
        self._read = -1
        self._wakeups = -1
        self._quotas: frozenset[str] = frozenset()
        self._policy: PolicyConfig | None = None  # set while there are reservations
        self._limits = (False, False)  # whether queues, whether users have limits of their own

    def sync(self, core: Core) -> None:
        """Take in what has happened since the last time."""
        if self._quotas is not core.quota_tenants:
            self._quotas, self._read = core.quota_tenants, -1  # the groups are other ones now
        limits = (core.shares.limited, core.shares.limited and bool(core.users))
        if self._limits != limits:
            self._limits, self._read = limits, -1
        if (self._policy is not None) != bool(core.reservations):
            self._policy, self._read = (core.policy if core.reservations else None), -1
        if self._read < core.arrivals_forgotten:
            self._clear()
            self._read = core.arrivals_forgotten
        place = self._read - core.arrivals_forgotten
        if place < len(core.arrivals):
            fresh = core.arrivals[place:]
            self._read += len(fresh)
            self._add(core, fresh)
            if self.keep_fresh:
                self.fresh += fresh
        if self._wakeups != core.wakeups:
            self._wakeups = core.wakeups
            self._wake()

    def _wake(self) -> None:
        for parked in (self.stuck, self.gated):
            for group, entry in parked.items():
                self._push(group, entry)
            parked.clear()

    def _clear(self) -> None:
        for index in (self.groups, self._heads, self._queued, self.stuck, self.gated):
            index.clear()

    def resort(self, core: Core) -> None:
        """Give all that wait their places anew, for orders that change while jobs wait.

        O(pending x log). For readers of `groups` alone: the heap of the best keeps the old places.
        """
        for group in self.groups.values():
            group.entries = sorted(self.entry(job) for _, job in group.waiting(core))
            group.start = 0

    def _push(self, group: GroupId, entry: Entry) -> None:
        self._queued[group] = entry
        heapq.heappush(self._heads, (entry, group))

    def group_of(self, job: Job) -> GroupId:
        """Return the group of a job."""
        tenant = job.spec.tenant
        payer = self._payer(job)
        if job.spec.counted or job.spec.may_acquire:  # what may keep it from starting, too
            payer = f"{payer}{SEP}{job.spec.counted}{job.spec.may_acquire}"
        if self._policy is not None:
            run_ms = believed_run_ms(job, self._policy)
            return (job.shape_id, f"{tenant} {run_ms} {job.spec.limit_ms}{payer}")
        return (job.shape_id, f"{tenant}{payer}" if tenant in self._quotas else payer)

    def _payer(self, job: Job) -> str:
        """Return by whose limits a job may be kept from starting, "" for nobody's."""
        of_queue, of_user = self._limits
        if not of_queue:
            return ""
        return f"{SEP}{job.spec.queue}{SEP}{job.spec.user}" if of_user else SEP + job.spec.queue

    def entry(self, job: Job) -> Entry:
        """Return the job's place in the order."""
        first, submitted, job_id = self.order(job)
        return (first, submitted, job_id, job.token, self.run_of(job) if self.run_of else 0)

    def _add(self, core: Core, fresh: list[int]) -> None:
        batches: dict[GroupId, list[Entry]] = {}
        for job_id in fresh:
            job = core.pending.get(job_id)
            if job is not None:
                batches.setdefault(self.group_of(job), []).append(self.entry(job))
        for group_id, entries in batches.items():
            group = self.groups.get(group_id)
            if group is None:
                group = self.groups[group_id] = Group(group_id)
            before = group.first(core)
            if len(entries) == 1:
                group.add(entries[0])
            else:
                group.add_all(sorted(set(entries)))
            first = group.entries[group.start]
            if first == before:
                continue
            # Where the group is parked, only who stands first of it has changed.
            if group_id in self.stuck:
                self.stuck[group_id] = first
            elif group_id in self.gated:
                self.gated[group_id] = first
            else:
                self._push(group_id, first)

    def best(self, core: Core) -> tuple[Entry, Group] | None:
        """Return the best entry of all groups that are not parked."""
        heads = self._heads
        while heads:
            entry, group_id = heads[0]
            if self._queued.get(group_id) != entry:
                heapq.heappop(heads)
                continue
            group = self.groups[group_id]
            first = group.first(core)
            if first == entry:
                return entry, group
            heapq.heappop(heads)
            if first is not None:
                self._push(group_id, first)
            else:
                del self._queued[group_id], self.groups[group_id]
        return None

    def first_stuck(self) -> Entry | None:
        """Return the best entry that fits nowhere."""
        return min(self.stuck.values(), default=None)

    def park(self, entry: Entry, group: Group, where: dict[GroupId, Entry]) -> None:
        """Set the best group aside, in `stuck` or `gated`, until something wakes it."""
        assert self._heads[0] == (entry, group.id)
        heapq.heappop(self._heads)
        del self._queued[group.id]
        where[group.id] = entry

    def until(self, core: Core) -> Entry | None:
        """Return the best entry after the best group's: a run of equal jobs ends before it."""
        top = heapq.heappop(self._heads)
        rest = self.best(core)
        heapq.heappush(self._heads, top)
        after = [entry for entry in self.stuck.values() if entry > top[0]]
        if rest is not None:
            after.append(rest[0])
        return min(after, default=None)

    def in_order(self, core: Core) -> list[Job]:
        """Return all pending jobs, best first."""
        return sorted(core.pending.values(), key=self.entry)
