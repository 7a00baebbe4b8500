"""The Gittins index, by fairlead.policy.gittins, which counts in whole units of service."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from fairlead.policy.gittins import GittinsTable


def answer(given: dict[str, Any]) -> dict[str, Any]:
    values = [Fraction(str(each)) for each in (*given["samples"], *given["attained"])]
    delta = None if given.get("delta") is None else Fraction(str(given["delta"]))
    second = math.lcm(*(each.denominator for each in (*values, delta or Fraction(1))))
    table = GittinsTable(
        [int(value * second) for value in values[: len(given["samples"])]],
        None if delta is None else int(delta * second),
    )
    attained = [int(value * second) for value in values[len(given["samples"]) :]]
    found = [table.index(each) for each in attained]
    best = [table.best_delta(each) for each in attained]
    return {
        "index": [None if each is None else each * second for each in found],
        "best_delta": [None if each is None else Fraction(each, second) for each in best],
    }
