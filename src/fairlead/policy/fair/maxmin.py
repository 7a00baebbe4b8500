"""Weighted max-min fairness with guarantees, of one resource. Source: algorithms.md 4.1.

Everybody first gets what it asks for up to its guarantee. What is left raises all who want more
together, each by its weight, until nothing is left or nobody wants more. O(n log n).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

Amount: TypeAlias = int | Fraction


class Claim(NamedTuple):
    """What somebody wants of a resource. Amounts in its unit; the weight is at least 0."""

    demand: Amount
    weight: Amount = 1
    guarantee: Amount = 0


class Division(NamedTuple):
    """Who gets how much, in the order of the claims, and how far the excess was raised."""

    parts: list[Fraction]
    level: Fraction | None  # excess by weight of all who want more; None: nobody does


def divide(capacity: Amount, claims: Sequence[Claim]) -> Division:
    """Divide something divisible.

    Where guarantees exceed what there is, all get the same fraction of what is guaranteed to them:
    nodes may go, though nobody promises more than there is. Who has no weight gets what nobody with
    a weight wants.
    """
    sure = [Fraction(min(each.demand, each.guarantee)) for each in claims]
    left = Fraction(capacity) - sum(sure)
    if left < 0:
        whole = Fraction(capacity, sum(sure))
        return Division([part * whole for part in sure], Fraction(0))
    parts, level = sure, None
    weights = [Fraction(each.weight) for each in claims]
    for among in (
        [index for index, weight in enumerate(weights) if weight > 0],
        [index for index, weight in enumerate(weights) if weight <= 0],
    ):
        found = _raise(parts, left, claims, among, weights)
        level = found if level is None else level
        left = Fraction(capacity) - sum(parts)
    return Division(parts, level)


def _raise(
    parts: list[Fraction],
    left: Fraction,
    claims: Sequence[Claim],
    among: Sequence[int],
    weights: Sequence[Fraction],
) -> Fraction | None:
    """Fill up to one level; return it, None where all are satisfied below it."""

    def weight(index: int) -> Fraction:
        return weights[index] or Fraction(1)

    wanting = [index for index in among if claims[index].demand > parts[index]]

    def full_at(index: int) -> Fraction:
        return Fraction(claims[index].demand - parts[index], weight(index))

    wanting.sort(key=lambda index: (full_at(index), index))
    total = sum((weight(index) for index in wanting), Fraction(0))
    for place, index in enumerate(wanting):
        wants = claims[index].demand - parts[index]
        if wants * total > left * weight(index):
            level = Fraction(left, total)
            for each in wanting[place:]:
                parts[each] += level * weight(each)
            return level
        parts[index] += wants
        left -= wants
        total -= weight(index)
    return None


def divide_whole(capacity: int, claims: Sequence[Claim]) -> list[int]:
    """Divide what comes in whole units, such as GPUs; demands are whole.

    Everybody gets its fair part rounded down; what is then left goes one each by the largest
    remainder, ties by the place among the claims.
    """
    parts = divide(capacity, claims).parts
    whole = [part.numerator // part.denominator for part in parts]
    rest = sum(parts, Fraction(0))
    more = rest.numerator // rest.denominator - sum(whole)
    by_remainder = sorted(range(len(parts)), key=lambda index: (whole[index] - parts[index], index))
    for index in by_remainder[:more]:
        whole[index] += 1
    return whole
