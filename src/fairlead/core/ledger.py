"""Who holds what, in columns: one row per dimension, one column per node.

`room` is the only matrix that the hot path reads. Its first five rows are the free amounts in the
order of DIMENSIONS; the others make device requests a comparison of the same kind: whether the
node is up, how many devices are wholly free, and the largest free share of time and of memory on
any one device. A request fits a node if every row has at least what it needs; for device shares
and restricted models that is necessary, and `pick` decides exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fairlead.core.links import links_of
from fairlead.core.tree import Domain, domains
from fairlead.model.resources import DIMENSIONS, GPU, GPU_MEMORY, WHOLE_GPU_MILLI, Node, Shape, Slot

Columns: TypeAlias = npt.NDArray[np.int64]

UP, WHOLE, SHARE_MILLI, SHARE_MEMORY = range(5, 9)
ROWS = 9
ROW_NAMES = (
    "CPU",
    "memory",
    "disk",
    "GPUs",
    "GPU memory",
    "down",
    "GPUs",
    "GPU share",
    "GPU memory",
)
HOST = 3  # rows 0..2 are the host's own amounts; the GPU rows follow from the devices


class Request:
    """A shape compiled for the ledger: the rows it needs, and how it takes devices."""

    __slots__ = (
        *("gpus", "held", "host", "members", "memory", "milli", "models", "need", "parts"),
        *("picks", "shape", "shares", "simple", "tree"),
    )

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.host = shape.amounts()
        self.gpus, self.shares, self.memory = shape.gpus, shape.shares, shape.gpu_memory_mib
        self.milli = max(self.shares, default=0)
        self.models = frozenset(shape.gpu_models)
        self.members = shape.members
        self.held = tuple((row, amount) for row, amount in enumerate(self.host) if amount > 0)
        self.picks = shape.devices  # that one member is given: whole ones first, then shares
        need = [*self.held, (UP, 1)]
        if self.gpus:
            need.append((WHOLE, self.gpus))
        if self.milli:
            need.append((SHARE_MILLI, self.milli))
            if self.picks > 1:
                need.append((GPU, WHOLE_GPU_MILLI * self.gpus + sum(self.shares)))
            if self.memory:
                need.append((SHARE_MEMORY, self.memory))
        self.need = tuple(need)
        # Of a gang with different workers one for each kind, rank by rank; its own are empty then.
        self.parts: tuple[Request, ...] = tuple(Request(kind) for kind in shape.kinds)
        self.tree = self.members > 1 and bool(shape.within or shape.near)  # where they are counts
        # Rows alone decide, and how often it fits a node is a division.
        plain = not self.milli and not self.models and not (self.gpus and self.memory)
        self.simple = plain and not self.parts

    def of(self, rank: int) -> Request:
        """Return what the member with a rank asks for."""
        for part in self.parts:
            if rank < part.members:
                return part
            rank -= part.members
        return self

    def split(self, slots: Sequence[Slot]) -> Iterable[tuple[Request, Sequence[Slot]]]:
        """Yield the slots of each kind of workers; `slots` are those of all ranks.

        Of a gang of equal members they may be those of some.
        """
        if not self.parts:
            return ((self, slots),)
        return self._split(slots)

    def _split(self, slots: Sequence[Slot]) -> Iterator[tuple[Request, Sequence[Slot]]]:
        assert len(slots) in (0, self.members), "which of them these are is not known"
        first = 0
        for part in self.parts:
            yield part, slots[first : first + part.members]
            first += part.members

    def milli_of(self, at: int) -> int:
        """Return the thousandths that it takes of the device at a place among those given."""
        return WHOLE_GPU_MILLI if at < self.gpus else self.shares[at - self.gpus]


class Devices:
    """The GPUs of one node: what is free of each, and whether others occupy it."""

    __slots__ = ("foreign", "links", "memory", "milli", "size", "spec")

    def __init__(self, node: Node) -> None:
        self.spec = node.devices
        self.links = links_of(node) if len(node.devices) > 1 else None  # None: all are alike
        self.size = [device.memory_mib for device in node.devices]
        self.milli = [WHOLE_GPU_MILLI] * len(node.devices)
        self.memory = list(self.size)
        self.foreign: frozenset[int] = frozenset()

    def copy(self) -> Devices:
        """Return an independent copy, for trying things out."""
        other = Devices.__new__(Devices)
        other.spec, other.size, other.foreign = self.spec, self.size, self.foreign
        other.links = self.links
        other.milli, other.memory = self.milli.copy(), self.memory.copy()
        return other

    def whole(self, index: int) -> bool:
        """Whether nobody uses any of the device."""
        return self.milli[index] == WHOLE_GPU_MILLI and index not in self.foreign

    def pick(self, request: Request) -> tuple[int, ...] | None:
        """Choose devices for one member; None if none fit.

        Whole devices: those closest together, where all are alike lowest index first. A share: the
        fullest device that has room for both its time and its memory, ties by lowest index. Several
        shares are on several devices: the largest is placed first, and whole devices last of all.
        """
        if request.milli and request.picks > 1:
            return self._uneven(request)
        if request.gpus:
            if self.links is not None:
                free = (index for index in range(len(self.milli)) if self.free(index, request))
                return self.links.pick(tuple(free), request.gpus)
            chosen: list[int] = []
            for index in range(len(self.milli)):
                if self.free(index, request):
                    chosen.append(index)
                    if len(chosen) == request.gpus:
                        return tuple(chosen)
            return None
        if request.milli:
            best = -1
            for index, milli in enumerate(self.milli):
                if (best < 0 or milli < self.milli[best]) and self.free(index, request):
                    best = index
            return (best,) if best >= 0 else None
        return ()

    def _uneven(self, request: Request) -> tuple[int, ...] | None:
        """Choose devices for several shares, or for shares beside whole devices.

        Whatever has room for a larger share has room for a smaller one, so no choice for the
        larger ones leaves the others without where there is any.
        """
        shares: list[int] = []
        for at in range(request.gpus, request.picks):
            able = [
                index
                for index in range(len(self.milli))
                if index not in shares and self.free(index, request, at)
            ]
            if not able:
                return None
            shares.append(min(able, key=lambda index: (self.milli[index], index)))
        if not request.gpus:
            return tuple(shares)
        whole = [
            index
            for index in range(len(self.milli))
            if index not in shares and self.free(index, request)
        ]
        if len(whole) < request.gpus:
            return None
        if self.links is None:
            return (*whole[: request.gpus], *shares)
        chosen = self.links.pick(tuple(whole), request.gpus)
        return None if chosen is None else (*chosen, *shares)

    def free(self, index: int, request: Request, at: int = 0) -> bool:
        """Whether a member may have this device, at that place among those it is given: all of it,
        or its share."""
        if request.models and self.spec[index].model not in request.models:
            return False
        if at < request.gpus:
            return self.whole(index) and self.size[index] >= request.memory
        share = request.shares[at - request.gpus]
        enough = self.milli[index] >= share and self.memory[index] >= request.memory
        return enough and index not in self.foreign

    def move(self, request: Request, devices: tuple[int, ...], sign: int) -> tuple[int, int]:
        """Take (sign -1) or give back (+1) devices; return the change of milli and memory."""
        milli = memory = 0
        for at, index in enumerate(devices):
            time = request.milli_of(at)
            size = self.size[index] if at < request.gpus else request.memory
            self.milli[index] += sign * time
            self.memory[index] += sign * size
            milli += sign * time
            memory += sign * size
        return milli, memory

    def summary(self) -> tuple[int, int, int]:
        """Return (wholly free devices, largest free milli, largest free memory) of the node."""
        milli, memory = self.milli, self.memory
        if self.foreign:
            own = [index for index in range(len(milli)) if index not in self.foreign]
            milli = [milli[index] for index in own]
            memory = [memory[index] for index in own]
        # Whoever holds any memory of a device holds some of its time too, so time tells.
        return milli.count(WHOLE_GPU_MILLI), max(milli, default=0), max(memory, default=0)

    def empty(self) -> Devices:
        """Return these devices with nobody on them."""
        other = self.copy()
        other.milli = [WHOLE_GPU_MILLI] * len(self.size)
        other.memory, other.foreign = list(self.size), frozenset()
        return other


class Ledger:
    """Capacity, foreign use and room of every node. free = capacity - used - foreign, always."""

    def __init__(self) -> None:
        self.count = 0
        self.capacity: Columns = np.zeros((len(DIMENSIONS), 16), np.int64)
        self.foreign: Columns = np.zeros_like(self.capacity)
        self.room: Columns = np.zeros((ROWS, 16), np.int64)
        self.devices: list[Devices] = []
        self.domains: list[tuple[Domain, ...]] = []  # that each node is in, by LEVELS
        # Nodes in the order in which they changed. Whoever caches something per node reads on
        # from where it stopped (`changes` counts all entries ever made).
        self.touched: list[int] = []
        self.forgotten = 0
        self.layout = 0  # grows when nodes come, change or go: caches start afresh

    def copy(self) -> Ledger:
        """Return an independent copy."""
        other = Ledger()
        other.count = self.count
        other.capacity, other.foreign = self.capacity.copy(), self.foreign.copy()
        other.room = self.room.copy()
        other.devices = [each.copy() if each.size else each for each in self.devices]
        other.layout, other.domains = self.layout, self.domains.copy()
        return other

    @property
    def changes(self) -> int:
        """How many node changes there have been."""
        return self.forgotten + len(self.touched)

    def _touch(self, node: int) -> None:
        touched = self.touched
        touched.append(node)
        if len(touched) > 65_536:  # a cache that is further behind starts afresh anyway
            self.forgotten += 32_768
            del touched[:32_768]

    def join(self, node: int, spec: Node) -> None:
        """Set the capacity of a new or known node and mark it up. Nothing may be in use on it."""
        assert node <= self.count, "node ids are dense"
        if node == self.count:
            self.count += 1
            self.devices.append(Devices(spec))
            self.domains.append(domains(spec))
            if self.count > self.capacity.shape[1]:
                self._grow()
        devices = Devices(spec)
        self.devices[node], self.domains[node] = devices, domains(spec)
        capacity = (
            spec.cpu_milli,
            spec.memory_mib,
            spec.disk_mib,
            WHOLE_GPU_MILLI * len(spec.devices),
            sum(devices.size),
        )
        self.capacity[:, node] = capacity
        self.foreign[:, node] = 0
        self.room[: len(DIMENSIONS), node] = capacity
        self.room[UP, node] = 1
        self._summarise(node)
        self.layout += 1

    def _grow(self) -> None:
        more = self.capacity.shape[1]
        pad = ((0, 0), (0, more))
        self.capacity = np.pad(self.capacity, pad)
        self.foreign = np.pad(self.foreign, pad)
        self.room = np.pad(self.room, pad)

    def down(self, node: int) -> None:
        """Mark a node down: nothing fits there."""
        self.room[UP, node] = 0
        self.layout += 1

    def set_foreign(self, node: int, amounts: tuple[int, ...], devices: tuple[int, ...]) -> None:
        """Others now use this much of the node (free amounts may become negative: no room)."""
        now = np.array(amounts, np.int64)
        self.room[: len(DIMENSIONS), node] += self.foreign[:, node] - now
        self.foreign[:, node] = now
        self.devices[node].foreign = frozenset(devices)
        self._summarise(node)

    def _summarise(self, node: int) -> None:
        whole, milli, memory = self.devices[node].summary()
        room = self.room
        room[WHOLE, node], room[SHARE_MILLI, node], room[SHARE_MEMORY, node] = whole, milli, memory
        self._touch(node)

    def has_room(self, node: int, request: Request, devices: tuple[int, ...]) -> bool:
        """Whether a node is up and one member can be given so much of it and these devices."""
        free = self.room.item
        for row, amount in request.need:
            if free(row, node) < amount:
                return False
        if len(devices) != request.picks:
            return False
        if not devices:
            return True
        own = self.devices[node]
        known = len(set(devices)) == len(devices) and all(0 <= i < len(own.size) for i in devices)
        return known and all(own.free(index, request, at) for at, index in enumerate(devices))

    def take(self, node: int, request: Request, devices: tuple[int, ...]) -> None:
        """One member of the request now holds this much of the node, with these devices."""
        self._move(node, request, devices, -1)

    def give(self, node: int, request: Request, devices: tuple[int, ...]) -> None:
        """Undo `take`."""
        self._move(node, request, devices, 1)

    def _move(self, node: int, request: Request, devices: tuple[int, ...], sign: int) -> None:
        room = self.room
        for row, amount in request.held:
            room[row, node] = room.item(row, node) + sign * amount  # twice as fast as +=
        if devices:
            milli, memory = self.devices[node].move(request, devices, sign)
            room[GPU, node] += milli
            room[GPU_MEMORY, node] += memory
            self._summarise(node)
        else:
            self._touch(node)

    def add_held(
        self, usage: list[int], request: Request, slots: Sequence[Slot], sign: int = 1
    ) -> None:
        """Add to usage, in the order of DIMENSIONS, what members on these slots hold together."""
        for part, its in request.split(slots) if request.parts else ():
            self.add_held(usage, part, its, sign)
        members = sign * len(slots)
        for row, amount in request.held:
            usage[row] += members * amount
        for slot in slots if request.picks else ():
            if not slot.devices:
                continue
            size = self.devices[slot.node].size
            for at, index in enumerate(slot.devices):
                usage[GPU] += sign * request.milli_of(at)
                usage[GPU_MEMORY] += sign * (size[index] if at < request.gpus else request.memory)

    def view(self) -> Columns:
        """Return the room of all nodes, read-only: writing raises ValueError."""
        view = self.room[:, : self.count]
        view.flags.writeable = False
        return view
