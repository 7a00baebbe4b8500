"""How good a node is for a request. Smaller is better; integers, so all forms agree exactly.

Amounts are made comparable by the largest capacity of any node per dimension (algorithms.md 8.1):
a weight of L / cap_max per dimension, with L their least common multiple where that fits an int64,
which makes the comparison that of the exact rationals; else L is the largest power of two that
fits and the weights are rounded down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

from fairlead.core.ledger import Columns, Request
from fairlead.model.base import Misuse
from fairlead.model.resources import CPU, DIMENSIONS, GPU, WHOLE_GPU_MILLI

D = len(DIMENSIONS)


class Scorer(Protocol):
    """Scores nodes for one member. `fills`: a node just used stays the best while it fits."""

    fills: ClassVar[bool]
    bits: ClassVar[int]  # the common multiple is at most 2**bits, so that no score overflows
    fixed: ClassVar[bool]  # it is 2**bits whatever the capacities

    def columns(self, request: Request, free: Columns, weights: Sequence[int]) -> Columns:
        """Return one score per column of free[d, n]."""
        ...

    def scalar(self, request: Request, free: Sequence[int], weights: Sequence[int]) -> int:
        """Return the same score for one node's free amounts."""
        ...


def demand(request: Request) -> tuple[int, ...]:
    """Return what one member takes of each dimension (device memory as asked, not as given)."""
    milli = WHOLE_GPU_MILLI * request.gpus + sum(request.shares)
    return (*request.host, milli, request.memory * request.picks)


def weights(capacity: Columns, bits: int, *, fixed: bool = False) -> list[int]:
    """Return L / cap_max per dimension, 0 where no node has any; L at most 2**bits, or just so."""
    largest = [int(row.max()) if row.size else 0 for row in capacity]
    common = math.lcm(*(amount for amount in largest if amount > 0))
    if fixed or common > 2**bits:
        common = 2**bits
    return [common // amount if amount > 0 else 0 for amount in largest]


def _weighed(free: Sequence[int], weights: Sequence[int]) -> int:
    """Return sum w * free; written out, for it is asked about a node after every placement."""
    f0, f1, f2, f3, f4 = free[:D]
    w0, w1, w2, w3, w4 = weights
    return f0 * w0 + f1 * w1 + f2 * w2 + f3 * w3 + f4 * w4


class BestFit:
    """Least weighted leftover: keeps large holes whole. min sum (free - demand) / cap_max."""

    fills: ClassVar[bool] = True
    bits: ClassVar[int] = 58
    fixed: ClassVar[bool] = False

    def columns(self, request: Request, free: Columns, weights: Sequence[int]) -> Columns:
        """Return sum w * free: the demand is the same for every node and changes no order."""
        score: Columns = free[0] * weights[0]
        for row in range(1, D):
            if weights[row]:
                score += free[row] * weights[row]
        return score

    def scalar(self, request: Request, free: Sequence[int], weights: Sequence[int]) -> int:
        """Return the same for one node."""
        return _weighed(free, weights)


class WorstFit:
    """Most weighted leftover: spreads work. max sum (free - demand) / cap_max."""

    fills: ClassVar[bool] = False
    bits: ClassVar[int] = 58
    fixed: ClassVar[bool] = False

    def columns(self, request: Request, free: Columns, weights: Sequence[int]) -> Columns:
        """Return minus the best-fit score."""
        return -BestFit().columns(request, free, weights)

    def scalar(self, request: Request, free: Sequence[int], weights: Sequence[int]) -> int:
        """Return the same for one node."""
        return -_weighed(free, weights)


class DotProduct:
    """Largest alignment of demand with what is free (Tetris, SIGCOMM 2014)."""

    fills: ClassVar[bool] = False
    bits: ClassVar[int] = 28
    fixed: ClassVar[bool] = False

    def columns(self, request: Request, free: Columns, weights: Sequence[int]) -> Columns:
        """Return minus sum (w * demand) * (w * free)."""
        score = np.zeros(free.shape[1], np.int64)
        for row, amount in enumerate(demand(request)):
            if amount and weights[row]:
                score -= (free[row] * weights[row]) * (amount * weights[row])
        return score

    def scalar(self, request: Request, free: Sequence[int], weights: Sequence[int]) -> int:
        """Return the same for one node."""
        asked = demand(request)
        return -sum(free[r] * weights[r] * asked[r] * weights[r] for r in range(D))


class L2:
    """Least squared weighted leftover: avoids nodes that are left lopsided."""

    fills: ClassVar[bool] = False
    bits: ClassVar[int] = 28
    fixed: ClassVar[bool] = False

    def columns(self, request: Request, free: Columns, weights: Sequence[int]) -> Columns:
        """Return sum (w * (free - demand))**2."""
        score = np.zeros(free.shape[1], np.int64)
        for row, amount in enumerate(demand(request)):
            if weights[row]:
                score += ((free[row] - amount) * weights[row]) ** 2
        return score

    def scalar(self, request: Request, free: Sequence[int], weights: Sequence[int]) -> int:
        """Return the same for one node."""
        asked = demand(request)
        return sum(((free[r] - asked[r]) * weights[r]) ** 2 for r in range(D))


class BestFitFloored:
    """Best fit as in the published experiments: cores and GPUs alone, in whole hundredths.

    The published score is floor(100 x (1 - rest / cap_max)), rest being the mean of both (Weng et
    al., ATC 2023; best_fit_score.go). Many nodes tie and the first is taken, so that those behind
    stay empty.
    """

    fills: ClassVar[bool] = False
    bits: ClassVar[int] = 50  # far finer than hundredths, far from an overflow
    fixed: ClassVar[bool] = True

    def columns(self, request: Request, free: Columns, weights: Sequence[int]) -> Columns:
        """Return 100 minus the published score."""
        asked, cpu, gpu = demand(request), weights[CPU], weights[GPU]
        rest = (free[CPU] - asked[CPU]) * cpu + (free[GPU] - asked[GPU]) * gpu
        score: Columns = -(-50 * rest >> self.bits)
        return score

    def scalar(self, request: Request, free: Sequence[int], weights: Sequence[int]) -> int:
        """Return the same for one node."""
        asked, cpu, gpu = demand(request), weights[CPU], weights[GPU]
        rest = (free[CPU] - asked[CPU]) * cpu + (free[GPU] - asked[GPU]) * gpu
        return -(-50 * rest >> self.bits)


SCORERS: dict[str, type[Scorer]] = {
    "best-fit": BestFit,
    "worst-fit": WorstFit,
    "dot-product": DotProduct,
    "l2": L2,
    "best-fit-floored": BestFitFloored,
}

# These look at single GPUs, or at nothing (named.py). Where only a node's free sums are known, as
# in plans of the future, they go by best fit.
OTHERS = ("fgd", "fgd-floored", "pack", "random")
PLACEMENTS = (*SCORERS, *OTHERS)


def build(name: str) -> Scorer:
    """Return the scorer of that name."""
    if name in OTHERS:
        return BestFit()
    try:
        return SCORERS[name]()
    except KeyError:
        known = ", ".join(PLACEMENTS)
        raise Misuse(
            f"there is no placement '{name}'", field="placement", hint=f"one of: {known}"
        ) from None
