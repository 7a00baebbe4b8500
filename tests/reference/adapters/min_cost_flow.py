"""Assignment with capacities, tasks left out at a penalty, by fairlead.solve."""

from __future__ import annotations

from itertools import product
from typing import Any

from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here


def answer(given: dict[str, Any]) -> dict[str, Any]:
    problem = build(given["cost"], capacity=given["capacity"], penalty=given["unplaced_penalty"])
    found = solve_here(problem, "capacity")
    return {"cost": found.value, "assignment": found.plan, "unique": _unique(given, found)}


def _unique(given: dict[str, Any], found: Any) -> bool:
    """Whether no other plan keeps to the prices that prove this one."""
    tight: list[list[int | None]] = []
    for u, row in zip(found.duals.u, given["cost"], strict=True):
        tight.append(
            [
                j
                for j, (cost, v) in enumerate(zip(row, found.duals.v, strict=True))
                if cost is not None and cost == u + v
            ]
        )
        if given["unplaced_penalty"] is not None and given["unplaced_penalty"] == u:
            tight[-1].append(None)
    plans = [
        plan
        for plan in product(*tight)
        if all(
            plan.count(j) == most if found.duals.v[j] < 0 else plan.count(j) <= most
            for j, most in enumerate(given["capacity"])
        )
    ]
    return len(plans) == 1
