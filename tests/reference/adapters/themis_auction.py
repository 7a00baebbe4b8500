"""The auction of Themis as stated in algorithms.md 4.6, by policy/themis.py."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fairlead.policy.themis import auction


def answer(given: dict[str, Any]) -> dict[str, Any]:
    names = [app["id"] for app in given["apps"]]
    bids = [
        [
            (int(gpus), 1 / Fraction(rho).limit_denominator(10**9))
            for gpus, rho in app["rho"].items()
        ]
        for app in given["apps"]
    ]
    found = auction(given["gpus"], bids)
    return {
        "pf": dict(zip(names, found.best, strict=True)),
        "c": dict(zip(names, found.kept, strict=True)),
        "won": dict(zip(names, found.won, strict=True)),
        "leftover": found.left,
    }
