"""Fragmentation gradient descent against its definition, taken literally."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.ledger import Ledger, Request
from fairlead.model.base import Misuse
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.place.fgd import NO, Fragments, Task, Workload, task_of
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.least_fragments import LeastFragments
from fairlead.policy.place.score import BestFit
from strategies import clusters, shapes

MODELS = ("a100", "t4")
tasks = st.builds(
    lambda cpu, size, models: Task(cpu, size[0], size[1], models),
    st.sampled_from([0, 1000, 4000, 16000]),
    st.sampled_from([(0, 0), (1, 1), (250, 1), (500, 1), (1000, 1), (1000, 2), (1000, 4)]),
    st.sampled_from([(), ("a100",), MODELS]),
)
workloads = st.dictionaries(tasks, st.integers(0, 40), max_size=5)
free_nodes = st.tuples(
    st.sampled_from([0, 3000, 8000, 64000]),
    st.lists(st.sampled_from([0, 100, 250, 499, 500, 750, 1000, 1000]), min_size=1, max_size=4),
    st.sampled_from(MODELS),
)


def spoilt(weights, cpu: int, left: list[int], model: str) -> int:
    """Return F of one node by the words of the definition."""
    total = 0
    for task, weight in weights.items():
        big_enough = [free for free in left if task.gpus and free >= task.milli]
        runs = task.cpu <= cpu and 0 < task.gpus <= len(big_enough)
        runs = runs and (not task.models or model in task.models)
        total += weight * (sum(left) - sum(big_enough) if runs else sum(left))
    return total


def fragments(weights, nodes) -> Fragments:
    kinds = [(model,) for _, _, model in nodes]
    workload = Workload(weights, kinds, 4)
    return Fragments(workload, [cpu for cpu, _, _ in nodes], [left for _, left, _ in nodes], kinds)


@given(workloads, st.lists(free_nodes, min_size=1, max_size=4))
def test_fragmentation_is_what_the_definition_says_and_at_most_what_is_free(weights, nodes):
    values = fragments(weights, nodes).value.tolist()
    for value, (cpu, left, model) in zip(values, nodes, strict=True):
        assert value == spoilt(weights, cpu, left, model)
        assert 0 <= value <= sum(left) * sum(weights.values())


@given(workloads, free_nodes, tasks)
def test_the_increase_is_the_difference_of_the_two_values(weights, node, task):
    cpu, left, model = node
    grown = fragments(weights, [node]).increase(task, np.array([0]))[0].tolist()
    before = spoilt(weights, cpu, left, model)
    whole = [gpu for gpu, free in enumerate(left) if free == 1000][: task.gpus]
    fits = task.cpu <= cpu and (not task.gpus or not task.models or model in task.models)
    if 0 < task.milli < 1000:
        for gpu, value in enumerate(grown):
            if fits and gpu < len(left) and left[gpu] >= task.milli:
                after = [free - task.milli * (at == gpu) for at, free in enumerate(left)]
                assert value == spoilt(weights, cpu - task.cpu, after, model) - before
            else:
                assert value == NO
    elif fits and len(whole) == task.gpus:
        after = [0 if at in whole else free for at, free in enumerate(left)]
        assert grown == [spoilt(weights, cpu - task.cpu, after, model) - before]
    else:
        assert grown == [NO]


def test_nothing_is_spoilt_when_every_class_runs_and_no_leftover_is_too_small():
    weights = {Task(1000, 500, 1): 3, Task(2000, 1000, 2): 1}
    assert fragments(weights, [(64000, [1000, 1000], "t4")]).value.tolist() == [0]


@given(st.integers(1, 5000), st.lists(st.integers(-8000, 8000), min_size=1, max_size=20))
def test_the_published_score_is_the_floor_of_a_sigmoid(total, decreases):
    one = fragments({Task(0, 1000, 1): total}, [(0, [0], "t4")])
    scores = one.floored(np.array([-total * each for each in decreases], np.int64))
    for score, each in zip(scores.tolist(), decreases, strict=True):
        exact = 100 / (1 + math.exp(-each / 1000))
        assert -score == math.floor(exact) or math.isclose(exact, -score, abs_tol=1e-9)


@pytest.mark.parametrize("floored", [False, True])
@settings(max_examples=20)
@given(
    specs=clusters(1, 5),
    asked=st.lists(shapes(members=1), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_the_slot_is_that_of_a_plain_scan_and_a_run_is_what_one_by_one_gives(
    floored, specs, asked, seed
):
    rng, ledger = Random(seed), Ledger()
    for index, spec in enumerate(specs):
        ledger.join(index, spec)
    popular = Counter({task_of(shape): rng.randrange(5) for shape in asked})
    fit = LeastFragments(ledger, lambda: (1, popular), floored=floored)
    requests = [Request(shape) for shape in asked]
    held = []
    for _ in range(12):
        request = rng.choice(requests)
        fresh = LeastFragments(ledger, lambda: (1, popular), floored=floored)
        slot = fit.one(request)
        assert slot == fresh.one(request)
        assert (slot is None) == (Fit(ledger, BestFit()).one(request) is None)
        if slot is not None:
            ledger.take(slot.node, request, slot.devices)
            held.append((request, slot))
        if held and rng.random() < 0.3:
            old, where = held.pop(rng.randrange(len(held)))
            ledger.give(where.node, old, where.devices)
        count = rng.randrange(6)
        run = fit.run(request, count)
        assert run == one_by_one(ledger, fit, request, count)


def one_by_one(ledger, fit, request, count):
    found = []
    while len(found) < count and (slot := fit.one(request)) is not None:
        ledger.take(slot.node, request, slot.devices)
        found.append(slot)
    for slot in found:
        ledger.give(slot.node, request, slot.devices)
    return found


def test_a_half_goes_where_a_half_is_left_and_cpu_work_goes_where_no_gpu_is():
    ledger = Ledger()
    ledger.join(0, Node(name="a", cpu_milli=8000, devices=(Device(), Device())))
    ledger.join(1, Node(name="b", cpu_milli=8000))
    popular = {Task(4000, 1000, 1): 1, Task(1000, 500, 1): 1}
    fit = LeastFragments(ledger, lambda: (1, popular))
    half = Request(Shape(cpu_milli=1000, gpu_milli=500))
    first = fit.one(half)
    ledger.take(first.node, half, first.devices)
    assert fit.one(half) == first
    assert fit.one(Request(Shape(cpu_milli=5000))).node == 1


def test_a_share_that_is_all_of_a_gpu_takes_a_whole_one():
    ledger = Ledger()
    ledger.join(0, Node(name="a", cpu_milli=8000, devices=(Device(), Device(), Device())))
    fit = LeastFragments(ledger, lambda: (1, {Task(1000, 1000, 1): 1}))
    small, all_of_it = (Request(Shape(gpu_milli=milli)) for milli in (100, 1000))
    ledger.take(0, small, fit.one(small).devices)
    assert fit.one(all_of_it).devices == (1,)
    assert [slot.devices for slot in fit.run(all_of_it, 5)] == [(1,), (2,)]


@pytest.mark.parametrize(
    ("task", "weight"),
    [(Task(0, 500, 2), 1), (Task(0, 1001, 1), 1), (Task(-1), 1), (Task(0), -1)],
)
def test_a_class_that_cannot_be_is_refused(task, weight):
    with pytest.raises(Misuse):
        Workload({task: weight}, [("t4",)], 4)
