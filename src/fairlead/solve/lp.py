"""Linear programs, and mixed ones, by HiGHS (scipy), with the answer checked by its dual.

`linear` proves each optimum before it is used: the point keeps every row, and the dual value is
the same. HiGHS runs on one thread with a fixed seed, so the same rows give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fairlead.model.base import Misuse

Vector: TypeAlias = npt.NDArray[np.float64]
Row: TypeAlias = Mapping[int, float]  # column -> coefficient
Status: TypeAlias = Literal["optimal", "feasible", "infeasible", "unknown"]
INFINITE = float("inf")
LOOSE = 1e-6  # relative: what rows and values may be off by
TRUSTED = 1e-7  # integers nearer than this are taken as such


class SolverFailed(Exception):
    """The solver stopped without an answer, or its answer did not pass the check."""


@dataclass
class Program:
    """Minimise cost . x subject to rows; columns are numbered as they are added."""

    cost: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    row_least: list[float] = field(default_factory=list)
    row_most: list[float] = field(default_factory=list)

    def column(
        self, cost: float = 0.0, least: float = 0.0, most: float = INFINITE, whole: bool = False
    ) -> int:
        """Add a column and return its number."""
        self.cost.append(cost)
        self.least.append(least)
        self.most.append(most)
        self.whole.append(whole)
        return len(self.cost) - 1

    def binary(self, cost: float = 0.0) -> int:
        """Add a column that is 0 or 1."""
        return self.column(cost, 0.0, 1.0, whole=True)

    def row(self, terms: Row, least: float = -INFINITE, most: float = INFINITE) -> int:
        """Add a row least <= terms . x <= most and return its number."""
        self.rows.append(dict(terms))
        self.row_least.append(least)
        self.row_most.append(most)
        return len(self.rows) - 1

    def matrix(self) -> Any:
        """Return the rows as a sparse matrix."""
        from scipy.sparse import csr_array

        counts = [len(row) for row in self.rows]
        columns = [column for row in self.rows for column in row]
        values = [value for row in self.rows for value in row.values()]
        starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        return csr_array(
            (np.array(values, float), np.array(columns, np.int32), starts),
            shape=(len(self.rows), len(self.cost)),
        )


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


def need_scipy() -> None:
    """Raise Misuse, with what to install, where scipy is missing."""
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise Misuse(
            "plans by optimisation need scipy", hint="pip install 'fairlead[solve]'"
        ) from None


def linear(program: Program) -> Answer:
    """Solve without integers. Raises SolverFailed where there is no proof, Misuse if unbounded."""
    need_scipy()
    from scipy.optimize import linprog

    matrix = program.matrix()
    least, most = np.array(program.row_least), np.array(program.row_most)
    equal = least == most
    upper, lower = ~equal & np.isfinite(most), ~equal & np.isfinite(least)
    from scipy.sparse import vstack

    inequalities = vstack([matrix[upper], -matrix[lower]]) if (upper | lower).any() else None
    found = linprog(
        program.cost,
        A_ub=inequalities,
        b_ub=None if inequalities is None else np.concatenate((most[upper], -least[lower])),
        A_eq=matrix[equal] if equal.any() else None,
        b_eq=most[equal] if equal.any() else None,
        bounds=np.column_stack((program.least, program.most)),
        method="highs",
    )
    if found.status == 2:
        return Answer("infeasible", np.zeros(0))
    if found.status == 3:
        raise Misuse("the program has no best value: it is unbounded")
    if found.status != 0:
        raise SolverFailed(f"the solver stopped: {found.message}")
    duals = np.zeros(len(program.rows))
    if inequalities is not None:
        ups = int(upper.sum())
        duals[upper] += found.ineqlin.marginals[:ups]
        duals[lower] -= found.ineqlin.marginals[ups:]
    if equal.any():
        duals[equal] = found.eqlin.marginals
    _prove(program, matrix, found.x, duals)
    return Answer("optimal", found.x, float(found.fun), float(found.fun), duals)


def _prove(program: Program, matrix: Any, x: Vector, duals: Vector) -> None:
    """Raise SolverFailed unless x keeps every row and the duals prove its value."""
    check(program, x, matrix)
    cost = np.array(program.cost)
    reduced = cost - matrix.T @ duals if len(duals) else cost
    value = float(cost @ x)
    bound = 0.0
    # A dual pays for the side of its row that it leans on, a reduced cost for the bound of its
    # column; what leans on no side may only be as large as rounding makes it.
    for price, low, high in (
        (duals, np.array(program.row_least), np.array(program.row_most)),
        (reduced, np.array(program.least), np.array(program.most)),
    ):
        if len(price):
            side = np.where(price > 0, low, high)
            free = ~np.isfinite(side)
            bound += float(np.where(free, 0.0, price * np.where(free, 0.0, side)).sum())
            if free.any() and np.abs(price[free]).max() > LOOSE * (1 + np.abs(cost).max()):
                raise SolverFailed("the dual of the answer is not feasible")
    if abs(value - bound) > LOOSE * (1 + abs(value)):
        raise SolverFailed(f"the answer {value} is not proven: its dual is {bound}")


def check(program: Program, x: Vector, matrix: Any = None) -> None:
    """Raise SolverFailed where x breaks a bound, a row or an integer."""
    size = 1 + np.abs(x)
    if (x < np.array(program.least) - LOOSE * size).any():
        raise SolverFailed("the answer breaks a lower bound")
    if (x > np.array(program.most) + LOOSE * size).any():
        raise SolverFailed("the answer breaks an upper bound")
    if program.rows:
        matrix = program.matrix() if matrix is None else matrix
        sums = matrix @ x
        room = LOOSE * (1 + abs(matrix) @ np.abs(x))
        low, high = np.array(program.row_least), np.array(program.row_most)
        if (sums < low - room).any() or (sums > high + room).any():
            raise SolverFailed("the answer breaks a row")
    whole = np.array(program.whole)
    if whole.any() and (np.abs(x[whole] - np.round(x[whole])) > 1e-5).any():
        raise SolverFailed("the answer is not whole")


def mixed(program: Program, time_limit_s: float | None = None) -> Answer:
    """Solve with integers, to proven optimality unless the time limit comes first.

    `infeasible` only where it is proven; `unknown` where the time was over before any answer.
    """
    need_scipy()
    from scipy.optimize import Bounds, LinearConstraint, milp

    if not program.cost:
        empty = all(low <= 0 <= high for low, high in _row_bounds(program))
        none = np.zeros(0)
        return Answer("optimal", none, 0.0, 0.0) if empty else Answer("infeasible", none)
    options: dict[str, Any] = {"mip_rel_gap": 0.0}
    if time_limit_s is not None:
        options["time_limit"] = time_limit_s
    rows: Sequence[Any] = ()
    if program.rows:
        rows = [LinearConstraint(program.matrix(), program.row_least, program.row_most)]
    found = milp(
        program.cost,
        integrality=np.array(program.whole, int),
        bounds=Bounds(np.array(program.least), np.array(program.most)),
        constraints=rows,
        options=options,
    )
    if found.status == 2:
        return Answer("infeasible", np.zeros(0))
    if found.status == 3:
        raise Misuse("the program has no best value: it is unbounded")
    if found.x is None:
        return Answer("unknown", np.zeros(0))
    x = np.where(np.array(program.whole), np.round(found.x), found.x)
    check(program, x)
    value = float(np.array(program.cost) @ x)
    bound = None if found.mip_dual_bound is None else float(found.mip_dual_bound)
    return Answer("optimal" if found.status == 0 else "feasible", x, value, bound)


def _row_bounds(program: Program) -> list[tuple[float, float]]:
    return list(zip(program.row_least, program.row_most, strict=True))
