"""Generalised assignment: tasks of different sizes into capacities, at the least cost.

NP-hard. The linear relaxation is solved over the pairs that matter (column generation); its prices
give a lower bound that is then recomputed in exact fractions, so that no rounding of a solver is
believed: for any prices v <= 0 no plan is below sum_i min_j (c_ij - v_j s_ij) + sum_j v_j cap_j.
A plan comes from the few pairs near the prices; pairs that cannot be in a better one are dropped
for good (reduced cost beyond the gap), and what is left is searched to the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.solve import mip
from fairlead.solve.duals import Ints
from fairlead.solve.mip import Clock, Floats, Model
from fairlead.solve.problem import FORBIDDEN, Matrix

PRICE_UNIT = 2**20  # prices are rounded to this part of a unit, once, before the exact bound
FIRST = 8  # pairs of a task that the relaxation begins with
JOIN = 4  # pairs of a task that join in a round
NEAR = 6  # pairs of a task near the prices, among which a plan is looked for

Found = Callable[[Ints, Fraction | None, tuple[Fraction, ...]], None]


class Packed(NamedTuple):
    """`status`: optimal, feasible, infeasible, unknown; the bound holds whatever the status."""

    status: str
    plan: Ints | None
    bound: Fraction | None
    prices: tuple[Fraction, ...]
    search: int | None  # the bound of the search tree, where it is above the other


class Prices(NamedTuple):
    """Prices of capacity, and the lower bound that they prove."""

    bound: Fraction
    v: tuple[Fraction, ...]
    reduced: Floats  # c_ij - v_j s_ij, infinite where the pair is not allowed


def exact_bound(cost: Matrix, size: Matrix, capacity: Ints, v: tuple[Fraction, ...]) -> Fraction:
    """Return the lower bound that prices v <= 0 prove, in exact arithmetic."""
    unit = math.lcm(*(each.denominator for each in v))
    whole = np.array([int(each * unit) for each in v], dtype=object)
    most = max(abs(int(each)) for each in whole) * max(1, int(size.max()))
    allowed = cost != FORBIDDEN
    top = int(np.abs(cost[allowed]).max()) * unit
    kind: Any = np.int64 if most + top < 2**61 else object
    priced: npt.NDArray[Any] = cost.astype(kind) * unit - size.astype(kind) * whole.astype(kind)
    priced[~allowed] = (most + top) * 2
    total = sum(int(each) for each in priced.min(axis=1))
    total += sum(int(price) * int(room) for price, room in zip(whole, capacity, strict=True))
    return Fraction(total, unit)


def pack(
    cost: Matrix,
    size: Matrix,
    capacity: Ints,
    clock: Clock,
    *,
    gap: float = 0.0,
    found: Found | None = None,
) -> Packed:
    """Return the cheapest plan that keeps the capacities, or the best found with its bound.

    `gap`: a plan this close to its bound (relative) is good enough. `found` is told of each plan
    that is better than those before.
    """
    cost = np.where(size > capacity, FORBIDDEN, cost)
    if np.any(cost.min(axis=1) == FORBIDDEN):
        return Packed("infeasible", None, None, (), None)
    prices = relax(cost, size, capacity, clock)
    if prices is None:
        if not clock.over():
            return Packed("infeasible", None, None, (), None)
        return Packed("unknown", None, None, (), None)
    best = _Best(cost, prices, gap, found)
    for near in (NEAR, 4 * NEAR):
        if best.enough() or clock.over() or near >= cost.shape[1]:
            break
        _search(cost, size, capacity, _near(prices, near), clock, best)
        if best.plan is not None:
            break
    if best.enough() or clock.over():
        return best.answer(None)
    pairs = np.isfinite(prices.reduced)
    if best.plan is not None:
        slack = float(best.value - prices.bound)
        over = prices.reduced - prices.reduced.min(axis=1)[:, None]
        pairs &= over <= slack + 1e-6 * (1 + abs(slack))
        pairs[np.arange(len(cost)), best.plan] = True
    result = _search(cost, size, capacity, pairs, clock, best)
    if result.status == "infeasible" and best.plan is None:
        return Packed("infeasible", None, prices.bound, prices.v, None)
    # A bound of HiGHS is a float: rounded down, it is believed only where costs are integers.
    proven = None if math.isinf(result.bound) else math.ceil(result.bound - 1e-6)
    return best.answer(proven)


class _Best:
    """The best plan so far."""

    def __init__(self, cost: Matrix, prices: Prices, gap: float, found: Found | None) -> None:
        self._cost, self._prices, self._gap, self._found = cost, prices, gap, found
        self.plan: Ints | None = None
        self.value = 0

    def offer(self, plan: Ints) -> None:
        """Keep a plan if it is better."""
        value = int(self._cost[np.arange(len(plan)), plan].sum())
        if self.plan is None or value < self.value:
            self.plan, self.value = plan, value
            if self._found is not None:
                self._found(plan, self._prices.bound, self._prices.v)

    def enough(self) -> bool:
        """Whether the plan is as close to the bound as asked."""
        if self.plan is None:
            return False
        bound = math.ceil(self._prices.bound)
        return self.value - bound <= self._gap * abs(bound)

    def answer(self, search: int | None) -> Packed:
        """Return the answer, given the bound of a search over every pair that matters."""
        bound, v = self._prices.bound, self._prices.v
        if self.plan is None:
            return Packed("unknown", None, bound, v, None)
        if search is not None:
            search = min(search, self.value)
            if search <= math.ceil(bound):
                search = None
        top = math.ceil(bound) if search is None else search
        status = "optimal" if self.value <= top else "feasible"
        return Packed(status, self.plan, bound, v, search)


def relax(cost: Matrix, size: Matrix, capacity: Ints, clock: Clock) -> Prices | None:
    """Return prices from the linear relaxation; None if it has no solution (or the time is up)."""
    tasks, resources = cost.shape
    allowed = cost != FORBIDDEN
    real = np.where(allowed, cost, 0).astype(np.float64)
    real[~allowed] = np.inf
    count = min(FIRST, resources)
    pairs = np.zeros(cost.shape, np.bool_)
    for guide in (real, np.where(allowed, size, np.inf)):
        nearest = np.argpartition(guide, count - 1, axis=1)[:, :count]
        np.put_along_axis(pairs, nearest, True, axis=1)
    pairs &= allowed
    top = float(np.abs(cost[allowed]).max())
    v = np.zeros(resources)
    for missing in (2 * top + 1, 0.0):
        # With `missing` = 0 only the lack counts: prices that prove that nothing fits.
        while True:
            flat = np.flatnonzero(pairs)
            result = mip.solve(_relaxation(cost, size, capacity, flat, missing), clock)
            if result.status != "optimal" or result.x is None or result.row_duals is None:
                return None if v is None or not v.any() else _prices(cost, size, capacity, v)
            u, v = result.row_duals[:tasks], np.minimum(result.row_duals[tasks:], 0)
            guide = real if missing else np.where(allowed, 0.0, np.inf)
            left = guide - size * v - u[:, None]
            left[pairs] = np.inf
            bad = left < -1e-7 * (1 + top)
            if not bad.any():
                break
            nearest = np.argpartition(left, min(JOIN, resources - 1), axis=1)[:, :JOIN]
            join = np.zeros_like(pairs)
            np.put_along_axis(join, nearest, True, axis=1)
            pairs |= join & bad
        if result.x[len(flat) :].sum() < 1e-6 * tasks:
            if missing:
                return _prices(cost, size, capacity, v)
            # It fits after all, only dearer than the price of a lack: let every pair in.
            return _whole(cost, size, capacity, clock)
    return None


def _whole(cost: Matrix, size: Matrix, capacity: Ints, clock: Clock) -> Prices | None:
    flat = np.flatnonzero(cost != FORBIDDEN)
    result = mip.solve(_relaxation(cost, size, capacity, flat, None), clock)
    if result.status != "optimal" or result.row_duals is None:
        return None
    return _prices(cost, size, capacity, np.minimum(result.row_duals[len(cost) :], 0))


def _prices(cost: Matrix, size: Matrix, capacity: Ints, v: Floats) -> Prices:
    near = [Fraction(float(each)).limit_denominator(1000) for each in v]
    rough = tuple(Fraction(round(float(each) * PRICE_UNIT), PRICE_UNIT) for each in v)
    bound, chosen = exact_bound(cost, size, capacity, rough), rough
    if math.lcm(*(each.denominator for each in near)) < PRICE_UNIT:  # perhaps the true fractions
        other = exact_bound(cost, size, capacity, tuple(near))
        if other > bound:
            bound, chosen = other, tuple(near)
    reduced = np.where(cost == FORBIDDEN, 0, cost) - size * np.array([float(x) for x in chosen])
    reduced[cost == FORBIDDEN] = np.inf
    return Prices(bound, chosen, reduced)


def _near(prices: Prices, count: int) -> npt.NDArray[np.bool_]:
    pairs = np.zeros(prices.reduced.shape, np.bool_)
    nearest = np.argpartition(prices.reduced, count, axis=1)[:, :count]
    np.put_along_axis(pairs, nearest, True, axis=1)
    return pairs & np.isfinite(prices.reduced)


def _search(
    cost: Matrix,
    size: Matrix,
    capacity: Ints,
    pairs: npt.NDArray[np.bool_],
    clock: Clock,
    best: _Best,
) -> mip.Result:
    flat = np.flatnonzero(pairs)
    row, column = np.divmod(flat, cost.shape[1])

    def take(x: Floats) -> None:
        chosen = x[: len(flat)] > 0.5
        plan = np.full(len(cost), -1, np.int64)
        plan[row[chosen]] = column[chosen]
        loads = np.zeros(cost.shape[1], np.int64)
        if chosen.sum() == len(cost) and plan.min() >= 0:
            np.add.at(loads, plan, size[np.arange(len(cost)), plan])
            if np.all(loads <= capacity):
                best.offer(plan)

    model = _relaxation(cost, size, capacity, flat, None)._replace(integer=True)
    result = mip.solve(model, clock, gap=best._gap, found=take)
    if result.x is not None:
        take(result.x)
    return result


def _relaxation(
    cost: Matrix, size: Matrix, capacity: Ints, flat: Ints, missing: float | None
) -> Model:
    """Return the program over some pairs; `missing` prices a task without a place.

    With `missing` = 0 the pairs cost nothing and a lack costs one.
    """
    tasks, resources = cost.shape
    row, column = np.divmod(flat, resources)
    count = len(flat)
    extra = 0 if missing is None else tasks
    index = np.empty(2 * count, np.int64)
    index[0::2], index[1::2] = row, tasks + column
    value = np.ones(2 * count)
    value[1::2] = size.ravel()[flat]
    worth = np.zeros(count) if missing == 0 else cost.ravel()[flat].astype(np.float64)
    return Model(
        cost=np.concatenate([worth, np.full(extra, missing or 1.0)]),
        low=np.zeros(count + extra),
        high=np.ones(count + extra),
        row_low=np.concatenate([np.ones(tasks), np.full(resources, -np.inf)]),
        row_high=np.concatenate([np.ones(tasks), capacity.astype(np.float64)]),
        start=np.concatenate([np.arange(0, 2 * count, 2), 2 * count + np.arange(extra + 1)]),
        rows=np.concatenate([index, np.arange(extra)]),
        value=np.concatenate([value, np.ones(extra)]),
    )
