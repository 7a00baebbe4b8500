"""The seed example under every reading, by fairlead.solve; its printed plan, by the checker."""

from __future__ import annotations

from typing import Any

from fairlead.solve.answer import Answer, Status
from fairlead.solve.check import faults
from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here

PRINTED = (0, 1, 0)  # what the seed document shows as its solution


def answer(given: dict[str, Any]) -> dict[str, Any]:
    problem = build(given["cost"])
    found = {
        reading: solve_here(problem, reading)
        for reading in ("once", "as-many-as-possible", "shared-total", "makespan", "sum-completion")
    }
    once, most, shared = found["once"], found["as-many-as-possible"], found["shared-total"]
    assert once.explanation is not None and once.explanation.irreducible
    assert once.counter_offer is not None and once.counter_offer.plan == most.plan
    cost = sum(given["cost"][task][resource] for task, resource in enumerate(PRINTED))
    (wrong,) = faults(problem, Answer(Status.FEASIBLE, "once", cost, PRINTED))
    shared_by_two = problem.resources[int(wrong.split()[1])]
    return {
        "readings": {
            "unit_capacity_one_shot": {
                "status": str(once.status),
                "max_tasks": once.explanation.placeable,
                "iis": list(once.explanation.rows),
            },
            "shared_min_total_time": {"cost": shared.value, "assignment": shared.plan},
            "printed_solution": {
                "assignment": PRINTED,
                "cost": cost,
                "violates": f"{shared_by_two} at most once",
                "worse_than_optimum_by": cost - shared.value,
            },
            "place_as_many_as_possible": {
                "placed": most.placed,
                "cost": most.value,
                "assignment": {
                    problem.tasks[task]: resource + 1  # this row counts resources from 1
                    for task, resource in enumerate(most.plan)
                    if resource is not None
                },
                "unplaced": [problem.tasks[t] for t, r in enumerate(most.plan) if r is None],
                "unique": _unique(given, most),
            },
            "sequential_min_makespan": {
                "makespan": found["makespan"].value,
                "assignment": found["makespan"].plan,
            },
            "sequential_min_sum_completion": {
                "sum_completion": found["sum-completion"].value,
                "assignment": found["sum-completion"].plan,
            },
        }
    }


def _unique(given: dict[str, Any], most: Answer) -> bool:
    """Whether a plan without some pair of this one places fewer tasks or costs more."""
    for task, resource in enumerate(most.plan):
        if resource is not None:
            cost = [list(row) for row in given["cost"]]
            cost[task][resource] = None
            other = solve_here(build(cost), "as-many-as-possible")
            if other.placed == most.placed and other.value <= most.value:
                return False
    return True
