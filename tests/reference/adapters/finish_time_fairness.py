"""Finish-time fairness as stated in algorithms.md 4.6, by policy/finish.py."""

from __future__ import annotations

from typing import Any

from fairlead.policy.finish import rho, unfair


def answer(given: dict[str, Any]) -> dict[str, Any]:
    rhos = {
        job["id"]: rho(job["elapsed_s"], job["remaining_s"], job["ideal_isolated_s"])
        for job in given["jobs"]
    }
    return {"rho": rhos, "unfair": unfair(rhos), "max_rho": max(rhos.values())}
