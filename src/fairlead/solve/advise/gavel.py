"""Gavel's objectives as advisers: shares of time per job and device model (algorithms.md 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fairlead.model.advice import WHOLE, Candidate, Question, Share
from fairlead.model.events import Advised
from fairlead.solve import gavel
from fairlead.solve.gavel import Allocation, JobClass

MICRO = 1_000_000


def max_min(question: Question) -> Advised:
    """Return the shares with the greatest least normalised speed."""
    return _advised("gavel-maxmin", question, gavel.max_min)


def _advised(
    name: str,
    question: Question,
    solve: Callable[[Sequence[JobClass], Sequence[int]], Allocation],
) -> Advised:
    """Return the plan of an objective for classes of equal jobs; who can run nowhere has none."""
    classes: dict[JobClass, list[int]] = {}
    for job in question.jobs:
        made = _class(question, job)
        if any(made.rates):
            classes.setdefault(made, []).append(job.job)
    if not classes:
        return Advised(adviser=name, plan=())
    asked = [_counted(made, len(jobs)) for made, jobs in classes.items()]
    found = solve(asked, [amount // 1000 for amount in question.amounts_milli])
    plan = [
        Share(
            jobs=tuple(jobs),
            on=tuple(
                (model, round(part * WHOLE))
                for model, part in zip(question.models, shares, strict=True)
                if round(part * WHOLE) > 0
            ),
        )
        for jobs, shares in zip(classes.values(), found.shares, strict=True)
    ]
    return Advised(adviser=name, plan=tuple(plan), because=f"least level {found.objective:.4g}")


def _class(question: Question, job: Candidate) -> JobClass:
    """Return what an objective sees of a job. Where no speed is known all models are equal."""
    scale = max(job.width_milli // 1000, 1)
    known = [speed for speed in job.micro_per_s if speed]
    guess = min(known) if known else MICRO
    rates = [
        (guess if speed is None else speed) / MICRO if amount >= job.width_milli else 0.0
        for speed, amount in zip(job.micro_per_s, question.amounts_milli, strict=True)
    ]
    return JobClass(name="", rates=tuple(rates), scale=scale)


def _counted(made: JobClass, count: int) -> JobClass:
    return JobClass(**{**vars(made), "count": count})
