"""The cheapest plan is the first of those that trying every plan finds, and its prices prove it."""

from __future__ import annotations

from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import cheapest, cost_of, matrices, placeable

from fairlead.solve import first, lexicographic
from fairlead.solve.answer import Status
from fairlead.solve.duals import NotOptimal, dense_duals, sparse_duals
from fairlead.solve.flow import flow
from fairlead.solve.problem import FORBIDDEN, build
from fairlead.solve.solver import solve_here
from fairlead.solve.sparse import assign, exact_in_floats


@given(matrices(7, 5))
@settings(deadline=None, max_examples=150)
def test_once_is_what_trying_every_plan_finds_and_the_first_of_equals(cost):
    found = solve_here(build(cost), "once")
    best = cheapest(cost, [1] * len(cost[0]))
    if best is None:
        assert found.status is Status.INFEASIBLE
    else:
        assert (found.value, found.plan) == best
        assert found.status is Status.OPTIMAL and found.smallest


@given(matrices(5, 4), st.lists(st.integers(0, 3), min_size=4, max_size=4))
@settings(deadline=None, max_examples=150)
def test_capacities_are_kept_at_the_least_cost(cost, capacity):
    capacity = capacity[: len(cost[0])]
    found = solve_here(build(cost, capacity=capacity), "capacity")
    best = cheapest(cost, capacity)
    assert (found.value, found.plan) == (best or (None, ()))


@given(matrices(4, 3), st.integers(-5, 30), st.lists(st.integers(0, 2), min_size=3, max_size=3))
@settings(deadline=None, max_examples=150)
def test_a_task_is_left_out_exactly_when_that_is_cheaper(cost, penalty, capacity):
    capacity = capacity[: len(cost[0])]
    found = solve_here(build(cost, capacity=capacity, penalty=penalty), "capacity")
    assert (found.value, found.plan) == cheapest(cost, capacity, penalty)


@given(matrices(5, 4), st.lists(st.integers(0, 2), min_size=4, max_size=4))
@settings(deadline=None, max_examples=150)
def test_as_many_as_possible_are_placed_and_nobody_is_placed_dearly(cost, capacity):
    capacity = capacity[: len(cost[0])]
    found = solve_here(build(cost, capacity=capacity), "as-many-as-possible")
    most = placeable(cost, capacity)
    dear = 1000  # more than any plan costs: only then is it right to weigh one against the other
    value, plan = cheapest(cost, capacity, dear)
    assert found.placed == most
    assert found.value == value - dear * (len(cost) - most)
    assert found.plan == plan


@given(matrices(5, 5, square=True), st.integers(-20, 20), st.integers(0, 4))
@settings(deadline=None, max_examples=100)
def test_a_constant_on_a_row_moves_the_cost_by_it_and_keeps_the_plan(cost, constant, row):
    row %= len(cost)
    moved = [list(each) for each in cost]
    moved[row] = [None if each is None else each + constant for each in moved[row]]
    before, after = solve_here(build(cost), "once"), solve_here(build(moved), "once")
    assert before.status == after.status
    assert before.plan == after.plan
    if before.value is not None:
        assert after.value == before.value + constant
        assert after.duals.v == before.duals.v


@given(matrices(5, 5), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_the_order_of_tasks_and_resources_does_not_change_the_cost(cost, rng: Random):
    rows, columns = list(range(len(cost))), list(range(len(cost[0])))
    rng.shuffle(rows)
    rng.shuffle(columns)
    mixed = [[cost[i][j] for j in columns] for i in rows]
    before, after = solve_here(build(cost), "once"), solve_here(build(mixed), "once")
    assert (before.status, before.value) == (after.status, after.value)
    if before.explanation:
        assert len(before.explanation.tasks) == len(after.explanation.tasks)
        assert before.explanation.placeable == after.explanation.placeable


@given(matrices(5, 5), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_costs_in_other_units_give_the_same_plan(cost, factor):
    scaled = [[None if each is None else each * factor for each in row] for row in cost]
    decimals = [[None if each is None else f"{each}e-3" for each in row] for row in cost]
    plan = solve_here(build(cost), "once").plan
    assert solve_here(build(scaled), "once").plan == plan
    assert solve_here(build(decimals), "once").plan == plan


@given(matrices(6, 4))
@settings(deadline=None, max_examples=150)
def test_what_is_infeasible_is_explained_by_a_smallest_set_of_tasks(cost):
    found = solve_here(build(cost), "once")
    why = found.explanation
    if why is None:
        return

    def short(tasks) -> bool:
        return len({j for i in tasks for j, c in enumerate(cost[i]) if c is not None}) < len(tasks)

    assert short(why.tasks) and why.smallest and why.irreducible
    for size in range(1, len(why.tasks)):
        assert not any(short(each) for each in combinations(range(len(cost)), size))
    first = next(x for x in combinations(range(len(cost)), len(why.tasks)) if short(x))
    assert why.tasks == first
    assert why.shortage == len(why.tasks) - len(why.resources)
    assert why.placeable == placeable(cost, [1] * len(cost[0]))
    if why.placeable:
        assert found.counter_offer.placed == why.placeable


def large(kind: str, tasks: int, resources: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    if kind == "alike":  # every row ranks the resources in the same way
        cost = rng.integers(1, 99, (tasks, 1)) * rng.integers(1, 99, (1, resources))
        return cost + rng.integers(0, 9, (tasks, resources))
    if kind == "equal":
        return np.ones((tasks, resources), np.int64)
    top = 5 if kind == "ties" else 10**6
    cost = rng.integers(0, top, (tasks, resources))
    if kind == "holes":
        cost[rng.random(cost.shape) < 0.9] = FORBIDDEN
        cost[np.arange(tasks), np.arange(tasks)] = 10**6  # or else nobody has a place
    return cost


@pytest.mark.parametrize("shape", [(120, 120), (60, 200)])
@pytest.mark.parametrize("kind", ["plain", "ties", "equal", "alike", "holes"])
def test_large_worlds_agree_with_min_cost_flow_which_shares_no_code_with_them(kind, shape):
    cost = large(kind, *shape)
    found = solve_here(build(cost), "once")
    plan = flow(cost, np.ones(shape[1], np.int64))
    assert found.value == int(cost[np.arange(shape[0]), plan].sum())
    u, v = dense_duals(cost, plan, np.ones(shape[1], np.int64))
    assert found.duals.u == tuple(u.tolist())  # the prices do not depend on the plan
    assert found.duals.v == tuple(v.tolist())
    tight = np.flatnonzero(cost - v == u[:, None])
    first, full = lexicographic.smallest(shape, plan, v, tight, np.ones(shape[1], np.int64))
    assert full and found.plan == tuple(first.tolist())


def test_numbers_too_large_for_floats_are_still_added_up_exactly():
    small = [[4, 1, 3], [2, 0, 5], [3, 2, 2]]
    huge = [[3 * 10**14 * each - 6 * 10**14 + 1 for each in row] for row in small]
    assert not exact_in_floats(-6 * 10**14, 9 * 10**14, (3, 3))
    found = solve_here(build(huge), "once")
    assert (found.value, found.plan) == cheapest(huge, [1, 1, 1])


def test_a_plan_that_can_be_improved_has_no_prices():
    cost = np.array([[1, 2], [2, 1]], np.int64)
    worse = np.array([1, 0])
    with pytest.raises(NotOptimal):
        dense_duals(cost, worse, np.array([1, 1]))
    with pytest.raises(NotOptimal):
        sparse_duals((2, 2), np.arange(4), cost.ravel(), worse)


@pytest.mark.parametrize(("world", "capacity"), [((120, 120), None), ((60, 30), 2)])
def test_the_search_for_the_first_plan_that_takes_too_long_says_so(monkeypatch, world, capacity):
    cost = large("ties", *world)
    limited = build(cost, capacity=capacity)
    monkeypatch.setattr(lexicographic, "STEPS_MAX", 0)
    found = solve_here(limited)
    assert found.status is Status.OPTIMAL and not found.smallest
    monkeypatch.undo()
    whole = solve_here(limited)
    assert whole.smallest and whole.value == found.value and whole.plan < found.plan


@pytest.mark.parametrize("block", [1, 5, 64])
@pytest.mark.parametrize("near", [0, 16])
@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(0, 9), st.sampled_from([2, 9, 40]))
@settings(deadline=None, max_examples=25)
def test_blocks_find_the_plan_that_moving_task_after_task_finds(block, near, seed, n, more, top):
    cost = np.random.default_rng(seed).integers(0, top, (n, n + more))
    # A resource that nobody may use, for two: then each task is moved by itself.
    closed = np.full((n, 1), FORBIDDEN)
    room = [1] * (n + more) + [2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first, "BLOCK", block)
        patch.setattr(first, "NEAR_TASKS", near)
        by_blocks = solve_here(build(cost), "once")
    one_by_one = solve_here(build(np.hstack([cost, closed]), capacity=room), "capacity")
    assert by_blocks.smallest and one_by_one.smallest
    assert by_blocks.plan == one_by_one.plan


def test_assign_takes_more_pairs_when_the_cheap_ones_do_not_explain_all():
    cost = large("alike", 120, 120)
    plan, u, v, tight = assign(cost)
    assert np.all(cost - v >= u[:, None])
    assert set(np.arange(120) * 120 + plan) <= set(tight.tolist())


def test_shared_resources_take_each_task_where_it_is_cheapest():
    cost = [[2, 3], [4, 1], [3, 2]]
    found = solve_here(build(cost), "shared-total")
    assert (found.value, found.plan) == (5, (0, 1, 1))
    assert cost_of(cost, found.plan) == sum(found.duals.u)
