"""How much time each class of equal jobs should have on each type of device (Gavel's LPs).

x_cj is the fraction of time that each job of class c runs on type j; a job is on one type at a
time, and its `scale` devices are all of that type (Narayanan et al., OSDI 2020; algorithms.md 5.1).
Variables are per class, not per job: equal jobs have equal shares in some optimum of every
objective here, since the average of two optima is one. solve/rounds.py turns shares into rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fairlead.model.base import Misuse
from fairlead.solve.lp import Program, linear

Shares = list[list[float]]  # class, type -> fraction of time of each job


@dataclass(frozen=True)
class JobClass:
    """Jobs that are equal in all that the objective sees."""

    name: str
    rates: tuple[float, ...]  # steps/s of the whole job on each type, 0 where it cannot run
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
        for job in classes:
            _check(job, devices)
        self.given = list(classes)
        self.order = sorted(range(len(classes)), key=lambda at: _key(classes[at]))
        self.classes = [classes[at] for at in self.order]
        self.devices = list(devices)
        self.jobs = sum(job.count for job in classes)
        self.equal = [self._equal_rate(job) for job in self.classes]

    def _equal_rate(self, job: JobClass) -> float:
        """Return the rate under the equal share: N_j / jobs of each type, at most all the time."""
        shares = [count / self.jobs for count in self.devices]
        whole = max(sum(shares), 1.0)
        return sum(rate * share / whole for rate, share in zip(job.rates, shares, strict=True))

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
        shares: Shares = [[0.0] * len(self.devices) for _ in self.given]
        for at, columns in zip(self.order, x, strict=True):
            for j, column in columns.items():
                shares[at][j] = min(max(values[column] / over, 0.0), 1.0)
        rates = [
            math.fsum(rate * share for rate, share in zip(job.rates, row, strict=True))
            for job, row in zip(self.given, shares, strict=True)
        ]
        equal = dict(zip(self.order, self.equal, strict=True))
        levels = [
            job.scale * rates[at] / (job.weight * equal[at]) for at, job in enumerate(self.given)
        ]
        return Allocation(objective, shares, rates, levels)


def _key(job: JobClass) -> tuple[object, ...]:
    fields = (job.steps, job.slo_s, job.ideal_s)
    numbers = [-1.0 if value is None else value for value in fields]
    return (job.rates, job.scale, job.weight, *numbers, job.elapsed_s, job.entity, job.name)


def _check(job: JobClass, devices: Sequence[int]) -> None:
    if len(job.rates) != len(devices):
        raise Misuse(
            f"{job.name} has {len(job.rates)} rates for {len(devices)} types", field="throughput"
        )
    for rate in job.rates:
        if not (math.isfinite(rate) and rate >= 0):
            raise Misuse(f"{job.name} has the throughput {rate}", field="throughput")
    usable = [rate for rate, count in zip(job.rates, devices, strict=True) if count >= job.scale]
    if not any(usable):
        raise Misuse(
            f"{job.name} runs on no type of which there are {job.scale} devices",
            field="throughput",
            hint="a throughput of zero means that it cannot run there; leave the job out",
        )
    if job.count < 1 or job.scale < 1 or not (math.isfinite(job.weight) and job.weight > 0):
        raise Misuse(f"{job.name}: count, scale and weight must be positive", field="weight")


def max_min(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
    """Return shares with the greatest least level: max min scale x rate / (weight x equal rate)."""
    problem = Problem(classes, devices)
    program, x, _ = problem.base()
    least = program.column(cost=-1.0)
    for at, columns in enumerate(x):
        program.row({**problem.level(at, columns), least: -1.0}, least=0.0)
    return _solved(problem, program, x, lambda value: -value)


def makespan(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
    """Return shares with the least time until all steps are done, in seconds."""
    problem = Problem(classes, devices)
    program, x, _ = problem.base()
    speed = program.column(cost=-1.0)  # 1 / makespan, so one program and no search
    for at, columns in enumerate(x):
        program.row({**problem.rate(at, columns), speed: -_steps(problem.classes[at])}, least=0.0)
    return _solved(problem, program, x, lambda value: -1.0 / value)


def sum_throughput(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
    """Return shares with the greatest sum over jobs of rate / rate under the equal share."""
    problem = Problem(classes, devices)
    program, x, _ = problem.base()
    for at, columns in enumerate(x):
        job = problem.classes[at]
        for column, gain in problem.rate(at, columns, job.count / problem.equal[at]).items():
            program.cost[column] = -gain
    return _solved(problem, program, x, lambda value: -value)


def _solved(
    problem: Problem,
    program: Program,
    x: Sequence[Mapping[int, int]],
    objective: Callable[[float], float],
) -> Allocation:
    answer = linear(program)
    assert answer.value is not None, "no shares at all keep every row"
    return problem.allocation(objective(answer.value), x, answer.x.tolist())


def _steps(job: JobClass) -> float:
    if job.steps is None or not job.steps > 0:
        raise Misuse(f"{job.name} has no steps left", field="steps_left")
    return job.steps
