"""Finish-time fairness: who ends latest, measured by what an equal part of the cluster would do.

A job's rho is the time from its submission to its end as things are, over the time that it would
take with an nth of the cluster to itself, n being how many jobs there were on average while it was
there. At most 1 is fair; a little more cannot be helped where the load changes. What waits is
taken to start now: else all that waits would be equally badly off. Source: Mahajan et al., NSDI
2020 (Themis); algorithms.md 4.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from fractions import Fraction
from typing import TypeVar

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import Ms
from fairlead.model.jobs import Phase, PolicyConfig
from fairlead.model.resources import CPU, GPU, asked_in_all, width_milli
from fairlead.policy.order import Key, Order, expected_ms, remaining_ms

LEASED = ("ftf", "themis")  # orders by which places change hands once in a lease
HANDOVER = 20  # that part of a lease, at its beginning, in which they do
RHO_BITS = 40  # a key sorts as the exact fraction does, to so many bits
Name = TypeVar("Name")


def rho(elapsed: int, remaining: int, ideal: Fraction | int) -> Fraction:
    """Return finish-time fairness: (elapsed + remaining at the present share) / ideal.

    All in one unit of time, the ideal above zero.
    """
    return Fraction(elapsed + remaining, ideal)


def ideal_ms(run_ms: Ms, width: int, capacity: int, crowd: Fraction) -> Fraction:
    """Return how long a job takes with a part of the cluster to itself, 1 of `crowd`.

    `width` and `capacity` in one unit. What is wider than its part runs as much slower; what is
    narrower is no quicker for that.
    """
    crowd = max(crowd, Fraction(1))
    return run_ms * max(Fraction(1), Fraction(width * crowd, max(capacity, 1)))


def unfair(rhos: Mapping[Name, Fraction]) -> list[Name]:
    """Return who is worse off than alone with its part, the worst first; ties as they came."""
    return sorted((name for name, each in rhos.items() if each > 1), key=lambda name: -rhos[name])


def round_start(now: Ms, lease_ms: Ms) -> Ms:
    """Return when the present round of leases began."""
    return now - now % lease_ms


def lease_over(config: PolicyConfig, started_ms: Ms | None, now: Ms) -> bool:
    """Whether the place of a job that started then may go to another now.

    Only at the beginning of a round, and for who had it when the round began.
    """
    begun = round_start(now, config.lease_ms)
    if now - begun > config.lease_ms // HANDOVER:
        return False
    return started_ms is None or started_ms < begun


class Standing:
    """How well off the jobs of a core are, as of the beginning of the present round."""

    def __init__(self, core: Core, lease_ms: Ms) -> None:
        self.core, self.lease_ms = core, lease_ms
        self.begun = round_start(core.clock, lease_ms)
        # Up to now, with those who are here: an integral of their number over time.
        self.crowd = core.crowd_ms + len(core.jobs) * (core.clock - core.now)
        there = core.shares.capacity()
        self.gpus, self.cores = there[GPU], there[CPU]

    def finish_ms(self, job: Job) -> Ms:
        """Return how long a job takes from its submission to its end, if it runs from now on."""
        left = remaining_ms(job, self.core.clock)
        if job.phase is Phase.RUNNING and job.started_ms is not None:
            left += self.core.clock - max(self.begun, job.started_ms)
        return max(0, self.begun - job.submitted_ms) + left

    def rho(self, job: Job) -> Fraction:
        """Return the job's finish-time fairness if it runs from now on."""
        return Fraction(*self._parts(job))

    def _parts(self, job: Job) -> tuple[int, int]:
        """Return numerator and denominator: whole numbers are quicker than fractions."""
        age = self.core.clock - job.submitted_ms
        crowd = self.crowd - job.crowd_ms if age else len(self.core.jobs)
        age = age or 1
        shape = job.spec.shape
        capacity = max(self.gpus if asked_in_all(shape)[GPU] else self.cores, 1)
        alone = max(capacity * age, width_milli(shape) * max(crowd, age))
        return self.finish_ms(job) * capacity * age, max(expected_ms(job), 1) * alone

    def key(self, job: Job) -> Key:
        """Return the job's place among those that are worst off first."""
        above, below = self._parts(job)
        return (-((above << RHO_BITS) // below), job.submitted_ms, job.id)


def worst_first(core: Core, lease_ms: Ms) -> Order:
    """Return the order by which the worst off comes first, as of the present round."""
    return Standing(core, lease_ms).key


def next_round(core: Core, config: PolicyConfig, live: Sized) -> Ms | None:
    """Return when a round begins in which somebody who waits could take a place; None: never."""
    if not core.pending or not live:
        return None
    return round_start(core.clock, config.lease_ms) + config.lease_ms
