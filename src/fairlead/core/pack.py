"""Where the members of a gang with different workers go: all of them, or none.

First each kind is put on its best nodes like a gang of its own, the hardest kind first. Where that
leaves one without room, the nodes are gone through, and of all counts of workers that the nodes so
far can take those are kept that no other surpasses in every kind. That is exact: what counts of a
half-made placement is only how many of each kind are still to be placed, and more is never worse.
Both the counts and the ways to fill one node are bounded by a number of steps; beyond it the answer
is that it is not known.

Source: algorithms.md 7.1; keeping what nothing surpasses: Nemhauser and Ullmann, "Discrete dynamic
programming and capital allocation", Management Science 15 (1969).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple, Protocol, TypeAlias

from fairlead.core.ledger import Devices, Ledger, Request
from fairlead.core.tree import Domain
from fairlead.model.base import NodeId
from fairlead.model.resources import GPU, LEVELS, WHOLE_GPU_MILLI, Slot, asked_in_all

STEPS_MAX = 50_000  # ways looked at for one question
Counts: TypeAlias = tuple[int, ...]  # workers of each kind
Given: TypeAlias = tuple[tuple[int, ...], ...]  # the devices of workers, one after the other
Taken: TypeAlias = tuple[Given, ...]  # kind by kind; () for a kind without devices


class Packing(NamedTuple):
    """Where all members go, rank by rank."""

    slots: tuple[Slot, ...] | None
    known: bool = True  # False: no place was found, but not every way was looked at


class Room(Protocol):
    """What is free on one node."""

    @property
    def free(self) -> list[int]:
        """The amounts in the order of DIMENSIONS."""
        ...

    @property
    def devices(self) -> Devices:
        """What is free of each device."""
        ...


Rooms: TypeAlias = Callable[[NodeId], Room]
Ranked: TypeAlias = Callable[[Request], Iterable[NodeId]]


def pack(ledger: Ledger, request: Request, ranked: Ranked, room: Rooms) -> Packing:
    """Return where the members of a gang with different workers go.

    `ranked` are the nodes that may have room for one member of a kind, the best first; `room` is
    what is free on such a node, and is not changed. Levels of the topology are tried from the one
    that the shape prefers to the one that it requires, in each the domain of the best node first.
    Cost: O(kinds x nodes + members) for each level, and at most STEPS_MAX steps more in a domain.
    """
    if not request.tree:
        return _pack(request, ranked, room)
    shape, known = request.shape, True
    first = LEVELS.index(shape.near) if shape.near else 0
    last = LEVELS.index(shape.within) + 1 if shape.within else len(LEVELS)
    orders = {part: list(ranked(part)) for part in request.parts}
    rooms = {node: room(node) for node in chain.from_iterable(orders.values())}
    for level in range(first, last):
        domains: dict[Domain, dict[Request, list[NodeId]]] = {}
        for index in hardest_first(request):
            part = request.parts[index]
            for node in orders[part]:
                nodes = domains.setdefault(ledger.domains[node][level], {p: [] for p in orders})
                nodes[part].append(node)
        for nodes in domains.values():
            inside = {*chain.from_iterable(nodes.values())}
            if not _amounts_suffice(request, map(rooms.__getitem__, inside)):
                continue
            found = _pack(request, nodes.__getitem__, rooms.__getitem__)
            known = known and found.known
            if found.slots is not None:
                return found
    return (
        Packing(None, known)
        if shape.within
        else _pack(request, orders.__getitem__, rooms.__getitem__)
    )


def _pack(request: Request, ranked: Ranked, room: Rooms) -> Packing:
    spread = request.shape.spread
    if spread != "same-node":
        found = _kind_by_kind(request, ranked, room, distinct=spread == "distinct-nodes")
        if found is not None:
            return Packing(found)
    return _Search(request, ranked, room).answer()


def hardest_first(request: Request) -> list[int]:
    """Return the kinds in the order in which they are placed: those of GPUs before all others."""

    def ease(index: int) -> tuple[int, ...]:
        part = request.parts[index]
        amounts = (part.gpus, part.milli, part.memory, *part.host)
        return (not part.picks, not part.models, *(-amount for amount in amounts), index)

    return sorted(range(len(request.parts)), key=ease)


class _Try:
    """What is free on a node, to take members from."""

    __slots__ = ("devices", "free")

    def __init__(self, free: list[int], devices: Devices) -> None:
        self.free, self.devices = free, devices

    @classmethod
    def of(cls, room: Room) -> _Try:
        return cls(room.free.copy(), room.devices.copy() if room.devices.size else room.devices)

    def take(self, request: Request, devices: tuple[int, ...], members: int = 1) -> None:
        for row, amount in request.held:
            self.free[row] -= members * amount
        if devices:
            self.devices.move(request, devices, -1)

    def most(self, request: Request, members: int) -> int:
        """How many members fit by the host's amounts, at most so many."""
        fits = [self.free[row] // amount for row, amount in request.held]
        return max(0, min([members, *fits]))


def _kind_by_kind(
    request: Request, ranked: Ranked, room: Rooms, *, distinct: bool
) -> tuple[Slot, ...] | None:
    """Place each kind on its best nodes, beside those before it. None: that leaves some out."""
    tries: dict[NodeId, _Try] = {}
    slots: list[list[Slot]] = [[] for _ in request.parts]
    for index in hardest_first(request):
        part, its = request.parts[index], slots[index]
        for node in ranked(part):
            if distinct and node in tries:
                continue
            here = tries.get(node) or _Try.of(room(node))
            left = here.most(part, 1 if distinct else part.members - len(its))
            if not part.picks:
                here.take(part, (), left)
                its += [Slot(node=node)] * left
            while part.picks and left:
                devices = here.devices.pick(part)
                if devices is None:
                    break
                here.take(part, devices)
                its.append(Slot(node=node, devices=devices))
                left -= 1
            if its and its[-1].node == node:
                tries[node] = here
            if len(its) == part.members:
                break
        else:
            return None
    return tuple(chain.from_iterable(slots))


def _amounts(request: Request) -> tuple[int, ...]:
    """Return what one worker asks for at least, by DIMENSIONS up to GPU."""
    return (*request.host, WHOLE_GPU_MILLI * request.gpus + sum(request.shares))


def _amounts_suffice(request: Request, rooms: Iterable[Room]) -> bool:
    """Whether all members could fit by the sums of what is free."""
    left = list(asked_in_all(request.shape)[: GPU + 1])
    for room in rooms:
        for row, amount in enumerate(left):
            if amount > 0 and room.free[row] > 0:
                left[row] -= room.free[row]
        if max(left) <= 0:
            return True
    return max(left) <= 0


class _Way(NamedTuple):
    """How some counts are reached: by so many workers on one node, after another way."""

    before: _Way | None
    node: NodeId
    counts: Counts
    taken: Taken


class _Search:
    """The exact answer to one question, within a number of steps."""

    def __init__(self, request: Request, ranked: Ranked, room: Rooms) -> None:
        self.request, self.parts = request, request.parts
        self.order = hardest_first(request)
        self.whole = tuple(part.members for part in self.parts)
        nodes = dict.fromkeys(chain.from_iterable(ranked(self.parts[i]) for i in self.order))
        self.rooms = {node: room(node) for node in nodes}
        self.needs = list(zip(*(_amounts(part) for part in self.parts), strict=True))
        rooms = self.rooms.values()
        self.left = [
            sum(max(0, room.free[row]) for room in rooms) for row in range(len(self.needs))
        ]
        self.steps = 0
        self._known: dict[tuple[object, ...], dict[Counts, Taken]] = {}

    def answer(self) -> Packing:
        """Return the slots of all members, None if there is no way."""
        together = self.request.shape.spread == "same-node"
        nobody = tuple([0] * len(self.parts))
        if not self._could(nobody):
            return Packing(None)
        front: dict[Counts, _Way | None] = {nobody: None}
        for node, room in self.rooms.items():
            found = self._fillings(room)
            if together:
                if self.whole in found:
                    way = _Way(None, node, self.whole, found[self.whole])
                    return Packing(self._slots(way))
                continue
            self.left = [have - max(0, room.free[row]) for row, have in enumerate(self.left)]
            front = self._further(front, node, found)
            if self.whole in front:
                return Packing(self._slots(front[self.whole]))
            if not front or self._over():
                break
        return Packing(None, known=not self._over())

    def _over(self) -> bool:
        return self.steps > STEPS_MAX

    def _further(
        self, front: dict[Counts, _Way | None], node: NodeId, found: dict[Counts, Taken]
    ) -> dict[Counts, _Way | None]:
        """Return the counts that can be reached with one more node."""
        more = {counts: way for counts, way in front.items() if self._could(counts)}
        for have, way in front.items():
            for here, taken in found.items():
                self.steps += 1
                total = tuple(map(min, map(int.__add__, have, here), self.whole))
                if total not in more and self._could(total):
                    more[total] = _Way(way, node, here, taken)
        return {counts: more[counts] for counts in self._best(more)}

    def _could(self, counts: Counts) -> bool:
        """Whether the amounts on the other nodes suffice for the workers that are left."""
        lacks = [whole - have for whole, have in zip(self.whole, counts, strict=True)]
        return all(
            sum(map(int.__mul__, lacks, needs)) <= left
            for needs, left in zip(self.needs, self.left, strict=True)
        )

    def _slots(self, way: _Way | None) -> tuple[Slot, ...]:
        """Return where a way puts the members, rank by rank."""
        slots: list[list[Slot]] = [[] for _ in self.parts]
        while way is not None:
            for index, part in enumerate(self.parts):
                its, given = slots[index], way.taken[index]
                count = min(way.counts[index], part.members - len(its))
                if part.picks:
                    its += [Slot(node=way.node, devices=each) for each in given[:count]]
                else:
                    its += [Slot(node=way.node)] * count
            way = way.before
        return tuple(chain.from_iterable(slots))

    def _fillings(self, room: Room) -> dict[Counts, Taken]:
        """Return the counts of workers that fit one node, those that no other surpasses."""
        devices = room.devices
        models = (device.model for device in devices.spec)
        key = (devices.foreign, *room.free, *devices.milli, *devices.memory, *devices.size, *models)
        known = self._known.get(key)
        if known is None:
            distinct = self.request.shape.spread == "distinct-nodes"
            found = self._singles(_Try.of(room)) if distinct else self._filled(_Try.of(room))
            best = self._best(found)
            known = self._known[key] = {counts: found[counts] for counts in best if any(counts)}
        return known

    def _singles(self, state: _Try) -> dict[Counts, Taken]:
        """Return the ways to put one worker on a node."""
        found: dict[Counts, Taken] = {}
        for index, part in enumerate(self.parts):
            devices = state.devices.pick(part) if part.picks else ()
            if state.most(part, 1) and devices is not None:
                counts = tuple(int(each == index) for each in range(len(self.parts)))
                found[counts] = tuple((devices,) * count for count in counts)
        return found

    def _filled(self, state: _Try) -> dict[Counts, Taken]:
        """Return the ways to fill a node, kind after kind, the hardest first."""
        found: dict[Counts, Taken] = {}
        seen: set[tuple[object, ...]] = set()
        none = tuple([0] * len(self.parts))
        open_ways: list[tuple[_Try, int, Counts, Taken]]
        open_ways = [(state, 0, none, tuple([()] * len(self.parts)))]
        while open_ways and not self._over():
            state, place, counts, taken = open_ways.pop()
            mark = (place, counts, *state.devices.milli, *state.devices.memory)
            if mark in seen:
                continue
            seen.add(mark)
            self.steps += 1
            if place == len(self.order):
                found.setdefault(counts, taken)
                continue
            index = self.order[place]
            part = self.parts[index]
            most = state.most(part, part.members - counts[index])
            if not part.picks:
                last = place == len(self.order) - 1
                for count in (most,) if last else range(most + 1):
                    here = _Try(state.free.copy(), state.devices)
                    here.take(part, (), count)
                    open_ways.append((here, place + 1, _more(counts, index, count), taken))
                continue
            open_ways.append((state, place + 1, counts, taken))
            for devices in _choices(state.devices, part) if most else ():
                here = _Try.of(state)
                here.take(part, devices)
                its = (*taken[:index], (*taken[index], devices), *taken[index + 1 :])
                open_ways.append((here, place, _more(counts, index, 1), its))
        return found

    def _best(self, found: Iterable[Counts]) -> list[Counts]:
        """Return the counts that no others reach in every kind."""
        best: list[Counts] = []
        for counts in sorted(found, key=lambda each: (-sum(each), each)):
            self.steps += len(best)
            if not any(all(map(int.__ge__, other, counts)) for other in best):
                best.append(counts)
        return best


def _more(counts: Counts, index: int, count: int) -> Counts:
    return (*counts[:index], counts[index] + count, *counts[index + 1 :])


def _choices(devices: Devices, request: Request) -> Iterator[tuple[int, ...]]:
    """Yield the devices that one member may be given, equal ones once; none: no room."""
    if request.milli and request.picks > 1:
        yield from _uneven(devices, request, ())
        return
    free = [index for index in range(len(devices.size)) if devices.free(index, request)]
    if len(free) < request.picks:
        return
    classes: dict[tuple[object, ...], list[int]] = {}
    for index in sorted(free, key=lambda index: devices.milli[index]):
        size = (devices.size[index], devices.milli[index], devices.memory[index])
        kind = (devices.spec[index].model, *size)
        classes.setdefault(kind, []).append(index)
    if len(classes) == 1 and (picked := devices.pick(request)) is not None:
        yield picked  # those closest together
        return
    yield from _splits(list(classes.values()), request.picks)


def _uneven(
    devices: Devices, request: Request, given: tuple[int, ...]
) -> Iterator[tuple[int, ...]]:
    """Yield the ways to give one member the devices that it still lacks, place by place."""
    at = len(given)
    if at == request.picks:
        yield given
        return
    seen: set[tuple[object, ...]] = set()
    for index in range(len(devices.size)):
        if index in given or not devices.free(index, request, at):
            continue
        kind = (devices.spec[index].model, devices.milli[index], devices.memory[index])
        if kind not in seen:
            seen.add(kind)
            yield from _uneven(devices, request, (*given, index))


def _splits(classes: Sequence[list[int]], count: int) -> Iterator[tuple[int, ...]]:
    """Yield the ways to take so many of these, where those of one class are equal."""
    if not count:
        yield ()
        return
    if not classes:
        return
    for here in range(min(count, len(classes[0])), -1, -1):
        for rest in _splits(classes[1:], count - here):
            yield tuple(sorted((*classes[0][:here], *rest)))
