"""How fast a job runs on device types where it was never measured (algorithms.md 10.4).

log rate = effect of the job + effect of the type, by least squares: exact where all jobs gain
alike from a faster type. What no chain of measurements connects cannot be compared, and is
reported instead of guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairlead.model.base import Misuse


@dataclass(frozen=True)
class Filled:
    """The matrix with measured entries kept, predicted ones filled in, None where nothing is known.

    `part[job]` and `part_of_type[type]` number the connected parts of the measurements (-1: never
    measured): a rate is known where both are in one part. `spread` is the standard deviation of
    the logarithm around the model, None with no measurement to spare.
    """

    rates: list[list[float | None]]
    measured: list[list[bool]]
    part: list[int]
    part_of_type: list[int]
    spread: float | None


def complete(rows: Sequence[Sequence[float | None]]) -> Filled:
    """Return the completed matrix; rows are jobs (or classes), columns types, None is unknown.

    Raises Misuse with row and column for a rate that is not above zero, or a ragged row.
    """
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows):
        if len(row) != width:
            raise Misuse(f"row {number} has {len(row)} rates, the first has {width}", field="rows")
        for column, rate in enumerate(row):
            if rate is not None and not (math.isfinite(rate) and rate > 0):
                raise Misuse(
                    f"row {number}, column {column}: the rate {rate} is not above zero",
                    field="rows",
                    hint="leave out a type on which the job cannot run",
                )
    part, part_of_type = _parts(rows, width)
    effects, spread = _effects(rows, width, max([*part, *part_of_type], default=-1) + 1)
    rates: list[list[float | None]] = []
    for number, row in enumerate(rows):
        filled = list(row)
        for column in range(width):
            together = part[number] == part_of_type[column] >= 0
            if row[column] is None and together:
                filled[column] = math.exp(effects[number] + effects[len(rows) + column])
        rates.append(filled)
    measured = [[rate is not None for rate in row] for row in rows]
    return Filled(rates, measured, part, part_of_type, spread)


def _parts(rows: Sequence[Sequence[float | None]], width: int) -> tuple[list[int], list[int]]:
    """Return the number of the connected part of each job and type, -1 where never measured."""
    jobs = len(rows)
    root = list(range(jobs + width))

    def find(at: int) -> int:
        while root[at] != at:
            root[at] = root[root[at]]
            at = root[at]
        return at

    used = [False] * (jobs + width)
    for number, row in enumerate(rows):
        for column, rate in enumerate(row):
            if rate is not None:
                used[number] = used[jobs + column] = True
                one, other = sorted((find(number), find(jobs + column)))
                root[other] = one
    names: dict[int, int] = {}
    part = [names.setdefault(find(at), len(names)) if used[at] else -1 for at in range(len(root))]
    return part[:jobs], part[jobs:]


def _effects(
    rows: Sequence[Sequence[float | None]], width: int, parts: int
) -> tuple[list[float], float | None]:
    """Return the effects of jobs, then of types, and the spread of what is left."""
    jobs = len(rows)
    known = [
        (number, column, math.log(rate))
        for number, row in enumerate(rows)
        for column, rate in enumerate(row)
        if rate is not None
    ]
    if not known:
        return [0.0] * (jobs + width), None
    # Jobs out by elimination: what is left are the types, of which there are few.
    count = np.zeros(jobs)
    table = np.zeros((jobs, width))
    mask = np.zeros((jobs, width))
    for number, column, log in known:
        count[number] += 1
        table[number, column], mask[number, column] = log, 1.0
    inverse = np.where(count > 0, 1.0 / np.maximum(count, 1), 0.0)
    mean = table.sum(axis=1) * inverse
    normal = np.diag(mask.sum(axis=0)) - mask.T @ (mask * inverse[:, None])
    right = (table - mask * mean[:, None]).sum(axis=0)
    types = np.linalg.lstsq(normal, right, rcond=1e-10)[0]  # of least norm: one offset per part
    effect = mean - (mask @ types) * inverse
    rest = [log - effect[number] - types[column] for number, column, log in known]
    used = int((count > 0).sum() + (mask.sum(axis=0) > 0).sum())
    spare = len(known) - (used - parts)
    spread = math.sqrt(math.fsum(each * each for each in rest) / spare) if spare > 0 else None
    return [*effect.tolist(), *types.tolist()], spread
