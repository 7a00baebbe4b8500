"""Prices that prove a plan of least cost: u_i + v_j <= c_ij, v <= 0, equality where it assigns.

Of all such prices these are the ones with the largest v, each resource at the least reward that
keeps the plan: shortest paths from zero through the moves that the plan leaves open.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairlead.solve.problem import FORBIDDEN, Matrix

CHUNK_CELLS = 200_000  # so many cells at a time stay in the processor's cache
Ints = npt.NDArray[np.int64]


class NotOptimal(AssertionError):
    """The plan can be improved, so nothing can prove it."""


def sparse_duals(shape: tuple[int, int], flat: Ints, weight: Ints, plan: Ints) -> tuple[Ints, Ints]:
    """Return u and v over the pairs `flat` (ascending, row * m + column) that cost `weight`.

    Each resource takes one task. Raises NotOptimal if the plan is not the cheapest on these pairs.
    """
    tasks, resources = shape
    row, column = np.divmod(flat, resources)
    start = np.searchsorted(row, np.arange(tasks + 1))
    base = np.empty(tasks, np.int64)
    own = column == plan[row]
    base[row[own]] = weight[own]
    step = weight - base[row]
    holder = np.full(resources, -1, np.int64)
    holder[plan] = np.arange(tasks)
    v = np.zeros(resources, np.int64)
    active = np.arange(tasks)
    for _ in range(tasks + 2):
        count = start[active + 1] - start[active]
        pairs = np.repeat(start[active] - (np.cumsum(count) - count), count)
        pairs += np.arange(len(pairs))
        reach = step[pairs] + np.repeat(v[plan[active]], count)
        target = column[pairs]
        better = reach < v[target]
        if not better.any():
            return base - v[plan], v
        np.minimum.at(v, target[better], reach[better])
        changed = np.zeros(resources, np.bool_)
        changed[target[better]] = True
        if np.any(changed & (holder < 0)):
            break  # a resource nobody uses would be cheaper
        active = holder[changed]
    raise NotOptimal("the plan is not the cheapest")


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
