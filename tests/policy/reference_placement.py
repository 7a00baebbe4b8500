"""The placement rules once more, as anybody would write them: plain objects and fractions.

Slow and obvious. fairlead.policy.place must give the same answers.
"""

from __future__ import annotations

import copy
import math
from fractions import Fraction

from fairlead.model.resources import Device, Node, Shape, Slot


class Gpu:
    def __init__(self, device: Device) -> None:
        self.model, self.size = device.model, device.memory_mib
        self.free_milli, self.free_memory = 1000, device.memory_mib
        self.foreign = False

    def suits(self, shape: Shape) -> bool:
        if shape.gpu_models and self.model not in shape.gpu_models:
            return False
        if self.foreign:
            return False
        if shape.gpus:
            return self.free_milli == 1000 and self.size >= shape.gpu_memory_mib
        return self.free_milli >= shape.gpu_milli and self.free_memory >= shape.gpu_memory_mib


class Machine:
    def __init__(self, node: Node) -> None:
        self.up = True
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
        suited = [index for index, gpu in enumerate(self.gpus) if gpu.suits(shape)]
        if shape.gpus:
            return tuple(suited[: shape.gpus]) if len(suited) >= shape.gpus else None
        if shape.gpu_milli:
            fullest = sorted(suited, key=lambda index: (self.gpus[index].free_milli, index))
            return tuple(fullest[:1]) or None
        return ()

    def change(self, shape: Shape, devices: tuple[int, ...], sign: int) -> None:
        """Take (1) or give back (-1) one member."""
        for row, amount in enumerate(shape.amounts()):
            self.host_used[row] += sign * amount
        for index in devices:
            gpu = self.gpus[index]
            gpu.free_milli -= sign * (1000 if shape.gpus else shape.gpu_milli)
            gpu.free_memory -= sign * (gpu.size if shape.gpus else shape.gpu_memory_mib)


def demand(shape: Shape) -> list[int]:
    milli = 1000 * shape.gpus if shape.gpus else shape.gpu_milli
    memory = shape.gpu_memory_mib * max(shape.gpus, 1)
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


class Cluster:
    def __init__(self, rule: str, nodes: list[Node]) -> None:
        self.rule = rule
        self.machines = [Machine(node) for node in nodes]

    def ranked(self, shape: Shape) -> list[int]:
        """Return the machines that take one member, best first, ties by index."""
        largest = [max(m.capacity[row] for m in self.machines) for row in range(5)]
        able = [i for i, m in enumerate(self.machines) if m.choose(shape) is not None]
        return sorted(able, key=lambda i: (cost(self.rule, shape, self.machines[i], largest), i))

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
