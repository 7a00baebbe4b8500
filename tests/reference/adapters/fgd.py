"""Fragmentation of nodes, and what placing a task does to it, in exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from fairlead.policy.place.fgd import NO, Fragments, Task, Workload

UNIT = 10_000  # popularities of the cases have four decimals


def answer(given: dict[str, Any]) -> dict[str, Any]:
    names = sorted(given["nodes"])
    nodes = [given["nodes"][name] for name in names]
    weights: dict[Task, int] = {}
    for each in given["workload"]:
        share = Fraction(str(each["p"])) * UNIT
        assert share.denominator == 1
        weights[_task(each)] = weights.get(_task(each), 0) + int(share)
    total = sum(weights.values())
    values = _fragments(nodes, weights).value
    found: dict[str, Any] = {
        "F": dict(zip(names, [Fraction(int(each), UNIT) for each in values], strict=True)),
        "F_per_class": {
            name: [int(_fragments([node], {_task(m): 1}).value[0]) for m in given["workload"]]
            for name, node in zip(names, nodes, strict=True)
        },
    }
    if "task" in given:
        assert total == UNIT
        found |= _placed(names, nodes, weights, _task(given["task"]))
    return found


def _placed(names, nodes, weights, task: Task) -> dict[str, Any]:
    grown = _fragments(nodes, weights).increase(task, np.arange(len(nodes)))
    delta = {}
    for node, row in enumerate(grown.tolist()):
        for gpu, value in enumerate(row):
            if value != NO:
                key = f"{names[node]}:{gpu}" if task.milli < 1000 else names[node]
                delta[key] = Fraction(value, UNIT)
    node, gpu = divmod(int(grown.argmin()), grown.shape[1])
    choice = f"{names[node]}:{gpu}" if task.milli < 1000 else names[node]
    return {"delta": delta, "choice": choice}


def _task(given: dict[str, Any]) -> Task:
    models = (given["model"],) if given.get("model") else ()
    return Task(given["cpu"], given["gpu_milli"], given["gpu_count"], models)


def _fragments(nodes, weights: dict[Task, int]) -> Fragments:
    kinds = [(node.get("model", ""),) for node in nodes]
    workload = Workload(weights, kinds, max(len(node["gpus"]) for node in nodes))
    return Fragments(workload, [n["cpu"] for n in nodes], [n["gpus"] for n in nodes], kinds)
