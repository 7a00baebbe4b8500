"""Gavel's objectives of time and money: finish-time fairness, steps per money, SLOs (5.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fairlead.model.base import Misuse
from fairlead.solve.gavel import Allocation, JobClass, Problem, greatest_factor, steps_of
from fairlead.solve.lp import SolverFailed, Vector, linear

PROVEN = 1e-9  # relative: how near a value and its bound are
PROGRAMS_MAX = 200
HALVINGS = 60


def ftf(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
    """Return shares with the least worst rho = (elapsed + steps / rate) / ideal.

    Each program asks by what factor the rates that a rho needs can be had at once. Its duals give
    a rho below which none can be (Newton's step on the dual), its shares one that can: the two
    meet in a few programs, and the answer is proven to 1e-9.
    """
    problem = Problem(classes, devices)
    for job in problem.classes:
        if job.ideal_s is None or not job.ideal_s > 0:
            raise Misuse(f"{job.name} has no ideal time", field="ideal_isolated_s")
    low = max(_floor(job) for job in problem.classes)
    best: Allocation | None = None
    for _ in range(PROGRAMS_MAX):
        allocation, prices = greatest_factor(problem, _asked(problem, low))
        factor = allocation.objective
        worst = max(
            _rho(job, rate) for job, rate in zip(problem.given, allocation.rates, strict=True)
        )
        if best is None or worst < best.objective:
            best = replace(allocation, objective=worst)
        if factor >= 1 or best.objective <= low * (1 + PROVEN):
            return best
        low = max(_next(problem, prices, factor, low), low * (1 + PROVEN / 4))
    raise SolverFailed("finish-time fairness came to no proof")


def _rho(job: JobClass, rate: float) -> float:
    assert job.ideal_s is not None
    return (job.elapsed_s + steps_of(job) / rate) / job.ideal_s if rate > 0 else math.inf


def _floor(job: JobClass) -> float:
    """Return the rho of a job that has its fastest type all the time."""
    return _rho(job, max(job.rates))


def _asked(problem: Problem, rho: float) -> Vector:
    """Return the rate that each class needs for a rho above all its elapsed / ideal."""
    return np.array([
        steps_of(job) / (rho * (job.ideal_s or 0.0) - job.elapsed_s) for job in problem.classes
    ])  # fmt: skip


def _next(problem: Problem, prices: Vector, most: float, low: float) -> float:
    """Return the rho at which what it asks for costs `most` at these prices: none is below."""
    high = 2 * low
    while float(prices @ _asked(problem, high)) > most:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        dear = float(prices @ _asked(problem, middle)) > most
        low, high = (middle, high) if dear else (low, middle)
    return low


def cost(
    classes: Sequence[JobClass], devices: Sequence[int], prices: Sequence[float]
) -> Allocation:
    """Return shares with the most steps per money, prices per device and second.

    max (sum of rates) / (sum of prices), by Charnes and Cooper: what it costs is scaled to one.
    """
    found = _cost(Problem(classes, devices), prices, ())
    assert found is not None
    return found


def cost_slo(
    classes: Sequence[JobClass], devices: Sequence[int], prices: Sequence[float]
) -> Allocation:
    """Return the most steps per money with every SLO kept: rate >= steps / slo.

    If they cannot all be kept, `conflict` is a set of classes whose SLOs cannot be kept together
    while any all but one of them can, and SLOs are kept in the order of their time, earliest
    first, each if it can be beside those before it; the others are `dropped`.
    """
    problem = Problem(classes, devices)
    asking = [at for at, job in enumerate(problem.classes) if job.slo_s is not None]
    for at in asking:
        job = problem.classes[at]
        if not (job.slo_s is not None and job.slo_s > 0):
            raise Misuse(f"{job.name} has the SLO {job.slo_s} s", field="slo_s")
        steps_of(job)
    conflict: list[int] = []
    kept = asking
    if not _can_keep(problem, asking):
        conflict = _conflict(problem, asking)
        kept = []
        for at in sorted(asking, key=lambda at: (problem.classes[at].slo_s, at)):
            if _can_keep(problem, [*kept, at]):
                kept.append(at)
    found = _cost(problem, prices, kept)
    assert found is not None, "these SLOs were found to be possible"
    names = [problem.classes[at].name for at in conflict]
    dropped = [problem.classes[at].name for at in asking if at not in kept]
    return replace(found, conflict=tuple(sorted(names)), dropped=tuple(sorted(dropped)))


def _can_keep(problem: Problem, slos: Sequence[int]) -> bool:
    program, x, _ = problem.base()
    for at in slos:
        program.row(problem.rate(at, x[at]), least=_needed(problem.classes[at]))
    return linear(program).status == "optimal"


def _needed(job: JobClass) -> float:
    assert job.slo_s is not None
    return steps_of(job) / job.slo_s


def _conflict(problem: Problem, slos: Sequence[int]) -> list[int]:
    """Return a set of SLOs that cannot be kept, of which any can be left out so that they can.

    By deletion, the latest first: one that is not needed for the contradiction is left out.
    """
    kept = list(slos)
    for at in sorted(slos, key=lambda at: (-(problem.classes[at].slo_s or 0.0), at)):
        without = [each for each in kept if each != at]
        if not _can_keep(problem, without):
            kept = without
    return kept


def _cost(problem: Problem, prices: Sequence[float], slos: Sequence[int]) -> Allocation | None:
    if len(prices) != len(problem.devices):
        raise Misuse(f"{len(prices)} prices for {len(problem.devices)} types", field="cost_per_s")
    if any(not (price > 0 and math.isfinite(price)) for price in prices):
        raise Misuse(
            "prices must be positive: without one the best is infinite", field="cost_per_s"
        )
    program, y, z = problem.base(spread=0)
    assert z is not None
    unit = max(prices)  # of the scaled costs, so that all numbers are of like size
    paid = {
        column: job.count * job.scale * prices[j] / unit
        for job, columns in zip(problem.classes, y, strict=True)
        for j, column in columns.items()
    }
    program.row(paid, least=1.0, most=1.0)
    for at, columns in enumerate(y):
        for column, rate in problem.rate(at, columns, problem.classes[at].count).items():
            program.cost[column] = -rate
        if at in slos:
            needed = _needed(problem.classes[at])
            program.row({**problem.rate(at, columns), z: -needed}, least=0.0)
    answer = linear(program)
    if answer.value is None:
        return None
    values = answer.x.tolist()
    return problem.allocation(-answer.value / unit, y, values, over=values[z])
