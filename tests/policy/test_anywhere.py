"""Placement at random: any node as likely as another, and the same again from the same state."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.engine import Core
from fairlead.core.ledger import Ledger, Request
from fairlead.core.turn import Scheduler
from fairlead.model.events import NodeJoined, Placed, PolicySet, Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.place.anywhere import Anywhere
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.score import BestFit
from fairlead.policy.registry import build, policy_config
from strategies import clusters, node, shapes


class Turns:
    """Counts the placements, as the core's log does."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_each_node_and_each_gpu_is_taken_as_often_as_any_other():
    ledger, turns = Ledger(), Turns()
    for index in range(10):
        devices = (Device(), Device(), Device(), Device())
        ledger.join(index, Node(name=f"n{index}", cpu_milli=8000, devices=devices))
    fit, request = Anywhere(ledger, turns), Request(Shape(cpu_milli=1000, gpu_milli=300))
    seen = Counter()
    for turn in range(4000):
        turns.now = turn
        slot = fit.one(request)
        seen[slot.node, slot.devices] += 1
    assert len(seen) == 40
    # 100 each on average, with a standard deviation of 10.
    assert all(50 < count < 150 for count in seen.values())
    by_node = Counter()
    for (index, _), count in seen.items():
        by_node[index] += count
    assert all(300 < count < 500 for count in by_node.values())


def test_one_choice_says_nothing_of_the_next():
    ledger, turns = Ledger(), Turns()
    for index in range(2):
        ledger.join(index, Node(name=f"n{index}", cpu_milli=8000))
    fit, request = Anywhere(ledger, turns), Request(Shape(cpu_milli=1))
    chosen = []
    for turn in range(4000):
        turns.now = turn
        chosen.append(fit.one(request).node)
    pairs = Counter(pairwise(chosen))
    assert all(850 < count < 1150 for count in pairs.values()), pairs


@given(specs=clusters(1, 6), shape=shapes(members=1), count=st.integers(0, 20))
def test_it_finds_a_place_where_there_is_one_and_a_run_is_what_one_by_one_gives(
    specs, shape, count
):
    ledger, turns = Ledger(), Turns()
    for index, spec in enumerate(specs):
        ledger.join(index, spec)
    fit, request = Anywhere(ledger, turns), Request(shape)
    run = fit.run(request, count)
    one_by_one = []
    while len(one_by_one) < count and (slot := fit.one(request)) is not None:
        assert ledger.has_room(slot.node, request, slot.devices)
        ledger.take(slot.node, request, slot.devices)
        one_by_one.append(slot)
        turns.now += 1
    assert run == one_by_one
    if len(run) < count:
        assert Fit(ledger, BestFit()).one(request) is None


def test_jobs_go_anywhere_by_name_and_to_the_same_places_after_the_same_log():
    def placed() -> list[int]:
        scheduler = Scheduler(Core(), build)
        scheduler.turn(
            0,
            [
                PolicySet(policy=policy_config("fifo+random")),
                *(NodeJoined(node=n, spec=node(f"n{n}", cpus=8)) for n in range(8)),
            ],
        )
        jobs = [
            Submitted(job=job, spec=JobSpec(shape=Shape(cpu_milli=1000 + job % 2)))
            for job in range(1, 31)
        ]
        events = scheduler.turn(1, jobs).events
        return [slot.node for event in events if isinstance(event, Placed) for slot in event.slots]

    first = placed()
    assert first == placed()
    assert len(first) == 30
    assert len(set(first)) > 4
