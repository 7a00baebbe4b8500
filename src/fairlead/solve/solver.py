"""The front door: one problem, one reading, one answer that has been checked.

`solve_here` computes in this process. `solve` does it in a child with a deadline, so that a solver
which hangs, dies or eats the memory costs its answer and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import msgspec
import numpy as np

from fairlead.model.base import Misuse
from fairlead.solve import assignment, gap, packing, unrelated
from fairlead.solve.answer import Answer, Duals, Explanation, Status
from fairlead.solve.assignment import LeftOut
from fairlead.solve.check import check
from fairlead.solve.duals import Ints
from fairlead.solve.mip import Clock
from fairlead.solve.problem import FORBIDDEN, READINGS, Problem

Found = Callable[[Answer], None]
EXPLAIN_S = 10.0  # most of the time that explaining a contradiction of sizes may take


def reading_of(problem: Problem) -> str:
    """Return the reading that a problem without one asks for: capacity if it has any, else once."""
    return "once" if problem.capacity is None else "capacity"


def fitting(problem: Problem, reading: str) -> Problem:
    """Return the problem as a reading sees it; raises Misuse when it makes no sense under it."""
    if reading not in READINGS:
        from difflib import get_close_matches

        close = get_close_matches(reading, READINGS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(READINGS)}"
        raise Misuse(f"there is no reading '{reading}'", field="reading", hint=hint)
    if reading == "capacity" and problem.capacity is None:
        hint = "add capacities, or use --reading once"
        raise Misuse("this reading needs capacities", field="capacities", hint=hint)
    if problem.penalty is not None and reading not in ("once", "capacity"):
        message = f"under {reading} nothing is left out at a penalty"
        raise Misuse(message, field="penalty", hint="use --reading once or capacity")
    if reading in ("makespan", "sum-completion"):
        bad = np.argwhere(problem.cost < 0)
        if len(bad):
            task, resource = (int(each) for each in bad[0])
            where = f"{problem.tasks[task]} on {problem.resources[resource]}"
            raise Misuse(f"the run time of {where} is negative", field="costs", hint="0 or more")
    if reading in ("capacity", "as-many-as-possible"):
        return problem
    return replace(problem, capacity=None, size=None)


def unused(problem: Problem, reading: str) -> tuple[str, ...]:
    """Return what a problem has and a reading takes no notice of."""
    seen = fitting(problem, reading)
    found = {"capacities": problem.capacity is not None and seen.capacity is None}
    found["sizes"] = problem.size is not None and seen.size is None
    return tuple(name for name, lost in found.items() if lost)


def solve_here(
    problem: Problem,
    reading: str | None = None,
    *,
    limit_s: float | None = None,
    gap: float = 0.0,
    found: Found | None = None,
) -> Answer:
    """Return the checked answer of a problem under a reading (see `reading_of`).

    `gap`: a plan this close to its bound (relative) is good enough. `found` is told each better
    plan on the way, checked. Raises Misuse for a problem without sense, Broken if a solver errs.
    """
    reading = reading or reading_of(problem)
    seen = fitting(problem, reading)
    clock = Clock(limit_s)

    def tell(answer: Answer) -> None:
        check(seen, answer)
        if found is not None:
            found(answer)

    answer = _SOLVERS[reading](seen, clock, gap, tell)
    check(seen, answer)
    return answer


def _plan(plan: Ints) -> tuple[int | None, ...]:
    return tuple(None if each < 0 else each for each in plan.tolist())


def _counts(problem: Problem, reading: str) -> Ints:
    tasks, resources = problem.shape
    if reading in ("capacity", "as-many-as-possible") and problem.capacity is not None:
        return np.array([min(each, tasks) for each in problem.capacity], np.int64)
    return np.full(resources, 1 if reading in ("once", "as-many-as-possible") else tasks, np.int64)


def _rows(problem: Problem, why: Explanation, reading: str) -> Explanation:
    """Return an explanation with its rules in words."""
    counts = _counts(problem, reading)
    rows = [f"{problem.tasks[each]} exactly once" for each in why.tasks]
    for each in why.resources:
        most = int(counts[each])
        often = "at most once" if most == 1 else f"at most {most} tasks"
        rows.append(f"{problem.resources[each]} {often}")
    return msgspec.structs.replace(why, rows=tuple(rows))


def _assign(problem: Problem, reading: str) -> Answer:
    tasks = len(problem.tasks)
    left_out = None if problem.penalty is None else LeftOut(problem.penalty, tasks)
    counts = _counts(problem, reading)
    done = assignment.assign(problem.cost, counts, left_out)
    if done is None:
        why = assignment.explain(problem.cost, counts)
        assert why is not None
        offer = _with(_as_many(problem, counts), explanation=None)  # it is told once
        return Answer(
            *(Status.INFEASIBLE, reading),
            explanation=_rows(problem, why, reading),
            counter_offer=offer if offer.placed else None,
        )
    return _assigned(done, reading)


def _assigned(done: assignment.Assigned, reading: str) -> Answer:
    return Answer(
        *(Status.OPTIMAL, reading, done.value, _plan(done.plan)),
        bound=done.value,
        bound_name="prices",
        duals=done.duals,
        smallest=done.first,
    )


def _as_many(problem: Problem, counts: Ints) -> Answer:
    done, why = assignment.as_many(problem.cost, counts)
    answer = _assigned(done, "as-many-as-possible")
    if why is None:
        return answer
    return _with(answer, explanation=_rows(problem, why, "as-many-as-possible"))


def _with(answer: Answer, **changes: object) -> Answer:
    return msgspec.structs.replace(answer, **changes)


def _once(problem: Problem, clock: Clock, close: float, tell: Found) -> Answer:
    return _assign(problem, "once")


def _shared(problem: Problem, clock: Clock, close: float, tell: Found) -> Answer:
    answer = _without_home(problem, "shared-total", clock, close, tell)
    if answer is not None:
        return answer
    plan = problem.cost.argmin(axis=1)
    u = problem.cost.min(axis=1)
    duals = Duals(u=tuple(u.tolist()), v=(0,) * len(problem.resources))
    done = assignment.Assigned(plan, int(u.sum()), duals, True)
    return _assigned(done, "shared-total")


def _capacity(problem: Problem, clock: Clock, close: float, tell: Found) -> Answer:
    if problem.size is None:
        return _assign(problem, "capacity")
    assert problem.capacity is not None
    tasks, resources = problem.shape
    room = np.array(problem.capacity, np.int64)
    cost, size = problem.cost, problem.size
    if problem.penalty is not None:  # to be left out is one more resource, where nothing takes room
        cost = np.concatenate([cost, np.full((tasks, 1), problem.penalty)], axis=1)
        size = np.concatenate([size, np.zeros((tasks, 1), np.int64)], axis=1)
        room = np.append(room, 0)

    def shown_as(plan: Ints) -> tuple[int, tuple[int | None, ...]]:
        value = int(cost[np.arange(tasks), plan].sum())
        return value, _plan(np.where(plan < resources, plan, -1))

    def better(plan: Ints, bound: Fraction | None, prices: tuple[Fraction, ...]) -> None:
        value, shown = shown_as(plan)
        name = "linear relaxation" if bound is not None else ""
        tell(
            Answer(
                *(Status.FEASIBLE, "capacity", value, shown),
                bound=None if bound is None else math.ceil(bound),
                bound_name=name,
                prices=prices[:resources],
                relaxed=bound,
            )
        )

    done = gap.pack(cost, size, room, clock, gap=close, found=better)
    if done.status == "infeasible":
        return _no_room(problem, room, clock)
    if done.plan is None:
        return Answer(Status.UNKNOWN, "capacity", reason=_time(clock))
    value, shown = shown_as(done.plan)
    assert done.bound is not None
    bound, name = math.ceil(done.bound), "linear relaxation"
    if done.search is not None:
        bound, name = done.search, "search"
    return Answer(
        *(Status(done.status), "capacity", value, shown),
        bound=bound,
        bound_name=name,
        prices=done.prices[:resources],
        relaxed=done.bound,
        reason="" if done.status == "optimal" or not clock.over() else _time(clock),
    )


def _time(clock: Clock) -> str:
    return "the time limit" if clock.over() else "the solver gave up"


def _no_room(problem: Problem, room: Ints, clock: Clock) -> Answer:
    assert problem.size is not None
    short = Clock(max(0.5, min(EXPLAIN_S, clock.left() / 2)))
    tasks, resources, least = packing.contradiction(problem.cost, problem.size, room, short)
    rows = [f"{problem.tasks[each]} exactly once" for each in tasks]
    for each in resources:
        amount = Fraction(int(room[each]), problem.size_scale)
        rows.append(f"{problem.resources[each]} at most {_amount(amount)}")
    offer = _most(problem, Clock(max(0.5, min(EXPLAIN_S, clock.left()))))
    why = Explanation(
        *(tuple(rows), least),
        tasks=tuple(tasks),
        resources=tuple(resources),
        placeable=offer.placed if offer.status is Status.OPTIMAL else None,
    )
    return Answer(
        Status.INFEASIBLE,
        "capacity",
        explanation=why,
        counter_offer=offer if offer.placed else None,
    )


def _amount(amount: Fraction) -> str:
    return str(amount.numerator) if amount.denominator == 1 else f"{float(amount):g}"


def _most(problem: Problem, clock: Clock) -> Answer:
    assert problem.size is not None and problem.capacity is not None
    room = np.array(problem.capacity, np.int64)
    done = packing.most(problem.cost, problem.size, room, clock)
    here = np.flatnonzero(done.plan >= 0)
    value = int(problem.cost[here, done.plan[here]].sum())
    return Answer(
        *(Status.OPTIMAL if done.proven else Status.FEASIBLE, "as-many-as-possible", value),
        plan=_plan(done.plan),
        bound=value if done.proven else None,
        bound_name="search" if done.proven else "",
        reason="" if done.proven else _time(clock),
    )


def _many(problem: Problem, clock: Clock, close: float, tell: Found) -> Answer:
    if problem.size is not None:
        return _most(problem, clock)
    return _as_many(problem, _counts(problem, "as-many-as-possible"))


def _without_home(
    problem: Problem, reading: str, clock: Clock, close: float, tell: Found
) -> Answer | None:
    """Return the answer when some task may go nowhere; None when each may go somewhere."""
    lost = problem.cost.min(axis=1) == FORBIDDEN
    if not lost.any():
        return None
    first = int(np.flatnonzero(lost)[0])
    why = Explanation(
        *((f"{problem.tasks[first]} exactly once",), True, (first,), (), 1),
        placeable=int((~lost).sum()),
        smallest=True,
    )
    kept = np.flatnonzero(~lost)
    offer = None
    if len(kept):
        names = tuple(problem.tasks[each] for each in kept)
        rest = replace(problem, cost=problem.cost[kept], tasks=names)
        offer = _back(_SOLVERS[reading](rest, clock, close, lambda _: None), kept, len(lost))
    return Answer(Status.INFEASIBLE, reading, explanation=why, counter_offer=offer)


def _back(answer: Answer, kept: Ints, tasks: int) -> Answer:
    """Return the answer for some tasks as one for all, the others left out."""
    plan: list[int | None] = [None] * tasks
    for index, resource in enumerate(answer.plan):
        plan[int(kept[index])] = resource
    orders = tuple(tuple(int(kept[each]) for each in order) for order in answer.orders)
    # Prices are told for the tasks that are placed; those left out have none to be explained.
    return Answer(
        *(answer.status, answer.reading, answer.value, tuple(plan), orders),
        bound=answer.bound,
        bound_name="search" if answer.prices else answer.bound_name,
        smallest=answer.smallest,
        reason=answer.reason,
    )


def _makespan(problem: Problem, clock: Clock, close: float, tell: Found) -> Answer:
    answer = _without_home(problem, "makespan", clock, close, tell)
    if answer is not None:
        return answer

    def made(plan: Ints, proof: unrelated.Proof, proven: bool | None = None) -> Answer:
        orders = tuple(
            tuple(np.flatnonzero(plan == each).tolist()) for each in range(len(problem.resources))
        )
        loads = [sum(int(problem.cost[i, j]) for i in order) for j, order in enumerate(orders)]
        value = max(loads)
        by_search = bool(proven) and math.ceil(proof.bound) < value
        return Answer(
            *(Status.OPTIMAL if proven else Status.FEASIBLE, "makespan", value, _plan(plan)),
            orders=orders,
            bound=value if by_search else math.ceil(proof.bound),
            bound_name="search" if by_search else "cut to pieces",
            prices=proof.weights,
            relaxed=proof.bound,
            longest=proof.longest,
        )

    done = unrelated.makespan(
        problem.cost, clock, gap=close, found=lambda plan, proof: tell(made(plan, proof))
    )
    answer = made(done.plan, done.proof, done.proven)
    if not done.proven and clock.over():
        answer = _with(answer, reason=_time(clock))
    return answer


def _sum_completion(problem: Problem, clock: Clock, close: float, tell: Found) -> Answer:
    answer = _without_home(problem, "sum-completion", clock, close, tell)
    if answer is not None:
        return answer
    orders, value = unrelated.sum_completion(problem.cost)
    plan: list[int | None] = [None] * len(problem.tasks)
    for resource, order in enumerate(orders):
        for task in order:
            plan[task] = resource
    return Answer(
        *(Status.OPTIMAL, "sum-completion", value, tuple(plan), orders),
        bound=value,
        bound_name="prices of positions",
    )


_SOLVERS: dict[str, Callable[[Problem, Clock, float, Found], Answer]] = {
    "once": _once,
    "capacity": _capacity,
    "as-many-as-possible": _many,
    "shared-total": _shared,
    "makespan": _makespan,
    "sum-completion": _sum_completion,
}
