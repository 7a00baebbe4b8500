"""Assignment, each task exactly once and each resource at most once, by fairlead.solve."""

from __future__ import annotations

from typing import Any

from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here


def answer(given: dict[str, Any]) -> dict[str, Any]:
    found = solve_here(build(given["cost"]), "once")
    body: dict[str, Any] = {"status": str(found.status)}
    if found.explanation is not None:
        names = ("tasks", "resources", "shortage", "placeable")
        body["explain"] = {
            name: list(value) if isinstance(value, tuple) else value
            for name in names
            for value in (getattr(found.explanation, name),)
        }
    if found.duals is not None:
        body |= {"cost": found.value, "assignment": found.plan, "optima": _count(given, found)}
        body["duals"] = {"u": found.duals.u, "v": found.duals.v}
    return body


def _count(given: dict[str, Any], found: Any) -> int:
    """Return how many plans the prices allow: all of them are optimal, and no other."""
    u, v = found.duals.u, found.duals.v
    priced = {j for j, price in enumerate(v) if price < 0}

    def plans(task: int, used: frozenset[int]) -> int:
        if task == len(u):
            return int(priced <= used)
        return sum(
            plans(task + 1, used | {j})
            for j, cost in enumerate(given["cost"][task])
            if cost is not None and j not in used and cost == u[task] + v[j]
        )

    return plans(0, frozenset())
