"""Weighted dominant resource fairness, divisible and task by task, and two alternatives.

For a cluster that is one heap of resources. Source: Ghodsi et al., NSDI 2011; algorithms.md 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from fairlead.policy.fair.hdrf import Share, launch

Amounts: TypeAlias = Mapping[str, int | Fraction]


class Asker(NamedTuple):
    """Somebody who runs equal tasks."""

    name: str
    demand: Amounts  # of one task, by resource
    weight: int | Fraction = 1
    most: int | Fraction | None = None  # tasks


def dominant(capacity: Amounts, demand: Amounts) -> Fraction:
    """Return the largest part of any resource that one task takes."""
    return max((Fraction(each, capacity[name]) for name, each in demand.items() if each))


def by_task(capacity: Mapping[str, int], askers: Sequence[Asker]) -> list[str]:
    """Return who launches tasks, in order, until nobody's next fits; ties by name.

    Whoever fits and has the least weighted dominant share is next. Weights are whole numbers.
    """
    below = tuple(
        Share(
            each.name,
            int(each.weight),
            demand={name: int(amount) for name, amount in each.demand.items()},
            most=None if each.most is None else int(each.most),
        )
        for each in askers
    )
    return launch(capacity, Share("", below=below))


def fluid(capacity: Amounts, askers: Sequence[Asker]) -> list[Fraction]:
    """Return tasks per asker where tasks are divisible: all weighted dominant shares rise together.

    An asker stops when a resource that it demands is full, or at its most. O(askers^2 x resources).
    """
    speed = [Fraction(each.weight, dominant(capacity, each.demand)) for each in askers]
    return _fill(capacity, askers, speed)


def asset(capacity: Amounts, askers: Sequence[Asker]) -> list[Fraction]:
    """Return tasks per asker under asset fairness: the sums of all parts rise together."""
    speed = [
        Fraction(
            each.weight,
            sum(Fraction(each.demand.get(name, 0), there) for name, there in capacity.items()),
        )
        for each in askers
    ]
    return _fill(capacity, askers, speed)


def _fill(capacity: Amounts, askers: Sequence[Asker], speed: Sequence[Fraction]) -> list[Fraction]:
    free = {name: Fraction(amount) for name, amount in capacity.items()}
    tasks = [Fraction(0)] * len(askers)
    rising = set(range(len(askers)))
    while True:
        rising = {
            index
            for index in rising
            if all(free[name] for name, amount in askers[index].demand.items() if amount)
            and ((most := askers[index].most) is None or tasks[index] < most)
        }
        if not rising:
            return tasks
        rate = {
            name: sum(speed[index] * askers[index].demand.get(name, 0) for index in rising)
            for name in free
        }
        steps = [Fraction(free[name], each) for name, each in rate.items() if each]
        for index in rising:
            most = askers[index].most
            if most is not None:
                steps.append(Fraction(most - tasks[index], speed[index]))
        step = min(steps)
        for index in rising:
            tasks[index] += step * speed[index]
        for name, each in rate.items():
            free[name] -= step * each


def equal_incomes(capacity: Amounts, askers: Sequence[Asker]) -> list[Fraction]:
    """Return tasks per asker under competitive equilibrium from equal incomes, for two askers.

    The product of tasks is the largest (Nash bargaining). Not strategy-proof. With two askers the
    optimum is at a corner of what is feasible, or where one line of full use touches the product:
    all of these are tried.
    """
    one, other = askers
    lines = [
        (Fraction(one.demand.get(name, 0)), Fraction(other.demand.get(name, 0)), Fraction(there))
        for name, there in capacity.items()
    ]
    points: list[tuple[Fraction, Fraction]] = []
    for a, b, there in lines:
        if a and b:
            points.append((Fraction(there, 2 * a), Fraction(there, 2 * b)))
        for c, d, also in lines:
            if a * d != b * c:
                det = a * d - b * c
                x, y = there * d - also * b, a * also - c * there
                points.append((Fraction(x, det), Fraction(y, det)))
    fit = [
        (x, y)
        for x, y in points
        if x >= 0 and y >= 0 and all(a * x + b * y <= there for a, b, there in lines)
    ]
    best = max(fit, key=lambda point: (point[0] * point[1], point))
    return [*best]
