"""Unrelated machines by fairlead.solve: matching for the sum, bound and search for the makespan."""

from __future__ import annotations

from typing import Any

from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here


def answer(given: dict[str, Any]) -> dict[str, Any]:
    problem = build(given["p"])
    total = solve_here(problem, "sum-completion")
    span = solve_here(problem, "makespan")
    bound = span.relaxed
    assert bound is not None
    return {
        "sum_completion": total.value,
        "sum_assignment": [list(order) for order in total.orders],
        "makespan": span.value,
        "makespan_lp_bound": bound,
        "lst_bound": 2 * bound,
    }
