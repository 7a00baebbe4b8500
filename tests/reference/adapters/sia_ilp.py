"""One round of Sia."""

from __future__ import annotations

from typing import Any

from fairlead.solve.sia import Config, Elastic, choose


def answer(given: dict[str, Any]) -> dict[str, Any]:
    configs = [Config(each["type"], each["gpus"]) for each in given["configs"]]
    jobs = [
        Elastic(tuple(row), restart, current)
        for row, restart, current in zip(
            given["goodput"], given["restart"], given["current"], strict=True
        )
    ]
    found = choose(jobs, configs, given["capacity"], power=given["p"], left_out=given["lambda"])
    assert found.status == "optimal"
    return {"choice": found.choice, "objective": found.objective}
