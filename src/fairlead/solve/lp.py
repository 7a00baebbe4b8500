"""Programs written row by row, solved by HiGHS (mip.py), and checked before they are believed.

`linear` proves each optimum: the point keeps every row, and its dual has the same value. HiGHS
runs on one thread with a fixed seed, so the same rows give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fairlead.solve.mip import Clock, Model, Result, solve

Vector: TypeAlias = npt.NDArray[np.float64]
Row: TypeAlias = Mapping[int, float]  # column -> coefficient
Status: TypeAlias = Literal["optimal", "feasible", "infeasible", "unknown"]
INFINITE = float("inf")
LOOSE = 1e-6  # relative: what rows and values may be off by


class SolverFailed(Exception):
    """The solver stopped without an answer, or its answer did not pass the check."""


@dataclass
class Program:
    """Minimise cost . x subject to rows; columns are numbered as they are added."""

    cost: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    row_least: list[float] = field(default_factory=list)
    row_most: list[float] = field(default_factory=list)

    def column(self, cost: float = 0.0, least: float = 0.0, most: float = INFINITE) -> int:
        """Add a column and return its number."""
        self.cost.append(cost)
        self.least.append(least)
        self.most.append(most)
        return len(self.cost) - 1

    def binary(self, cost: float = 0.0) -> int:
        """Add a column that `mixed` takes as 0 or 1."""
        return self.column(cost, 0.0, 1.0)

    def row(self, terms: Row, least: float = -INFINITE, most: float = INFINITE) -> int:
        """Add a row least <= terms . x <= most and return its number."""
        self.rows.append(dict(terms))
        self.row_least.append(least)
        self.row_most.append(most)
        return len(self.rows) - 1


class _Written:
    """A program as vectors: the entries of its rows, and the model column by column."""

    def __init__(self, program: Program, integer: bool) -> None:
        counts = [len(row) for row in program.rows]
        self.row = np.repeat(np.arange(len(counts)), counts)
        columns = [column for row in program.rows for column in row]
        values = [value for row in program.rows for value in row.values()]
        self.column, self.value = np.array(columns, np.int64), np.array(values, float)
        self.cost = np.array(program.cost, float)
        self.least, self.most = np.array(program.least), np.array(program.most)
        self.row_least = np.array(program.row_least, float)
        self.row_most = np.array(program.row_most, float)
        order = np.argsort(self.column, kind="stable")
        start = np.searchsorted(self.column[order], np.arange(len(self.cost) + 1))
        self.model = Model(
            self.cost, self.least, self.most, self.row_least, self.row_most,
            start, self.row[order], self.value[order], integer,
        )  # fmt: skip

    def times(self, x: Vector, value: Vector | None = None) -> Vector:
        """Return the sum of each row at x."""
        value = self.value if value is None else value
        sums = np.bincount(self.row, value * x[self.column], len(self.row_least))
        return sums.astype(float)

    def check(self, x: Vector) -> None:
        """Raise SolverFailed where x breaks a bound or a row."""
        size = LOOSE * (1 + np.abs(x))
        if (x < self.least - size).any() or (x > self.most + size).any():
            raise SolverFailed("the answer breaks a bound")
        sums = self.times(x)
        room = LOOSE * (1 + self.times(np.abs(x), np.abs(self.value)))
        if (sums < self.row_least - room).any() or (sums > self.row_most + room).any():
            raise SolverFailed("the answer breaks a row")

    def prove(self, x: Vector, duals: Vector) -> None:
        """Raise SolverFailed unless x keeps every row and the duals prove its value."""
        self.check(x)
        paid = np.bincount(self.column, self.value * duals[self.row], len(self.cost))
        value = float(self.cost @ x)
        # A dual pays for the side of its row that it leans on, a reduced cost for the bound of
        # its column; what leans on no side may only be as large as rounding makes it.
        bound = _paid(duals, self.row_least, self.row_most, self.cost)
        bound += _paid(self.cost - paid, self.least, self.most, self.cost)
        if abs(value - bound) > LOOSE * (1 + abs(value)):
            raise SolverFailed(f"the answer {value} is not proven: its dual is {bound}")


def _paid(price: Vector, low: Vector, high: Vector, cost: Vector) -> float:
    side = np.where(price > 0, low, high)
    free = ~np.isfinite(side)
    if (np.abs(price[free]) > LOOSE * (1 + np.abs(cost).max(initial=0))).any():
        raise SolverFailed("the dual of the answer is not feasible")
    return float((price * np.where(free, 0.0, side)).sum())


@dataclass(frozen=True)
class Answer:
    """What a solver found. `gap` is relative: 0 for a proven optimum, None without a bound."""

    status: Status
    x: Vector
    value: float | None = None
    bound: float | None = None
    duals: Vector = field(default_factory=lambda: np.zeros(0))  # per row; >= 0 for a `least` row

    @property
    def gap(self) -> float | None:
        """How far the value may be from the best, relative to the bound."""
        if self.value is None or self.bound is None:
            return None
        return abs(self.value - self.bound) / max(abs(self.bound), 1e-12)


_NONE = np.zeros(0)


def linear(program: Program) -> Answer:
    """Solve without integers. Raises SolverFailed where there is no proof, as if unbounded.

    Raises Missing, with what to install, without the extra `solve`.
    """
    written = _Written(program, integer=False)
    found = solve(written.model, Clock(None))
    if found.status == "infeasible":
        return Answer("infeasible", _NONE)
    if found.status != "optimal" or found.x is None or found.row_duals is None:
        raise _failed(found)
    written.prove(found.x, found.row_duals)
    value = float(written.cost @ found.x)
    return Answer("optimal", found.x, value, value, found.row_duals)


def mixed(program: Program, time_limit_s: float | None = None) -> Answer:
    """Solve with all columns whole, to proven optimality unless the time limit comes first.

    `infeasible` only where it is proven; `unknown` where the time was over before any answer.
    """
    written = _Written(program, integer=True)
    if not program.cost:
        possible = all((written.row_least <= 0) & (written.row_most >= 0))
        return Answer("optimal", _NONE, 0.0, 0.0) if possible else Answer("infeasible", _NONE)
    found = solve(written.model, Clock(time_limit_s))
    if found.status == "infeasible":
        return Answer("infeasible", _NONE)
    if found.status == "failed":
        raise _failed(found)
    if found.x is None:
        return Answer("unknown", _NONE)
    x = np.round(found.x)
    written.check(x)
    value = float(written.cost @ x)
    bound = found.bound if np.isfinite(found.bound) else None
    if found.status == "optimal":
        return Answer("optimal", x, value, value)
    return Answer("feasible", x, value, bound)


def _failed(found: Result) -> SolverFailed:
    return SolverFailed(f"the solver stopped without an answer: {found.status}")
