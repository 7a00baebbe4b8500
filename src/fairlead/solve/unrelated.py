"""Tasks one after another on machines of different speed: R||sum C_j and R||C_max.

The sum of completion times is a matching: the k-th task from the end on a machine is waited for by
k tasks, itself included, so it costs k times its run time there (Horn 1973). The makespan is
NP-hard; its bound is the least T at which the tasks fit when they may be cut to pieces, each only
where all of it would take at most T. Rounding that schedule takes at most 2 T (Lenstra, Shmoys and
Tardos 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from fairlead.model.base import Misuse
from fairlead.solve import mip
from fairlead.solve.chains import masks_of
from fairlead.solve.duals import Ints
from fairlead.solve.gap import PRICE_UNIT, exact_bound
from fairlead.solve.lexicographic import smallest
from fairlead.solve.matching import matching
from fairlead.solve.mip import Clock, Floats, Model
from fairlead.solve.problem import FORBIDDEN, SUMS_MAX, Matrix
from fairlead.solve.unit import one_each

SHIFTS_MAX = 2_000
EXCHANGES_MAX = 2_000_000
BIG = 60_000  # pairs above which the bound is taken from one program


class Proof(NamedTuple):
    """A lower bound of the makespan that anybody can add up.

    A plan that uses no pair of `longest` or more takes at least sum_i min_j w_j p_ij over such
    pairs, for weights w >= 0 of sum 1; any other takes at least `longest`. The bound is the less of
    the two.
    """

    bound: Fraction
    weights: tuple[Fraction, ...]
    longest: int


class Makespan(NamedTuple):
    """A plan with a lower bound; `proven`: nothing is better."""

    plan: Ints
    value: int
    proof: Proof
    proven: bool


class _Relaxed(NamedTuple):
    proof: Fraction
    weights: tuple[Fraction, ...]
    x: Floats
    flat: Ints


def sum_completion(times: Matrix) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Return the order of tasks on each machine and the least sum of completion times.

    Every task has a machine. Ties go to the lexicographically smallest positions from the end.
    """
    tasks, machines = times.shape
    if int(times[times != FORBIDDEN].max()) * (tasks + 1) * (2 * tasks + machines) > SUMS_MAX:
        message = "the run times are too large for exact sums over so many tasks"
        raise Misuse(message, field="costs", hint="use other units, or fewer decimals")
    depth = min(tasks, 2 + 2 * -(-tasks // machines))
    while True:
        rank = np.tile(np.arange(1, depth + 1), machines)
        spread = np.repeat(times, depth, axis=1)
        forbidden = spread == FORBIDDEN
        cost = np.where(forbidden, FORBIDDEN, np.where(forbidden, 0, spread) * rank)
        found = one_each(cost)
        if found is not None:
            plan, _, v, tight = found
            used = np.zeros(machines * depth, np.bool_)
            used[plan] = True
            # A position nobody wanted proves that those beyond it, which cost more, are not wanted.
            if depth == tasks or not used[depth - 1 :: depth].any():
                break
        depth = min(tasks, 2 * depth)
    plan, _ = smallest(cost.shape, plan, v, tight, np.ones(machines * depth, np.int64))
    machine = plan // depth
    orders = []
    for each in range(machines):
        here = np.flatnonzero(machine == each)
        orders.append(tuple(sorted(here.tolist(), key=lambda i: (int(times[i, each]), i))))
    return tuple(orders), int(cost[np.arange(tasks), plan].sum())


def makespan(
    times: Matrix,
    clock: Clock,
    *,
    gap: float = 0.0,
    found: Callable[[Ints, Proof], None] | None = None,
) -> Makespan:
    """Return a plan of least makespan, or the best found; every task has a machine."""
    best = _longest_first(times)
    proof, fractions = _lower(times, _span(times, best), clock)

    def offer(plan: Ints) -> None:
        nonlocal best
        if _span(times, plan) < _span(times, best):
            best = plan
            if found is not None:
                found(best, proof)

    if found is not None:
        found(best, proof)
    if fractions is not None:
        offer(_rounded(times, *fractions))
    offer(_shifted(times, best))
    limit = math.ceil(proof.bound)
    status = ""
    if _span(times, best) - limit > gap * limit and not clock.over():
        status = _search(times, _span(times, best), limit, gap, clock, offer)
    value = _span(times, best)
    proven = value <= limit or (gap == 0 and status in ("optimal", "infeasible"))
    return Makespan(best, value, proof, proven)


def _span(times: Matrix, plan: Ints) -> int:
    loads = np.zeros(times.shape[1], np.int64)
    np.add.at(loads, plan, times[np.arange(len(plan)), plan])
    return int(loads.max())


def _longest_first(times: Matrix) -> Ints:
    """Return a plan at once: the task whose best time is longest first, where it ends earliest."""
    plan = np.empty(len(times), np.int64)
    loads = np.zeros(times.shape[1], np.int64)
    for task in np.argsort(-times.min(axis=1), kind="stable"):
        row = times[task]
        forbidden = row == FORBIDDEN
        ends = np.where(forbidden, FORBIDDEN, np.where(forbidden, 0, row) + loads)
        plan[task] = ends.argmin()
        loads[plan[task]] = ends[plan[task]]
    return plan


def _shifted(times: Matrix, plan: Ints) -> Ints:
    """Return a plan improved by moving tasks off the machine that ends last, or exchanging them."""
    plan = plan.copy()
    loads = np.zeros(times.shape[1], np.int64)
    np.add.at(loads, plan, times[np.arange(len(plan)), plan])
    for _ in range(SHIFTS_MAX):
        last = int(loads.argmax())
        here = np.flatnonzero(plan == last)
        if not len(here):
            break  # nothing takes any time
        own = times[here, last]
        target = np.where(times[here] == FORBIDDEN, FORBIDDEN, times[here] + loads)
        target[:, last] = FORBIDDEN
        after = np.maximum(target, (loads[last] - own)[:, None])
        best = int(after.argmin())
        task, machine = int(here[best // len(loads)]), best % len(loads)
        if after.ravel()[best] < loads[last]:
            plan[task] = machine
            loads[last] -= times[task, last]
            loads[machine] += times[task, machine]
            continue
        if not _exchange(times, plan, loads, last, here):
            break
    return plan


def _exchange(times: Matrix, plan: Ints, loads: Ints, last: int, here: Ints) -> bool:
    """Exchange a task of the machine that ends last with one elsewhere; False if none helps."""
    others = np.flatnonzero((plan != last) & (times[:, last] != FORBIDDEN))
    if not len(others) or len(here) * len(others) > EXCHANGES_MAX:
        return False
    there = plan[others]
    theirs, back = times[others, there], times[others, last]
    ours = times[here][:, there]
    target = np.where(ours == FORBIDDEN, FORBIDDEN, loads[there] - theirs + ours)
    after = np.maximum(target, loads[last] - times[here, last][:, None] + back)
    best = int(after.argmin())
    if after.ravel()[best] >= loads[last]:
        return False
    task, other = int(here[best // len(others)]), int(others[best % len(others)])
    machine = int(plan[other])
    loads[last] += times[other, last] - times[task, last]
    loads[machine] += times[task, machine] - times[other, machine]
    plan[task], plan[other] = machine, last
    return True


def _lower(times: Matrix, value: int, clock: Clock) -> tuple[Proof, tuple[Floats, Ints] | None]:
    """Return the least T of the relaxation with its proof, and its fractional plan.

    With the pairs up to levels[k] the relaxation takes L_k, which falls in k; the least T is the
    smallest max(levels[k], L_k), and stands where the two cross.
    """
    machines = times.shape[1]
    least = int(times.min(axis=1).max())
    levels = np.unique(times[(times >= least) & (times <= value)]).tolist()
    if times.size > BIG:
        levels = levels[-1:]
    known: dict[int, _Relaxed] = {}
    low, high = 0, len(levels)
    while low < high:
        middle = (low + high) // 2
        found = _relaxation(np.where(times <= levels[middle], times, FORBIDDEN), clock)
        if found is None:  # out of time: what is known of all pairs still holds
            break
        known[middle] = found
        if found.proof <= levels[middle]:
            high = middle
        else:
            low = middle + 1
    else:
        crossed = low < len(levels)
        plan = known.get(low) or known.get(low - 1)
        fractions = None if plan is None else (plan.x, plan.flat)
        longest = levels[low] if crossed else value + 1
        if low and low - 1 in known:
            below = known[low - 1]
            bound = min(Fraction(longest), below.proof)
            return Proof(max(bound, Fraction(least)), below.weights, longest), fractions
        return Proof(Fraction(least), (Fraction(0),) * machines, least), fractions
    return Proof(Fraction(least), (Fraction(0),) * machines, least), None


def _relaxation(times: Matrix, clock: Clock) -> _Relaxed | None:
    flat = np.flatnonzero(times != FORBIDDEN)
    result = mip.solve(_program(times, flat, 0.0, np.inf), clock)
    if result.status != "optimal" or result.x is None or result.row_duals is None:
        return None
    tasks, machines = times.shape
    share = np.maximum(-result.row_duals[tasks:], 0)
    # T >= sum_j w_j load_j >= sum_i min_j w_j p_ij, for any weights w >= 0 of sum 1.
    nothing = np.where(times == FORBIDDEN, FORBIDDEN, 0)
    size = np.where(times == FORBIDDEN, 0, times)
    room = np.zeros(machines, np.int64)
    # The true fractions of a small world, and close ones of any.
    close = [Fraction(math.floor(float(each) * PRICE_UNIT), PRICE_UNIT) for each in share]
    true = [Fraction(float(each)).limit_denominator(1000) for each in share]
    small = math.lcm(*(each.denominator for each in true)) <= PRICE_UNIT
    proofs = []
    for exact in (true, close) if small else (close,):
        total = sum(exact)
        if total > 0:
            weights = tuple(each / total for each in exact)
            bound = exact_bound(nothing, size, room, tuple(-each for each in weights))
            proofs.append((bound, weights))
    if not proofs:
        return None
    proof, best = max(proofs, key=lambda each: each[0])
    return _Relaxed(proof, best, result.x, flat)


def _rounded(times: Matrix, x: Floats, flat: Ints) -> Ints:
    """Return a whole plan: tasks in one piece stay, the others go one to a machine."""
    machines = times.shape[1]
    row, column = np.divmod(flat, machines)
    share = np.zeros(times.shape)
    share[row, column] = x[: len(flat)]
    plan: Ints = share.argmax(axis=1).astype(np.int64)
    cut = np.flatnonzero(share.max(axis=1) < 1 - 1e-6)
    board = matching(masks_of(share[cut] > 1e-9), [1] * machines)
    for index, task in enumerate(cut):
        if board.place[index] >= 0:
            plan[task] = board.place[index]
    return plan


def _search(
    times: Matrix, value: int, limit: int, gap: float, clock: Clock, offer: Callable[[Ints], None]
) -> str:
    """Look for a plan below `value`; return the status of the search."""
    allowed = np.where(times < value, times, FORBIDDEN)
    flat = np.flatnonzero(allowed != FORBIDDEN)
    row, column = np.divmod(flat, times.shape[1])
    if np.any(allowed.min(axis=1) == FORBIDDEN):
        return "infeasible"

    def take(x: Floats) -> None:
        chosen = x[: len(flat)] > 0.5
        plan = np.full(len(times), -1, np.int64)
        plan[row[chosen]] = column[chosen]
        if chosen.sum() == len(times) and plan.min() >= 0:
            offer(plan)

    model = _program(allowed, flat, float(limit), float(value - 1))
    result = mip.solve(model._replace(integer=True), clock, gap=gap, found=take)
    if result.x is not None:
        take(result.x)
    return result.status


def _program(times: Matrix, flat: Ints, low: float, high: float) -> Model:
    """Return the program: pairs, and the makespan T between `low` and `high` as the last column."""
    tasks, machines = times.shape
    row, column = np.divmod(flat, machines)
    count = len(flat)
    index = np.empty(2 * count, np.int64)
    index[0::2], index[1::2] = row, tasks + column
    value = np.ones(2 * count)
    value[1::2] = times.ravel()[flat]
    return Model(
        cost=np.concatenate([np.zeros(count), [1.0]]),
        low=np.concatenate([np.zeros(count), [low]]),
        high=np.concatenate([np.ones(count), [high]]),
        row_low=np.concatenate([np.ones(tasks), np.full(machines, -np.inf)]),
        row_high=np.concatenate([np.ones(tasks), np.zeros(machines)]),
        start=np.concatenate([np.arange(0, 2 * count + 1, 2), [2 * count + machines]]),
        rows=np.concatenate([index, tasks + np.arange(machines)]),
        value=np.concatenate([value, -np.ones(machines)]),
    )
