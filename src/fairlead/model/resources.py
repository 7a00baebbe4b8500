"""What machines offer and what jobs ask for. Amounts are integers in the unit of their name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec.structs import replace

from fairlead.model.base import Record

# The additive dimensions of a node, in the order of the ledger's columns. The last two sum over
# the node's devices; what fits on *one* device is decided device by device (core/ledger.py).
DIMENSIONS = ("cpu_milli", "memory_mib", "disk_mib", "gpu_milli", "gpu_memory_mib")
CPU, MEMORY, DISK, GPU, GPU_MEMORY = range(5)
WHOLE_GPU_MILLI = 1000

Spread = Literal["any", "same-node", "distinct-nodes"]
Level = Literal["node", "rack", "switch"]
LEVELS: tuple[Level, ...] = ("node", "rack", "switch")  # from close to far; beyond: the cluster


class Device(Record, frozen=True):
    """One GPU (or a slice of one that the driver shows as a device)."""

    model: str = "gpu"
    memory_mib: int = 0
    uuid: str = ""
    # Where it is on its host, by numbers that say no more than who is together: devices of one
    # island share a fast link (NVLink), others a PCIe switch, or at least a socket.
    island: int = 0
    pcie: int = 0
    socket: int = 0


class Node(Record, frozen=True):
    """A machine's capacity. `boot` names the life of the machine: after a reboot it differs."""

    name: str
    cpu_milli: int
    memory_mib: int = 0
    disk_mib: int = 0
    devices: tuple[Device, ...] = ()
    rack: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    address: str = ""
    boot: str = ""
    switch: str = ""  # that its rack hangs from
    # What each pair of devices costs that work together, where numbers of groups cannot say it.
    links: tuple[tuple[int, ...], ...] = ()


class Shape(Record, frozen=True):
    """A class of equal requests, per member of the gang. Interned: all hot code works on ids.

    `gpus` whole devices, and `gpu_milli` thousandths: of one more device, or of several as
    `gpu_parts` says. `gpu_memory_mib` is the share of memory of each of those, and the least memory
    that each whole one must have.
    """

    cpu_milli: int = 1000
    memory_mib: int = 0
    disk_mib: int = 0
    gpus: int = 0
    gpu_milli: int = 0
    gpu_memory_mib: int = 0
    gpu_models: tuple[str, ...] = ()  # acceptable device models, sorted; empty: any
    members: int = 1  # gang size: all or none
    spread: Spread = "any"
    # How close together the members have to be, and are if they can: within one node, rack or
    # switch. "": anywhere.
    within: Level | Literal[""] = ""
    near: Level | Literal[""] = ""
    gpu_parts: tuple[int, ...] = ()  # the most first; empty: all of gpu_milli is of one device
    # Of a gang with different workers: each kind with its members, in the order of their ranks.
    # All own amounts are 0 then, and `members` are those of all kinds. Made by `gang_of`.
    kinds: tuple[Shape, ...] = ()

    @property
    def shares(self) -> tuple[int, ...]:
        """Return the thousandths of each device that one member does not take as a whole."""
        return self.gpu_parts or ((self.gpu_milli,) if self.gpu_milli else ())

    @property
    def devices(self) -> int:
        """Return of how many devices one member is given all or a share."""
        return self.gpus + len(self.shares)

    def amounts(self) -> tuple[int, int, int]:
        """Return the additive host amounts of one member, in the order of DIMENSIONS."""
        return (self.cpu_milli, self.memory_mib, self.disk_mib)

    def parts(self) -> tuple[Shape, ...]:
        """Return the kinds of members, each with how many there are; most gangs have one."""
        return self.kinds or (self,)

    def with_kinds(self, kinds: Sequence[Shape]) -> Shape:
        """Return a gang of these kinds by the rules of this one."""
        return gang_of(kinds, self.spread, self.within, self.near)

    def of(self, rank: int) -> Shape:
        """Return the kind of the member with a rank."""
        for kind in self.kinds:
            if rank < kind.members:
                return kind
            rank -= kind.members
        return self


class Slot(Record, frozen=True):
    """One member of a gang on one node, with the devices (indices on that node) it may use."""

    node: int
    devices: tuple[int, ...] = ()


def gang_of(
    kinds: Sequence[Shape],
    spread: Spread = "any",
    within: Level | Literal[""] = "",
    near: Level | Literal[""] = "",
) -> Shape:
    """Return the shape of a gang with these kinds of workers, in the order of their ranks.

    Neighbours that ask for the same are one kind, and a gang of one kind is one of equal members.
    """
    merged: list[Shape] = []
    for each in kinds:
        kind = replace(each, spread=spread, within=within, near=near)
        if merged and replace(merged[-1], members=kind.members) == kind:
            kind = replace(kind, members=merged.pop().members + kind.members)
        merged.append(kind)
    if len(merged) == 1:
        return merged[0]
    return Shape(
        cpu_milli=0,
        members=sum(kind.members for kind in merged),
        spread=spread,
        within=within,
        near=near,
        kinds=tuple(merged),
    )


def within_level(shape: Shape, within: Level | Literal[""]) -> Shape:
    """Return a shape whose members have to be so close together, and need not be closer."""
    if shape.kinds:
        return gang_of(shape.kinds, shape.spread, within)
    return replace(shape, within=within, near="")


def asked_in_all(shape: Shape) -> tuple[int, ...]:
    """Return what all members ask for, in the order of DIMENSIONS (a lower bound for devices)."""
    if shape.kinds:
        return tuple(map(sum, zip(*map(asked_in_all, shape.kinds), strict=True)))
    members = shape.members
    return (
        shape.cpu_milli * members,
        shape.memory_mib * members,
        shape.disk_mib * members,
        (WHOLE_GPU_MILLI * shape.gpus + shape.gpu_milli) * members,
        shape.gpu_memory_mib * shape.devices * members,
    )


def width_milli(shape: Shape) -> int:
    """Return how wide a job is, in thousandths of a GPU, or of a core where it asks for no GPU."""
    if shape.kinds:
        asked = asked_in_all(shape)
        return asked[GPU] or asked[CPU]
    each = WHOLE_GPU_MILLI * shape.gpus + shape.gpu_milli
    return (each or shape.cpu_milli) * shape.members
