"""Linear ageing: the priorities, the order, and the bound, by fairlead.policy.order.

The product counts in ms and points per hour and rounds a bound up to whole ms. Nothing in it
depends on the length of a tick, so here a tick is as short as makes the rate one point per
3,600,000 ticks: then every answer is exact.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fairlead.core.jobs import Job
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.policy.order import (
    HOUR_MS,
    Order,
    ageing,
    capped_ageing,
    effective_milli,
    protected_after_ms,
)

PER_HOUR = 1


def answer(given: dict[str, Any]) -> dict[str, Any]:
    ticks = int(Fraction(str(given["rate"])) * HOUR_MS / PER_HOUR)  # per second
    cap, now = given["cap"], ticks * given["at"]

    def effective(job: dict[str, Any], at: int) -> int:
        return effective_milli(job["base"], PER_HOUR, cap, at - ticks * job["arrival"])

    jobs = given["jobs"]
    order = sorted(jobs, key=lambda job: (-effective(job, now), job["arrival"], job["id"]))
    # The keys by which the product sorts must say the same.
    keys = ageing(PER_HOUR) if cap is None else capped_ageing(PER_HOUR, cap, now)
    assert order == _by_key(jobs, ticks, keys)
    pairs = []
    by_base = sorted(jobs, key=lambda job: job["base"])
    for index, low in enumerate(by_base):
        for high in by_base[index + 1 :]:
            if low["base"] < high["base"]:
                # Both gain alike from the moment both wait: it leads from there on, or never.
                both = max(low["arrival"], high["arrival"])
                leads = effective(low, ticks * both) > effective(high, ticks * both)
                pairs.append([low["id"], high["id"], both if leads else None])
    bounds = {
        job["id"]: protected_after_ms(
            job["base"], ticks * job["arrival"], PER_HOUR, cap, given["base_max"]
        )
        for job in jobs
    }
    bounded = None not in bounds.values()
    return {
        "order": [job["id"] for job in order],
        "effective": {job["id"]: Fraction(effective(job, now), 1000) for job in jobs},
        "overtake_after": pairs,
        "no_later_arrival_overtakes_after": {k: Fraction(v, ticks) for k, v in bounds.items()}
        if bounded
        else None,
    }


def _by_key(jobs: list[dict[str, Any]], ticks: int, key: Order) -> list[dict[str, Any]]:
    numbered = enumerate(sorted(jobs, key=lambda job: (job["arrival"], job["id"])), 1)

    def waiting(number: int, job: dict[str, Any]) -> Job:
        spec = JobSpec(shape=Shape(), priority=job["base"])
        return Job(number, spec, 0, ticks * job["arrival"], number)

    keyed = [(key(waiting(number, job)), job) for number, job in numbered]
    return [job for _, job in sorted(keyed, key=lambda pair: pair[0])]
