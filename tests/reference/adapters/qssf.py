"""Quasi-shortest service first, by fairlead.predict.qssf."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fairlead.predict.qssf import priority


def answer(given: dict[str, Any]) -> dict[str, Any]:
    share = Fraction(str(given["lambda"]))
    priorities = {
        job["id"]: priority(job["gpus"], job["rolling_s"], job["model_s"], share)
        for job in given["jobs"]
    }
    return {"priority": priorities, "order": sorted(priorities, key=priorities.__getitem__)}
