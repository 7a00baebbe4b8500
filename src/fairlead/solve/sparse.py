"""One task per resource at least cost, for thousands of each: few pairs first, proven on all.

Most pairs of a large matrix are far too dear to matter. lapx solves the cheapest few of each row
exactly; its prices are then checked against every pair. Pairs that they do not explain join, until
all are explained: the plan is then optimal for the whole matrix, whatever was left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairlead.solve.duals import Ints, lowered, sparse_duals, starts
from fairlead.solve.extra import need
from fairlead.solve.problem import FORBIDDEN, Matrix

SAMPLE = 192  # columns looked at to guess what is cheap for a row
CHUNK_CELLS = 200_000  # so many cells at a time stay in the processor's cache
JOIN_MAX = 16  # pairs of a row that join in a round
ROUNDS_MAX = 8
UNLIKE = 4  # when more than a quarter of the rows lack pairs, take them all
FLOAT_EXACT = 2**53  # lapx computes in floats, exact for integers below this


def exact_in_floats(low: int, high: int, shape: tuple[int, int]) -> bool:
    """Whether every sum that lapx can form of costs from `low` to `high` is an exact float."""
    return (high - low + 1) * 4 * sum(shape) < FLOAT_EXACT


def assign(
    cost: Matrix, mate: Ints | None = None, low: int | None = None
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the resource of each task, the prices u and v, and the tight pairs (flat, ascending).

    There are at least as many resources as tasks; `mate` is some plan, needed when pairs are
    forbidden. O(n m) per round; rounds are few unless all rows rank the resources alike.
    """
    tasks, resources = cost.shape
    own = np.arange(tasks) if mate is None else mate
    flat = _cheap(cost, own)
    low = int(cost.min()) if low is None else low
    for _ in range(ROUNDS_MAX):
        weight = cost.ravel()[flat]
        plan = _match(cost.shape, flat, weight, low)
        u, v = sparse_duals((tasks, resources), flat, weight, plan)
        join, tight = _unexplained(cost, u, v)
        if not join.size:
            return plan, u, v, tight
        if len(np.unique(join // resources)) * UNLIKE > tasks:
            break
        flat = np.sort(np.concatenate([flat, join]), kind="stable")
    plan = _whole(cost)
    base = cost[np.arange(tasks), plan]
    v = lowered(cost, base, plan, np.zeros(resources, np.int64))
    u = base - v[plan]
    return plan, u, v, _unexplained(cost, u, v)[1]


def _whole(cost: Matrix) -> Ints:
    """Return the cheapest plan by lapx on every pair: for rows that rank the resources alike."""
    tasks, resources = cost.shape
    columns = np.arange(resources)
    if resources > 2 * tasks:  # no row needs more than its n cheapest
        nearest = np.argpartition(cost, tasks, axis=1)[:, :tasks]
        columns = np.unique(nearest)
    part = cost[:, columns]
    given = (part - part.min()).astype(np.float64)
    given[part == FORBIDDEN] = np.inf
    solve = need("lap", "lapx").lapjvs
    found, _ = solve(
        given,
        return_cost=False,
        jvx_like=False,
        prefer_float32=False,
    )
    plan: Ints = columns[found]
    return plan


def _cheap(cost: Matrix, own: Ints) -> Ints:
    """Return pairs among the cheapest of their row, guessed from a sample, and those of `own`."""
    tasks, resources = cost.shape
    wanted = 6 + 2 * max(tasks, 2).bit_length()
    sample = cost[:, :: max(1, resources // SAMPLE)]
    place = min(sample.shape[1] - 1, wanted * sample.shape[1] // resources)
    limit = np.partition(sample, place, axis=1)[:, place]
    limit = np.minimum(limit, FORBIDDEN - 1)
    parts = []
    most = 8 * wanted
    step = max(1, CHUNK_CELLS // resources)
    for begin in range(0, tasks, step):
        chosen = cost[begin : begin + step] <= limit[begin : begin + step, None]
        rows = np.arange(len(chosen))
        if np.count_nonzero(chosen) > most * len(chosen):  # many equal numbers: any of them will do
            chosen &= _some_of(chosen.shape, most, begin)
        chosen[rows, own[begin : begin + step]] = True
        parts.append(np.flatnonzero(chosen) + begin * resources)
    return np.concatenate(parts)


def _some_of(shape: tuple[int, int], count: int, begin: int) -> npt.NDArray[np.bool_]:
    """Return a mask of so many columns in each row, not the same ones in every row."""
    rows, resources = shape
    around = np.arange(2 * resources) % resources < count
    begins = (np.arange(rows) + begin) * -7 % resources
    return np.lib.stride_tricks.sliding_window_view(around, resources)[begins]


def _match(shape: tuple[int, int], flat: Ints, weight: Ints, low: int) -> Ints:
    """Return the cheapest plan on the given pairs, by lapx."""
    lapmod = need("lap", "lapx").lapmod
    tasks, resources = shape
    row, column = np.divmod(flat, resources)
    cost = (weight - low).astype(np.float64)
    if tasks == resources:
        plan, _ = lapmod(
            tasks, cost, starts(row, tasks), column.astype(np.int32), return_cost=False
        )
        return np.asarray(plan, np.int64)
    used = np.flatnonzero(np.bincount(column, minlength=resources))
    if len(used) == tasks:
        start = starts(row, tasks)
        column = np.searchsorted(used, column)
        plan, _ = lapmod(tasks, cost, start, column.astype(np.int32), return_cost=False)
        whole: Ints = used[plan]
        return whole
    # lapx wants as many rows as columns. Row n + j lets the resource j idle (column j), or when a
    # task i has it, takes the column q + i that the task leaves idle.
    local, count = np.searchsorted(used, column), len(used)
    order = np.argsort(local, kind="stable")
    mirror_row = np.concatenate([local, np.arange(count)])
    mirror_column = np.concatenate([count + row, np.arange(count)])
    order = np.lexsort((mirror_column, mirror_row))
    rows = np.concatenate([row, tasks + mirror_row[order]])
    columns = np.concatenate([local, mirror_column[order]])
    start = starts(rows, tasks + count)
    costs = np.concatenate([cost, np.zeros(len(order))])
    plan, _ = lapmod(*(tasks + count, costs, start, columns.astype(np.int32)), return_cost=False)
    part: Ints = used[plan[:tasks]]
    return part


def _unexplained(cost: Matrix, u: Ints, v: Ints) -> tuple[Ints, Ints]:
    """Return the pairs that cost less than their prices (a few per row), and those just as much."""
    tasks, resources = cost.shape
    join: list[npt.NDArray[np.int64]] = []
    tight: list[npt.NDArray[np.int64]] = []
    step = max(1, CHUNK_CELLS // resources)
    for begin in range(0, tasks, step):
        left = cost[begin : begin + step] - v
        due = u[begin : begin + step]
        low = left.min(axis=1) < due
        if low.any():
            rows = np.flatnonzero(low)
            part = left[rows]
            if resources > JOIN_MAX:
                nearest = np.argpartition(part, JOIN_MAX, axis=1)[:, :JOIN_MAX]
            else:
                nearest = np.broadcast_to(np.arange(resources), part.shape)
            bad = np.take_along_axis(part, nearest, axis=1) < due[rows][:, None]
            at = (begin + rows)[:, None] * resources + nearest
            join.append(at[bad])
        elif not join:
            tight.append(np.flatnonzero(left == due[:, None]) + begin * resources)
    if join:
        return np.sort(np.concatenate(join)), np.empty(0, np.int64)
    return np.empty(0, np.int64), np.concatenate(tight)
