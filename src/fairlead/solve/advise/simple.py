"""Plans without any program: first come, first served by device model, and equal time for all.

The forms that know nothing of how fast jobs are, with which Gavel is compared, and Gavel's FIFO
(Narayanan et al., OSDI 2020, section 4; policies/fifo.py, read, commit c4fa400).
"""

from __future__ import annotations

from fairlead.model.advice import WHOLE, Candidate, Question, Share
from fairlead.model.base import JobId
from fairlead.model.events import Advised
from fairlead.solve.advise.rates import completed


def fifo(question: Question) -> Advised:
    """Give each job in turn the fastest model that is free, anew each time: it may move up."""
    free = list(question.amounts_milli)
    found: dict[str, list[JobId]] = {}
    for job in sorted(completed(question).jobs, key=_arrival):
        if not _take_best(question, job, free, _speeds(job), found):
            break
    return _plan("gavel-fifo", found)


def fifo_blind(question: Question) -> Advised:
    """Give each job in turn what is faster for most jobs; who runs stays where it is."""
    free = list(question.amounts_milli)
    found: dict[str, list[JobId]] = {}
    for job in question.jobs:
        if job.on is not None and job.on in question.models:
            free[question.models.index(job.on)] -= job.width_milli
            found.setdefault(job.on, []).append(job.job)
    for job in sorted(question.jobs, key=_arrival):
        same = [int(speed != 0) for speed in job.micro_per_s]
        if job.on is None and not _take_best(question, job, free, same, found):
            break
    return _plan("gavel-fifo-blind", found)


def las(question: Question) -> Advised:
    """Give all jobs equal time of devices by weight, each a part of every model that it takes."""
    jobs = [job for job in question.jobs if any(speed != 0 for speed in job.micro_per_s)]
    level = _level([(job.width_milli, job.weight) for job in jobs], sum(question.amounts_milli))
    plan: dict[tuple[tuple[str, int], ...], list[JobId]] = {}
    for job in jobs:
        open_to = [
            amount if speed != 0 and amount >= job.width_milli else 0
            for speed, amount in zip(job.micro_per_s, question.amounts_milli, strict=True)
        ]
        there = sum(open_to)
        if not there:
            continue
        time = min(WHOLE, int(level * job.weight * WHOLE / job.width_milli))
        parts = [amount * time // there for amount in open_to]
        named = zip(question.models, parts, strict=True)
        on = tuple((model, part) for model, part in named if part > 0)
        plan.setdefault(on, []).append(job.job)
    return Advised(
        adviser="gavel-las",
        plan=tuple(Share(jobs=tuple(ids), on=on) for on, ids in plan.items()),
        because=f"{level / 1000:.4g} devices for each",
    )


def _level(jobs: list[tuple[int, int]], amount: int) -> float:
    """Return the level at which what all take, each at most its width, is what there is."""
    left, weights = float(amount), float(sum(weight for _, weight in jobs))
    for width, weight in sorted(jobs, key=lambda job: job[0] / job[1]):
        level = left / weights
        if level * weight < width:
            return level
        left, weights = left - width, weights - weight
    return float(amount)


def _speeds(job: Candidate) -> list[int]:
    known = [speed for speed in job.micro_per_s if speed]
    guess = min(known) if known else 1
    return [guess if speed is None else speed for speed in job.micro_per_s]


def _take_best(
    question: Question,
    job: Candidate,
    free: list[int],
    speeds: list[int],
    found: dict[str, list[JobId]],
) -> bool:
    """Give a job the best model that has room, the first of equals; False if none has.

    A job that no model could take at all is in nobody's way.
    """
    able = [
        at
        for at, amount in enumerate(question.amounts_milli)
        if speeds[at] and amount >= job.width_milli
    ]
    open_to = [at for at in able if free[at] >= job.width_milli]
    if open_to:
        at = max(open_to, key=lambda each: (speeds[each], -each))
        free[at] -= job.width_milli
        found.setdefault(question.models[at], []).append(job.job)
    return bool(open_to) or not able


def _plan(name: str, found: dict[str, list[JobId]]) -> Advised:
    shares = [Share(jobs=tuple(jobs), on=((model, WHOLE),)) for model, jobs in found.items()]
    return Advised(adviser=name, plan=tuple(shares))


def _arrival(job: Candidate) -> tuple[int, int]:
    return (job.submitted_ms, job.job)
