"""Averages of the past in which older use counts less: exact, however often they are brought up.

An account's average A obeys A <- A f + rate (1 - f) over an interval of constant rate, where
f = 2^(-interval / half-life). It is the rate that the recent past amounts to; the decayed usage
of Slurm and others is A x half-life / ln 2. Source: algorithms.md 3.2.

All of it in integers, so that every machine agrees: powers of two come from a table of
2^(-1/2), 2^(-1/4), ... as fixed-point fractions.
"""

from __future__ import annotations

from math import isqrt

from fairlead.model.base import Ms

ONE_BITS = 62
ONE = 1 << ONE_BITS
FRACTION_BITS = 44  # of the exponent: relative errors below 1e-13
AVERAGE_BITS = 48  # an average is kept in parts of 2^-48 of its unit
AVERAGE_ONE = 1 << AVERAGE_BITS


def _table() -> tuple[int, ...]:
    powers = []
    power = ONE >> 1
    for _ in range(FRACTION_BITS):
        power = isqrt(power << ONE_BITS)
        powers.append(power)
    return tuple(powers)


_POWERS = _table()  # 2^(-1/2), 2^(-1/4), ...


def factor(interval_ms: Ms, half_life_ms: Ms) -> int:
    """Return 2^(-interval / half-life) in parts of ONE; both in ms, the half-life above zero."""
    whole, part = divmod(interval_ms, half_life_ms)
    if whole >= ONE_BITS:
        return 0
    fraction = (part << FRACTION_BITS) // half_life_ms
    result = ONE
    bit = 1 << FRACTION_BITS - 1
    for power in _POWERS:
        if fraction & bit:
            result = result * power >> ONE_BITS
        bit >>= 1
    return result >> whole


def decayed(average: int, rate: int, interval_ms: Ms, half_life_ms: Ms) -> int:
    """Return an average, in parts of AVERAGE_ONE, after an interval in which `rate` was used."""
    return decayed_by(factor(interval_ms, half_life_ms), average, rate)


def decayed_by(f: int, average: int, rate: int) -> int:
    """Return an average after an interval whose factor is known."""
    return (average * f + (rate << AVERAGE_BITS) * (ONE - f)) >> ONE_BITS
