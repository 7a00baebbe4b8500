"""PS and FB on one server, by fairlead.sim.fluid on fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fairlead.sim.fluid import fluid


def answer(given: dict[str, Any]) -> dict[str, Any]:
    arrivals = [Fraction(str(job["arrival"])) for job in given["jobs"]]
    done = fluid(given["policy"], arrivals, [Fraction(str(job["size"])) for job in given["jobs"]])
    took = sum(done.finish, Fraction(0)) - sum(arrivals, Fraction(0))
    return {
        "finish": {job["id"]: end for job, end in zip(given["jobs"], done.finish, strict=True)},
        "mean_jct": took / len(arrivals),
    }
