"""Making room: the cheapest of all ways, in steps of which none over-fills a node."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.solve.defrag import Held, Host, check_plan, in_safe_order, plan, worth_it


@st.composite
def clusters(draw):
    nodes, number = {}, 0
    for name in "abc"[: draw(st.integers(1, 3))]:
        capacity = left = draw(st.integers(2, 8))
        jobs = {}
        for _ in range(draw(st.integers(0, 2))):
            gpus = draw(st.integers(1, 4))
            if gpus <= left:
                cost = draw(st.sampled_from([None, 0, 10, 30, 70]))
                jobs[f"j{number}"] = Held(gpus, cost)
                number, left = number + 1, left - gpus
        nodes[name] = Host(capacity, jobs)
    return nodes


def cheapest(nodes, need, count):
    homes = {job: name for name, host in nodes.items() for job in host.jobs}
    held = {job: nodes[name].jobs[job] for job, name in homes.items()}
    best = None
    for places in product(sorted(nodes), repeat=len(homes)):
        free = {name: host.capacity for name, host in nodes.items()}
        cost = 0
        for job, place in zip(homes, places, strict=True):
            free[place] -= held[job].gpus
            if place != homes[job]:
                cost = None if cost is None or held[job].cost is None else cost + held[job].cost
        roomy = sum(gpus >= need for gpus in free.values()) >= count
        if cost is not None and roomy and min(free.values()) >= 0:
            best = cost if best is None else min(best, cost)
    return best


@settings(max_examples=40)
@given(clusters(), st.integers(1, 8), st.integers(1, 2))
def test_the_plan_costs_what_the_cheapest_of_all_placements_costs(nodes, need, count):
    found = plan(nodes, need, count)
    assert found.cost == cheapest(nodes, need, count)
    assert (found.status == "infeasible") == (found.cost is None)
    if found.cost is not None:
        assert len(found.targets) == count
        check_plan(nodes, found.steps, found.targets, need)
        assert {step.job for step in found.steps} == found.moves.keys()


def test_nothing_moves_where_there_is_room():
    nodes = {"a": Host(8, {"x": Held(4, 0)}), "b": Host(8, {})}
    found = plan(nodes, 8)
    assert (found.cost, found.targets, found.steps) == (0, ("b",), ())
    assert not worth_it(found, 0)
    assert worth_it(found, 1)


def test_two_that_change_places_need_one_to_be_suspended():
    nodes = {"a": Host(2, {"x": Held(2, 9)}), "b": Host(2, {"y": Held(2, 5)})}
    steps = in_safe_order(nodes, {"x": "b", "y": "a"})
    assert [(step.kind, step.job) for step in steps] == [
        ("suspend", "y"), ("move", "x"), ("resume", "y"),
    ]  # fmt: skip
    check_plan(nodes, steps, (), 0)


def test_a_move_that_waits_for_another_comes_after_it():
    nodes = {"a": Host(2, {"x": Held(2, 9)}), "b": Host(2, {"y": Held(2, 5)}), "c": Host(2, {})}
    steps = in_safe_order(nodes, {"x": "b", "y": "c"})
    assert [(step.kind, step.job) for step in steps] == [("move", "y"), ("move", "x")]


def test_a_plan_that_overfills_does_not_pass():
    nodes = {"a": Host(2, {"x": Held(2, 9)}), "b": Host(2, {"y": Held(2, 5)})}
    steps = in_safe_order(nodes, {"x": "b", "y": "a"})
    with pytest.raises(AssertionError, match="more than it has"):
        check_plan(nodes, steps[1:], (), 0)
    with pytest.raises(AssertionError, match="left suspended"):
        check_plan(nodes, steps[:1], (), 0)


@pytest.mark.parametrize(
    "nodes",
    [
        {"a": Host(1, {"x": Held(2, 0)})},
        {"a": Host(2, {"x": Held(1, 0)}), "b": Host(2, {"x": Held(1, 0)})},
        {"a": Host(2, {"x": Held(1, -1)})},
    ],
)
def test_nodes_that_cannot_be_are_refused(nodes):
    with pytest.raises(Misuse):
        plan(nodes, 1)
