"""Assignment beside lapx, generalised assignment beside HiGHS, in one run. JSON lines.

Both sides begin with the same integer matrix in memory and end with a plan. Ours has proven it by
then: prices for every pair, the lexicographically smallest plan, and the independent check, all in
the time shown. lapx answers with a plan. The two take turns; told is the ratio of their medians.

`uniform` costs are drawn from a million numbers; `few costs` from a hundred, so that many plans are
equally good and ours has to find the first of them; `alike` are products of row and column, where
all rows want the same resources. HiGHS gets the generalised assignment as one program, and is asked
for the same gap of 1 %.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from fairlead.solve.gap import _relaxation
from fairlead.solve.mip import Clock
from fairlead.solve.mip import solve as highs
from fairlead.solve.problem import Problem, build
from fairlead.solve.solver import solve_here

TARGET = 1.1
GAP = 0.01
LIMIT_S = 300.0


def matrix(kind: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    if kind == "uniform":
        return rng.integers(0, 10**6, (count, count))
    if kind == "few costs":
        return rng.integers(0, 100, (count, count))
    products = rng.integers(1, 99, (count, 1)) * rng.integers(1, 99, (1, count))
    return products + rng.integers(0, 20, (count, count))


def timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    found = work()
    return 1000 * (time.perf_counter() - began), found


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def assignment(kind: str, count: int, repeats: int, target: float | None) -> None:
    import lap

    cost = matrix(kind, count)
    problem = build(cost)
    ours, theirs = [], []
    for _ in range(repeats):
        ms, plan = timed(lambda: lap.lapjv(cost.astype(np.float64)))
        theirs.append(ms)
        value = int(cost[np.arange(count), plan[1]].sum())
        ms, answer = timed(lambda: solve_here(problem, "once"))
        ours.append(ms)
        assert answer.value == value and answer.status == "optimal"
    line: dict[str, object] = {
        "what": f"assignment {count:,} x {count:,}, {kind}: ours / lapx",
        "unit": "x",
        "value": round(statistics.median(ours) / statistics.median(theirs), 3),
        "better": "less",
        "ours_ms": [round(f(ours), 1) for f in (min, statistics.median, max)],
        "lapx_ms": [round(f(theirs), 1) for f in (min, statistics.median, max)],
        "smallest": answer.smallest,
        "repeats": repeats,
    }
    say(line | ({"target": target} if target else {}))


def packing(tasks: int, resources: int) -> None:
    rng = np.random.default_rng(3)
    size = rng.integers(5, 26, (tasks, resources))
    cost = rng.integers(10, 51, (tasks, resources))
    capacity = np.full(resources, int(0.8 * size.mean() * tasks / resources))
    names = tuple(map(str, range(max(tasks, resources))))
    problem = Problem(cost, names[:tasks], names[:resources], tuple(capacity.tolist()), size)
    ours, answer = timed(lambda: solve_here(problem, "capacity", gap=GAP, limit_s=LIMIT_S))
    pairs = np.arange(cost.size)

    def whole() -> object:
        model = _relaxation(cost, size, capacity, pairs, None)._replace(integer=True)
        return highs(model, Clock(LIMIT_S), gap=GAP)

    theirs, result = timed(whole)
    say(
        {
            "what": f"generalised assignment {tasks:,} x {resources} to 1 %: ours / HiGHS",
            "unit": "x",
            "value": round(ours / theirs, 3),
            "better": "less",
            "target": 1.0,
            "ours_ms": round(ours),
            "highs_ms": round(theirs),
            "ours_gap_percent": round(100 * float(answer.gap), 3),
            "ours_cost": answer.value,
            "highs_cost": round(result.objective),
        }
    )


if __name__ == "__main__":
    # HiGHS writes its name to stdout whatever it is told: keep that to the lines of JSON.
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = lines
    assignment("uniform", 1000, 9, TARGET)
    assignment("uniform", 3000, 5, TARGET)
    assignment("few costs", 1000, 5, None)
    assignment("few costs", 3000, 3, None)
    assignment("alike", 1000, 3, None)
    packing(3000, 100)
