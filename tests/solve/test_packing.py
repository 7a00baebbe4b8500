"""Sizes into capacities: the least cost, an exact bound, contradictions without a spare rule."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import cost_of, every_plan, matrices

from fairlead.solve.answer import Status
from fairlead.solve.gap import exact_bound, pack
from fairlead.solve.mip import Clock
from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here


@st.composite
def packings(draw):
    cost = draw(matrices(4, 3))
    shape = len(cost), len(cost[0])
    size = [[draw(st.integers(0, 9)) for _ in range(shape[1])] for _ in range(shape[0])]
    capacity = [draw(st.integers(0, 14)) for _ in range(shape[1])]
    return cost, size, capacity


def fits(size, capacity, plan) -> bool:
    loads = [0] * len(capacity)
    for task, resource in enumerate(plan):
        if resource is not None:
            loads[resource] += size[task][resource]
    return all(load <= most for load, most in zip(loads, capacity, strict=True))


def plans(cost, size, capacity, left_out=False):
    for plan in every_plan(cost, [len(cost)] * len(capacity), left_out):
        if cost_of(cost, plan) is not None and fits(size, capacity, plan):
            yield plan


@given(packings())
@settings(deadline=None, max_examples=80)
def test_the_cheapest_packing_is_what_trying_every_plan_finds(world):
    cost, size, capacity = world
    found = solve_here(build(cost, size=size, capacity=capacity), "capacity")
    best = min((cost_of(cost, plan) for plan in plans(cost, size, capacity)), default=None)
    if best is None:
        assert found.status is Status.INFEASIBLE
        return
    assert (found.status, found.value) == (Status.OPTIMAL, best)
    assert found.relaxed <= best


@given(packings(), st.integers(-5, 30))
@settings(deadline=None, max_examples=60)
def test_a_task_may_be_left_out_at_a_penalty(world, penalty):
    cost, size, capacity = world
    problem = build(cost, size=size, capacity=capacity, penalty=penalty)
    found = solve_here(problem, "capacity")
    best = min(cost_of(cost, plan, penalty) for plan in plans(cost, size, capacity, True))
    assert (found.status, found.value) == (Status.OPTIMAL, best)


@given(packings())
@settings(deadline=None, max_examples=60)
def test_what_does_not_fit_is_explained_by_rules_that_are_all_needed(world):
    cost, size, capacity = world
    found = solve_here(build(cost, size=size, capacity=capacity), "capacity")
    why = found.explanation
    if why is None:
        return
    assert why.irreducible

    def possible(tasks, limited) -> bool:
        part = [cost[i] for i in tasks]
        sizes = [size[i] for i in tasks]
        room = [capacity[j] if j in limited else 10**6 for j in range(len(capacity))]
        return not tasks or any(True for _ in plans(part, sizes, room))

    assert not possible(why.tasks, why.resources)
    for each in why.tasks:
        assert possible([i for i in why.tasks if i != each], why.resources)
    for each in why.resources:
        assert possible(why.tasks, [j for j in why.resources if j != each])


@given(packings())
@settings(deadline=None, max_examples=60)
def test_the_counter_offer_packs_as_many_as_possible_at_the_least_cost(world):
    cost, size, capacity = world
    found = solve_here(build(cost, size=size, capacity=capacity), "as-many-as-possible")
    options = list(plans(cost, size, capacity, left_out=True))
    most = max(sum(each is not None for each in plan) for plan in options)
    least = min(
        cost_of(cost, plan) for plan in options if sum(each is not None for each in plan) == most
    )
    assert (found.status, found.placed, found.value) == (Status.OPTIMAL, most, least)


@given(packings(), st.lists(st.fractions(-5, 0, max_denominator=7), min_size=3, max_size=3))
@settings(deadline=None, max_examples=80)
def test_any_prices_give_a_bound_below_every_plan(world, prices):
    cost, size, capacity = world
    problem = build(cost, size=size, capacity=capacity)
    if problem.cost.min(axis=1).max() >= 2**62:
        return
    v = tuple(prices[: len(capacity)])
    bound = exact_bound(problem.cost, problem.size, np.array(capacity, np.int64), v)
    assert isinstance(bound, Fraction)
    assert all(cost_of(cost, plan) >= bound for plan in plans(cost, size, capacity))


def test_a_gap_that_is_good_enough_ends_the_search_and_is_told():
    rng = np.random.default_rng(3)
    size, cost = rng.integers(5, 26, (60, 6)), rng.integers(10, 51, (60, 6))
    capacity = np.full(6, int(0.8 * size.mean() * 10))
    found = solve_here(
        build(cost, size=size.tolist(), capacity=capacity.tolist()), "capacity", gap=0.05
    )
    assert found.status in (Status.FEASIBLE, Status.OPTIMAL)
    assert found.gap <= Fraction(5, 100)


def test_no_time_gives_no_plan_and_no_claim():
    cost = np.array([[1, 2], [2, 1]])
    done = pack(cost, np.ones((2, 2), np.int64), np.array([1, 1]), Clock(0.0))
    assert (done.status, done.plan) == ("unknown", None)


def test_a_solver_that_gives_up_proves_nothing_infeasible(monkeypatch):
    from fairlead.solve import mip

    lost = mip.Result("failed", None, float("inf"), -float("inf"), None)
    monkeypatch.setattr(mip, "solve", lambda *_, **__: lost)
    problem = build([[1, 2], [2, 1]], size=[1, 1], capacity=[1, 1])
    found = solve_here(problem, "capacity")
    assert (found.status, found.plan) == (Status.UNKNOWN, ())
    assert found.reason == "the solver gave up"
