"""Generalised assignment by fairlead.solve."""

from __future__ import annotations

from typing import Any

from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here


def answer(given: dict[str, Any]) -> dict[str, Any]:
    problem = build(given["cost"], size=given["size"], capacity=given["capacity"])
    found = solve_here(problem, "capacity")
    if not found.plan:
        return {"status": str(found.status)}
    assert found.bound_name == "linear relaxation"
    return {
        "status": str(found.status),
        "cost": found.value,
        "assignment": found.plan,
        "lp_bound": found.relaxed,
        "unique": _dearer_without(given, found.plan, found.value),
    }


def _dearer_without(given: dict[str, Any], plan: tuple[int, ...], value: int) -> bool:
    """Whether each other plan, one that moves some task, costs more."""
    for task, resource in enumerate(plan):
        cost = [list(row) for row in given["cost"]]
        cost[task][resource] = None
        other = solve_here(build(cost, size=given["size"], capacity=given["capacity"]), "capacity")
        if other.value is not None and other.value <= value:
            return False
    return True
