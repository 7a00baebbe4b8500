"""How fast each job is on each device model with each number of members, known or estimated.

What is told or measured is taken as it is. Between two known numbers of members the logarithm of
the speed is taken as linear in that of the number, beyond them speed as proportional to it: that
invites a trial, which then is measured. For a model without any measurement the log-rate model
fills in (algorithms.md 10.4), else it counts as the slowest that is known: nobody is sent there
for a gain that nobody saw.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from fairlead.model.advice import Candidate, Question
from fairlead.solve.matrix import complete

Kind: TypeAlias = tuple[object, ...]
Point: TypeAlias = tuple[int, float]  # members, speed
MICRO = 1_000_000


class Rates(NamedTuple):
    """The speeds of jobs of one kind: known points by model, and which models are estimates."""

    curves: tuple[tuple[Point, ...], ...]  # () where it does not run
    largest: int  # the most members of which anything is known; 0: of none
    estimated: int  # models for which nothing is known

    def at(self, model: int, members: int) -> float | None:
        """Return steps/s on a model, by its number in the question; None: it does not run there."""
        points = self.curves[model]
        if not points:
            return None
        place = bisect_left(points, (members, 0.0))
        if place < len(points) and points[place][0] == members:
            return points[place][1]
        if place in (0, len(points)):
            near = points[min(place, len(points) - 1)]
            return near[1] * members / near[0]
        (low, slow), (high, fast) = points[place - 1], points[place]
        part = math.log(members / low) / math.log(high / low)
        return math.exp(math.log(slow) + part * (math.log(fast) - math.log(slow)))


def kind_of(job: Candidate) -> Kind:
    """Return what jobs of equal speeds have in common."""
    return (job.job_type, job.width_milli, job.members, job.micro_per_s, job.wider)


def rates_of(question: Question) -> dict[Kind, Rates]:
    """Return the speeds of all kinds of jobs of a question."""
    kinds: dict[Kind, list[tuple[int, tuple[int | None, ...]]]] = {}
    for job in question.jobs:
        kinds.setdefault(kind_of(job), [(job.members, job.micro_per_s), *job.wider])
    filled = _filled([speeds for rows in kinds.values() for _, speeds in rows])
    found, at = {}, 0
    for kind, rows in kinds.items():
        found[kind] = _rates(rows, filled[at : at + len(rows)], question)
        at += len(rows)
    return found


def completed(question: Question) -> Question:
    """Return the question with the speeds that nobody knows but that follow from others."""
    rows = {
        (job.job_type, job.width_milli, job.micro_per_s): job.micro_per_s for job in question.jobs
    }
    if all(None not in row for row in rows.values()):
        return question
    found = {}
    for key, rates in zip(rows, _filled(list(rows.values())), strict=True):
        found[key] = tuple(
            round(rate * MICRO) if speed is None and rate is not None else speed
            for speed, rate in zip(rows[key], rates, strict=True)
        )
    jobs = [
        replace(job, micro_per_s=found[job.job_type, job.width_milli, job.micro_per_s])
        for job in question.jobs
    ]
    return replace(question, jobs=tuple(jobs))


def _filled(rows: Sequence[tuple[int | None, ...]]) -> list[list[float | None]]:
    """Return the speeds in steps/s, what is missing by the log-rate model where that knows."""
    known = [[speed / MICRO if speed else None for speed in row] for row in rows]
    return complete(known).rates if known else []


def _rates(
    rows: list[tuple[int, tuple[int | None, ...]]],
    filled: list[list[float | None]],
    question: Question,
) -> Rates:
    """Return the curves of one kind."""
    slowest: dict[int, float] = {}
    for (members, _), speeds in zip(rows, filled, strict=True):
        usable = [speed for speed in speeds if speed is not None]
        if usable:
            slowest[members] = min(usable)
    guess = tuple(sorted(slowest.items())) or ((rows[0][0], 1.0),)
    curves = list[tuple[Point, ...]]()
    estimated = 0
    for model in range(len(question.models)):
        said = [row[model] for _, row in rows]
        if said[0] == 0:
            curves.append(())
            continue
        points = [(rows[at][0], speed / MICRO) for at, speed in enumerate(said) if speed]
        if not points:
            estimated += 1
            points = [
                (members, speed)
                for (members, row), each in zip(rows, filled, strict=True)
                if (speed := each[model]) is not None and row[model] != 0
            ]
        curves.append(tuple(points) or guess)
    largest = max((members for members, row in rows if any(row)), default=0)
    return Rates(tuple(curves), largest, estimated)


def in_words(question: Question, rates: dict[Kind, Rates]) -> str:
    """Return how much of this is known, in words."""
    kinds = list(rates.values())
    guessed = sum(each.estimated for each in kinds)
    of = sum(len(each.curves) - each.curves.count(()) for each in kinds)
    if not guessed:
        return "speeds are told or measured on every model"
    return f"{guessed} of {of} speeds by job type and model are estimated"
