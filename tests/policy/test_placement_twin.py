"""Placement against its plain twin: the same answers, whatever happened before."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_placement import Cluster

from fairlead.core.ledger import Ledger, Request
from fairlead.model.limits import AMOUNT_MAX
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.place.fit import NO, Fit
from fairlead.policy.place.score import SCORERS, build, weights
from strategies import clusters, node, shapes

RULES = sorted(SCORERS)
seeds = st.integers(0, 2**32)


class Pair:
    """A ledger with a long-lived Fit, and the twin; both suffer the same."""

    def __init__(self, rule: str, specs, asked) -> None:
        self.ledger, self.twin = Ledger(), Cluster(rule, specs)
        self.specs = list(specs)
        for index, each in enumerate(specs):
            self.ledger.join(index, each)
        self.scorer = build(rule)
        self.fit = Fit(self.ledger, self.scorer)
        self.requests = [Request(shape) for shape in asked]
        self.held: list[tuple[Request, object]] = []

    def take(self, request, slot) -> None:
        self.ledger.take(slot.node, request, slot.devices)
        self.twin.machines[slot.node].change(request.shape, slot.devices, 1)
        self.held.append((request, slot))

    def give(self, which: int) -> None:
        request, slot = self.held.pop(which)
        self.ledger.give(slot.node, request, slot.devices)
        self.twin.machines[slot.node].change(request.shape, slot.devices, -1)

    def down(self, index: int) -> None:
        self.ledger.down(index)
        self.twin.machines[index].up = False

    def foreign(self, index: int, amounts, devices) -> None:
        self.ledger.set_foreign(index, amounts, devices)
        machine = self.twin.machines[index]
        machine.foreign = list(amounts)
        for number, gpu in enumerate(machine.gpus):
            gpu.foreign = number in devices

    def compare(self) -> None:
        for request in self.requests:
            shape = request.shape
            assert self.fit.one(request) == self.twin.one(shape)
            assert self.fit.gang(request) == self.twin.gang(shape)
            if shape.members == 1:
                assert self.fit.run(request, 5) == self.twin.run(shape, 5)
            self.compare_keys(request)

    def compare_keys(self, request) -> None:
        cached, fresh = self.fit._keys(request), Fit(self.ledger, self.scorer)._keys(request)
        for index, (old, new) in enumerate(zip(cached.tolist(), fresh.tolist(), strict=True)):
            refined = old == NO and self.ledger.devices[index].pick(request) is None
            assert old == new or refined, f"node {index}: cached {old}, fresh {new}"

    def step(self, rng: Random) -> None:
        kind = rng.random()
        index = rng.randrange(len(self.specs))
        if kind < 0.55:
            request = rng.choice(self.requests)
            for slot in self.fit.gang(request) or ():
                self.take(request, slot)
        elif kind < 0.8 and self.held:
            self.give(rng.randrange(len(self.held)))
        elif kind < 0.85:
            self.down(index)
        elif kind < 0.95:
            devices = [d for d in range(len(self.specs[index].devices)) if rng.random() < 0.4]
            amounts = (rng.choice([0, 500, 20_000]), rng.choice([0, 3000]), 0, 0, 0)
            self.foreign(index, amounts, tuple(devices))


@pytest.mark.parametrize("rule", RULES)
@given(specs=clusters(2, 6), asked=st.lists(shapes(), min_size=2, max_size=4), seed=seeds)
def test_answers_are_those_of_a_plain_scan_over_objects(rule, specs, asked, seed):
    pair, rng = Pair(rule, specs, asked), Random(seed)
    capacity = pair.ledger.capacity[:, : pair.ledger.count]
    largest = [int(row.max()) for row in capacity]
    exact = weights(capacity, pair.scorer.bits)
    assert len({w * top for w, top in zip(exact, largest, strict=True) if top}) <= 1
    pair.compare()
    for _ in range(10):
        for _ in range(rng.choice([1, 1, 1, 9])):  # also many changes between two looks
            pair.step(rng)
        pair.compare()


@pytest.mark.parametrize("rule", RULES)
@given(specs=clusters(1, 6), shape=shapes(members=1), count=st.integers(0, 40), seed=seeds)
def test_a_run_is_what_one_by_one_gives(rule, specs, shape, count, seed):
    pair, rng = Pair(rule, specs, [shape]), Random(seed)
    (request,) = pair.requests
    for _ in range(rng.randrange(4)):
        pair.step(rng)
    run = pair.fit.run(request, count)
    one_by_one = []
    while len(one_by_one) < count and (slot := pair.fit.one(request)) is not None:
        pair.take(request, slot)
        one_by_one.append(slot)
    assert run == one_by_one


@pytest.mark.parametrize("rule", RULES)
@given(specs=clusters(1, 6), shape=shapes(members=1))
def test_one_node_is_scored_as_all_are(rule, specs, shape):
    pair = Pair(rule, specs, [shape])
    request, room = pair.requests[0], pair.ledger.room[:5, : len(specs)]
    per_dimension = weights(pair.ledger.capacity[:, : len(specs)], pair.scorer.bits)
    all_scores = pair.scorer.columns(request, room, per_dimension)
    for index in range(len(specs)):
        free = room[:, index].tolist()
        assert pair.scorer.scalar(request, free, per_dimension) == all_scores[index]


@pytest.mark.parametrize("rule", RULES)
def test_the_largest_amounts_do_not_overflow(rule):
    devices = tuple(Device(memory_mib=AMOUNT_MAX // 64) for _ in range(64))
    specs = [
        Node(name="n0", cpu_milli=AMOUNT_MAX, memory_mib=AMOUNT_MAX - 1, disk_mib=AMOUNT_MAX - 3,
             devices=devices),
        Node(name="n1", cpu_milli=1, memory_mib=1, disk_mib=1, devices=devices[:1]),
    ]  # fmt: skip
    for shape in (Shape(cpu_milli=1), Shape(cpu_milli=AMOUNT_MAX, gpus=64)):
        pair = Pair(rule, specs, [shape])
        keys = pair.fit._keys(pair.requests[0])
        room = pair.ledger.room[:5, :2]
        scale = weights(pair.ledger.capacity[:, :2], pair.scorer.bits)
        for index in range(2):
            free = [int(amount) for amount in room[:, index]]
            exact = pair.scorer.scalar(pair.requests[0], free, scale)  # of Python's integers
            assert abs(exact) < 2**62
            assert keys[index] in (exact, NO)


def test_no_nodes_no_slots():
    pair = Pair("best-fit", [], [])
    request = Request(Shape())
    assert pair.fit.one(request) is None
    assert pair.fit.gang(request) is None
    assert pair.fit.run(request, 3) == []


def test_filling_by_division_counts_members_and_not_slots():

    pair = Pair("best-fit", [node("n0", cpus=4), node("n1", cpus=3), node("n2", cpus=3)], [])
    nodes, counts = pair.fit.fill(Request(Shape(cpu_milli=1000)), 8)
    assert (nodes.tolist(), counts.tolist()) == ([1, 2, 0], [3, 3, 2])
    assert np.sum(counts) == 8
