"""Slurm's multifactor priority: a weighted sum of terms, every one of them shown.

floor(max(1, sum of weight x factor - nice)), at most 2^32 - 1. Factors are between 0 and 1, in
parts of ONE. Source: Slurm's priority_multifactor.c; algorithms.md 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from fairlead.core.decay import ONE, ONE_BITS, factor

Ratio: TypeAlias = tuple[int, int]  # numerator, denominator

PRIORITY_MAX = 2**32 - 1
# Each factor is off by half a part at most. Sums are rounded down after so many parts are added,
# so that no whole point is lost by it.
GUARD = 1 << 32


def part(of: int, whole: int) -> int:
    """Return of / whole, between 0 and 1, in parts of ONE; 0 where there is no whole."""
    if whole <= 0 or of <= 0:
        return 0
    return ONE if of >= whole else (2 * of * ONE + whole) // (2 * whole)


def fair_factor(usage: Ratio, shares: Ratio, damping: Ratio = (1, 1)) -> int:
    """Return 2^(-(U/S)/damping): 1 for who used nothing, 1/2 for who used just its share.

    Without any shares 0. `usage` is the part of all decayed usage, `shares` that of all shares.
    """
    if shares[0] <= 0:
        return 0
    interval = usage[0] * shares[1] * damping[1]
    return factor(interval, usage[1] * shares[0] * damping[0])


def size_factor(nodes: Ratio, cpus: Ratio, *, favour_small: bool = False) -> int:
    """Return how large a job is, by its parts of the cluster's nodes and CPUs, or how small."""
    (n, all_n), (c, all_c) = nodes, cpus
    if favour_small:
        n, c = all_n - n, all_c - c
    return part(n * all_c + c * all_n, 2 * all_n * all_c)


def value(weights: Sequence[int], factors: Sequence[int], nice: int = 0) -> int:
    """Return the priority of a job; 0 is for those that are held, so it is at least 1."""
    total = sum(weight * each for weight, each in zip(weights, factors, strict=True))
    points = (total - (nice << ONE_BITS) + GUARD) >> ONE_BITS
    return min(max(1, points), PRIORITY_MAX)
