"""Bounds of schedules on equal machines, by fairlead.solve.bounds; optima by fairlead.solve."""

from __future__ import annotations

from typing import Any

from fairlead.solve import bounds
from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here


def answer(given: dict[str, Any]) -> dict[str, Any]:
    times, machines, weights = given["p"], given["machines"], given["weights"]
    alike = build([[p] * machines for p in times])
    total = solve_here(alike, "sum-completion").value
    assert total == bounds.sum_completion(times, machines)
    return {
        "area": bounds.area(times, machines),
        "longest": max(times),
        "makespan_bound": bounds.makespan(times, machines)[0],
        "makespan_opt": solve_here(alike, "makespan").value,
        "sum_completion_opt": total,
        "weighted_bound": bounds.weighted_completion(times, weights, machines),
        "weighted_opt": bounds.weighted_optimum(times, weights, machines),
    }
