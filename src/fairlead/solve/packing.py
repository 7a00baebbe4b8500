"""Sizes that do not fit: the largest part that does, and a smallest contradiction of the rules."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairlead.solve import mip
from fairlead.solve.duals import Ints
from fairlead.solve.mip import Clock, Floats, Model
from fairlead.solve.problem import FORBIDDEN, Matrix


class Most(NamedTuple):
    """As many tasks as possible (-1 left out), then the cheapest; `proven`: both are proven."""

    plan: Ints
    proven: bool


def most(cost: Matrix, size: Matrix, capacity: Ints, clock: Clock) -> Most:
    """Return the plan that places the most tasks, of those the cheapest, as far as time allows."""
    cost = np.where(size > capacity, FORBIDDEN, cost)
    plan = _greedy(cost, size, capacity)
    flat = np.flatnonzero(cost != FORBIDDEN)
    if not len(flat):
        return Most(plan, True)
    proven = True
    lost = int((plan < 0).sum())
    for worth in (None, cost.ravel()[flat].astype(np.float64)):
        model = _program(cost.shape, flat, size, capacity, worth, lost)
        result = mip.solve(model, clock)
        proven = proven and result.status == "optimal"
        if result.x is None:
            continue
        found = _plan_of(cost.shape, flat, result.x)
        if _keeps(found, size, capacity) and (found < 0).sum() <= lost:
            plan, lost = found, int((found < 0).sum())
    return Most(plan, proven)


def contradiction(
    cost: Matrix, size: Matrix, capacity: Ints, clock: Clock
) -> tuple[list[int], list[int], bool]:
    """Return tasks and capacities that contradict each other, and whether none can be spared.

    Deletion: rules are dropped one after another, and stay dropped while no plan exists (Chinneck
    and Dravnieks 1991). Rules in blocks first, so that most go in few steps.
    """
    tasks, resources = cost.shape
    alone = np.flatnonzero(np.where(size > capacity, FORBIDDEN, cost).min(axis=1) == FORBIDDEN)
    if len(alone):
        task = int(alone[0])
        return [task], np.flatnonzero(cost[task] != FORBIDDEN).tolist(), True
    rules = [*range(tasks, tasks + resources), *range(tasks)]
    kept = list(rules)
    block = max(1, len(rules) // 4)
    while True:
        for start in range(0, len(rules), block):
            part = set(rules[start : start + block])
            left = [each for each in kept if each not in part]
            if len(left) == len(kept):
                continue
            fits = _fits(cost, size, capacity, set(left), clock)
            if fits is None:
                return _split(kept, tasks, irreducible=False)
            if not fits:
                kept = left
        if block == 1:
            return _split(kept, tasks, irreducible=True)
        rules, block = [each for each in rules if each in set(kept)], max(1, block // 4)


def _split(kept: list[int], tasks: int, *, irreducible: bool) -> tuple[list[int], list[int], bool]:
    kept = sorted(kept)
    resources = [each - tasks for each in kept if each >= tasks]
    return [each for each in kept if each < tasks], resources, irreducible


def _fits(cost: Matrix, size: Matrix, capacity: Ints, rules: set[int], clock: Clock) -> bool | None:
    """Whether a plan exists that keeps only these rules; None if the time is up."""
    tasks, resources = cost.shape
    rows = [task for task in range(tasks) if task in rules]
    open_ = np.array([tasks + each not in rules for each in range(resources)])
    allowed = cost != FORBIDDEN
    # Who may go where there is no limit does; the others must share what is limited.
    rows = [task for task in rows if not np.any(allowed[task] & open_)]
    if not rows:
        return True
    flat = np.flatnonzero((allowed & (size <= capacity))[rows])
    part = size[rows]
    model = _program(part.shape, flat, part, capacity, None, 0)
    result = mip.solve(model, clock)
    if result.status == "limit" and result.x is None:
        return None
    return result.status != "infeasible"


def _greedy(cost: Matrix, size: Matrix, capacity: Ints) -> Ints:
    """Return a plan at once: the smallest first, where it takes the least of what is left."""
    plan = np.full(len(cost), -1, np.int64)
    left = capacity.astype(np.int64).copy()
    least = np.where(cost == FORBIDDEN, FORBIDDEN, size).min(axis=1)
    for task in np.argsort(least, kind="stable"):
        fits = (cost[task] != FORBIDDEN) & (size[task] <= left)
        if fits.any():
            plan[task] = np.where(fits, size[task], FORBIDDEN).argmin()
            left[plan[task]] -= size[task, plan[task]]
    return plan


def _keeps(plan: Ints, size: Matrix, capacity: Ints) -> bool:
    loads = np.zeros(len(capacity), np.int64)
    here = np.flatnonzero(plan >= 0)
    np.add.at(loads, plan[here], size[here, plan[here]])
    return bool(np.all(loads <= capacity))


def _plan_of(shape: tuple[int, int], flat: Ints, x: Floats) -> Ints:
    chosen = flat[x[: len(flat)] > 0.5]
    plan = np.full(shape[0], -1, np.int64)
    plan[chosen // shape[1]] = chosen % shape[1]
    return plan


def _program(
    shape: tuple[int, int],
    flat: Ints,
    size: Matrix,
    capacity: Ints,
    worth: Floats | None,
    lost: int,
) -> Model:
    """Return the program with at most `lost` tasks left out: fewest left out, or least `worth`."""
    tasks, resources = shape
    row, column = np.divmod(flat, resources)
    count = len(flat)
    index = np.empty(2 * count, np.int64)
    index[0::2], index[1::2] = row, tasks + column
    value = np.ones(2 * count)
    value[1::2] = size.ravel()[flat]
    out = np.empty(2 * tasks, np.int64)
    out[0::2], out[1::2] = np.arange(tasks), tasks + resources
    lack = np.full(tasks, 1.0 if worth is None else 0.0)
    return Model(
        cost=np.concatenate([np.zeros(count) if worth is None else worth, lack]),
        low=np.zeros(count + tasks),
        high=np.ones(count + tasks),
        row_low=np.concatenate([np.ones(tasks), np.full(resources + 1, -np.inf)]),
        row_high=np.concatenate([np.ones(tasks), capacity.astype(np.float64), [float(lost)]]),
        start=np.arange(0, 2 * (count + tasks) + 1, 2),
        rows=np.concatenate([index, out]),
        value=np.concatenate([value, np.ones(2 * tasks)]),
        integer=True,
    )
