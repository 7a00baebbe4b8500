"""How much time each class of equal jobs should have on each type of device (Gavel's LPs).

x_cj is the fraction of time that each job of class c runs on type j; a job is on one type at a
time, and its `scale` devices are all of that type (Narayanan et al., OSDI 2020; algorithms.md 5.1).
Variables are per class, not per job: equal jobs have equal shares in some optimum of every
objective here, since the average of two optima is one. policy/rounds.py carries
out shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fairlead.model.base import Misuse
from fairlead.solve.levels import greatest
from fairlead.solve.lp import Program, SolverFailed, Vector, linear

MANY = 200  # classes above which our own interior-point method finds the greatest level

Shares = list[list[float]]  # class, type -> fraction of time of each job


@dataclass(frozen=True)
class JobClass:
    """Jobs that are equal in all that the objective sees."""

    name: str
    # Steps/s of the whole job on each type, 0 where it cannot run. Say 0 too where a type has fewer
    # devices than the job needs: shares are of time, and a part of a gang runs nowhere.
    rates: tuple[float, ...]
    count: int = 1
    scale: int = 1  # devices of each job
    weight: float = 1.0
    steps: float | None = None  # left of each job
    slo_s: float | None = None  # within which the steps should be done
    elapsed_s: float = 0.0  # since it was submitted
    ideal_s: float | None = None  # from submission to end, alone on its share of the cluster
    entity: str = ""


@dataclass(frozen=True)
class Allocation:
    """Shares with their value. `levels` is rate / (weight x rate under the equal share)."""

    objective: float
    shares: Shares  # in the order of the classes given
    rates: list[float]  # steps/s of each job
    levels: list[float]
    conflict: tuple[str, ...] = ()  # SLOs that cannot all be kept: leave out any, the rest can
    dropped: tuple[str, ...] = ()  # SLOs that were given up


def group(jobs: Sequence[JobClass]) -> tuple[list[JobClass], list[int]]:
    """Return classes of jobs that differ in nothing but their name, and the class of each job."""
    found: dict[JobClass, int] = {}
    classes: list[JobClass] = []
    index = []
    for job in jobs:
        key = replace(job, name="", count=1)
        if key not in found:
            found[key] = len(classes)
            classes.append(replace(job, count=0))
        at = found[key]
        classes[at] = replace(classes[at], count=classes[at].count + job.count)
        index.append(at)
    return classes, index


class Problem:
    """Classes and devices in a fixed order, so that the order of the input changes no answer."""

    def __init__(self, classes: Sequence[JobClass], devices: Sequence[int]) -> None:
        """Raises Misuse, naming the class, for rates or amounts that make no sense."""
        if not classes:
            raise Misuse("there are no jobs to share devices among", field="jobs")
        _check(classes, devices)
        self.given = list(classes)
        self.order = sorted(range(len(classes)), key=lambda at: _key(classes[at]))
        self.classes = [classes[at] for at in self.order]
        self.devices = list(devices)
        self.jobs = sum(job.count for job in classes)
        self.matrix = np.array([job.rates for job in self.classes], float)
        self.scales = np.array([job.scale for job in self.classes], float)
        # The equal share is N_j / jobs of each type, at most all the time.
        equal = np.array(devices, float) / self.jobs
        self.equal: list[float] = (self.matrix @ (equal / max(equal.sum(), 1.0))).tolist()

    def base(self, spread: float = 1.0) -> tuple[Program, list[dict[int, int]], int | None]:
        """Return a program with shares x[class][type] and what they may be.

        With `spread` 0 all is relative to one more column: y = x z (Charnes and Cooper).
        """
        program = Program()
        x = [
            {j: program.column() for j, rate in enumerate(job.rates) if rate > 0}
            for job in self.classes
        ]
        z = program.column() if spread == 0 else None
        relative = {} if z is None else {z: -1.0}
        for columns in x:
            if columns:
                program.row({**dict.fromkeys(columns.values(), 1.0), **relative}, most=spread)
        for j, count in enumerate(self.devices):
            terms = {
                columns[j]: float(job.count * job.scale)
                for job, columns in zip(self.classes, x, strict=True)
                if j in columns
            }
            if terms:
                room = {} if z is None else {z: -float(count)}
                program.row({**terms, **room}, most=count * spread)
        return program, x, z

    def rate(self, index: int, columns: Mapping[int, int], times: float = 1.0) -> dict[int, float]:
        """Return the terms of a class's rate, times a factor."""
        rates = self.classes[index].rates
        return {column: rates[j] * times for j, column in columns.items()}

    def level(self, index: int, columns: Mapping[int, int]) -> dict[int, float]:
        """Return the terms of a class's level: scale x rate / (weight x equal rate)."""
        job = self.classes[index]
        return self.rate(index, columns, job.scale / (job.weight * self.equal[index]))

    def allocation(
        self,
        objective: float,
        x: Sequence[Mapping[int, int]],
        values: Sequence[float],
        over: float = 1.0,
    ) -> Allocation:
        """Return the shares in the order of the input, with rounding cut off."""
        shares = np.zeros(self.matrix.shape)
        for at, columns in enumerate(x):
            for j, column in columns.items():
                shares[at, j] = values[column] / over
        return self.shared(objective, shares)

    def shared(self, objective: float, shares: Vector) -> Allocation:
        """Return shares, given in the order of this problem, in that of the input."""
        shares = np.clip(shares, 0.0, 1.0)
        rates = (self.matrix * shares).sum(axis=1)
        weights = np.array([job.weight for job in self.classes])
        levels = self.scales * rates / (weights * np.array(self.equal))
        back = np.argsort(self.order)
        return Allocation(
            objective, shares[back].tolist(), rates[back].tolist(), levels[back].tolist()
        )


def _key(job: JobClass) -> tuple[object, ...]:
    fields = (job.steps, job.slo_s, job.ideal_s)
    numbers = [-1.0 if value is None else value for value in fields]
    return (job.rates, job.scale, job.weight, *numbers, job.elapsed_s, job.entity, job.name)


def _check(classes: Sequence[JobClass], devices: Sequence[int]) -> None:
    for job in classes:
        if len(job.rates) != len(devices):
            raise Misuse(
                f"{job.name} has {len(job.rates)} rates for {len(devices)} types",
                field="throughput",
            )
        if job.count < 1 or job.scale < 1 or not 0 < job.weight < math.inf:
            raise Misuse(f"{job.name}: count, scale and weight must be positive", field="weight")
    rates = np.array([job.rates for job in classes], float)
    wrong = ~(np.isfinite(rates) & (rates >= 0))
    if wrong.any():
        at, j = np.argwhere(wrong)[0]
        raise Misuse(f"{classes[at].name} has the throughput {rates[at, j]}", field="throughput")
    enough = np.array(devices) >= np.array([job.scale for job in classes])[:, None]
    nowhere = ~((rates > 0) & enough).any(axis=1)
    if nowhere.any():
        job = classes[int(np.argmax(nowhere))]
        raise Misuse(
            f"{job.name} runs on no type of which there are {job.scale} devices",
            field="throughput",
            hint="a throughput of zero means that it cannot run there; leave the job out",
        )


def max_min(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
    """Return shares with the greatest least level: max min scale x rate / (weight x equal rate)."""
    problem = Problem(classes, devices)
    asked = [job.weight * rate for job, rate in zip(problem.classes, problem.equal, strict=True)]
    return greatest_factor(problem, np.array(asked) / problem.scales)[0]


def makespan(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
    """Return shares with the least time until all steps are done, in seconds."""
    problem = Problem(classes, devices)
    # What all can have of their steps in a second: 1 / makespan, so one program and no search.
    found, _ = greatest_factor(problem, np.array([steps_of(job) for job in problem.classes]))
    return replace(found, objective=1.0 / found.objective)


def greatest_factor(problem: Problem, asked: Vector) -> tuple[Allocation, Vector]:
    """Return the shares with the greatest factor of the rates asked for, and the prices of rates.

    Prices per class: at these, what is asked for costs 1, and no shares earn more than the factor.
    """
    if len(asked) > MANY:
        rates = problem.matrix / asked[:, None]
        sizes = problem.scales * np.array([job.count for job in problem.classes])
        try:
            found = greatest(rates, sizes, np.array(problem.devices, float))
            return problem.shared(found.level, found.shares), found.prices / asked
        except SolverFailed:
            pass  # the general solver takes longer
    program, x, _ = problem.base()
    factor = program.column(cost=-1.0)
    rows = [
        program.row({**problem.rate(at, columns), factor: -float(asked[at])}, least=0.0)
        for at, columns in enumerate(x)
    ]
    answer = linear(program)
    assert answer.value is not None, "no shares at all keep every row"
    prices = np.maximum(answer.duals[rows], 0.0)
    return problem.allocation(-answer.value, x, answer.x.tolist()), prices


def sum_throughput(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
    """Return shares with the greatest sum over jobs of rate / rate under the equal share."""
    problem = Problem(classes, devices)
    program, x, _ = problem.base()
    for at, columns in enumerate(x):
        job = problem.classes[at]
        for column, gain in problem.rate(at, columns, job.count / problem.equal[at]).items():
            program.cost[column] = -gain
    answer = linear(program)
    assert answer.value is not None, "no shares at all keep every row"
    return problem.allocation(-answer.value, x, answer.x.tolist())


def steps_of(job: JobClass) -> float:
    """Return the steps left; Misuse where there are none."""
    if job.steps is None or not job.steps > 0:
        raise Misuse(f"{job.name} has no steps left", field="steps_left")
    return job.steps
