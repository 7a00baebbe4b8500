"""What free GPUs are still good for: known tables, and the placement against a plain scan."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.engine import Core
from fairlead.core.ledger import Ledger, Request
from fairlead.core.turn import Scheduler
from fairlead.model.events import NodeJoined, Placed, PolicySet, Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.place.fgd import Task, task_of
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.least_fragments import BestProspects
from fairlead.policy.place.prospects import FEW, MANY, RATE, UNIT, Host, Worth
from fairlead.policy.place.score import BestFit
from fairlead.policy.registry import build, policy_config
from strategies import clusters, node, shapes

MILLI = 2**UNIT  # one thousandth of a GPU


def worth(weights, hosts, host, cpu, left) -> int:
    tables = Worth(weights, hosts)
    group = np.array([list(hosts).index(host)])
    return int(tables.of(group, np.array([cpu]), np.array([left]))[0])


def test_one_class_fills_what_it_fits_and_is_worth_nothing_where_it_does_not():
    host = Host(("t4",), 8000, 1)
    for weights in ({Task(1000, 470, 1): 7}, {Task(1000, 470, 1): 1, Task(64_000, 10, 1): 0}):
        values = {left: worth(weights, {host: 1}, host, 8000, [left]) for left in (460, 470, 1000)}
        assert values[460] == 0
        assert abs(values[470] - 470 * MILLI) <= 1
        assert abs(values[1000] - 940 * MILLI) <= 1, "two fit, 60 thousandths never will"
    assert worth({Task(1000, 470, 1): 1}, {host: 1}, host, 0, [1000]) == 0, "no cores, no task"


def test_a_look_at_every_tenth_task_is_a_binomial_knapsack():
    # Every tenth task takes a whole GPU, the others none: it is filled unless none of MANY comes.
    host = Host(("t4",), 64_000, 1)
    weights = {Task(0, 1000, 1): 1, Task(1000): 9}
    exact = 1000 * (1 - 0.9**MANY)
    found = worth(weights, {host: 1}, host, 64_000, [1000]) / MILLI
    assert abs(found - exact) < 0.1
    # With too few cores for it, no look finds any use; on the way there FEW of them count.
    dear = {Task(8000, 1000, 1): 1, Task(1000): 9}
    few = 1 - 0.9**FEW
    assert worth(dear, {host: 1}, host, 6999, [1000]) == 0
    half = worth(dear, {host: 1}, host, 7500, [1000]) / MILLI
    assert abs(half - exact / 2 * few / few) < 0.1, "cells of cores are joined by lines"


def test_gpus_that_few_tasks_need_and_those_only_there_are_worth_more():
    scarce, common = Host(("a100",), 64_000, 1), Host(("t4",), 64_000, 1)
    weights = {Task(1000, 1000, 1): 9, Task(1000, 1000, 1, ("a100",)): 1}
    hosts = {common: 9, scarce: 1}
    assert worth(weights, hosts, scarce, 64_000, [1000]) > worth(
        weights, hosts, common, 64_000, [1000]
    )
    ledger = Ledger()
    ledger.join(0, Node(name="a", cpu_milli=64_000, devices=(Device(model="a100"),)))
    for index in range(1, 10):
        ledger.join(index, Node(name="t", cpu_milli=64_000, devices=(Device(model="t4"),)))
    fit = BestProspects(ledger, lambda: (1, weights))
    assert fit.one(Request(Shape(cpu_milli=1000, gpus=1))).node == 1


def test_shares_of_470_meet_on_one_gpu_and_leave_the_rest_of_an_810():
    # 530 beside a 470 take another; 190 beside an 810 take a 160, which fgd puts where it fits.
    ledger = Ledger()
    ledger.join(0, Node(name="a", cpu_milli=64_000, devices=(Device(), Device(), Device())))
    popular = {Task(1000, 470, 1): 5, Task(1000, 810, 1): 5, Task(1000, 160, 1): 1}
    fit = BestProspects(ledger, lambda: (1, popular))
    placed = []
    for milli in (810, 470, 470, 160):
        request = Request(Shape(cpu_milli=1000, gpu_milli=milli))
        slot = fit.one(request)
        ledger.take(slot.node, request, slot.devices)
        placed.append(slot.devices)
    assert placed == [(0,), (1,), (1,), (0,)]


def test_work_without_gpus_goes_where_it_takes_the_cores_of_none():
    ledger = Ledger()
    ledger.join(0, Node(name="gpu", cpu_milli=8000, devices=(Device(), Device())))
    ledger.join(1, Node(name="cpu", cpu_milli=8000))
    fit = BestProspects(ledger, lambda: (1, {Task(4000, 1000, 1): 1, Task(4000): 1}))
    assert [slot.node for slot in fit.run(Request(Shape(cpu_milli=4000)), 5)] == [1, 1, 0, 0]


@settings(max_examples=30)
@given(
    specs=clusters(1, 5),
    asked=st.lists(shapes(members=1), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_it_places_whatever_fits_anywhere_and_a_run_is_what_one_by_one_gives(specs, asked, seed):
    rng, ledger = Random(seed), Ledger()
    for index, spec in enumerate(specs):
        ledger.join(index, spec)
    popular = Counter({task_of(shape): rng.randrange(5) for shape in asked})
    fit = BestProspects(ledger, lambda: (1, popular))
    requests = [Request(shape) for shape in asked]
    held = []
    for _ in range(12):
        request = rng.choice(requests)
        slot = fit.one(request)
        assert slot == BestProspects(ledger, lambda: (1, popular)).one(request)
        assert (slot is None) == (Fit(ledger, BestFit()).one(request) is None)
        if slot is not None:
            assert ledger.has_room(slot.node, request, slot.devices)
            ledger.take(slot.node, request, slot.devices)
            held.append((request, slot))
        if held and rng.random() < 0.3:
            old, where = held.pop(rng.randrange(len(held)))
            ledger.give(where.node, old, where.devices)
        run = fit.run(request, 4)
        again = []
        while len(again) < 4 and (slot := fit.one(request)) is not None:
            ledger.take(slot.node, request, slot.devices)
            again.append(slot)
        for slot in again:
            ledger.give(slot.node, request, slot.devices)
        assert run == again


@given(
    weights=st.dictionaries(
        st.builds(Task, st.integers(0, 200_000), st.integers(1, 1000), st.just(1), st.just(("A",))),
        st.integers(0, 2**30),
        max_size=6,
    ),
    cpu=st.integers(0, 2**40),
    left=st.lists(st.integers(0, 1000), min_size=2, max_size=2),
    taken=st.integers(0, 300_000),
)
def test_less_is_never_worth_more_and_no_gpu_more_than_what_is_free_of_it(
    weights, cpu, left, taken
):
    host = Host(("A",), 2**40, 2)
    value = worth(weights, {host: 3, Host(("B",), 1, 1): 1}, host, cpu, left)
    assert 0 <= value <= sum(left) * MILLI + 2 * 2 ** (RATE - UNIT)
    less = worth(weights, {host: 3, Host(("B",), 1, 1): 1}, host, max(cpu - taken, 0), left)
    assert less <= value + 2


def test_jobs_are_packed_by_name_and_whole_gpus_are_left_side_by_side():
    core = Core()
    scheduler = Scheduler(core, build)
    half, pair = Shape(cpu_milli=100, gpu_milli=500), Shape(cpu_milli=100, gpus=2)
    scheduler.turn(
        0,
        [
            PolicySet(policy=policy_config("fifo-skip+pack")),
            NodeJoined(node=0, spec=node("pair", gpus=2)),
            NodeJoined(node=1, spec=node("single", gpus=1)),
        ],
    )
    jobs = [
        Submitted(job=index, spec=JobSpec(shape=shape))
        for index, shape in enumerate((half, half, pair, pair), start=1)
    ]
    placed = {
        event.job: event.slots
        for event in scheduler.turn(1, jobs).events
        if isinstance(event, Placed)
    }
    assert [slot.node for job in (1, 2) for slot in placed[job]] == [1, 1]
    assert placed[3][0].node == 0
    assert 4 not in placed
    assert "pack" in core.jobs[1].because
