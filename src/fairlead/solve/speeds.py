"""Speeds of job types on devices where nobody has measured them, filled by the log-rate model.

The model is solve/matrix.py (algorithms.md 10.4): each type gains by the same factor from a faster
device. A speed of zero says that a type does not run there: it is kept, and nothing is learned
from it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from fairlead.solve.matrix import complete

Row = TypeVar("Row", bound=Hashable)


def filled(
    known: Mapping[Row, Mapping[str, int]], models: Sequence[str]
) -> tuple[dict[tuple[Row, str], int], float | None]:
    """Return the speeds that are not known but follow, in the unit of those that are known.

    `known`: by row (a job type of a width) and device model. A pair that is in neither cannot be
    compared: no chain of measurements connects its type with its model. Also the spread of the
    logarithm around the model, None where nothing contradicts it yet.
    """
    rows = list(known)
    matrix = [[known[row].get(model) or None for model in models] for row in rows]
    found = complete(matrix)
    more = {
        (row, model): max(round(rate), 1)
        for row, rates in zip(rows, found.rates, strict=True)
        for model, rate in zip(models, rates, strict=True)
        if rate is not None and model not in known[row]
    }
    return more, found.spread
