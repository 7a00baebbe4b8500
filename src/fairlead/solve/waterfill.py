"""Lexicographic max-min over classes of jobs, flat or by entities (algorithms.md 5.1).

Raise the least level as far as it goes; whoever cannot rise further is frozen there; repeat. A
class whose row has a positive dual is at the least level in *every* optimum, so it cannot rise:
one program per round says whom to freeze, and at least one class is frozen each time. Before each
round those that can have their fastest type all the time are set aside together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from fairlead.model.base import Misuse
from fairlead.solve.gavel import Allocation, JobClass, Problem
from fairlead.solve.lp import INFINITE, Program, Vector, linear

TENSE = 1e-7  # a dual below is taken for none: the duals of a round sum to 1
SLACK = 1e-9  # frozen levels give way by so much, relative, so that rounding blocks no round


def water_filling(classes: Sequence[JobClass], devices: Sequence[int]) -> Allocation:
    """Return shares whose levels, sorted upwards, are lexicographically greatest.

    `objective` is the least level. At most one program per class of different level.
    """
    problem = Problem(classes, devices)
    frozen: dict[int, float] = {}
    x, values = _fill(problem, set(range(len(problem.classes))), frozen)
    return problem.allocation(min(frozen.values(), default=0.0), x, values.tolist())


Filled: TypeAlias = tuple[Sequence[Mapping[int, int]], Vector]  # the columns, and their values


def _fill(problem: Problem, rising: set[int], frozen: dict[int, float]) -> Filled:
    """Raise the levels of some classes until all are frozen; the others keep what they have."""
    while True:
        left = sorted(rising - frozen.keys(), key=lambda at: (_ceiling(problem, at), at))
        done = _saturated(problem, left, frozen)
        frozen.update((at, _ceiling(problem, at)) for at in left[:done])
        program, x, rows, least = _program(problem, left[done:], frozen)
        answer = linear(program)
        if not rows:
            return x, answer.x
        tense = [at for at, row in rows.items() if answer.duals[row] > TENSE]
        level = float(answer.x[least])
        for at in tense or rows:  # without duals (all zero by rounding) nobody can rise
            frozen[at] = level
        if rising <= frozen.keys():
            return x, answer.x


def _ceiling(problem: Problem, at: int) -> float:
    """Return the level of a class that has its fastest type all the time: none is higher."""
    job = problem.classes[at]
    there = zip(job.rates, problem.devices, strict=True)
    fastest = max(rate for rate, count in there if count)
    return fastest * job.scale / (job.weight * problem.equal[at])


def _saturated(problem: Problem, left: Sequence[int], frozen: dict[int, float]) -> int:
    """Return how many classes, lowest ceiling first, can be at their ceilings together.

    While the others are at least as high as the last of them: those can rise further, these not.
    Where devices are plenty that is nearly all, and a few programs find it out.
    """

    def possible(count: int) -> bool:
        ceiling = _ceiling(problem, left[count - 1])
        capped = {at: _ceiling(problem, at) for at in left[:count]}
        asked = {**frozen, **capped, **dict.fromkeys(left[count:], ceiling)}
        return linear(_program(problem, (), asked)[0]).status == "optimal"

    low, high, step = 0, len(left) + 1, 1
    while high - low > 1:  # twice as far each time until it is too far, then by halves
        middle = min(low + step, high - 1) if high > len(left) else (low + high) // 2
        if possible(middle):
            low, step = middle, 2 * step
        else:
            high = middle
    return low


def _program(
    problem: Problem, rising: Sequence[int], frozen: Mapping[int, float]
) -> tuple[Program, Sequence[Mapping[int, int]], dict[int, int], int]:
    """Return the program of one round, its shares, the rows of the rising, and their level."""
    program, x, _ = problem.base()
    least = program.column(cost=-1.0, most=INFINITE if rising else 0.0)
    for at in sorted(frozen):
        program.row(problem.level(at, x[at]), least=frozen[at] * (1 - SLACK))
    rows = {
        at: program.row({**problem.level(at, x[at]), least: -1.0}, least=0.0)
        for at in sorted(rising)
    }
    return program, x, rows, least


def hierarchical(
    classes: Sequence[JobClass],
    devices: Sequence[int],
    entities: Mapping[str, float],
    *,
    inside: str = "fair",
) -> Allocation:
    """Return shares that are fair between entities by their weights, and inside each as told.

    `fair`: a job's weight is its entity's over the number of its jobs. `fifo`: the first class
    listed of each entity rises alone (its first job where it counts several); when nobody can
    rise further, the next has what is left. Levels are relative to these weights.
    """
    if inside not in ("fair", "fifo"):
        raise Misuse(f"there is no way '{inside}' inside an entity", hint="one of: fair, fifo")
    for job in classes:
        if job.entity not in entities:
            raise Misuse(f"{job.name} is of the unknown entity '{job.entity}'", field="entity")
    if any(not weight > 0 for weight in entities.values()):
        raise Misuse("the weights of entities must be positive", field="entities")
    if inside == "fair":
        counts: Counter[str] = Counter()
        for job in classes:
            counts[job.entity] += job.count
        return water_filling(
            [replace(j, weight=entities[j.entity] / counts[j.entity]) for j in classes], devices
        )
    return _in_turn(classes, devices, entities)


def _in_turn(
    classes: Sequence[JobClass], devices: Sequence[int], entities: Mapping[str, float]
) -> Allocation:
    """Fill for the first job of every entity, then for the second with what is left, and so on."""
    singles = [
        replace(job, count=1, weight=entities[job.entity])
        for job in classes
        for _ in range(job.count)
    ]
    problem = Problem(singles, devices)
    turn: Counter[str] = Counter()
    turns: dict[int, set[int]] = {}
    place = {at: position for position, at in enumerate(problem.order)}
    for at, job in enumerate(singles):
        turns.setdefault(turn[job.entity], set()).add(place[at])
        turn[job.entity] += 1
    frozen: dict[int, float] = {}
    x, values = _fill(problem, set(), frozen)
    for number in sorted(turns):
        x, values = _fill(problem, turns[number] | frozen.keys(), frozen)
    found = problem.allocation(0.0, x, values.tolist())
    return _averaged(found, classes)


def _averaged(found: Allocation, classes: Sequence[JobClass]) -> Allocation:
    """Return the shares per class: what its jobs have on average."""
    shares, rates, levels = [], [], []
    at = 0
    for job in classes:
        part = slice(at, at + job.count)
        at += job.count
        columns = zip(*found.shares[part], strict=True)
        shares.append([sum(column) / job.count for column in columns])
        rates.append(sum(found.rates[part]) / job.count)
        levels.append(sum(found.levels[part]) / job.count)
    return Allocation(min(levels, default=0.0), shares, rates, levels)
