"""Lower bounds of schedules on equal machines, all at time zero; exact.

A gap is (value - bound) / bound, and is always told with the name of the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from fairlead.model.base import Misuse

STATES_MAX = 200_000  # loads of all machines that `weighted_optimum` keeps


def area(times: Sequence[int], machines: int, gpus: Sequence[int] | None = None) -> Fraction:
    """Return the work per machine: sum p / m; of gangs sum of GPU-time / GPUs."""
    widths = gpus or [1] * len(times)
    return Fraction(sum(p * width for p, width in zip(times, widths, strict=True)), machines)


def makespan(times: Sequence[int], machines: int) -> tuple[Fraction, str]:
    """Return a lower bound of the makespan and its name: area, longest job, or a pair.

    The pair is p_m + p_(m+1), sorted down: of the m + 1 longest, two share a machine.
    """
    down = sorted(times, reverse=True)
    found = [(area(times, machines), "work per machine")]
    found.append((Fraction(down[0] if down else 0), "longest task"))
    if len(down) > machines:
        found.append((Fraction(down[machines - 1] + down[machines]), "two of the longest"))
    return max(found, key=lambda each: each[0])


def sum_completion(times: Sequence[int], machines: int) -> int:
    """Return the least sum of completion times: shortest first is optimal (Conway et al. 1967)."""
    up = sorted(times)
    waits = [-(-(len(up) - rank) // machines) for rank in range(len(up))]
    return sum(p * behind for p, behind in zip(up, waits, strict=True))


def one_machine_weighted(times: Sequence[int], weights: Sequence[int]) -> int:
    """Return the least sum of weighted completion times on one machine (Smith 1956)."""
    now = total = 0
    for index in _smith(times, weights):
        now += times[index]
        total += weights[index] * now
    return total


def weighted_completion(times: Sequence[int], weights: Sequence[int], machines: int) -> Fraction:
    """Return a lower bound of sum w C on equal machines (Eastman, Even and Isaacs 1964)."""
    own = sum(w * p for w, p in zip(weights, times, strict=True))
    rest = Fraction((machines - 1) * own, 2 * machines)
    return Fraction(one_machine_weighted(times, weights), machines) + rest


def weighted_optimum(times: Sequence[int], weights: Sequence[int], machines: int) -> int:
    """Return the least sum w C on equal machines, exactly; for small worlds.

    Each machine goes in Smith's order, so only the loads matter. Raises Misuse when there are more
    combinations of loads than STATES_MAX.
    """
    states = {(0,) * machines: 0}
    for index in _smith(times, weights):
        following: dict[tuple[int, ...], int] = {}
        for loads, cost in states.items():
            for place in {load: n for n, load in enumerate(loads)}.values():
                load = loads[place] + times[index]
                key = tuple(sorted((*loads[:place], load, *loads[place + 1 :])))
                value = cost + weights[index] * load
                if value < following.get(key, value + 1):
                    following[key] = value
        if len(following) > STATES_MAX:
            message = "too many tasks for the exact optimum of weighted completion times"
            raise Misuse(message, field="times", hint="use the bound, weighted_completion")
        states = following
    return min(states.values())


def mean_completion(arrivals: Sequence[int], work: Sequence[int], speed: int) -> Fraction:
    """Return a lower bound of the mean time from arrival to completion, jobs fully divisible.

    One machine of all GPUs together (`speed`), shortest remaining work first (Schrage 1968); and no
    job is done before its own work at full speed. `work` in GPU-time.
    """
    order = sorted(range(len(work)), key=lambda each: arrivals[each])
    left = {each: Fraction(work[each], speed) for each in order}
    now = Fraction(0)
    live: list[int] = []
    total = Fraction(0)
    while order or live:
        if not live:
            now = max(now, Fraction(arrivals[order[0]]))
        while order and arrivals[order[0]] <= now:
            live.append(order.pop(0))
        first = min(live, key=lambda each: (left[each], each))
        until = Fraction(arrivals[order[0]]) if order else None
        ends = now + left[first]
        if until is not None and ends > until:
            left[first] -= until - now
            now = until
            continue
        now = ends
        live.remove(first)
        total += now - arrivals[first]
    return total / len(work) if work else Fraction(0)


def _smith(times: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Return the order of falling weight per time."""
    return sorted(
        range(len(times)),
        key=lambda each: (Fraction(times[each], weights[each]) if weights[each] else 10**18, each),
    )
