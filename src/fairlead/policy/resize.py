"""Elastic jobs: they grow into what nobody waits for, and give it back before anybody has to wait.

Runs last in a round. Whoever waits comes first: members beyond the least of elastic jobs leave as
soon as a waiting job could start in their place, of the lowest priority and of the job with most of
them first. That is no preemption: the job goes on. Free room goes to the job with the fewest
members for its user's weight, one by one, and not while a waiting job could use that node
(`elastic = idle`), or only while none could start there (`beside`). Between growing and the last
change there is `resize_every`, twice as long after every member that was lost.

Cost: nothing without elastic jobs; else O(groups that wait) and, where members have to leave,
O(log members) looks at the nodes for each job that waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.core import models
from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.fits import copies
from fairlead.core.jobs import Job
from fairlead.core.ledger import Request
from fairlead.core.shares import Block
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent, Grown, Promised, Shrunk
from fairlead.model.resources import Slot
from fairlead.policy.firm import is_firm, is_held
from fairlead.policy.place.seats import nearest
from fairlead.policy.plan import Plan, Walled
from fairlead.policy.queue import Entry, GroupId
from fairlead.policy.roomier import Needed, Roomier, excess, may_resize, steps

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

MARGIN_MS: Ms = 60_000  # after the last grace is over, for agents to say so
DOUBLINGS_MAX = 10  # of the time between two changes
COUNTED = ("QOSMaxJobsPerUserLimit", "QOSMaxJobsLimit")  # limits that no amount changes


class Resize:
    """The part of a pipeline that lets elastic jobs grow and shrink."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.coming = False  # whether somebody waits for what is about to be free
        self.served: set[JobId] = set()  # who
        self._units: dict[int, Request] = {}  # by shape: one member of it
        self._usable: dict[int, npt.NDArray[np.bool_]] = {}  # by shape: nodes for a member of it
        self._layout = -1

    # ---- shrink -------------------------------------------------------------------------------

    def make_room(self, core: Core) -> Iterator[AnyEvent]:
        """Yield who has to shrink so that waiting jobs can start, in their order."""
        self.coming = False
        self.served.clear()
        if not core.elastic or not core.pending:
            return
        if not any(excess(job) or job.leaving for job in core.elastic.values()):
            return
        room = Roomier(core, self.pipeline)
        for job, needed in self._waiting(core, room):
            self.coming = True
            if needed is not None and self._in_vain(core, job, needed):
                continue
            self.served.add(job.id)
            if needed is None:
                continue
            for victim, count in needed.counts.items():
                yield self._shrunk(core.jobs[victim], count, f"job {job.id} needs the room")
            if not is_firm(job) and self.pipeline.fit.gang(core.shapes[job.shape_id]) is None:
                hold = self._held(core, job, needed.slots)
                if job.promise is None or job.promise.start_ms > hold.start_ms:
                    yield hold

    def _in_vain(self, core: Core, job: Job, needed: Needed) -> bool:
        """Whether a job is promised a start no later than when these members would be gone."""
        if job.promise is None or not needed.counts:
            return False
        grace_ms = max(core.jobs[victim].spec.grace_ms for victim in needed.counts)
        return job.promise.start_ms <= core.clock + grace_ms

    def _held(self, core: Core, job: Job, slots: tuple[Slot, ...]) -> Promised:
        """Hold what leaves for the job that it leaves for: nobody else may take it bit by bit."""
        nodes = {slot.node for slot in slots}
        leaves = [
            each.team.leave_ms
            for each in core.elastic.values()
            if each.team is not None and any(slot.node in nodes for slot in each.leaving)
        ]
        start = max([core.clock, *leaves])
        return Promised(
            job=job.id,
            start_ms=start,
            slots=slots,
            because="what members of elastic jobs leave is held for it",
            until_ms=start + MARGIN_MS,
        )

    def _waiting(self, core: Core, room: Roomier) -> Iterator[tuple[Job, Needed | None]]:
        """Yield the waiting jobs for which members have to leave, or are leaving, in order.

        None: what leaves is held for it already.
        """
        pipeline, limit = self.pipeline, None
        for group, job in self._in_order(core):
            if limit is not None and core.clock + group[1] > limit:
                continue
            if is_held(job):
                yield job, None
                continue
            needed = None if not pipeline.possible(core, job) else room.needed(job)
            if needed is not None:
                yield job, needed
                continue
            self._closed.add(group[0])
            if pipeline.over_quota(core, job) or not pipeline.possible(core, job):
                continue
            start = FAR
            if pipeline.backfill is not None and limit is None:
                start = limit = pipeline.backfill.start_of(core, job)
            unknown = pipeline.preempt is None and start >= FAR
            if not room.steps or (unknown and pipeline.protected(core.clock, job)):
                return  # nobody may overtake it

    def _in_order(self, core: Core) -> Iterator[tuple[tuple[GroupId, Ms], Job]]:
        """Yield waiting jobs, best first, with their groups and believed run times.

        A group is passed over from when it is closed: the others of it ask for the same.
        """
        self._closed: set[GroupId] = set()
        groups = self.pipeline.queue.groups
        heads: list[tuple[Entry, GroupId]] = []
        walks: dict[GroupId, Iterator[tuple[Entry, Job]]] = {}
        for group_id, group in groups.items():
            walks[group_id] = group.waiting(core)
            if (first := next(walks[group_id], None)) is not None:
                heads.append((first[0], group_id))
        heapq.heapify(heads)
        while heads:
            entry, group_id = heapq.heappop(heads)
            yield (group_id, entry[4]), core.pending[entry[2]]
            if group_id not in self._closed:
                following = next(walks[group_id], None)
                if following is not None:
                    heapq.heappush(heads, (following[0], group_id))

    def _shrunk(self, job: Job, count: int, because: str) -> Shrunk:
        assert job.team is not None
        members = job.team.size - count
        return Shrunk(job=job.id, attempt=job.attempt, members=members, because=because)

    def give_way(self, core: Core, because: str) -> Shrunk | None:
        """Return the job that is next to give back all it has beyond its least; None: nobody has.

        For whoever is about to preempt: this comes before.
        """
        found = steps(core) if core.elastic else []
        if not found:
            return None
        self.coming = True
        job = found[0][0]
        return self._shrunk(job, excess(job), because)

    # ---- grow ---------------------------------------------------------------------------------

    def grow(self, core: Core) -> Iterator[AnyEvent]:
        """Yield who grows, member by member: the one with the fewest for its weight first."""
        mode = self.pipeline.config.elastic
        if not core.elastic or mode == "never" or self.coming:
            return
        jobs = [job for job in core.elastic.values() if self._wants(core, job) is None]
        if not jobs:
            return
        closed = self._closed_nodes(core) if mode == "idle" and core.pending else None
        if closed is not None and closed.all():
            return
        heap = [(*self._rank(core, job), job) for job in jobs]
        heapq.heapify(heap)
        because = f"{self.pipeline.because}; room that nobody waits for"
        while heap:
            job = heapq.heappop(heap)[-1]
            if self.block(core, job) is not None or (mode == "idle" and self._rival(core, job)):
                continue
            slot = self.slot(core, job, closed)
            if slot is None:
                continue
            yield Grown(job=job.id, attempt=job.attempt, slots=(slot,), because=because)
            assert job.team is not None
            if job.team.size < job.spec.members_max:
                heapq.heappush(heap, (*self._rank(core, job), job))

    def _rank(self, core: Core, job: Job) -> tuple[Fraction, Ms, int]:
        assert job.team is not None
        user = core.shares.user(job.spec.user)
        weight = 1 if user is None else max(user.weight, 1)
        return (Fraction(job.team.size, weight), job.submitted_ms, job.id)

    def _wants(self, core: Core, job: Job) -> str | None:
        """Return why a job does not ask for more, None: it does."""
        if (no := self._cannot(job)) is not None:
            return no
        if (at := self._again_at(job)) > core.clock:
            left = -(-(at - core.clock) // 1000)
            return f"it was resized lately, and may be again in {left} s"
        return None

    def _cannot(self, job: Job) -> str | None:
        if not may_resize(job) or job.team is None:
            return "some of its members have come to their end, or it does not run"
        if job.team.size >= job.spec.members_max:
            return "it has as many members as it may"
        return None

    def _again_at(self, job: Job) -> Ms:
        """Return when a job may grow again."""
        assert job.team is not None
        if job.team.resized_ms is None:
            return 0
        every = self.pipeline.config.resize_every_ms
        return job.team.resized_ms + (every << min(job.team.lost, DOUBLINGS_MAX))

    def recovers(self, core: Core, job: Job) -> bool:
        """Whether a job has lost members lately, and is not to have new ones yet."""
        return job.team is not None and bool(job.team.lost) and self._again_at(job) > core.clock

    def wake_at(self, core: Core) -> Ms | None:
        """Return when a job may grow again that may not now, None if there is none."""
        if not core.elastic or self.pipeline.config.elastic == "never":
            return None
        times = [
            self._again_at(job)
            for job in core.elastic.values()
            if may_resize(job) and job.team is not None and job.team.size < job.spec.members_max
        ]
        return min((at for at in times if at > core.clock), default=None)

    def block(self, core: Core, job: Job) -> Block | None:
        """Return the quota or limit that keeps a job from having one member more."""
        shape = msgspec.structs.replace(job.spec.shape, members=1)
        of_tenant = self.pipeline.block_of_tenant(core, job, shape)
        return of_tenant or core.shares.block_more(job, shape)

    def _closed_nodes(self, core: Core) -> npt.NDArray[np.bool_]:
        """Return which nodes some waiting job could use, if not now."""
        closed = np.zeros(core.ledger.count, np.bool_)
        for group_id, group in self.pipeline.queue.groups.items():
            entry = group.first(core)
            if entry is None:
                continue
            job = core.pending[entry[2]]
            if self.pipeline.over_quota(core, job) or not self.pipeline.possible(core, job):
                continue
            closed |= self._nodes_for(core, group_id[0])
            if closed.all():
                break
        return closed

    def _nodes_for(self, core: Core, shape_id: int) -> npt.NDArray[np.bool_]:
        if self._layout != core.ledger.layout:
            self._layout = core.ledger.layout
            self._usable.clear()
        found = self._usable.get(shape_id)
        if found is None:
            ledger, request = core.ledger, core.shapes[shape_id]
            able = [copies(ledger, request, node, 1, empty=True) for node in range(ledger.count)]
            found = self._usable[shape_id] = np.array(able, np.bool_)
        return found

    def _rival(self, core: Core, job: Job) -> Job | None:
        """Return a waiting job that is kept out by a limit under which this one would grow."""
        above = {queue.name for queue in core.shares.queues_above(job.spec.queue)}
        for group in self.pipeline.queue.groups.values():
            entry = group.first(core)
            if entry is None:
                continue
            other = core.pending[entry[2]]
            block = self.pipeline.block(core, other)
            if block is None or block.code in COUNTED:
                continue
            queues = {queue.name for queue in core.shares.queues_above(other.spec.queue)}
            same = (other.spec.tenant, other.spec.user) == (job.spec.tenant, job.spec.user)
            if same or above & queues or core.shares.governed:
                return other
            if other.spec.tenant == job.spec.tenant and other.spec.tenant in core.quota_tenants:
                return other
        return None

    def slot(
        self, core: Core, job: Job, closed: npt.NDArray[np.bool_] | None, model: str = ""
    ) -> Slot | None:
        """Return where one more member of a job may go now: the best node by the placement.

        With a model: on devices of that model alone.
        """
        unit = models.open_to(core.shares, job, self._unit(core, job))
        if unit is None:
            return None
        if model and unit.shape.gpu_models != (model,):
            unit = Request(msgspec.structs.replace(unit.shape, gpu_models=(model,)))
        unit = models.apart(core.shares, unit)
        spread, mine = unit.shape.spread, {slot.node for slot in job.slots}
        plan = self._plan(core, job)
        until = max(core.ends.get(job.id), core.clock + 1)
        nodes = self.pipeline.fit.in_order(unit)
        for node in nearest(core.ledger, unit.shape, job.slots, nodes):
            if closed is not None and closed[node]:
                continue
            if (spread == "same-node") != (node in mine) and spread != "any":
                continue
            devices = core.ledger.devices[node].pick(unit) if unit.picks else ()
            if devices is None or not (plan is None or plan.allows(node, unit, devices, until)):
                continue
            return Slot(node=node, devices=devices)
        return None

    def _plan(self, core: Core, job: Job) -> Plan | Walled | None:
        if not core.reservations and not core.promises:
            return None
        return self.pipeline.plans(core).view(job)

    def _unit(self, core: Core, job: Job) -> Request:
        found = self._units.get(job.shape_id)
        if found is None:
            shape = msgspec.structs.replace(core.shapes[job.shape_id].shape, members=1)
            found = self._units[job.shape_id] = Request(shape)
        return found

    # ---- explain ------------------------------------------------------------------------------

    def why_not(self, core: Core, job: Job) -> str:
        """Return why a running elastic job does not grow now, in words."""
        mode = self.pipeline.config.elastic
        if (no := self._cannot(job)) is not None:
            return no
        if self.pipeline.sizing:
            share = core.advice.of.get(job.id)
            members = max(0 if share is None else share.members, job.spec.shape.members)
            return f"the {self.pipeline.config.plan} plan gives it {members} members now"
        if mode == "never":
            return "the policy lets no job grow (elastic = never)"
        if (block := self.block(core, job)) is not None:
            return block.words
        if mode == "idle" and (rival := self._rival(core, job)) is not None:
            return f"job {rival.id} waits for the same quota"
        if (no := self._wants(core, job)) is not None:
            return no
        if self.slot(core, job, None) is None:
            return "there is no room for another member"
        closed = self._closed_nodes(core) if mode == "idle" and core.pending else None
        if self.coming or self.slot(core, job, closed) is None:
            return "what is free is kept for jobs that wait"
        return "it may grow at the next look"
