"""One after another on machines: the matching and the search find what trying every plan finds."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import matrices, schedules

from fairlead.model.base import Misuse
from fairlead.solve import bounds
from fairlead.solve.answer import Status
from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here


@given(matrices(5, 3, low=0))
@settings(deadline=None, max_examples=80)
def test_sum_of_completion_times_is_what_trying_every_plan_finds(times):
    found = solve_here(build(times), "sum-completion")
    best = schedules(times)
    if best is None:
        assert found.status is Status.INFEASIBLE
    else:
        assert (found.status, found.value) == (Status.OPTIMAL, best[1])


@given(matrices(5, 3, low=0))
@settings(deadline=None, max_examples=80)
def test_the_makespan_lies_between_its_bound_and_twice_that(times):
    found = solve_here(build(times), "makespan")
    best = schedules(times)
    if best is None:
        assert found.status is Status.INFEASIBLE
        return
    assert (found.status, found.value) == (Status.OPTIMAL, best[0])
    assert found.relaxed <= best[0] <= 2 * found.relaxed


def test_a_task_that_can_run_nowhere_is_named_and_the_others_are_planned():
    found = solve_here(build([[2, 3], [None, None], [3, 2]]), "makespan")
    assert found.status is Status.INFEASIBLE
    assert found.explanation.rows == ("task 2 exactly once",)
    assert found.counter_offer.plan == (0, None, 1)
    assert found.counter_offer.value == 2


def test_many_tasks_on_one_fast_machine_get_positions_as_far_as_they_want():
    times = [[1, 100]] * 20
    found = solve_here(build(times), "sum-completion")
    assert found.value == 20 * 21 // 2
    assert len(found.orders[0]) == 20


def test_two_hundred_tasks_come_within_two_percent_of_the_bound():
    times = np.random.default_rng(1).integers(1, 1000, (200, 8))
    found = solve_here(build(times), "makespan", gap=0.02)
    assert found.gap <= 0.02
    loads = [sum(int(times[i, j]) for i in order) for j, order in enumerate(found.orders)]
    assert max(loads) == found.value


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 3),
    st.lists(st.integers(0, 5), min_size=5, max_size=5),
)
@settings(deadline=None, max_examples=60)
def test_bounds_of_equal_machines_are_below_the_best_and_the_optima_are_the_best(
    times, machines, weights
):
    weights = weights[: len(times)]
    spans, sums, weighted = [], [], []
    for plan in product(range(machines), repeat=len(times)):
        span = total = heavy = 0
        for machine in range(machines):
            here = [i for i, j in enumerate(plan) if j == machine]
            now = 0
            for i in sorted(here, key=lambda i: times[i]):
                now += times[i]
                total += now
            span = max(span, now)
            now = 0
            for i in sorted(here, key=lambda i: -weights[i] / times[i]):
                now += times[i]
                heavy += weights[i] * now
        spans.append(span)
        sums.append(total)
        weighted.append(heavy)
    assert bounds.makespan(times, machines)[0] <= min(spans)
    assert bounds.sum_completion(times, machines) == min(sums)
    assert bounds.weighted_completion(times, weights, machines) <= min(weighted)
    assert bounds.weighted_optimum(times, weights, machines) == min(weighted)


def test_bounds_have_names_and_gangs_count_their_gpus():
    assert bounds.makespan([9, 1, 1], 2) == (9, "longest task")
    assert bounds.makespan([4, 4, 4], 2) == (8, "two of the longest")
    assert bounds.area([10, 4], 4, [2, 1]) == 6


def test_the_mean_bound_of_jobs_that_arrive_is_shortest_remaining_first():
    # At 1 the second job is shorter than what is left of the first: it goes before.
    assert bounds.mean_completion([0, 1], [5, 1], 1) == (6 + 1) / 2
    assert bounds.mean_completion([], [], 1) == 0


def test_too_many_loads_for_the_exact_weighted_optimum_are_refused(monkeypatch):
    monkeypatch.setattr(bounds, "STATES_MAX", 3)
    with pytest.raises(Misuse, match="too many tasks"):
        bounds.weighted_optimum([1, 2, 4, 8], [1, 1, 1, 1], 3)


def test_a_negative_run_time_is_refused_by_name():
    with pytest.raises(Misuse, match="the run time of task 1 on resource 2 is negative"):
        solve_here(build([[1, -1]]), "makespan")
