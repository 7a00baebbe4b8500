"""Whom to move elsewhere so that somebody fits, at the least cost (algorithms.md 7.3).

Nobody is sent away: whoever leaves a node gets a place on another, if need be one that a third
leaves in turn. The search places members one after the other, where there is room first; where
there is none it tries which jobs could leave, the cheapest first, and gives up whatever costs no
less than the best way found. So its answer is the cheapest of all, of equal cost the one with the
fewest moves, unless it takes more than `steps_max` steps: then it is the best so far.

Gangs move as a whole. A job that moves keeps to the GPU types that it runs on, and to what
reservations and promises leave to it. Integers only; changes only its own copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np

from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import UP, Ledger, Request
from fairlead.core.reserve import limit_of
from fairlead.core.tree import together
from fairlead.model.base import JobId, NodeId
from fairlead.model.resources import GPU, WHOLE_GPU_MILLI, Slot, asked_in_all
from fairlead.policy.fence import Fence
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.trial import Trial

STEPS_MAX = 8_000
WAYS_MAX = 256  # sets of jobs of one node that are tried at a time


class Mover(NamedTuple):
    """Somebody who may be moved, what it asks for elsewhere, and what moving it costs."""

    job: Job
    request: Request
    cost: int


class Move(NamedTuple):
    """A job goes from here to there."""

    job: JobId
    source: tuple[Slot, ...]
    to: tuple[Slot, ...]
    cost: int


class Way(NamedTuple):
    """A way to make room, and where the room is."""

    slots: tuple[Slot, ...]
    moves: tuple[Move, ...]

    @property
    def cost(self) -> int:
        """Return what all moves cost together."""
        return sum(move.cost for move in self.moves)


class Answer(NamedTuple):
    """The cheapest way, None if there is none; not `sure`: the search was cut off."""

    way: Way | None
    sure: bool


class Step(NamedTuple):
    """`move`; or `suspend` (a circle waits for it) and later `resume`."""

    kind: Literal["move", "suspend", "resume"]
    move: Move


def cheapest(
    core: Core,
    fit: Fit,
    wish: tuple[Job, Request],
    movers: Sequence[Mover],
    steps_max: int = STEPS_MAX,
) -> Answer:
    """Return the cheapest moves after which this job fits. It is tried on copies only."""
    search = _Search(core, fit, movers, steps_max)
    if search.short(wish[1]) is not None:
        return Answer(None, True)
    search.todo.append(_Part(core, *wish))
    search.go_on(0, 0)
    return Answer(search.found, search.steps <= steps_max and not search.cut)


def short(core: Core, fit: Fit, request: Request) -> tuple[int, int] | None:
    """Return (row, free in all) where less is free in all than is asked for: moving frees none."""
    return _Search(core, fit, (), 0).short(request)


def in_safe_order(core: Core, moves: Sequence[Move]) -> tuple[Step, ...]:
    """Return the moves in an order in which no node ever holds more than it has.

    Whatever fits goes first. In a circle the cheapest job is suspended, ties by id, and resumed as
    soon as there is room.
    """
    trials: dict[NodeId, Trial] = {}
    requests = {move.job: core.shapes[core.jobs[move.job].shape_id] for move in moves}
    steps: list[Step] = []
    suspended: set[JobId] = set()
    todo = sorted(moves, key=lambda move: move.job)
    while todo:
        for move in sorted(todo, key=lambda move: move.job not in suspended):
            request = requests[move.job]
            if move.job not in suspended:
                shift(core, trials, request, move.source, 1)
            if has_room(core, trials, request, move.to):
                shift(core, trials, request, move.to, -1)
                steps.append(Step("resume" if move.job in suspended else "move", move))
                todo.remove(move)
                break
            if move.job not in suspended:
                shift(core, trials, request, move.source, -1)
        else:
            stuck = [move for move in todo if move.job not in suspended]
            assert stuck, "the moves end in a state that fits"
            move = min(stuck, key=lambda move: (move.cost, move.job))
            suspended.add(move.job)
            shift(core, trials, requests[move.job], move.source, 1)
            steps.append(Step("suspend", move))
    return tuple(steps)


def shift(
    core: Core, trials: dict[NodeId, Trial], request: Request, slots: Sequence[Slot], sign: int
) -> None:
    """Take (sign -1) or give back the slots of all members on copies of the nodes."""
    for its, those in request.split(slots):
        for slot in those:
            trial_of(core, trials, slot.node).move(its, slot.devices, sign)


def has_room(
    core: Core, trials: dict[NodeId, Trial], request: Request, slots: Sequence[Slot]
) -> bool:
    """Whether the slots of all members are free together, on copies of the nodes."""
    copies: dict[NodeId, Trial] = {}
    for its, those in request.split(slots):
        for slot in those:
            trial = copies.get(slot.node)
            if trial is None:
                trial = copies[slot.node] = trial_of(core, trials, slot.node).copy()
            known = all(device < len(trial.devices.size) for device in slot.devices)
            up = core.ledger.room.item(UP, slot.node)
            if not up or not known or not trial.has_room(its, slot.devices):
                return False
            trial.move(its, slot.devices, -1)
    return True


def trial_of(core: Core, trials: dict[NodeId, Trial], node: NodeId) -> Trial:
    """Return the copy of a node; made at the first question."""
    trial = trials.get(node)
    if trial is None:
        trial = trials[node] = Trial.now(core.ledger, node)
    return trial


class _Part:
    """Somebody who needs places: for whom room is made, or who has to leave for it."""

    def __init__(self, core: Core, job: Job, request: Request) -> None:
        self.job, self.request = job, request
        self.fence = Fence(core, job, min(core.clock + limit_of(job), FAR))
        self.slots: list[Slot] = []
        at_once = request.shape.spread == "same-node" and not request.parts
        self.count = request.members if at_once else 1  # so many are placed at a time

    @property
    def next(self) -> Request:
        """What the next member asks for."""
        return self.request.of(len(self.slots))

    def allows(self, node: NodeId, ledger: Ledger) -> bool:
        """Whether the next member may go there, by where those before it have gone."""
        shape, nodes = self.request.shape, [slot.node for slot in self.slots]
        if shape.spread == "same-node" and any(each != node for each in nodes):
            return False
        if shape.spread == "distinct-nodes" and node in nodes:
            return False
        return together(ledger, shape, [node, *nodes])


class _Nodes:
    """The nodes for equal members, in the order in which they are tried: those with room first,
    the best by the placement's score; then those where the least has to leave, by a lower bound."""

    def __init__(self, search: _Search, part: _Part) -> None:
        self.search, self.part, self.request = search, part, part.next
        self.order = search.roomy(part)
        self.bounds: list[int] = []  # of those beyond the roomy ones
        self.roomy = len(self.order)
        self.complete = False

    def get(self, at: int, budget: int | None) -> NodeId | None:
        """Return the next node where it costs less than the budget, None: no more."""
        if at >= self.roomy and not self.complete:
            self.complete = True
            known = set(self.order)
            crowded = self.search.crowded(self.part, known)
            self.order += [node for _, node in crowded]
            self.bounds = [bound for bound, _ in crowded]
        if at >= len(self.order):
            return None
        if at >= self.roomy and budget is not None and self.bounds[at - self.roomy] > budget:
            return None
        return self.order[at]


class _Search:
    """Depth first, with the cost of the best way as the bound."""

    def __init__(self, core: Core, fit: Fit, movers: Sequence[Mover], steps_max: int) -> None:
        self.core, self.fit, self.steps_max = core, fit, steps_max
        self.movers: Mapping[JobId, Mover] = {each.job.id: each for each in movers}
        self.here: dict[NodeId, list[Mover]] = {}
        for each in sorted(movers, key=lambda mover: (mover.cost, mover.job.id)):
            for node in sorted({slot.node for slot in each.job.slots}):
                self.here.setdefault(node, []).append(each)
        self.trials: dict[NodeId, Trial] = {}
        self.gone: set[JobId] = set()
        self.todo: list[_Part] = []
        self.placed: list[_Part] = []
        self.found: Way | None = None
        self.best: tuple[int, int] | None = None  # cost and number of moves
        self.steps = 0
        self.cut = False
        self.claims = bool(core.reservations or core.promises)
        self._dense: dict[tuple[NodeId, int], list[tuple[int, int, JobId]]] = {}

    # ---- the search ---------------------------------------------------------------------------

    def go_on(self, cost: int, moves: int) -> None:
        """Place whoever has no place yet."""
        if not self.todo:
            if self.best is None or (cost, moves) < self.best:
                self.best, self.found = (cost, moves), self._way()
            return
        part = self.todo.pop()
        self.placed.append(part)
        self._place(part, _Nodes(self, part), 0, cost, moves)
        self.placed.pop()
        self.todo.append(part)

    def _place(self, part: _Part, nodes: _Nodes, at: int, cost: int, moves: int) -> None:
        """Place the next members of a part, on this node of the order or a later one."""
        if len(part.slots) == part.request.members:
            self.go_on(cost, moves)
            return
        if part.next is not nodes.request:  # of another kind: any node again
            nodes, at = _Nodes(self, part), 0
        while self.steps <= self.steps_max:
            self.steps += 1
            budget = None if self.best is None else self.best[0] - cost
            node = nodes.get(at, budget)
            if node is None:
                return
            open_ = self._open(part, node)
            for leave in self._ways(part, node, cost, moves) if open_ else ():
                more, many = cost + sum(each.cost for each in leave), moves + len(leave)
                if self.best is not None and (more, many) >= self.best:
                    break
                for each in leave:
                    self._leave(each)
                taken = self._take(part, node)
                self._place(part, nodes, at, more, many)
                self._give(part, taken)
                for each in reversed(leave):
                    self._come_back(each)
            at += 1

    def _way(self) -> Way:
        wish, *others = self.placed
        moves = [
            Move(part.job.id, part.job.slots, tuple(part.slots), self.movers[part.job.id].cost)
            for part in others
        ]
        return Way(tuple(wish.slots), tuple(sorted(moves, key=lambda move: move.job)))

    def _ways(
        self, part: _Part, node: NodeId, cost: int, moves: int
    ) -> Sequence[tuple[Mover, ...]]:
        """Return who could leave a node so that it takes the next members, the cheapest first."""
        if self._fits(part, node):
            return ((),)
        candidates = [each for each in self.here.get(node, ()) if each.job.id not in self.gone]
        ways: list[tuple[int, int, tuple[JobId, ...], tuple[Mover, ...]]] = []
        tries = 0

        def leave(start: int, chosen: tuple[Mover, ...], its: int) -> None:
            nonlocal tries
            for index in range(start, len(candidates)):
                each = candidates[index]
                if self.best is not None and (cost + its + each.cost, moves + 1) >= self.best:
                    return  # those after it cost no less
                if tries >= WAYS_MAX:
                    self.cut = True
                    return
                tries += 2
                if not self._fits_without(part, node, (*chosen, *candidates[index:])):
                    return
                those = (*chosen, each)
                if self._fits_without(part, node, those):
                    ids = tuple(sorted(one.job.id for one in those))
                    ways.append((its + each.cost, len(those), ids, those))
                else:
                    leave(index + 1, those, its + each.cost)

        leave(0, (), 0)
        self.steps += tries
        return [those for _, _, _, those in sorted(ways, key=lambda way: way[:3])]

    def _fits_without(self, part: _Part, node: NodeId, those: Sequence[Mover]) -> bool:
        """Whether the next members fit on a node once these have left it."""
        trial = trial_of(self.core, self.trials, node)
        gone = [
            (its, slot.devices)
            for each in those
            for its, slots in self.core.shapes[each.job.shape_id].split(each.job.slots)
            for slot in slots
            if slot.node == node
        ]
        for request, devices in gone:
            trial.move(request, devices, 1)
        ids = {each.job.id for each in those}
        self.gone |= ids
        fits = self._fits(part, node)
        self.gone -= ids
        for request, devices in gone:
            trial.move(request, devices, -1)
        return fits

    # ---- moves on the copies ------------------------------------------------------------------

    def _leave(self, mover: Mover) -> None:
        job = mover.job
        shift(self.core, self.trials, self.core.shapes[job.shape_id], job.slots, 1)
        self.gone.add(job.id)
        self.todo.append(_Part(self.core, job, mover.request))

    def _come_back(self, mover: Mover) -> None:
        job = mover.job
        last = self.todo.pop()
        assert last.job is job, "moves are undone in order"
        self.gone.discard(job.id)
        shift(self.core, self.trials, self.core.shapes[job.shape_id], job.slots, -1)

    def _take(self, part: _Part, node: NodeId) -> list[Slot]:
        state, request = self._usable(part, node).copy(), part.next
        taken = []
        for _ in range(part.count):
            devices = state.take(request)
            assert devices is not None, "what was counted can be placed"
            taken.append(Slot(node=node, devices=devices))
            trial_of(self.core, self.trials, node).move(request, devices, -1)
        part.slots += taken
        return taken

    def _give(self, part: _Part, taken: Sequence[Slot]) -> None:
        del part.slots[len(part.slots) - len(taken) :]
        for slot in taken:
            trial_of(self.core, self.trials, slot.node).move(part.next, slot.devices, 1)

    # ---- questions ----------------------------------------------------------------------------

    def _usable(self, part: _Part, node: NodeId) -> Trial:
        trial = trial_of(self.core, self.trials, node)
        return part.fence.within(node, trial, self.gone) if self.claims else trial

    def _open(self, part: _Part, node: NodeId) -> bool:
        ledger = self.core.ledger
        up = bool(ledger.room.item(UP, node)) and node not in part.fence.closed
        return up and part.allows(node, ledger)

    def _fits(self, part: _Part, node: NodeId) -> bool:
        return self._usable(part, node).copies(part.next, part.count) >= part.count

    def roomy(self, part: _Part) -> list[NodeId]:
        """Return the nodes with room for the next members now, the best first.

        Of nodes that are alike only the first: each of the others would do as well or as badly.
        """
        room = self.core.ledger.room[:, : self.core.ledger.count]
        fits = np.ones(self.core.ledger.count, np.bool_)
        request = part.next
        for row, amount in request.need:
            fits &= room[row] >= amount
        likely = {*np.flatnonzero(fits).tolist(), *self.trials}
        ranked = []
        for node in likely:
            if self._open(part, node) and self._fits(part, node):
                state = trial_of(self.core, self.trials, node)
                ranked.append((self.fit.score(request, node, state.free), node))
        ranked.sort()
        if part.request.members > 1:
            return [node for _, node in ranked]
        kinds: dict[object, NodeId] = {}
        for _, node in ranked:
            kinds.setdefault(self._kind(node), node)
        return list(kinds.values())

    def _kind(self, node: NodeId) -> object:
        """Return what makes two nodes alike: what is free, and who could leave at what cost."""
        state, movers = self.trials[node], self.here.get(node, ())
        if self.claims or any(each.request.members > 1 for each in movers):
            return node
        devices = state.devices
        models = tuple(device.model for device in devices.spec)
        who = tuple((each.cost, each.job.shape_id) for each in movers)
        return (*state.free, models, *devices.milli, *devices.memory, who)

    def crowded(self, part: _Part, known: set[NodeId]) -> list[tuple[int, NodeId]]:
        """Return other nodes where movers could make room, with bounds of what that costs."""
        found = []
        for node in self.here:
            if node not in known and self._open(part, node):
                bound = self._bound(part, node)
                if bound is not None:
                    found.append((bound, node))
        self.steps += len(self.here) // 16
        return sorted(found)

    def _bound(self, part: _Part, node: NodeId) -> int | None:
        """Return a cost below which nothing makes room there, by one resource; None: nothing does.

        As if parts of jobs could leave, the cheapest per amount first.
        """
        free = self._usable(part, node).free
        for row, amount in _needed(part.next):
            missing = part.count * amount - free[row]
            if missing <= 0:
                continue
            bound = 0
            for cost, held, job in self._densest(node, row):
                if job in self.gone:
                    continue
                if held >= missing:
                    return bound + cost * missing // held
                bound, missing = bound + cost, missing - held
            return None
        return 0

    def _densest(self, node: NodeId, row: int) -> list[tuple[int, int, JobId]]:
        """Return (cost, amount held, job) of who may leave a node, cheapest per amount first."""
        found = self._dense.get((node, row))
        if found is None:
            found = []
            for each in self.here.get(node, ()):
                held = sum(
                    dict(_needed(its)).get(row, 0) * sum(slot.node == node for slot in slots)
                    for its, slots in self.core.shapes[each.job.shape_id].split(each.job.slots)
                )
                if held:
                    found.append((each.cost, held, each.job.id))
            found.sort(key=lambda one: (Fraction(one[0], one[1]), one[2]))
            self._dense[node, row] = found
        return found

    def short(self, request: Request) -> tuple[int, int] | None:
        """Return (row, free in all) where that is less than is asked for: moves free nothing."""
        room = self.core.ledger.room[:, : self.core.ledger.count]
        up = room[UP] > 0
        for row, amount in enumerate(asked_in_all(request.shape)[: GPU + 1]):
            free = int(np.maximum(room[row][up], 0).sum())
            if free < amount:
                return row, free
        return None


def _needed(request: Request) -> Iterator[tuple[int, int]]:
    """Yield what one member takes of each resource, GPUs first."""
    milli = WHOLE_GPU_MILLI * request.gpus + sum(request.shares)
    if milli:
        yield GPU, milli
    yield from request.held
