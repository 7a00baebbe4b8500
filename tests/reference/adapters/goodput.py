"""Pollux' goodput at given points."""

from __future__ import annotations

from typing import Any

from fairlead.solve.goodput import Model, efficiency, goodput, step_s, throughput


def answer(given: dict[str, Any]) -> dict[str, Any]:
    model = Model(**given["theta"], **given["grad"], init_batch=given["init_batch"])
    points = [
        (each["nodes"], each["replicas"], each["local_batch"], each["accum"])
        for each in given["points"]
    ]
    return {
        "t_iter": [step_s(model, *point) for point in points],
        "throughput": [throughput(model, *point) for point in points],
        "efficiency": [efficiency(model, k * m * (s + 1)) for _, k, m, s in points],
        "goodput": [goodput(model, *point) for point in points],
    }
