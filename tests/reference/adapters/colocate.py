"""Pairs of jobs on shared GPUs."""

from __future__ import annotations

from typing import Any

from fairlead.solve.colocate import allowed, share


def answer(given: dict[str, Any]) -> dict[str, Any]:
    rates = {}
    for names, pair in given["pair_rate"].items():
        one, other = names.split("|")
        rates[one, other] = (pair[0], pair[1])
    pairs = allowed(rates, min_gain=given["min_gain"], min_rate=given["min_rate"])
    found = share(given["jobs"], pairs, given["solo_gpus"])
    assert found.status == "optimal"
    return {
        "pairs": ["|".join(pair) for pair in found.pairs],
        "alone": found.alone,
        "waiting": found.waiting,
        "objective": found.total,
    }
