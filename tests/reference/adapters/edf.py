"""Deadlines on identical machines, by fairlead.policy.deadline, which counts in whole ticks."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from fairlead.policy import deadline
from fairlead.policy.deadline import Work


def answer(given: dict[str, Any]) -> dict[str, Any]:
    rows = [
        [Fraction(str(job[name])) for name in ("release", "size", "deadline")]
        for job in given["jobs"]
    ]
    second = math.lcm(*(time.denominator for row in rows for time in row))
    works = [
        Work(job["id"], *(int(time * second) for time in row))
        for job, row in zip(given["jobs"], rows, strict=True)
    ]
    machines = given["machines"]
    first = deadline.demand_violation(works) if machines == 1 else None
    return {
        "feasible": deadline.verdict(works, machines) == "feasible",
        "demand_violation": None if first is None else [Fraction(t, second) for t in first],
        "edf_misses": deadline.edf_misses(works, machines),
    }
