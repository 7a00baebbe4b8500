"""Closed forms of queueing theory, by fairlead.sim.oracles."""

from __future__ import annotations

from typing import Any

from fairlead.sim import oracles

SIZES = {
    "exp": lambda s: oracles.exponential(s["mean"]),
    "h2": lambda s: oracles.Hyperexponential((s["p"], 1 - s["p"]), (s["m1"], s["m2"])),
    "uniform": lambda s: oracles.Uniform(s["a"], s["b"]),
    "det": lambda s: oracles.Constant(s["d"]),
    "bpareto": lambda s: oracles.BoundedPareto(s["alpha"], s["lo"], s["hi"]),
}


def answer(given: dict[str, Any]) -> dict[str, Any]:
    if given["model"] == "mmc":
        rate, mu, servers = given["lambda"], given["mu"], given["c"]
        mean = oracles.mmc_response(rate, mu, servers)
        p_wait = oracles.erlang_c(servers, rate / mu)
        return {"mean_response": mean, "mean_in_system": rate * mean, "p_wait": p_wait}
    policy = given["policy"]
    if "classes" in given:
        classes = [(each["lambda"], _size(each["size"])) for each in given["classes"]]
        per_class = oracles.priority_responses(classes, preemptive=policy == "prio_pre")
        rates = [rate for rate, _ in classes]
        inside = sum(r * t for r, t in zip(rates, per_class, strict=True))
        return {
            "mean_response_per_class": per_class,
            "mean_response": inside / sum(rates),
            "mean_in_system": inside,
        }
    rate, size = given["lambda"], _size(given["size"])
    mean = oracles.mean_response(policy, rate, size)
    return {
        "mean_response": mean,
        "mean_in_system": rate * mean,
        "conditional": lambda asked: [
            {"x": x, "response": oracles.conditional(policy, rate, size, x)}
            for x in (point["x"] for point in asked)
        ],
    }


def _size(given: dict[str, Any]) -> oracles.Size:
    return SIZES[given["dist"]](given)
