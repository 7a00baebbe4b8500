"""What machines really carry, counted in the plainest way and without the core's ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, permutations

from fairlead.model.resources import DIMENSIONS, WHOLE_GPU_MILLI, Node, Shape


class Load:
    """What the processes on one machine use: host amounts, and per device time and memory."""

    def __init__(self) -> None:
        self.host = [0, 0, 0]
        self.milli: dict[int, int] = {}
        self.memory: dict[int, int] = {}

    def add(self, shape: Shape, devices: Sequence[int], sizes: Sequence[int], sign: int) -> None:
        """Add (sign 1) or take away (-1) one member; `sizes` are the devices' memories."""
        for row, amount in enumerate(shape.amounts()):
            self.host[row] += sign * amount
        for place, device in enumerate(devices):
            whole = place < shape.gpus
            milli = WHOLE_GPU_MILLI if whole else shape.shares[place - shape.gpus]
            memory = sizes[device] if whole else shape.gpu_memory_mib
            self.milli[device] = self.milli.get(device, 0) + sign * milli
            self.memory[device] = self.memory.get(device, 0) + sign * memory

    def excess(
        self,
        node: Node,
        shape: Shape,
        devices: Sequence[int],
        foreign: Sequence[int] = (),
        foreign_devices: frozenset[int] = frozenset(),
    ) -> str:
        """Return in words what one of the members here has too much of; "" when all is well.

        Others may come in beside those who run, so only what the member itself uses counts.
        """
        capacity = (node.cpu_milli, node.memory_mib, node.disk_mib)
        for row, asked in enumerate(shape.amounts()):
            theirs = foreign[row] if foreign else 0
            if asked and self.host[row] + theirs > capacity[row]:
                name = DIMENSIONS[row]
                return f"{name}: {self.host[row]} + {theirs} by others of {capacity[row]}"
        for device in devices:
            milli, memory = self.milli[device], self.memory[device]
            if milli > WHOLE_GPU_MILLI:
                return f"device {device}: {milli} thousandths"
            if memory > node.devices[device].memory_mib:
                return f"device {device}: {memory} MiB"
            if device in foreign_devices:
                return f"device {device} is in use by others"
        return ""

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return not any(self.host) and not any(self.milli.values())


def can_ever_run(shape: Shape, nodes: Sequence[Node]) -> bool:
    """Whether the whole gang fits these machines when nobody else is there."""
    if shape.kinds:
        return _place_rest(shape, nodes, [Load() for _ in nodes], [])
    return all_fit(shape, nodes, [_copies(shape, node) for node in nodes])


def all_fit(shape: Shape, nodes: Sequence[Node], counts: Sequence[int]) -> bool:
    """Whether the whole gang fits where so many members fit on each of these machines."""
    parts: dict[tuple[str, ...], list[int]] = {}
    for node, count in zip(nodes, counts, strict=True):
        parts.setdefault(_part(node, shape.within) if shape.within else (), []).append(count)
    if shape.spread == "same-node":
        return max(counts, default=0) >= shape.members
    most = 1 if shape.spread == "distinct-nodes" else shape.members
    each = [sum(min(count, most) for count in part) for part in parts.values()]
    return max(each, default=0) >= shape.members


def close_enough(shape: Shape, nodes: Sequence[Node]) -> bool:
    """Whether members on these machines are as close together as the shape requires."""
    return not shape.within or len({_part(node, shape.within) for node in nodes}) <= 1


def _part(node: Node, level: str) -> tuple[str, ...]:
    """Return what a machine shares with those that are as close as a level says."""
    if level == "switch" and node.switch:
        return (node.switch,)
    if level != "node" and node.rack:
        return (node.switch, node.rack)
    return (node.switch, node.rack, node.name)


def _place_rest(
    shape: Shape, nodes: Sequence[Node], loads: Sequence[Load], used: list[int]
) -> bool:
    """Whether the members from the next rank on find places, by trying all of them."""
    if len(used) == shape.members:
        return True
    member = shape.of(len(used))
    for index, (node, load) in enumerate(zip(nodes, loads, strict=True)):
        if shape.spread == "same-node" and used and index != used[0]:
            continue
        if shape.spread == "distinct-nodes" and index in used:
            continue
        if not close_enough(shape, [nodes[each] for each in {*used, index}]):
            continue
        sizes = [device.memory_mib for device in node.devices]
        for devices in _device_choices(member, node, load):
            load.add(member, devices, sizes, 1)
            sound = not load.excess(node, member, devices)
            if sound and _place_rest(shape, nodes, loads, [*used, index]):
                return True
            load.add(member, devices, sizes, -1)
    return False


def _device_choices(shape: Shape, node: Node, load: Load) -> Iterator[tuple[int, ...]]:
    """Yield all devices of a machine that a member could be given, those of equal use once."""
    suited = [
        index
        for index, device in enumerate(node.devices)
        if device.memory_mib >= shape.gpu_memory_mib
        and (not shape.gpu_models or device.model in shape.gpu_models)
    ]
    seen = set()
    mixed = bool(shape.shares) and shape.devices > 1  # then it matters which has which place
    for chosen in (permutations if mixed else combinations)(suited, shape.devices):
        uses = [
            (
                node.devices[d].model,
                node.devices[d].memory_mib,
                load.milli.get(d, 0),
                load.memory.get(d, 0),
            )
            for d in chosen
        ]
        if not mixed:
            uses.sort()
        if str(uses) not in seen:
            seen.add(str(uses))
            yield chosen


def _copies(shape: Shape, node: Node) -> int:
    """Return how many members one empty machine takes."""
    counts = [shape.members]
    for amount, most in zip(
        shape.amounts(), (node.cpu_milli, node.memory_mib, node.disk_mib), strict=True
    ):
        if amount:
            counts.append(most // amount)
    sizes = [
        device.memory_mib
        for device in node.devices
        if device.memory_mib >= shape.gpu_memory_mib
        and (not shape.gpu_models or device.model in shape.gpu_models)
    ]
    if shape.devices > 1 and shape.shares:
        counts.append(_uneven(shape, sizes))
    elif shape.gpus:
        counts.append(len(sizes) // shape.gpus)
    elif shape.gpu_milli:
        by_time, memory = WHOLE_GPU_MILLI // shape.gpu_milli, shape.gpu_memory_mib
        counts.append(sum(min(by_time, size // memory) if memory else by_time for size in sizes))
    return min(counts)


def _uneven(shape: Shape, sizes: Sequence[int]) -> int:
    """Return how many members fit that take shares of several devices, one after the other."""
    free = [[WHOLE_GPU_MILLI, size] for size in sizes]
    for count in range(shape.members):
        taken: set[int] = set()
        for place in range(shape.devices):
            whole = place < shape.gpus
            milli = WHOLE_GPU_MILLI if whole else shape.shares[place - shape.gpus]
            able = [
                (*each, at)
                for at, each in enumerate(free)
                if at not in taken and each[0] >= milli and each[1] >= shape.gpu_memory_mib
            ]
            if not able:
                return count
            at = min(able)[2]
            taken.add(at)
            free[at][0] -= milli
            free[at][1] -= free[at][1] if whole else shape.gpu_memory_mib
    return shape.members
