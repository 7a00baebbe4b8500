"""Averages of the past in which older use counts less: exact, however often they are brought up.

An account's average A obeys A <- A f + rate (1 - f) over an interval of constant rate, where
f = 2^(-interval / half-life). It is the rate that the recent past amounts to; the decayed usage
of Slurm and others is A x half-life / ln 2. Source: algorithms.md 3.2.

All of it in integers, so that every machine agrees: powers of two come from tables of
fixed-point fractions, one for each byte of the exponent.
"""

from __future__ import annotations

from math import isqrt

from fairlead.model.base import Ms

ONE_BITS = 62
ONE = 1 << ONE_BITS
BYTE = 8
BYTES = 7  # of the exponent's fraction: errors below 1e-16
FRACTION_BITS = BYTE * BYTES
AVERAGE_BITS = 48  # an average is kept in parts of 2^-48 of its unit
AVERAGE_ONE = 1 << AVERAGE_BITS


def _tables() -> tuple[tuple[int, ...], ...]:
    """Return for each byte of a fraction, the highest first, its 256 powers 2^-(byte's part)."""
    tables = []
    power = ONE >> 1  # 2^-1, then halved in its exponent bit by bit
    for _ in range(BYTES):
        table = [ONE]
        for _ in range(BYTE):
            power = isqrt(power << ONE_BITS)
            # From the highest bit on: with each the table doubles, set beside not set.
            table = [entry for each in table for entry in (each, each * power >> ONE_BITS)]
        tables.append(tuple(table))
    return tuple(tables)


_TABLES = _tables()


def factor(interval_ms: Ms, half_life_ms: Ms) -> int:
    """Return 2^(-interval / half-life) in parts of ONE; both in ms, the half-life above zero."""
    whole, part = divmod(interval_ms, half_life_ms)
    if whole >= ONE_BITS:
        return 0
    fraction = (part << FRACTION_BITS) // half_life_ms
    result = ONE
    shift = FRACTION_BITS
    for table in _TABLES:
        shift -= BYTE
        result = result * table[fraction >> shift & 0xFF] >> ONE_BITS
    return result >> whole


def decayed(average: int, rate: int, interval_ms: Ms, half_life_ms: Ms) -> int:
    """Return an average, in parts of AVERAGE_ONE, after an interval in which `rate` was used."""
    return decayed_by(factor(interval_ms, half_life_ms), average, rate)


def decayed_by(f: int, average: int, rate: int) -> int:
    """Return an average after an interval whose factor is known."""
    return (average * f + (rate << AVERAGE_BITS) * (ONE - f)) >> ONE_BITS
