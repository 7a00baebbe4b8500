"""Lexicographic max-min over classes of jobs, flat or by entities (algorithms.md 5.1).

Raise the least level as far as it goes; whoever cannot rise further is frozen there; repeat. A
class whose row has a positive dual is at the least level in *every* optimum, so it cannot rise:
one program per round says whom to freeze, and at least one class is frozen each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fairlead.model.base import Misuse
from fairlead.solve.gavel import Allocation, JobClass, Problem
from fairlead.solve.lp import Vector, linear

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


def _fill(
    problem: Problem, rising: set[int], frozen: dict[int, float]
) -> tuple[Sequence[Mapping[int, int]], Vector]:
    """Raise the levels of some classes until all are frozen; the others keep what they have."""
    while True:
        program, x, _ = problem.base()
        least = program.column(cost=-1.0)
        rows: dict[int, int] = {}
        for at, columns in enumerate(x):
            if at in frozen:
                program.row(problem.level(at, columns), least=frozen[at] * (1 - SLACK))
            elif at in rising:
                terms = {**problem.level(at, columns), least: -1.0}
                rows[at] = program.row(terms, least=0.0)
        if not rows:
            program.cost[least], program.most[least] = 0.0, 0.0
        answer = linear(program)
        if not rows:
            return x, answer.x
        tense = [at for at, row in rows.items() if answer.duals[row] > TENSE]
        level = float(answer.x[least])
        for at in tense or rows:  # without duals (all zero by rounding) nobody can rise
            frozen[at] = level
        if len(frozen) >= len(rising) and rising <= frozen.keys():
            return x, answer.x


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
