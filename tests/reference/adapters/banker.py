"""The banker's safety check and its decision on a request."""

from __future__ import annotations

from typing import Any

from fairlead.policy.deadlock.banker import Claim, grant, safe_sequence, unsafe_set


def _amounts(row: list[int]) -> dict[str, int]:
    return {str(index): amount for index, amount in enumerate(row)}


def answer(given: dict[str, Any]) -> dict[str, Any]:
    claims = [
        Claim(_amounts(held), _amounts([m - h for m, h in zip(most, held, strict=True)]))
        for most, held in zip(given["max"], given["allocation"], strict=True)
    ]
    free = _amounts(given["available"])
    order = safe_sequence(claims, free)
    found: dict[str, Any] = {"safe": order is not None, "sequence": order}
    found["unsafe_set"] = unsafe_set(claims, free)
    if "request" in given:
        asked = given["request"]
        found["grant"] = grant(claims, free, asked["process"], _amounts(asked["amounts"]))
    return found
