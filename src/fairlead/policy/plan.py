"""What is free over time, and the earliest start that fits: running jobs, reservations, promises.

Most nodes only get freer with time, since what runs there ends; they are swept in the order of
believed ends. A node on whose future somebody has a claim (a reservation, a promised start) has a
`Line`: its free amounts over time, in steps. The answer is exact for both: every member fits on
its node, with its devices, in the whole of [start, start + run).

Cost of `earliest`: O(ends before the answer) for nodes without claims, O(steps) for each with.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np

from fairlead.core.ends import FAR, believed_run_ms
from fairlead.core.engine import Core
from fairlead.core.future import request_of
from fairlead.core.jobs import Job, Promise
from fairlead.core.ledger import UP, Request
from fairlead.core.models import apart
from fairlead.core.reserve import last_end, limit_of
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.jobs import LIVE
from fairlead.model.resources import Slot
from fairlead.policy.ending import END, LEAVE, departures, expected_end, next_end
from fairlead.policy.firm import firm, window
from fairlead.policy.line import Line
from fairlead.policy.place.fit import NODE_0, Fit
from fairlead.policy.place.seats import Seats
from fairlead.policy.place.trial import Trial
from fairlead.policy.reserved import keep_out, of_others

Claim: TypeAlias = tuple[Request, tuple[Slot, ...], Ms, Ms]
Promised: TypeAlias = tuple[Claim, bool]  # firm: not even on the strength of beliefs in its way


class Plan:
    """The future as jobs of one tenant may use it. Made for one moment; claims are added to it.

    What runs ends when it is believed to end; with `by_limit`, no earlier than it must.
    """

    def __init__(self, core: Core, fit: Fit, tenant: str = "", *, by_limit: bool = False) -> None:
        self.core, self.fit, self.tenant, self.by_limit = core, fit, tenant, by_limit
        self.lines: dict[NodeId, Line] = {}
        self._partly: list[Job] | None = None  # gangs of which some members are gone
        keep_out(core, of_others(core, tenant), self.line, self._end)

    def _end(self, job: Job) -> Ms:
        return last_end(self.core, job) if self.by_limit else self.core.ends.get(job.id)

    def _ends(self, job: Job) -> list[tuple[Ms, tuple[Slot, ...]]]:
        """Return when a live job gives back which of its slots."""
        ends = [(self._end(job), job.staying)]
        if job.team is not None and job.team.leaving:
            ends.append((min(job.team.leave_ms, self._end(job)), job.leaving))
        return ends

    def line(self, node: NodeId) -> Line:
        """Return the line of a node; made from what holds it, at the first question."""
        line = self.lines.get(node)
        if line is None:
            line = self.lines[node] = self._line(node)
        return line

    def _line(self, node: NodeId) -> Line:
        core = self.core
        line = Line(core.clock, Trial.now(core.ledger, node))
        if not core.ledger.room[UP, node]:
            line.block(core.clock, FAR)
            return line
        held = [
            (expected_end(end, core.clock), job.id, slot, its)
            for job in self._holders(node)
            if job.phase in LIVE
            for end, slots in self._ends(job)
            for its, those in core.shapes[job.shape_id].split(slots)
            for slot in those
            if slot.node == node
        ]
        for end, _, slot, its in sorted(held, key=lambda item: item[:2]):
            if end < FAR:
                line.move(its, slot.devices, end, FAR, 1)
        return line

    def _holders(self, node: NodeId) -> list[Job]:
        """Return the jobs that hold slots of a node: gangs too whose members here are all gone."""
        if self._partly is None:
            jobs = (self.core.jobs[job_id] for _, job_id in self.core.ends.sorted)
            self._partly = [job for job in jobs if job.exits]
        members = self.core.nodes[node].members.items()
        return list(
            {
                **{key[0]: job for key, job in members},
                **{job.id: job for job in self._partly},
            }.values()
        )

    def claim(self, request: Request, slots: Sequence[Slot], start: Ms, end: Ms, sign: int) -> None:
        """Take (sign -1) or give back (+1) slots during [start, end)."""
        for its, those in request.split(slots):
            for slot in those:
                self.line(slot.node).move(its, slot.devices, start, end, sign)

    def occupy(self, request: Request, slots: Sequence[Slot], until: Ms) -> None:
        """A job starts now and is believed to run until then. Lines made later see it anyway."""
        for its, those in request.split(slots):
            for slot in those:
                line = self.lines.get(slot.node)
                if line is not None:
                    line.move(its, slot.devices, self.core.clock, until, -1)

    def allows(self, node: NodeId, request: Request, devices: tuple[int, ...], until: Ms) -> bool:
        """Whether one member may have these devices of a node from now until then."""
        line = self.lines.get(node)
        return line is None or line.allows(request, devices, self.core.clock, until)

    def bound(self, node: NodeId, until: Ms) -> Trial | None:
        """Return the least that is free on a node from now until then; None: only what is now."""
        line = self.lines.get(node)
        return None if line is None else line.least(self.core.clock, until)

    def earliest(
        self, request: Request, run_ms: Ms, until: Ms = FAR
    ) -> tuple[Ms, tuple[Slot, ...]] | None:
        """Return the first start before `until` for all members, and where; None: never.

        Of the nodes that fit then, the best by the placement's score are chosen. Time: O(ends).
        """
        found = _Sweep(self, request, run_ms).first(until)
        return found if found is not None and found[0] < until else None

    def at(self, request: Request, start: Ms, end: Ms) -> tuple[Slot, ...] | None:
        """Return slots for all members that are free in the whole of [start, end), None: too few.

        Gives every node a line. O(nodes).
        """
        sweep = _Sweep(self, request, end - start)
        for node in range(self.core.ledger.count):
            self.line(node)
            sweep._count(node, start)
        return sweep._slots(start) if sweep._enough(start) else None


class Walled:
    """A plan for a job that may run longer than is believed of it: past promises, on the strength
    of the belief, but never into what others have reserved."""

    def __init__(self, plan: Plan, walls: Plan, limit_ms: Ms) -> None:
        self.plan, self.walls, self.limit_ms = plan, walls, limit_ms

    def _until(self) -> Ms:
        return min(self.plan.core.clock + self.limit_ms, FAR)

    def allows(self, node: NodeId, request: Request, devices: tuple[int, ...], until: Ms) -> bool:
        """Whether one member may have these devices of a node from now until then."""
        return self.plan.allows(node, request, devices, until) and self.walls.allows(
            node, request, devices, self._until()
        )

    def bound(self, node: NodeId, until: Ms) -> Trial | None:
        """Return the least that is free on a node from now until then; None: only what is now."""
        bound, wall = self.plan.bound(node, until), self.walls.bound(node, self._until())
        if bound is None or wall is None:
            return bound if wall is None else wall
        return bound.least(wall)

    def earliest(
        self, request: Request, run_ms: Ms, until: Ms = FAR
    ) -> tuple[Ms, tuple[Slot, ...]] | None:
        """Return the first start before `until` for all members, and where; None: never."""
        found = _Sweep(self.plan, request, run_ms, self).first(until)
        return found if found is not None and found[0] < until else None


class Plans:
    """The plans of all tenants at one moment: those that own a reservation have one of their own.

    Stands while nothing ends (`stands`); promises are taken over from the core by `sync`.
    """

    def __init__(self, core: Core, fit: Fit) -> None:
        self.core, self.fit = core, fit
        self.views: dict[str, Plan] = {}
        self.walls: dict[str, Plan] = {}
        self.promised: dict[JobId, Promised] = {}
        self._of: dict[JobId, Promise] = {}
        self._made = (core.wakeups, core.ledger.layout, core.ends.moves)
        self._until = min(next_claim(core), next_end(core))

    def stands(self) -> bool:
        """Whether nothing has happened that lines do not know."""
        core = self.core
        made = (core.wakeups, core.ledger.layout, core.ends.moves)
        return self._made == made and core.clock < self._until

    def sync(self) -> None:
        """Claim what the core has promised to waiting jobs, no more and no less."""
        promises = self.core.promises
        for job_id, promise in list(self._of.items()):
            waiting = promises.get(job_id)
            if waiting is None or waiting.promise is not promise:
                self.withdraw(job_id)
        for job_id, job in promises.items():
            if job_id not in self.promised and job.promise is not None:
                self.promise(job, job.promise)

    def view(self, job: Job) -> Plan | Walled:
        """Return the future as this waiting job may use it."""
        core, tenant = self.core, job.spec.tenant
        owns = any(tenant in each.tenants for each in core.reservations.values())
        key = tenant if owns else ""
        plan = self.views.get(key)
        if plan is None:
            plan = self.views[key] = Plan(core, self.fit, key)
            for claim, _ in self.promised.values():
                plan.claim(*claim, -1)
        if believed_run_ms(job, core.policy) >= limit_of(job):
            return plan
        if not core.reservations and not any(firm for _, firm in self.promised.values()):
            return plan
        walls = self.walls.get(key)
        if walls is None:
            walls = self.walls[key] = Plan(core, self.fit, key, by_limit=True)
            for claim, firm in self.promised.values():
                if firm:
                    walls.claim(*claim, -1)
        return Walled(plan, walls, limit_of(job)) if walls.lines else plan

    def promise(self, job: Job, promise: Promise) -> None:
        """Claim what a job is promised."""
        start, end = window(job, promise)
        request = apart(self.core.shares, request_of(self.core, job))
        claim = (request, promise.slots, start, end)
        self.promised[job.id] = found = (claim, firm(job, promise))
        self._of[job.id] = promise
        self._move(found, -1)

    def withdraw(self, job: JobId) -> None:
        """Give back what a job was promised, if anything."""
        found = self.promised.pop(job, None)
        if found is not None:
            del self._of[job]
            self._move(found, 1)

    def _move(self, promised: Promised, sign: int) -> None:
        claim, firm = promised
        for plan in (*self.views.values(), *(self.walls.values() if firm else ())):
            plan.claim(*claim, sign)

    def occupy(self, job: Job, slots: Sequence[Slot], until: Ms) -> None:
        """A job starts now and is believed to run until then.

        What is reserved for its tenant is partly filled by it: then all is drawn anew, once the
        core knows of the start.
        """
        core, tenant = self.core, job.spec.tenant
        self._until = min(self._until, until)
        if any(each.shape and tenant in each.tenants for each in core.reservations.values()):
            self.views.clear()
            self.walls.clear()
            return
        request = core.shapes[job.shape_id]
        for plan in self.views.values():
            plan.occupy(request, slots, until)
        for plan in self.walls.values():
            plan.occupy(request, slots, min(core.clock + limit_of(job), FAR))


def next_claim(core: Core) -> Ms:
    """Return when the next reservation begins or the next promise is due; FAR: none."""
    if not core.reservations and not core.promises:
        return FAR
    now = core.clock
    starts = [each.start_ms for each in core.reservations.values() if each.start_ms > now]
    for job in core.promises.values():
        if job.promise is not None and job.promise.start_ms > now:
            starts.append(job.promise.start_ms)
    return min(starts, default=FAR)


class _Sweep:
    """One question to a plan: goes through time and counts how many members fit."""

    def __init__(
        self, plan: Plan, request: Request, run_ms: Ms, walled: Walled | None = None
    ) -> None:
        self.plan, self.request, self.run_ms = plan, request, run_ms
        self.walls = {} if walled is None else walled.walls.lines
        self.limit_ms = run_ms if walled is None else walled.limit_ms
        self.seats = Seats(plan.fit, request)
        self.trials: dict[NodeId, Trial] = {}

    def first(self, until: Ms) -> tuple[Ms, tuple[Slot, ...]] | None:
        """Return (start, slots), None if they never fit together."""
        core, lines, request = self.plan.core, self.plan.lines, self.request
        if len(lines) == core.ledger.count == 1 and request.members == 1 and not self.walls:
            start = lines[0].earliest(request, self.run_ms, core.clock, until)
            return None if start is None else (start, self._slots(start))
        self._count_now()
        if self._enough(core.clock):
            return core.clock, self._slots(core.clock)
        ends, now = core.ends.sorted, core.clock
        late = bisect_left(ends, (now + 1, 0))
        steps = heapq.merge(
            sorted((expected_end(end, now), END, job) for end, job in ends[:late]),
            ((end, END, job) for end, job in islice(ends, late, None)),
            sorted(departures(core)),
            sorted(
                (at, node, 0)
                for its, run_ms in ((lines, self.run_ms), (self.walls, self.limit_ms))
                for node, line in its.items()
                for at in line.changes(run_ms)
                if at > core.clock
            ),
        )
        at, touched = core.clock, set[NodeId]()
        for time, node, job_id in steps:
            if time > at:
                if touched and self._recount(touched, at):
                    return at, self._slots(at)
                touched.clear()
                at = time
            if at >= FAR or at >= until:
                return None
            if node >= 0:
                touched.add(node)
            else:
                touched |= self._release(job_id, leaving=node == LEAVE)
        if touched and self._recount(touched, at):
            return at, self._slots(at)
        return None

    def _count_now(self) -> None:
        core, request = self.plan.core, self.request
        for node in self.plan.lines:
            self._count(node, core.clock)
        room = core.ledger.room[:, : core.ledger.count]
        fits = np.ones(core.ledger.count, np.bool_)
        for row, amount in request.need:
            fits &= room[row] >= amount
        for node in np.flatnonzero(fits).tolist():
            if node not in self.plan.lines:
                self.seats.set(node, Trial.now(core.ledger, node))

    def _release(self, job_id: int, *, leaving: bool) -> set[NodeId]:
        """Give back, in this sweep, what a job, or who leaves it, holds on nodes without claims."""
        core = self.plan.core
        job = core.jobs[job_id]
        touched: set[NodeId] = set()
        gone = job.leaving if leaving else job.staying
        for request, slots in core.shapes[job.shape_id].split(gone):
            for slot in slots:
                node = slot.node
                if node in self.plan.lines or not core.ledger.room.item(UP, node):
                    continue
                trial = self.trials.get(node)
                if trial is None:
                    trial = self.trials[node] = Trial.now(core.ledger, node)
                trial.move(request, slot.devices, 1)
                touched.add(node)
        return touched

    def _state(self, node: NodeId, at: Ms) -> Trial:
        line, wall = self.plan.lines.get(node), self.walls.get(node)
        if line is not None:
            state = line.least(at, at + self.run_ms)
            return state if wall is None else state.least(wall.least(at, at + self.limit_ms))
        trial = self.trials.get(node)
        return Trial.now(self.plan.core.ledger, node) if trial is None else trial

    def _count(self, node: NodeId, at: Ms) -> None:
        self.seats.set(node, self._state(node, at))

    def _recount(self, touched: set[NodeId], at: Ms) -> bool:
        for node in touched:
            self._count(node, at)
        return self._enough(at)

    def _enough(self, at: Ms) -> bool:
        return self.seats.enough(lambda node: self._state(node, at))

    def _slots(self, at: Ms) -> tuple[Slot, ...]:
        """Return where the members go at that time: the best nodes first."""
        nodes = self.seats.nodes() or self.plan.lines  # one of one line was never counted
        return self.seats.slots({node: self._state(node, at).copy() for node in nodes})


class Shadow:
    """The promised start of one job, and what is left beside it on its nodes from then on.

    The same as a plan with this one claim, for the common case that nothing else is claimed: what
    is free then only grows, so that one state per node says all. `spare` is what EASY calls extra.
    """

    def __init__(self, plan: Plan, request: Request, run_ms: Ms) -> None:
        assert not plan.lines
        self.start_ms: Ms = FAR
        self.slots: tuple[Slot, ...] = ()
        self.spare: dict[NodeId, Trial] = {}
        ledger = plan.core.ledger
        if ledger.count == 1 and request.members == 1 and not ledger.devices[0].size:
            self._on_the_only_node(plan.core, request)
            return
        sweep = _Sweep(plan, request, run_ms)
        found = sweep.first(FAR)
        if found is None:
            return
        self.start_ms, self.slots = found
        for its, slots in request.split(self.slots):
            for slot in slots:
                spare = self.spare.get(slot.node)
                if spare is None:
                    spare = self.spare[slot.node] = sweep._state(slot.node, self.start_ms).copy()
                spare.move(its, slot.devices, -1)

    def _on_the_only_node(self, core: Core, request: Request) -> None:
        """As the sweep does, on a pool: add up what comes free until it is enough."""
        if not core.ledger.room.item(UP, 0):
            return
        spare = Trial.now(core.ledger, 0)
        at, free = core.clock, spare.free
        if not spare.fits(request):
            ends = ((end, END, job) for end, job in core.ends.sorted)
            for end, kind, job_id in heapq.merge(ends, sorted(departures(core))):
                if end > at:
                    if spare.fits(request):
                        break
                    at = end
                if at >= FAR:
                    return
                job = core.jobs[job_id]
                slots = job.leaving if kind == LEAVE else job.staying
                for its, those in core.shapes[job.shape_id].split(slots):
                    for row, amount in its.held:
                        free[row] += len(those) * amount
            if not spare.fits(request):
                return
        self.start_ms, self.slots = at, (NODE_0,)
        spare.move(request, (), -1)
        self.spare[0] = spare

    def allows(self, node: NodeId, request: Request, devices: tuple[int, ...], until: Ms) -> bool:
        """Whether one member may have these devices of a node from now until then."""
        spare = None if until <= self.start_ms else self.spare.get(node)
        return spare is None or spare.has_room(request, devices)

    def bound(self, node: NodeId, until: Ms) -> Trial | None:
        """Return what may be taken of a node until then, None where nothing is claimed."""
        return None if until <= self.start_ms else self.spare.get(node)

    def take(self, request: Request, slots: Sequence[Slot], until: Ms) -> None:
        """Somebody has started beside it, until then."""
        if until > self.start_ms:
            for its, those in request.split(slots):
                for slot in those:
                    spare = self.spare.get(slot.node)
                    if spare is not None:
                        spare.move(its, slot.devices, -1)
