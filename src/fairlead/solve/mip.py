"""Linear programs and integer programs by HiGHS, without its chatter, within a time limit."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.solve.extra import need

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[Any]
INFINITE = float("inf")


class Model(NamedTuple):
    """Minimise cost·x, row_low <= A x <= row_high, low <= x <= high; A column by column."""

    cost: Floats
    low: Floats
    high: Floats
    row_low: Floats
    row_high: Floats
    start: Indices
    rows: Indices
    value: Floats
    integer: bool = False  # all of the first `integers` columns
    integers: int | None = None


class Result(NamedTuple):
    """`status`: optimal, infeasible, limit (a plan may be there), failed."""

    status: str
    x: Floats | None
    objective: float
    bound: float
    row_duals: Floats | None


class Clock:
    """Counts down from a time limit; None never ends."""

    def __init__(self, limit_s: float | None) -> None:
        self._end = None if limit_s is None else time.monotonic() + limit_s

    def left(self) -> float:
        """Return the seconds left, infinite without a limit."""
        return INFINITE if self._end is None else self._end - time.monotonic()

    def over(self) -> bool:
        """Whether the time is up."""
        return self.left() <= 0


def solve(
    model: Model,
    clock: Clock,
    *,
    gap: float = 0.0,
    found: Callable[[Floats], None] | None = None,
) -> Result:
    """Solve a model; `found` is told each better plan of an integer program as it comes."""
    highspy = need("highspy", "highspy (HiGHS)")
    _quieten(highspy)
    if clock.over():
        return Result("limit", None, INFINITE, -INFINITE, None)
    engine = highspy.Highs()
    engine.setOptionValue("output_flag", False)
    engine.setOptionValue("threads", 1)
    if clock.left() < INFINITE:
        engine.setOptionValue("time_limit", clock.left())
    engine.setOptionValue("mip_rel_gap", gap / (1 + gap))  # HiGHS: relative to the plan
    engine.setOptionValue("mip_abs_gap", 0.0 if gap else 0.999 if _whole(model) else 1e-6)
    engine.passModel(_highs(highspy, model))
    if model.integer and found is not None:
        engine.cbMipImprovingSolution.subscribe(
            lambda event: found(np.array(event.data_out.mip_solution))
        )
    engine.run()
    return _result(highspy, engine, model)


@cache
def _quieten(highspy: Any) -> None:
    """Let HiGHS say once, to nobody, who it is: where it is used first it prints that."""
    sys.stdout.flush()
    out, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()
        ctypes.CDLL(None).fflush(None)
    finally:
        os.dup2(out, 1)
        os.close(out)
        os.close(nowhere)


def _whole(model: Model) -> bool:
    """Whether every plan has an integer value: a gap below one is then none."""
    count = len(model.cost) if model.integers is None else model.integers
    if np.any(model.cost[count:] != 0):
        return False
    return bool(np.all(model.cost == np.round(model.cost)))


def _highs(highspy: Any, model: Model) -> Any:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(model.cost), len(model.row_low)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = model.cost, model.low, model.high
    lp.row_lower_, lp.row_upper_ = model.row_low, model.row_high
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.asarray(model.start, np.int32)
    lp.a_matrix_.index_ = np.asarray(model.rows, np.int32)
    lp.a_matrix_.value_ = model.value
    if model.integer:
        whole, part = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        count = len(model.cost) if model.integers is None else model.integers
        lp.integrality_ = [whole] * count + [part] * (len(model.cost) - count)
    return lp


def _result(highspy: Any, engine: Any, model: Model) -> Result:
    kinds = highspy.HighsModelStatus
    status = engine.getModelStatus()
    info = engine.getInfo()
    known = {
        kinds.kOptimal: "optimal",
        kinds.kInfeasible: "infeasible",
        kinds.kUnboundedOrInfeasible: "infeasible",
        kinds.kTimeLimit: "limit",
        kinds.kInterrupt: "limit",
        kinds.kSolutionLimit: "limit",
    }.get(status, "failed")
    solution = engine.getSolution()
    feasible = info.primal_solution_status == 2
    x = np.array(solution.col_value) if feasible else None
    objective = float(info.objective_function_value) if feasible else INFINITE
    bound = float(info.mip_dual_bound) if model.integer else objective
    if known == "limit" and not model.integer:
        bound = -INFINITE
    duals = np.array(solution.row_dual) if not model.integer else None
    return Result(known, x, objective, bound, duals)
