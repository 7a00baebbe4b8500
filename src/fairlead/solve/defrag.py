"""Make room on nodes by moving jobs, at the least cost, in an order that never over-fills (7.3).

A plan is data: which jobs go where, what it costs, and steps that can be shown before any is made
(a dry run). Where moves wait for each other in a circle, one job is suspended first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fairlead.model.base import Misuse
from fairlead.solve.lp import Program, Status, mixed


@dataclass(frozen=True)
class Held:
    """A job on a node: its GPUs, and what moving it costs (checkpoint and restart seconds x GPUs,
    or any other unit); None where it must stay."""

    gpus: int
    cost: int | None


@dataclass(frozen=True)
class Host:
    """A node: its GPUs and the jobs on it by name."""

    capacity: int
    jobs: Mapping[str, Held]


@dataclass(frozen=True)
class Step:
    """`move` from node to node; or `suspend` (to is None) and later `resume` (source is None)."""

    kind: Literal["move", "suspend", "resume"]
    job: str
    source: str | None
    to: str | None


@dataclass(frozen=True)
class Plan:
    """The cheapest way found; `bound` is a cost below which there is none."""

    status: Status
    cost: int | None
    targets: tuple[str, ...]
    moves: dict[str, str]
    steps: tuple[Step, ...]
    bound: float | None


def plan(
    nodes: Mapping[str, Host], need: int, count: int = 1, time_limit_s: float | None = None
) -> Plan:
    """Return the cheapest moves after which `count` nodes have `need` GPUs free each.

    Of equal cost the fewest moves. Status `infeasible` where no moves can do it; nothing moves
    where the room is there already. Raises Misuse for a node that holds more than it has.
    """
    names = sorted(nodes)
    _check(nodes, need, count)
    jobs = {job: (name, held) for name in names for job, held in sorted(nodes[name].jobs.items())}
    program = Program()
    target = {name: program.binary() for name in names if nodes[name].capacity >= need}
    place = _places(program, nodes, jobs)
    for columns in place.values():
        program.row(dict.fromkeys(columns.values(), 1.0), least=1.0, most=1.0)
    for name in names:
        terms = {
            columns[name]: float(jobs[job][1].gpus)
            for job, columns in place.items()
            if name in columns
        }
        if name in target:
            terms[target[name]] = float(need)
        if terms:
            program.row(terms, most=float(nodes[name].capacity))
    program.row(dict.fromkeys(target.values(), 1.0), least=float(count))
    answer = mixed(program, time_limit_s)
    if answer.value is None:
        return Plan(answer.status, None, (), {}, (), None)
    moves = {
        job: name
        for job, columns in place.items()
        for name, column in columns.items()
        if answer.x[column] > 0.5 and name != jobs[job][0]
    }
    chosen = [name for name, column in target.items() if answer.x[column] > 0.5]
    cost = sum(jobs[job][1].cost or 0 for job in moves)
    bound = None if answer.bound is None else answer.bound / (len(jobs) + 1)
    steps = in_safe_order(nodes, moves)
    check_plan(nodes, steps, chosen, need)
    return Plan(answer.status, cost, tuple(chosen[:count]), moves, steps, bound)


def _check(nodes: Mapping[str, Host], need: int, count: int) -> None:
    if need < 1 or count < 1:
        raise Misuse(f"room for {need} GPUs on {count} nodes is asked for", field="need")
    seen: set[str] = set()
    for name, host in nodes.items():
        if sum(held.gpus for held in host.jobs.values()) > host.capacity:
            raise Misuse(f"the jobs on {name} hold more than it has", field="nodes")
        if twice := seen & host.jobs.keys():
            raise Misuse(f"job {min(twice)} is on two nodes", field="nodes")
        seen |= host.jobs.keys()
        for job, held in host.jobs.items():
            if held.gpus < 0 or (held.cost is not None and held.cost < 0):
                raise Misuse(f"job {job} has a negative amount", field="nodes")


def _places(
    program: Program, nodes: Mapping[str, Host], jobs: Mapping[str, tuple[str, Held]]
) -> dict[str, dict[str, int]]:
    """Return a column per job and node where it may be; costs count before the number of moves."""
    scale = len(jobs) + 1
    return {
        job: {
            name: program.binary(0.0 if name == home else float((held.cost or 0) * scale + 1))
            for name, host in sorted(nodes.items())
            if name == home or (held.cost is not None and held.gpus <= host.capacity)
        }
        for job, (home, held) in jobs.items()
    }


def in_safe_order(nodes: Mapping[str, Host], moves: Mapping[str, str]) -> tuple[Step, ...]:
    """Return the steps of moves in an order in which no node ever holds more than it has.

    Whatever fits goes first. In a circle the cheapest job is suspended, ties by fewest GPUs, then
    by name, and resumed as soon as there is room.
    """
    home = {job: name for name, host in nodes.items() for job in host.jobs}
    held = {job: nodes[home[job]].jobs[job] for job in home}
    free = {
        name: host.capacity - sum(each.gpus for each in host.jobs.values())
        for name, host in nodes.items()
    }
    todo = sorted(moves)
    suspended: set[str] = set()
    steps: list[Step] = []
    while todo:
        ready = [job for job in todo if held[job].gpus <= free[moves[job]]]
        if ready:
            job = min(ready, key=lambda each: (each not in suspended, each))
            source = None if job in suspended else home[job]
            steps.append(Step("resume" if source is None else "move", job, source, moves[job]))
            if source is not None:
                free[source] += held[job].gpus
            free[moves[job]] -= held[job].gpus
            todo.remove(job)
            continue
        stuck = [job for job in todo if job not in suspended]
        assert stuck, "the moves end in a state that fits"
        job = min(stuck, key=lambda each: (held[each].cost or 0, held[each].gpus, each))
        suspended.add(job)
        free[home[job]] += held[job].gpus
        steps.append(Step("suspend", job, home[job], None))
    return tuple(steps)


def check_plan(
    nodes: Mapping[str, Host], steps: Sequence[Step], targets: Sequence[str], need: int
) -> None:
    """Raise AssertionError where a step over-fills a node, or a target has no room at the end."""
    home = {job: name for name, host in nodes.items() for job in host.jobs}
    size = {job: nodes[home[job]].jobs[job].gpus for job in home}
    free = {
        name: host.capacity - sum(each.gpus for each in host.jobs.values())
        for name, host in nodes.items()
    }
    for step in steps:
        if step.source is not None:
            assert home.pop(step.job) == step.source, f"{step.job} is not on {step.source}"
            free[step.source] += size[step.job]
        if step.to is not None:
            free[step.to] -= size[step.job]
            assert free[step.to] >= 0, f"{step.to} would hold more than it has"
            home[step.job] = step.to
    assert home.keys() == size.keys(), "a job was left suspended"
    assert all(free[name] >= need for name in targets), "a target has no room"


def worth_it(found: Plan, saved: int) -> bool:
    """Whether moving pays: the waiting it saves is more than it costs, in the same unit."""
    return found.cost is not None and saved > found.cost
