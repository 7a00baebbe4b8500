"""Checks every answer before it is given, from the problem alone: no code of a solver is used here.

A plan is added up again in Python's integers; a proof is one only if its prices explain every pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, lcm

import numpy as np

from fairlead.solve.answer import Answer, Status
from fairlead.solve.problem import FORBIDDEN, Problem

ORDERED = ("makespan", "sum-completion")


class Broken(AssertionError):
    """A solver gave an answer that breaks a rule, or claims what it does not prove."""


def check(problem: Problem, answer: Answer) -> None:
    """Raise Broken with everything that is wrong about an answer."""
    wrong = faults(problem, answer)
    if answer.counter_offer is not None:
        wrong += faults(problem, answer.counter_offer)
    if wrong:
        raise Broken("; ".join(wrong))


def faults(problem: Problem, answer: Answer) -> list[str]:
    """Return everything that is wrong about an answer, its counter-offer apart."""
    if not answer.plan:
        return [*_without(problem, answer)]
    wrong = [*_plan(problem, answer)]
    if not wrong:  # else there may be nothing to add up
        wrong = [*_value(problem, answer), *_proof(problem, answer)]
    return wrong


def _without(problem: Problem, answer: Answer) -> Iterator[str]:
    if answer.status in (Status.OPTIMAL, Status.FEASIBLE):
        yield f"{answer.status} without a plan"
    why = answer.explanation
    if answer.status is Status.INFEASIBLE and why is None:
        yield "infeasible without an explanation"
    if why is not None and why.shortage:
        may = {j for i in why.tasks for j in np.flatnonzero(problem.cost[i] != FORBIDDEN).tolist()}
        if may != set(why.resources):
            yield "the explanation names other resources than its tasks may use"
        places = sum(_places(problem, answer.reading, j) for j in why.resources)
        if len(why.tasks) - places != why.shortage:
            yield "the shortage is not what the tasks need less what there is"


def _places(problem: Problem, reading: str, resource: int) -> int:
    """Return how many tasks a resource takes, sizes apart."""
    if reading == "once":
        return 1
    if reading in ("capacity", "as-many-as-possible"):
        if problem.capacity is None:
            return 1
        return min(problem.capacity[resource], len(problem.tasks))
    return len(problem.tasks)


def _plan(problem: Problem, answer: Answer) -> Iterator[str]:
    tasks, resources = problem.shape
    if len(answer.plan) != tasks:
        yield f"{len(answer.plan)} places for {tasks} tasks"
        return
    place = np.array([-1 if each is None else each for each in answer.plan], np.int64)
    left = np.flatnonzero(place == -1).tolist()
    if left and answer.reading != "as-many-as-possible" and not _may_stay(problem, answer, left):
        yield f"task {left[0]} is left out"
    strange = np.flatnonzero((place < -1) | (place >= resources)).tolist()
    if strange:
        yield f"task {strange[0]} is on resource {place[strange[0]]}, which there is not"
        return
    here = np.flatnonzero(place >= 0)
    place = place[here]
    forbidden = np.flatnonzero(problem.cost[here, place] >= FORBIDDEN).tolist()
    for each in forbidden:
        yield f"task {here[each]} may not be on resource {place[each]}"
    taken = np.bincount(place, minlength=resources).tolist()
    loads = [0] * resources
    if problem.size is not None:
        for resource, size in zip(place.tolist(), problem.size[here, place].tolist(), strict=True):
            loads[resource] += size
    for resource, count in enumerate(taken):
        if problem.size is not None and answer.reading in ("capacity", "as-many-as-possible"):
            if loads[resource] > problem.capacity[resource]:  # type: ignore[index]
                yield f"resource {resource} holds more than its capacity"
        elif count and count > _places(problem, answer.reading, resource):
            yield f"resource {resource} has {count} tasks"
    if answer.orders or answer.reading in ORDERED:
        yield from _orders(answer, resources)


def _may_stay(problem: Problem, answer: Answer, left: list[int]) -> bool:
    """Whether a task may be left out: at a penalty, or because it has no resource at all."""
    if problem.penalty is not None and answer.reading in ("once", "capacity"):
        return True
    homeless = bool(np.all(problem.cost[left] == FORBIDDEN))
    return homeless and answer.reading not in ("once", "capacity")


def _orders(answer: Answer, resources: int) -> Iterator[str]:
    if len(answer.orders) != resources:
        yield "an order is missing"
    here: list[list[int]] = [[] for _ in range(resources)]
    for task, place in enumerate(answer.plan):
        if place is not None:
            here[place].append(task)
    for resource, order in enumerate(answer.orders[:resources]):
        if sorted(order) != here[resource]:
            yield f"the order on resource {resource} is not of the tasks that are there"


def _value(problem: Problem, answer: Answer) -> Iterator[str]:
    place = np.array([-1 if each is None else each for each in answer.plan], np.int64)
    paid = np.where(place >= 0, problem.cost[np.arange(len(place)), place], 0).tolist()
    if answer.reading in ORDERED:
        ends = []
        total = 0
        for order in answer.orders:
            now = 0
            for task in order:
                now += paid[task]
                total += now
            ends.append(now)
        found = max(ends) if answer.reading == "makespan" else total
    else:
        found = sum(paid)
        if answer.reading in ("once", "capacity"):
            found += (len(place) - answer.placed) * (problem.penalty or 0)
    if found != answer.value:
        yield f"the value is {found}, not {answer.value}"


def _proof(problem: Problem, answer: Answer) -> Iterator[str]:
    if answer.status is Status.INFEASIBLE or answer.value is None:
        yield "a plan with no value, or of a problem that has none"
        return
    if answer.bound is not None and answer.bound > answer.value:
        yield f"the bound {answer.bound} is above the value {answer.value}"
    if answer.duals is not None:
        yield from _duals(problem, answer)
    if answer.prices:
        proven = _priced(problem, answer)
        stated = answer.relaxed
        if answer.bound_name != "search" and (stated is None or answer.bound != ceil(stated)):
            yield "the bound is not what the prices prove"
        if stated is not None and proven < stated:
            yield f"the prices prove {proven}, not {stated}"
    if answer.status is Status.OPTIMAL and answer.duals is None:
        if answer.bound is None:
            yield "optimal without a bound"
        elif answer.bound != answer.value:
            yield f"called optimal, but the bound is {answer.bound} and the value {answer.value}"


def _duals(problem: Problem, answer: Answer) -> Iterator[str]:
    duals = answer.duals
    assert duals is not None
    tasks, resources = problem.shape
    u, v = np.array(duals.u, np.int64), np.array(duals.v, np.int64)
    if u.shape != (tasks,) or v.shape != (resources,):
        yield "prices are missing"
        return
    if np.any(v > 0) or duals.left_out > 0:
        yield "a resource has a price above zero"
    step = max(1, 200_000 // resources)
    for begin in range(0, tasks, step):
        part = problem.cost[begin : begin + step]
        if np.any((part - v).min(axis=1) < u[begin : begin + step]):
            yield "the prices do not explain every pair"
            break
    total = sum(duals.u)
    if answer.reading == "once":
        total += sum(duals.v)
    else:
        places = (_places(problem, answer.reading, j) for j in range(resources))
        total += sum(most * each for most, each in zip(places, duals.v, strict=True))
    if duals.left_out_most:
        cost = 0 if answer.reading == "as-many-as-possible" else problem.penalty or 0
        if np.any(u > cost - duals.left_out):
            yield "the prices do not explain who is left out"
        total += duals.left_out * duals.left_out_most
        if answer.reading == "as-many-as-possible" and len(answer.plan) - answer.placed > (
            duals.left_out_most
        ):
            yield "more are left out than need be"
    if total != answer.value:
        yield f"the prices prove {total}, not {answer.value}"


def _priced(problem: Problem, answer: Answer) -> Fraction:
    """Return the bound that the fractional prices prove, in Python's integers."""
    unit = lcm(*(each.denominator for each in answer.prices))
    whole = [int(each * unit) for each in answer.prices]
    total = 0
    if answer.reading == "makespan":
        longest = answer.longest
        if min(whole) < 0 or sum(answer.prices) > 1:
            return Fraction(-1)
        for row in problem.cost.tolist():
            least = [
                w * p for w, p in zip(whole, row, strict=True) if longest is None or p < longest
            ]
            if not least:
                return Fraction(longest or 0)
            total += min(least)
        proven = Fraction(total, unit)
        return proven if longest is None else min(proven, Fraction(longest))
    if problem.size is None or problem.capacity is None or max(whole) > 0:
        return Fraction(-(10**30))
    rows = zip(problem.cost.tolist(), problem.size.tolist(), strict=True)
    held = problem.capacity
    for costs, sizes in rows:
        least = [
            unit * c - w * s
            for c, s, w, most in zip(costs, sizes, whole, held, strict=True)
            if c < FORBIDDEN and s <= most
        ]
        if problem.penalty is not None:
            least.append(unit * problem.penalty)
        total += min(least)
    total += sum(w * most for w, most in zip(whole, held, strict=True))
    return Fraction(total, unit)
