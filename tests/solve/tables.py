"""Small problems, and their answers by trying every plan."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from hypothesis import strategies as st

Costs = Sequence[Sequence[int | None]]


def matrices(
    tasks: int = 5,
    resources: int = 5,
    low: int = -9,
    high: int = 30,
    forbidden: bool = True,
    square: bool = False,
) -> st.SearchStrategy[list[list[int | None]]]:
    """Matrices of costs, None for a forbidden pair; often with many equal costs."""

    def rows(shape: tuple[int, int, int]) -> Any:
        count, width, top = shape
        cell: Any = st.integers(low, top)
        if forbidden:
            cell = st.one_of(cell, cell, cell, st.none())
        row = st.lists(cell, min_size=width, max_size=width)
        return st.lists(row, min_size=count, max_size=count)

    top = st.sampled_from([low + 1, low + 4, high])
    count = st.integers(1, tasks)
    if square:
        return count.flatmap(lambda n: st.tuples(st.just(n), st.just(n), top)).flatmap(rows)
    return st.tuples(count, st.integers(1, resources), top).flatmap(rows)


def cost_of(cost: Costs, plan: Sequence[int | None], penalty: int = 0) -> int | None:
    """Return what a plan costs, None if it uses a forbidden pair."""
    total = 0
    for row, resource in zip(cost, plan, strict=True):
        found = penalty if resource is None else row[resource]
        if found is None:
            return None
        total += found
    return total


def every_plan(cost: Costs, capacity: Sequence[int], left_out: bool = False) -> Any:
    """Yield every plan that keeps the capacities; a task left out comes after every resource."""
    choices: list[int | None] = [*range(len(cost[0])), *([None] if left_out else [])]
    for plan in product(choices, repeat=len(cost)):
        if all(plan.count(each) <= most for each, most in enumerate(capacity)):
            yield plan


def cheapest(
    cost: Costs, capacity: Sequence[int], penalty: int | None = None
) -> tuple[int, tuple[int | None, ...]] | None:
    """Return the least cost and the first plan that has it."""
    best = None
    for plan in every_plan(cost, capacity, penalty is not None):
        value = cost_of(cost, plan, penalty or 0)
        if value is not None and (best is None or value < best[0]):
            best = value, plan
    return best


def placeable(cost: Costs, capacity: Sequence[int]) -> int:
    """Return how many tasks can be placed at once."""
    best = 0
    for plan in every_plan(cost, capacity, left_out=True):
        if cost_of(cost, plan) is not None:
            best = max(best, sum(each is not None for each in plan))
    return best


def schedules(times: Costs) -> tuple[int, int] | None:
    """Return the least makespan and the least sum of completion times."""
    spans, sums = [], []
    for plan in product(range(len(times[0])), repeat=len(times)):
        if cost_of(times, plan) is None:
            continue
        span = total = 0
        for machine in range(len(times[0])):
            here = sorted(times[i][machine] for i, j in enumerate(plan) if j == machine)
            total += sum(p * (len(here) - n) for n, p in enumerate(here))
            span = max(span, sum(here))
        spans.append(span)
        sums.append(total)
    return (min(spans), min(sums)) if spans else None
