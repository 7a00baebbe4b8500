"""A failing plan cut down to what still fails the same way: fewer jobs, nodes, and faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

from msgspec.structs import replace

from fairlead.model.jobs import Queue
from fairlead.sim.faults.plan import Plan, Weather
from fairlead.sim.faults.run import Failure, attempt, run_plan
from fairlead.sim.faults.world import World

RUNS_MAX = 1_500
LUCKS = 3
LUCKS_SMALL = 30  # of a plan with one request: quick to run, and much has to coincide in it

Item = TypeVar("Item")
Cut: TypeAlias = Callable[[Plan], Iterator[Plan]]


def shrink(failure: Failure, runs: int = RUNS_MAX) -> Failure:
    """Return the smallest failure found that fails the same check, with its story."""
    plan = failure.plan
    fixed = False
    while not fixed and runs > 0:
        fixed = True
        for cut in (_fewer_kinds, _fewer_incidents, _fewer_requests, _fewer_nodes, _calmer):
            again = True
            while again:
                again = False
                for smaller in _with_luck(cut(plan)):
                    if runs <= 0:
                        break
                    runs -= 1
                    found = attempt(World(smaller))
                    if isinstance(found, Failure) and found.name == failure.name:
                        plan, fixed, again = smaller, False, True
                        break
    smallest = run_plan(plan)
    assert isinstance(smallest, Failure), "a plan fails once and then not: the world is random"
    return smallest


def _with_luck(plans: Iterator[Plan]) -> Iterator[Plan]:
    """Yield each plan with a few fates of its messages: a cut changes them, and some must occur."""
    for plan in plans:
        for more in range(LUCKS if len(plan.requests) > 1 else LUCKS_SMALL):
            yield replace(plan, luck=plan.luck + more)


def _without(items: Sequence[Item]) -> Iterator[tuple[Item, ...]]:
    """Yield the items without a half, a quarter … of them, and without each one."""
    size = len(items) // 2
    while size >= 1:
        for start in range(0, len(items), size):
            yield (*items[:start], *items[start + size :])
        size //= 2
    if len(items) == 1:
        yield ()


def _fewer_kinds(plan: Plan) -> Iterator[Plan]:
    for kind in sorted({incident.kind for incident in plan.incidents}):
        rest = tuple(incident for incident in plan.incidents if incident.kind != kind)
        yield replace(plan, incidents=rest)


def _fewer_incidents(plan: Plan) -> Iterator[Plan]:
    for rest in _without(plan.incidents):
        yield replace(plan, incidents=rest)


def _fewer_requests(plan: Plan) -> Iterator[Plan]:
    for rest in _without(plan.requests):
        names = {name for request in rest for name in request.jobs}
        jobs = {name: job for name, job in plan.jobs.items() if name in names}
        yield replace(plan, requests=rest, jobs=jobs)


def _fewer_nodes(plan: Plan) -> Iterator[Plan]:
    if len(plan.nodes) > 1:
        for rest in _without(plan.nodes):
            if rest:
                yield replace(plan, nodes=rest)


def _calmer(plan: Plan) -> Iterator[Plan]:
    weather = plan.weather
    if weather.lost or weather.repeated or weather.delayed:
        yield replace(plan, weather=Weather(delay_usual_ms=weather.delay_usual_ms))
        if weather.lost:
            yield replace(plan, weather=replace(weather, lost=0))
        if weather.repeated:
            yield replace(plan, weather=replace(weather, repeated=0))
        if weather.delayed:
            yield replace(plan, weather=replace(weather, delayed=0))
    if plan.skews:
        yield replace(plan, skews={})
    if plan.tenants:
        yield replace(plan, tenants=())
    if plan.users:
        yield replace(plan, users=())
    for number in range(len(plan.queues)):
        bare = Queue(name=plan.queues[number].name, parent=plan.queues[number].parent)
        if plan.queues[number] != bare:
            queues = (*plan.queues[:number], bare, *plan.queues[number + 1 :])
            yield replace(plan, queues=queues)
