"""Jobs that acquire and release named resources while they run, in a simulation.

A step is due when a job has run for so long; while it waits in an acquire it does not run. A job
that is stopped has to begin anew: what it held is gone, and its work with it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from fairlead.model.base import Misuse, Ms, Record, Refused
from fairlead.model.events import AnyEvent, Asked, Granted, Released
from fairlead.model.jobs import Exit
from fairlead.policy.deadlock.settle import check_order

if TYPE_CHECKING:
    from fairlead.sim.replay import World

_REFUSED = Exit(code=1)


class Step(Record, frozen=True):
    """What a job does when it has run for `at_ms`."""

    at_ms: Ms
    verb: Literal["acquire", "release"]
    name: str
    amount: int = 1


def most_acquired(steps: Sequence[Step]) -> dict[str, int]:
    """Return the most that a job has acquired of each name at once, in order of names.

    Raises Misuse where a step releases more than was acquired, or comes before the last.
    """
    now: dict[str, int] = {}
    most: dict[str, int] = {}
    before = 0
    for step in steps:
        if step.at_ms < before:
            raise Misuse("the steps are not in the order of their times", field="steps")
        before = step.at_ms
        held = now.get(step.name, 0) + (step.amount if step.verb == "acquire" else -step.amount)
        if held < 0:
            raise Misuse(f"more {step.name} is released than was acquired", field="steps")
        now[step.name] = held
        most[step.name] = max(most.get(step.name, 0), held)
    return dict(sorted(most.items()))


class Stepping:
    """The jobs of a world that have steps. Times in ms."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.steps = {index: job.steps for index, job in enumerate(world.jobs) if job.steps}
        self.next: dict[int, int] = {}  # which step, by index of the job
        self.asked: dict[int, Ms] = {}  # since when a job waits
        self._ready: list[tuple[Ms, int, int]] = []  # (now, job id, its placement): may go on
        self.waited_ms: Ms = 0
        self.refused = 0  # jobs that asked out of order, and failed

    def start(self, index: int, left_ms: Ms) -> Ms:
        """A job starts with its first step; return when something happens, from its start on."""
        steps = self.steps.get(index)
        if steps is None:
            return left_ms
        self.next[index] = 0
        self.asked.pop(index, None)
        return steps[0].at_ms

    def reached(self, now: Ms, job_id: int, inbox: list[AnyEvent]) -> bool:
        """Do the step that is due; False: the job has no more, and ends."""
        index, world = job_id - 1, self.world
        steps, at = self.steps.get(index, ()), self.next.get(index, 0)
        if at == len(steps):
            return False
        step, attempt = steps[at], world.preempted[index] + 1
        if step.verb == "release":
            inbox.append(Released(job=job_id, attempt=attempt, name=step.name, amount=step.amount))
            self._go_on(now, job_id)
            return True
        try:
            check_order(world.core, world.core.policy, job_id, step.name)
        except Refused:
            self.refused += 1
            world.finish(now, job_id, _REFUSED, inbox)
            return True
        self.asked[index] = now
        inbox.append(Asked(job=job_id, attempt=attempt, name=step.name, amount=step.amount))
        return True

    def granted(self, now: Ms, event: Granted) -> None:
        """A job that waited goes on."""
        self.waited_ms += now - self.asked.pop(event.job - 1)
        self._go_on(now, event.job)

    def _go_on(self, now: Ms, job_id: int) -> None:
        self._ready.append((now, job_id, self.world.ends_of[job_id]))

    def flush(self) -> None:
        """Say when those that go on come to their next step, or to their end.

        Only once a turn is over: a job does one step at a time, also where two are due at once.
        """
        world = self.world
        for now, job_id, placed in self._ready:
            if world.ends_of.get(job_id) == placed:
                index = job_id - 1
                steps, at = self.steps[index], self.next[index] + 1
                self.next[index] = at
                due = steps[at].at_ms if at < len(steps) else world.left_ms[index]
                heapq.heappush(world.ends, (now + due - steps[at - 1].at_ms, placed, job_id))
        self._ready.clear()
