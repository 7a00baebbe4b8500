"""Jobs that acquire and release named resources while they run, in any interleaving.

What decides is the product: its core, its pipeline, one turn per step. Time stands still.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.turn import Scheduler
from fairlead.model.base import Refused
from fairlead.model.events import (
    AnyEvent,
    Asked,
    Granted,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    Released,
    ResourceSet,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import JobSpec, Phase, PolicyConfig, Resource
from fairlead.model.resources import Shape
from fairlead.policy.deadlock.settle import check_order
from fairlead.policy.registry import build, policy_config
from strategies import OK, TERMINATED, node

Step = tuple[str, str, int]  # acquire or release, name, amount
Program = Sequence[Step]


def most_of(program: Program) -> tuple[tuple[str, int], ...]:
    """Return the most that a program has acquired of each name at once."""
    now: dict[str, int] = {}
    most: dict[str, int] = {}
    for verb, name, amount in program:
        now[name] = now.get(name, 0) + (amount if verb == "acquire" else -amount)
        most[name] = max(most.get(name, 0), now[name])
    return tuple(sorted(most.items()))


class Deciding:
    """A policy that grants but stops nobody: what there would be without recovery."""

    def __init__(self, config: PolicyConfig) -> None:
        self.policy = build(config)

    def decide(self, core: Core):
        for event in self.policy.decide(core):
            if isinstance(event, StopDecided):
                return
            yield event

    def wake_at(self, core: Core):
        return self.policy.wake_at(core)


class Programs:
    """One node, and a job for each program."""

    def __init__(
        self,
        amounts: dict[str, int],
        programs: Sequence[Program],
        mode: str = "avoid",
        *,
        recover: bool = True,
        base: Sequence[dict[str, int]] = (),
        priorities: Sequence[int] = (),
    ) -> None:
        self.programs = dict(enumerate(programs, 1))
        config = replace(policy_config("fifo-skip"), deadlock=mode)
        self.core = Core()
        self.scheduler = Scheduler(self.core, build if recover else Deciding)
        self.at = dict.fromkeys(self.programs, 0)  # the next step of each
        self.stops: list[StopDecided] = []
        self.grants: list[Granted] = []
        self.refused: list[int] = []
        inbox: list[AnyEvent] = [PolicySet(policy=config), NodeJoined(node=0, spec=node(cpus=64))]
        for name, amount in amounts.items():
            inbox.append(ResourceSet(resource=Resource(name=name, kind="lock", amount=amount)))
        for number, program in self.programs.items():
            spec = JobSpec(
                shape=Shape(cpu_milli=1000),
                counted=tuple(sorted(base[number - 1].items())) if base else (),
                may_acquire=most_of(program),
                priority=priorities[number - 1] if priorities else 50,
            )
            inbox.append(Submitted(job=number, spec=spec))
        self.turn(inbox)

    def turn(self, inbox: list[AnyEvent]) -> None:
        """Put events through turns until what was decided is done."""
        while inbox:
            events = self.scheduler.turn(0, inbox).events[len(inbox) :]
            check(self.core)
            inbox = []
            for event in events:
                if isinstance(event, Placed):
                    self.at[event.job] = 0
                    inbox.append(MemberStarted(job=event.job, attempt=event.attempt))
                elif isinstance(event, Granted):
                    self.grants.append(event)
                    self.at[event.job] += 1
                elif isinstance(event, StopDecided):
                    self.stops.append(event)
                    inbox.append(self.end(event.job, TERMINATED))

    def end(self, job: int, exit) -> MemberEnded:
        return MemberEnded(job=job, attempt=self.core.jobs[job].attempt, exit=exit)

    def able(self) -> list[int]:
        """Return the jobs that can do their next step."""
        waiting = {ask.job for ask in self.core.named.asks.values()}
        return [
            job.id
            for job in self.core.jobs.values()
            if job.phase is Phase.RUNNING and job.id not in waiting
        ]

    def step(self, job: int) -> None:
        """Let a running job do its next step: the last is to end."""
        program, at = self.programs[job], self.at[job]
        if at == len(program):
            self.turn([self.end(job, OK)])
            return
        verb, name, amount = program[at]
        attempt = self.core.jobs[job].attempt
        if verb == "release":
            self.at[job] += 1
            self.turn([Released(job=job, attempt=attempt, name=name, amount=amount)])
            return
        try:
            check_order(self.core, self.core.policy, job, name)
        except Refused:
            self.refused.append(job)
            self.turn([self.end(job, OK)])
            return
        self.turn([Asked(job=job, attempt=attempt, name=name, amount=amount)])

    def run(self, picks, most: int = 3000) -> bool:
        """Go on as the picks say; whether all come to an end."""
        for _, pick in zip(range(most), picks, strict=False):
            able = self.able()
            if not able:
                break
            self.step(able[pick % len(able)])
        if not self.core.jobs:
            assert not any(self.core.named.held.values()), "all of it was given back"
        return not self.core.jobs
