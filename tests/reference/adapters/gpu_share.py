"""Fewest GPUs for tasks that share them: bound, first-fit decreasing, and exactly."""

from __future__ import annotations

from typing import Any

from fairlead.policy.place.share import Part, first_fit_decreasing, lower_bound
from fairlead.solve.share import fewest_gpus


def answer(given: dict[str, Any]) -> dict[str, Any]:
    memory = given["gpu"]["mem"]
    assert given["gpu"]["milli"] == 1000
    parts = [
        Part(each["id"], each["milli"], each["mem"], each.get("exclusive", False))
        for each in given["tasks"]
    ]
    index = {part.id: at for at, part in enumerate(parts)}
    packed = first_fit_decreasing(parts, memory)
    sizes = [(1000, memory) if part.exclusive else (part.milli, part.memory) for part in parts]
    start = [[index[name] for name in gpu] for gpu in packed]
    exact = fewest_gpus(sizes, (1000, memory), start, lower_bound(parts, memory))
    assert exact.status == "optimal"
    return {
        "gpus": len(exact.gpus),
        "lower_bound": lower_bound(parts, memory),
        "first_fit_decreasing": len(packed),
    }
