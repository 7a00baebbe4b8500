"""Gavel's objectives as advisers: shares of time per job and device model (algorithms.md 5.1).

Jobs that are equal in all that an objective sees are one class, so a program is as large as there
are kinds of jobs, not as there are jobs. Speeds that nobody knows are filled in by the log-rate
model where it can (algorithms.md 10.4); else the slowest that is known of a job stands for them,
and a job of which no speed is known is taken to be equally fast everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from fairlead.model.advice import WHOLE, Candidate, Question, Share
from fairlead.model.base import JobId, Misuse
from fairlead.model.events import Advised
from fairlead.solve import gavel, gavel_time
from fairlead.solve.advise.rates import completed
from fairlead.solve.gavel import Allocation, JobClass
from fairlead.solve.waterfill import hierarchical, water_filling

MICRO = 1_000_000
HOUR_S = 3600.0
Solve: TypeAlias = Callable[[Sequence[JobClass], Sequence[int]], Allocation]
# What an objective sees of a job beside its rates, width and weight.
Seen: TypeAlias = Callable[[Question, Candidate, tuple[float, ...]], Mapping[str, object]]


def max_min(question: Question) -> Advised:
    """Return the shares with the greatest least normalised speed."""
    return _advised("gavel-maxmin", question, gavel.max_min)


def water_fill(question: Question) -> Advised:
    """Return max-min shares, and whatever more each can have at no cost to those with less."""
    return _advised("gavel-waterfill", question, water_filling)


def throughput(question: Question) -> Advised:
    """Return the shares with the greatest sum of normalised speeds."""
    return _advised("gavel-throughput", question, gavel.sum_throughput)


def makespan(question: Question) -> Advised:
    """Return the shares with which all steps are done soonest."""
    return _advised("gavel-makespan", question, gavel.makespan, _steps)


def ftf(question: Question) -> Advised:
    """Return the shares with the least worst finish-time fairness."""
    return _advised("gavel-ftf", question, gavel_time.ftf, _finish)


def tree(question: Question) -> Advised:
    """Return shares that are fair among queues by weight, and among the jobs of each."""
    entities = {name: float(weight) for name, weight in question.weights}

    def solve(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
        return hierarchical(classes, devices, entities)

    return _advised("gavel-tree", question, solve, _entity)


def tree_fifo(question: Question) -> Advised:
    """Return shares that are fair among queues by weight, in each first come, first served.

    Jobs behind so many of their queue that those fill the cluster have no share.
    """
    entities = {name: float(weight) for name, weight in question.weights}
    before: dict[str, int] = dict.fromkeys(entities, 0)
    first: list[Candidate] = []
    for job in sorted(question.jobs, key=_arrival):
        if before[job.entity] < sum(question.amounts_milli):
            before[job.entity] += job.width_milli
            first.append(job)

    def solve(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
        return hierarchical(classes, devices, entities, inside="fifo")

    return _advised("gavel-tree-fifo", question, solve, _alone, first)


def cost(question: Question) -> Advised:
    """Return the shares with the most steps for the money. Raises Misuse without prices."""
    prices = _prices(question)

    def solve(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
        return gavel_time.cost(classes, devices, prices)

    return _advised("gavel-cost", question, solve)


def cost_slo(question: Question) -> Advised:
    """Return the same with deadlines kept, as far as they can be. Raises Misuse without prices."""
    prices = _prices(question)

    def solve(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
        return gavel_time.cost_slo(classes, devices, prices)

    return _advised("gavel-slo", question, solve, _deadline)


# ---- from questions to classes -----------------------------------------------------------------


def _advised(
    name: str,
    question: Question,
    solve: Solve,
    seen: Seen | None = None,
    jobs: Sequence[Candidate] | None = None,
) -> Advised:
    """Return the plan of an objective for classes of equal jobs; who can run nowhere has none."""
    whole = completed(question)
    jobs = whole.jobs if jobs is None else completed(replace(question, jobs=tuple(jobs))).jobs
    question = whole
    unit = math.gcd(*question.amounts_milli, *(job.width_milli for job in question.jobs)) or 1
    classes: dict[tuple[object, ...], tuple[JobClass, list[JobId]]] = {}
    for job in jobs:
        more = {} if seen is None else seen(question, job, _rates(question, job))
        key = (job.micro_per_s, job.width_milli, job.weight, *more.values())
        known = classes.get(key)
        if known is None:
            made = _class(question, job, unit, more)
            known = classes[key] = (made, [])
        known[1].append(job.job)
    kept = [(made, ids) for made, ids in classes.values() if any(made.rates)]
    if not kept:
        return Advised(adviser=name, plan=())
    asked = [_counted(made, len(ids)) for made, ids in kept]
    found = solve(asked, [amount // unit for amount in question.amounts_milli])
    plan = [
        Share(jobs=tuple(ids), on=on)
        for (_, ids), shares in zip(kept, found.shares, strict=True)
        if (on := _parts(question, shares))
    ]
    said = f"objective {found.objective:.4g}"
    if found.dropped:
        said += f"; {len(found.dropped)} kinds of deadlines cannot be kept"
    return Advised(adviser=name, plan=tuple(plan), because=said, gap_ppm=0)


def _parts(question: Question, shares: Sequence[float]) -> tuple[tuple[str, int], ...]:
    whole = [round(part * WHOLE) for part in shares]
    named = zip(question.models, whole, strict=True)
    return tuple((model, part) for model, part in named if part > 0)


def _class(question: Question, job: Candidate, unit: int, more: Mapping[str, object]) -> JobClass:
    return JobClass(
        name="",
        rates=_rates(question, job),
        scale=max(job.width_milli // unit, 1),
        weight=float(job.weight),
        **{key: value for key, value in more.items() if key != "job"},  # type: ignore[arg-type]
    )


def _rates(question: Question, job: Candidate) -> tuple[float, ...]:
    """Return steps/s on each model, 0 where there are fewer devices than the job needs."""
    known = [speed for speed in job.micro_per_s if speed]
    guess = min(known) if known else MICRO
    return tuple(
        (guess if speed is None else speed) / MICRO if amount >= job.width_milli else 0.0
        for speed, amount in zip(job.micro_per_s, question.amounts_milli, strict=True)
    )


def _counted(made: JobClass, count: int) -> JobClass:
    return JobClass(**{**vars(made), "count": count})


def _entity(question: Question, job: Candidate, rates: tuple[float, ...]) -> Mapping[str, object]:
    return {"entity": job.entity}


def _alone(question: Question, job: Candidate, rates: tuple[float, ...]) -> Mapping[str, object]:
    return {"entity": job.entity, "job": job.job}


def _steps(question: Question, job: Candidate, rates: tuple[float, ...]) -> Mapping[str, object]:
    return {"steps": _left(job, rates)}


def _left(job: Candidate, rates: tuple[float, ...]) -> float:
    """Return the steps to make: told, or from what is expected of it, or an hour's."""
    if job.left:
        return float(job.left)
    left_s = HOUR_S if job.expected_ms is None else job.expected_ms / 1000
    return left_s * max(max(rates), 1 / MICRO)


def _finish(question: Question, job: Candidate, rates: tuple[float, ...]) -> Mapping[str, object]:
    """Return what finish-time fairness sees; ideal is its equal part of every model."""
    left, elapsed = _left(job, rates), (question.now - job.submitted_ms) / 1000
    parts = [amount / 1000 / len(question.jobs) for amount in question.amounts_milli]
    spread = max(sum(parts), 1.0)
    equal = sum(rate * part / spread for rate, part in zip(rates, parts, strict=True))
    if not equal:
        return {}
    total = max(float(job.steps), left)
    return {"steps": left, "elapsed_s": max(elapsed, 0.0), "ideal_s": total / equal}


def _deadline(question: Question, job: Candidate, rates: tuple[float, ...]) -> Mapping[str, object]:
    """Return how soon a job should be done; a deadline that is past is none."""
    if job.deadline_ms is None or job.deadline_ms <= question.now:
        return {}
    return {"steps": _left(job, rates), "slo_s": (job.deadline_ms - question.now) / 1000}


def _prices(question: Question) -> list[float]:
    """Return the price of a device of each model; where none is told all cost the same.

    Raises Misuse where some are told and others not.
    """
    told = dict(zip(question.models, question.prices, strict=True))
    if not any(told.values()):
        return [1.0] * len(question.models)
    missing = [model for model, price in told.items() if model and not price]
    if missing:
        raise Misuse(
            f"there is no price of {', '.join(sorted(missing))}",
            field="prices",
            hint='set prices of all models per GPU hour, such as prices = "v100:2.5,p100:1.2"',
        )
    dearest = max(told.values(), default=0) or 1  # of nodes without GPUs nobody asks a price
    return [(price or dearest) / MICRO for price in question.prices]


def _arrival(job: Candidate) -> tuple[int, int]:
    return (job.submitted_ms, job.job)
