"""What machines offer and what jobs ask for. Amounts are integers in the unit of their name."""

from __future__ import annotations

from typing import Literal

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

    `gpus` whole devices, or `gpu_milli` thousandths of one device; `gpu_memory_mib` is then the
    share of that device's memory, and with `gpus` the least memory each device must have.
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

    def amounts(self) -> tuple[int, int, int]:
        """Return the additive host amounts of one member, in the order of DIMENSIONS."""
        return (self.cpu_milli, self.memory_mib, self.disk_mib)


class Slot(Record, frozen=True):
    """One member of a gang on one node, with the devices (indices on that node) it may use."""

    node: int
    devices: tuple[int, ...] = ()


def width_milli(shape: Shape) -> int:
    """Return how wide a job is, in thousandths of a GPU, or of a core where it asks for no GPU."""
    each = WHOLE_GPU_MILLI * shape.gpus + shape.gpu_milli
    return (each or shape.cpu_milli) * shape.members
