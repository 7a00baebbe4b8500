"""Prices that prove a plan of least cost: u_i + v_j <= c_ij, v <= 0, equality where it assigns.

Of all such prices these are the ones with the largest v, each resource at the least reward that
keeps the plan: shortest paths from zero through the moves that the plan leaves open.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.solve.problem import FORBIDDEN, Matrix

CHUNK_CELLS = 200_000  # so many cells at a time stay in the processor's cache
NEAR = 6  # pairs of a row, at the mean, that are short steps
FEW = 8  # rows from which on a loop is faster than numpy
Ints = npt.NDArray[np.int64]


class NotOptimal(AssertionError):
    """The plan can be improved, so nothing can prove it."""


def starts(row: Ints, rows: int) -> npt.NDArray[np.int32]:
    """Return where each row begins among pairs that are sorted by row, and the end."""
    found = np.zeros(rows + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=rows), out=found[1:])
    return found


def sparse_duals(shape: tuple[int, int], flat: Ints, weight: Ints, plan: Ints) -> tuple[Ints, Ints]:
    """Return u and v over the pairs `flat` (ascending, row * m + column) that cost `weight`.

    Each resource takes one task. Raises NotOptimal if the plan is not the cheapest on these pairs.
    """
    tasks, resources = shape
    row, column = np.divmod(flat, resources)
    start = starts(row, tasks)
    base = np.empty(tasks, np.int64)
    own = column == plan[row]
    base[row[own]] = weight[own]
    step = weight - base[row]
    holder = np.full(resources, -1, np.int64)
    holder[plan] = np.arange(tasks)
    v = np.zeros(resources, np.int64)
    # No shortest path is longer than all of its steps; one that is goes round in a circle.
    walk = _Walk(plan, holder, v, min(0, int(step.min())) * (tasks + 1))
    active = np.arange(tasks)
    if len(flat) > 2 * NEAR * tasks:
        # Most steps are too long for a shortest path: the short ones first, then what is left.
        short = step <= np.partition(step, NEAR * tasks)[NEAR * tasks]
        _settle(_Pairs(starts(row[short], tasks), column[short], step[short]), walk, active)
        late = np.zeros(tasks, np.bool_)
        late[row[step + v[plan[row]] < v[column]]] = True
        active = np.flatnonzero(late)
    _settle(_Pairs(start, column, step), walk, active)
    return base - v[plan], v


class _Pairs(NamedTuple):
    """Pairs by row: where a row's begin, the resource of each, the step from the row's own."""

    start: npt.NDArray[np.int32]
    column: Ints
    step: Ints


class _Walk(NamedTuple):
    """Who stands where, and the prices so far; below `floor` there is no price."""

    plan: Ints
    holder: Ints
    v: Ints
    floor: int


def _settle(pairs: _Pairs, walk: _Walk, active: Ints) -> None:
    """Lower the prices until they explain all pairs, beginning with those of some rows."""
    start, column, step = pairs
    plan, holder, v, floor = walk
    while len(active) > FEW:
        count = start[active + 1] - start[active]
        at = np.repeat(start[active] - (np.cumsum(count) - count), count)
        at += np.arange(len(at))
        reach = step[at] + np.repeat(v[plan[active]], count)
        target = column[at]
        better = np.flatnonzero(reach < v[target])
        target = target[better]
        np.minimum.at(v, target, reach[better])
        changed = np.zeros(len(v), np.bool_)
        changed[target] = True
        active = holder[changed]
        if np.any(active < 0) or int(v.min()) < floor:
            raise NotOptimal("the plan is not the cheapest")
    _one_by_one(pairs, walk, active.tolist())


def _one_by_one(pairs: _Pairs, walk: _Walk, waiting: list[int]) -> None:
    """Lower the prices a task at a time: for the last few."""
    start, column, step = pairs
    plan, holder, v, floor = walk
    inside = set(waiting)
    queue = deque(waiting)
    while queue:
        task = queue.popleft()
        inside.discard(task)
        begin, end = int(start[task]), int(start[task + 1])
        target = column[begin:end]
        reach = step[begin:end] + v[plan[task]]
        for each in np.flatnonzero(reach < v[target]).tolist():
            resource = int(target[each])
            v[resource] = reach[each]
            follower = int(holder[resource])
            if follower < 0 or reach[each] < floor:
                raise NotOptimal("the plan is not the cheapest")
            if follower not in inside:
                inside.add(follower)
                queue.append(follower)


def lowered(cost: Matrix, base: Ints, plan: Ints, v: Ints) -> Ints:
    """Return the largest prices below `v` that explain every pair of a plan, one task per resource.

    `base` is what each task pays. Raises NotOptimal if there are none.
    """
    tasks, resources = cost.shape
    holder = np.full(resources, -1, np.int64)
    holder[plan] = np.arange(tasks)
    step = max(1, CHUNK_CELLS // resources)
    v = v.copy()
    active = np.arange(tasks)
    for _ in range(tasks + 2):
        before = v.copy()
        for begin in range(0, len(active), step):
            rows = active[begin : begin + step]
            due = base[rows] - v[plan[rows]]
            np.minimum(v, (cost[rows] - due[:, None]).min(axis=0), out=v)
        changed = v < before
        if not changed.any():
            return v
        if np.any(changed & (holder < 0)):
            break
        active = holder[changed]
    raise NotOptimal("the plan is not the cheapest")


def dense_duals(cost: Matrix, plan: Ints, capacity: Ints) -> tuple[Ints, Ints]:
    """Return u and v where resources take several tasks; raises NotOptimal."""
    tasks, resources = cost.shape
    used = np.bincount(plan, minlength=resources)
    base = cost[np.arange(tasks), plan]
    moves = np.full((resources, resources), FORBIDDEN, np.int64)
    for resource in np.flatnonzero(used):
        here = plan == resource
        rows = cost[here]
        best = np.where(rows == FORBIDDEN, FORBIDDEN, rows - base[here][:, None]).min(axis=0)
        moves[resource] = best
    v = np.zeros(resources, np.int64)
    for _ in range(resources + 2):
        reach = np.where(moves == FORBIDDEN, FORBIDDEN, moves + v[:, None]).min(axis=0)
        if np.all(reach >= v):
            if np.any(v[used < capacity] < 0):
                break
            return base - v[plan], v
        v = np.minimum(v, reach)
    raise NotOptimal("the plan is not the cheapest")
