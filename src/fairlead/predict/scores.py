"""How good a forecast was, and intervals with a promise: pinball loss, conformal ranks, CQR.

Everything works on integers and Fractions without rounding, and on floats as they are.
Sources: Koenker and Bassett 1978 (pinball); Vovk, Gammerman, Shafer 2005 (split conformal);
Romano, Patterson, Candès 2019 (CQR).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeVar

Real = TypeVar("Real", int, float, Fraction)
Interval = tuple[Real, Real]


def pinball(level: Real, truth: Real, said: Real) -> Real:
    """Return t(y − q) if the truth is above what was said, else (1 − t)(q − y)."""
    return level * (truth - said) if truth >= said else (1 - level) * (said - truth)


def quantile(values: Iterable[Real], level: Real) -> Real:
    """Return the least value with at least that share of all at or below it.

    Among constants it has the least mean pinball loss.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(level * len(ordered)) - 1)]


def conformal_rank(count: int, alpha: Real) -> int:
    """Return which of `count` ascending scores bounds the next one with probability 1 − alpha."""
    return math.ceil((count + 1) * (1 - alpha))


def conformal_bound(scores: Sequence[Real], alpha: Real) -> Real | None:
    """Return that score; None: there are too few for any finite bound."""
    rank = conformal_rank(len(scores), alpha)
    return sorted(scores)[max(rank, 1) - 1] if rank <= len(scores) else None


def distance(truth: Real, said: Real) -> Real:
    """Return the score of a point forecast: how far off it was."""
    return abs(truth - said)


def outside(truth: Real, interval: Interval[Real]) -> Real:
    """Return CQR's score: how far outside of its interval the truth fell, negative if inside."""
    low, high = interval
    return max(low - truth, truth - high)


def widened(interval: Interval[Real], bound: Real | None) -> Interval[Real] | None:
    """Return the interval with a conformal bound on both sides; None: the whole line."""
    return None if bound is None else (interval[0] - bound, interval[1] + bound)
