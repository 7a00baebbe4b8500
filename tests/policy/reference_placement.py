"""The placement rules once more, as anybody would write them: plain objects and fractions.

Slow and obvious. fairlead.policy.place must give the same answers.
"""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction

from fairlead.model.resources import Device, Node, Shape, Slot


class Gpu:
    def __init__(self, device: Device) -> None:
        self.model, self.size = device.model, device.memory_mib
        self.free_milli, self.free_memory = 1000, device.memory_mib
        self.foreign = False

    def suits(self, shape: Shape, place: int = 0) -> bool:
        if shape.gpu_models and self.model not in shape.gpu_models:
            return False
        if self.foreign:
            return False
        if place < shape.gpus:
            return self.free_milli == 1000 and self.size >= shape.gpu_memory_mib
        share = shape.shares[place - shape.gpus]
        return self.free_milli >= share and self.free_memory >= shape.gpu_memory_mib


class Machine:
    def __init__(self, node: Node) -> None:
        self.up = True
        self.where = (node.switch, node.rack, node.name)
        self.gpus = [Gpu(device) for device in node.devices]
        self.capacity = [
            node.cpu_milli,
            node.memory_mib,
            node.disk_mib,
            1000 * len(self.gpus),
            sum(gpu.size for gpu in self.gpus),
        ]
        self.foreign = [0] * 5
        self.host_used = [0, 0, 0]

    def free(self) -> list[int]:
        used = [
            *self.host_used,
            sum(1000 - gpu.free_milli for gpu in self.gpus),
            sum(gpu.size - gpu.free_memory for gpu in self.gpus),
        ]
        return [c - u - f for c, u, f in zip(self.capacity, used, self.foreign, strict=True)]

    def choose(self, shape: Shape) -> tuple[int, ...] | None:
        """Return the devices for one member, None if it does not fit here."""
        host = zip(self.free()[:3], shape.amounts(), strict=True)
        if not self.up or any(asked and free < asked for free, asked in host):
            return None
        if not shape.devices:
            return ()
        if shape.devices > 1 and shape.shares:
            return self.choose_several(shape)
        suited = [index for index, gpu in enumerate(self.gpus) if gpu.suits(shape)]
        if shape.gpus:
            return tuple(suited[: shape.gpus]) if len(suited) >= shape.gpus else None
        if shape.gpu_milli:
            fullest = sorted(suited, key=lambda index: (self.gpus[index].free_milli, index))
            return tuple(fullest[:1]) or None
        return ()

    def choose_several(self, shape: Shape) -> tuple[int, ...] | None:
        """Of all ways to choose that fit the one that comes first: shares on the fullest GPUs."""
        places = range(shape.devices)
        ways = [
            way
            for way in itertools.permutations(range(len(self.gpus)), shape.devices)
            if all(self.gpus[way[place]].suits(shape, place) for place in places)
        ]

        def key(way: tuple[int, ...]) -> tuple[object, ...]:
            shares = [(self.gpus[i].free_milli, i) for i in way[shape.gpus :]]
            return (shares, way[: shape.gpus])

        return min(ways, key=key, default=None)

    def change(self, shape: Shape, devices: tuple[int, ...], sign: int) -> None:
        """Take (1) or give back (-1) one member."""
        for row, amount in enumerate(shape.amounts()):
            self.host_used[row] += sign * amount
        for place, index in enumerate(devices):
            gpu, whole = self.gpus[index], place < shape.gpus
            gpu.free_milli -= sign * (1000 if whole else shape.shares[place - shape.gpus])
            gpu.free_memory -= sign * (gpu.size if whole else shape.gpu_memory_mib)


def demand(shape: Shape) -> list[int]:
    milli = 1000 * shape.gpus + shape.gpu_milli
    memory = shape.gpu_memory_mib * max(shape.devices, 1)
    return [*shape.amounts(), milli, memory]


def cost(rule: str, shape: Shape, machine: Machine, largest: list[int]) -> Fraction:
    """Return how bad a machine is for one member, amounts in parts of the largest machine's."""
    total = Fraction(0)
    if rule == "best-fit-floored":  # the published score: of cores and GPUs alone, 0 .. 100
        for row in (0, 3):
            if largest[row]:
                rest = Fraction(machine.free()[row] - demand(shape)[row], largest[row])
                total += rest / 2
        return Fraction(-math.floor(100 * (1 - total)))
    for asked, free, top in zip(demand(shape), machine.free(), largest, strict=True):
        if top == 0:
            continue
        rest = Fraction(free - asked, top)
        if rule == "best-fit":
            total += rest
        elif rule == "worst-fit":
            total -= rest
        elif rule == "dot-product":
            total -= Fraction(asked, top) * Fraction(free, top)
        else:
            total += rest * rest
    return total


def shared(machine: Machine, level: str) -> tuple[str, ...]:
    """Return what names the domain of a level that a machine is in."""
    switch, rack, name = machine.where
    if level == "cluster":
        return ()
    if level == "switch" and switch:
        return (switch,)
    return (switch, rack) if rack and level != "node" else (switch, rack, name)


class Cluster:
    def __init__(self, rule: str, nodes: list[Node]) -> None:
        self.rule = rule
        self.machines = [Machine(node) for node in nodes]

    def ranked(self, shape: Shape) -> list[int]:
        """Return the machines that take one member, best first, ties by index."""
        largest = [max(m.capacity[row] for m in self.machines) for row in range(5)]
        able = [i for i, m in enumerate(self.machines) if m.choose(shape) is not None]
        gpus = bool(shape.gpus or shape.gpu_milli)

        def badness(i: int) -> tuple[bool, Fraction, int]:
            machine = self.machines[i]
            last = bool(machine.gpus) and not gpus
            return (last, cost(self.rule, shape, machine, largest), i)

        return sorted(able, key=badness)

    def one(self, shape: Shape) -> Slot | None:
        ranked = self.ranked(shape)
        return self.slot(shape, ranked[0]) if ranked else None

    def slot(self, shape: Shape, index: int) -> Slot:
        devices = self.machines[index].choose(shape)
        assert devices is not None
        return Slot(node=index, devices=devices)

    def run(self, shape: Shape, count: int) -> list[Slot]:
        """Place up to `count` members one by one, on a copy."""
        trial = copy.deepcopy(self)
        slots: list[Slot] = []
        while len(slots) < count and (slot := trial.one(shape)) is not None:
            trial.machines[slot.node].change(shape, slot.devices, 1)
            slots.append(slot)
        return slots

    def gang(self, shape: Shape) -> tuple[Slot, ...] | None:
        if shape.members > 1 and (shape.within or shape.near):
            return self.close(shape)
        if shape.spread == "any" or shape.members == 1:
            slots = self.run(shape, shape.members)
        elif shape.spread == "distinct-nodes":
            slots = [self.slot(shape, index) for index in self.ranked(shape)[: shape.members]]
        else:
            slots = []
            for index in self.ranked(shape):
                alone = copy.deepcopy(self)
                for other, machine in enumerate(alone.machines):
                    machine.up = other == index
                slots = alone.run(shape, shape.members)
                if len(slots) == shape.members:
                    break
        return tuple(slots) if len(slots) == shape.members else None

    def close(self, shape: Shape) -> tuple[Slot, ...] | None:
        """Members close together: every level and every domain is looked at in turn."""
        levels = ["node", "rack", "switch", "cluster"]
        first = levels.index(shape.near or "node")
        last = levels.index(shape.within or "cluster")
        counts = self.counts(shape)
        gpus = bool(shape.gpus or shape.gpu_milli)
        cpu_nodes = {i: n for i, n in counts.items() if gpus or not self.machines[i].gpus}
        for usable in (cpu_nodes, counts):
            for level in levels[first : last + 1]:
                ways = []
                for domain in {shared(machine, level) for machine in self.machines}:
                    inside = [i for i, m in enumerate(self.machines) if shared(m, level) == domain]
                    row = 3 if gpus else 0
                    free = sum(m.free()[row] for i in inside if (m := self.machines[i]).up)
                    if sum(usable.get(i, 0) for i in inside) >= shape.members:
                        ways.append((free, min(i for i in inside if usable.get(i)), inside))
                if ways:
                    best = min(ways)[2]
                    return self.fill({i: usable[i] for i in best if usable.get(i)}, shape)
        return None

    def counts(self, shape: Shape) -> dict[int, int]:
        """Return how many members each machine takes, by trying."""
        most = 1 if shape.spread == "distinct-nodes" else shape.members
        counts = {}
        for index in range(len(self.machines)):
            alone = copy.deepcopy(self)
            for other, machine in enumerate(alone.machines):
                machine.up = machine.up and other == index
            counts[index] = len(alone.run(shape, most))
            if shape.spread == "same-node" and counts[index] < most:
                counts[index] = 0
        return counts

    def fill(self, counts: dict[int, int], shape: Shape) -> tuple[Slot, ...]:
        """The largest first; the last one is the smallest that is enough."""
        trial, slots, left = copy.deepcopy(self), [], shape.members
        while left:
            enough = [i for i in counts if counts[i] >= left]
            if enough:
                chosen = min(enough, key=lambda i: (counts[i], i))
            else:
                chosen = min(counts, key=lambda i: (-counts[i], i))
            for _ in range(min(left, counts.pop(chosen))):
                slot = trial.slot(shape, chosen)
                trial.machines[chosen].change(shape, slot.devices, 1)
                slots.append(slot)
                left -= 1
        return tuple(slots)
