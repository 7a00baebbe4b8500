"""The checker finds every way in which a plan or a proof can be wrong."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import matrices

from fairlead.solve.answer import Answer, Explanation, Status, decode, encode
from fairlead.solve.check import Broken, check, faults
from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here

SQUARE = build([[4, 1, 3], [2, 0, 5], [3, 2, None]])
PACKED = build([[6, 9], [3, 5]], size=[[4, 5], [3, 2]], capacity=[6, 8])


def changed(answer: Answer, **changes: object) -> Answer:
    return msgspec.structs.replace(answer, **changes)


def best(reading: str = "once", problem=SQUARE) -> Answer:
    return solve_here(problem, reading)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plan": (1, 1, 0)}, "resource 1 has 2 tasks"),
        ({"plan": (1, 0)}, "2 places for 3 tasks"),
        ({"plan": (1, 0, 7)}, "which there is not"),
        ({"plan": (1, 0, 2)}, "may not be on resource 2"),
        ({"plan": (1, 0, None)}, "task 2 is left out"),
        ({"value": 5}, "the value is"),
        ({"status": Status.INFEASIBLE}, "a plan"),
        ({"duals": None, "bound": None}, "optimal without a bound"),
        ({"duals": None, "bound": 5}, "called optimal"),
        ({"bound": 99}, "is above the value"),
        ({"plan": ()}, "optimal without a plan"),
    ],
)
def test_a_broken_answer_is_rejected(changes, said):
    answer = best()
    check(SQUARE, answer)
    with pytest.raises(Broken, match=said):
        check(SQUARE, changed(answer, **changes))


@given(matrices(4, 4, square=True), st.integers(0, 3), st.sampled_from([-1, 1]), st.booleans())
@settings(deadline=None, max_examples=80)
def test_prices_changed_by_one_prove_nothing(cost, place, step, of_task):
    problem = build(cost)
    answer = solve_here(problem, "once")
    if answer.duals is None:
        return
    u, v = list(answer.duals.u), list(answer.duals.v)
    prices = u if of_task else v
    prices[place % len(prices)] += step
    duals = msgspec.structs.replace(answer.duals, u=tuple(u), v=tuple(v))
    with pytest.raises(Broken):
        check(problem, changed(answer, duals=duals))


@given(matrices(4, 4, square=True), st.permutations(range(4)))
@settings(deadline=None, max_examples=80)
def test_a_dearer_plan_is_never_called_optimal(cost, order):
    problem = build(cost)
    answer = solve_here(problem, "once")
    plan = tuple(each for each in order if each < len(cost))
    if answer.value is None or any(cost[i][j] is None for i, j in enumerate(plan)):
        return
    value = sum(cost[i][j] for i, j in enumerate(plan))
    other = changed(answer, plan=plan, value=value)
    assert (faults(problem, other) == []) == (value == answer.value)


def test_a_load_above_the_capacity_is_rejected():
    answer = best("capacity", PACKED)
    with pytest.raises(Broken, match="resource 0 holds more"):
        check(PACKED, changed(answer, plan=(0, 0), value=9))


def test_a_bound_that_its_prices_do_not_prove_is_rejected():
    answer = best("capacity", PACKED)
    check(PACKED, answer)
    higher = answer.relaxed + 1
    broken = changed(answer, bound=min(ceil(higher), answer.value), relaxed=higher)
    with pytest.raises(Broken, match=r"the prices prove|the bound is not"):
        check(PACKED, broken)
    with pytest.raises(Broken):
        check(PACKED, changed(answer, prices=(Fraction(1), Fraction(0))))


def test_an_order_that_leaves_somebody_out_is_rejected():
    answer = best("makespan")
    check(SQUARE, answer)
    with pytest.raises(Broken, match="order"):
        check(SQUARE, changed(answer, orders=((), (), ())))
    with pytest.raises(Broken, match="an order is missing"):
        check(SQUARE, changed(answer, orders=()))


def test_weights_of_machines_that_are_no_weights_prove_nothing():
    answer = best("makespan")
    heavy = tuple(2 * each for each in answer.prices)
    with pytest.raises(Broken, match="the prices prove"):
        check(SQUARE, changed(answer, prices=heavy, relaxed=Fraction(answer.bound)))


def test_an_explanation_must_name_all_that_its_tasks_may_use():
    problem = build([[1, None], [1, None]])
    answer = solve_here(problem, "once")
    check(problem, answer)
    why = answer.explanation
    for wrong in (
        msgspec.structs.replace(why, resources=()),
        msgspec.structs.replace(why, shortage=2),
        msgspec.structs.replace(why, tasks=(0,)),
    ):
        with pytest.raises(Broken):
            check(problem, changed(answer, explanation=wrong))
    with pytest.raises(Broken, match="without an explanation"):
        check(problem, changed(answer, explanation=None))


def test_more_left_out_than_need_be_is_rejected():
    problem = build([[2, 3], [4, 1], [3, 2]])
    answer = solve_here(problem, "as-many-as-possible")
    with pytest.raises(Broken):
        check(problem, changed(answer, plan=(None, 1, None), value=1))


@pytest.mark.parametrize("reading", ["once", "makespan", "as-many-as-possible"])
def test_an_answer_survives_being_written_down(reading):
    for problem in (SQUARE, build([[1], [2]])):
        answer = solve_here(problem, reading)
        assert decode(encode(answer)) == answer


def test_what_is_not_known_claims_nothing():
    check(SQUARE, Answer(Status.UNKNOWN, "once", reason="the time limit"))
    assert isinstance(Explanation((), False).rows, tuple)
