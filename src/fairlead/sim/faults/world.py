"""The clock of the world: one heap of (time, number, action), one generator, nothing else moves."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias

from fairlead.model.base import JobId, Ms, Record
from fairlead.sim.faults.client import Clients
from fairlead.sim.faults.disk import Disk
from fairlead.sim.faults.known import Violation
from fairlead.sim.faults.machine import Machine
from fairlead.sim.faults.network import Network
from fairlead.sim.faults.operator import Operator
from fairlead.sim.faults.oracles import Oracles
from fairlead.sim.faults.plan import Plan
from fairlead.sim.faults.service import Service

SILENCE_MAX_MS: Ms = 24 * 3_600_000  # of draining; then something hangs
LOOK_MS: Ms = 30_000  # between looks at whether everything has come to its end

Fact: TypeAlias = tuple[Ms, JobId, str]  # time, job (0: none), what happened


class Outcome(Record, frozen=True):
    """How one history went. `digest` covers the whole durable log."""

    seed: int
    end_ms: Ms
    events: int
    messages: int
    jobs: int
    digest: str


class World:
    """Everything that one plan brings to life."""

    def __init__(self, plan: Plan, *, tell: bool = False) -> None:
        self.plan = plan
        self.now: Ms = 0
        self.rng = Random(f"fairlead world {plan.seed} {plan.luck}")
        self.faulty = True
        self.facts: list[Fact] | None = [] if tell else None
        self._heap: list[tuple[Ms, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._done = False
        self.oracles = Oracles(self)
        self.network = Network(self)
        self.disk = Disk(self.oracles.durable)
        self.machines = {node.name: Machine(self, node) for node in plan.nodes}
        self.service = Service(self)
        self.clients = Clients(self)
        self.operator = Operator(self)

    def at(self, delay_ms: Ms, action: Callable[..., None], *args: Any) -> None:
        """Let something happen after a delay; at one instant, in the order of these calls."""
        self._number += 1
        heapq.heappush(self._heap, (self.now + delay_ms, self._number, action, args))

    def tell(self, job: JobId, text: str, *args: object) -> None:
        """Note a fact for the story, if somebody will read it."""
        if self.facts is not None:
            self.facts.append((self.now, job, text.format(*args) if args else text))

    def run(self) -> Outcome:
        """Live until everything has come to its end. Raises Violation, or what broke."""
        for machine in self.machines.values():
            machine.start()
        self.service.start()
        self.clients.start()
        self.operator.start()
        self.at(self.plan.until_ms, self._silence)
        heap = self._heap
        while heap and not self._done:
            self.now, _, action, args = heapq.heappop(heap)
            action(*args)
        self.oracles.at_the_end()
        log = hashlib.blake2b(digest_size=16)
        for seq, at, event in self.disk.rows():
            log.update(f"{seq} {at} {event}\n".encode())
        return Outcome(
            seed=self.plan.seed,
            end_ms=self.now,
            events=self.disk.seq,
            messages=self.network.sent,
            jobs=self.oracles.submitted,
            digest=log.hexdigest(),
        )

    def _silence(self) -> None:
        """Faults end; from here on everything has to come to its end."""
        self.tell(0, "silence: no more faults")
        self.faulty = False
        self.network.cut.clear()
        self.network.slow.clear()
        self.disk.heal()
        for machine in self.machines.values():
            machine.heal()
        self.service.heal()
        self.operator.heal()
        self.at(LOOK_MS, self._look)

    def _look(self) -> None:
        self.oracles.no_orphans()
        self.operator.tidy()
        waits = self._waits_for()
        if not waits:
            self._done = True
        elif self.now > self.plan.until_ms + SILENCE_MAX_MS:
            job = min(self.service.core.jobs, default=0) if self.service.up else 0
            raise Violation("liveness", f"a day after the last fault: {waits}", job)
        else:
            self.at(LOOK_MS, self._look)

    def _waits_for(self) -> str:
        if not self.service.up:
            return "the service is down"
        if self.clients.waiting:
            return f"{self.clients.waiting} calls are unanswered"
        if self.operator.waiting:
            return "an operator's call is unanswered"
        if self.service.core.jobs:
            jobs = self.service.core.jobs.values()
            return "these jobs do not end: " + ", ".join(f"{job.id} {job.phase}" for job in jobs)
        if self.oracles.running:
            return f"processes run on: {sorted(self.oracles.running)}"
        if any(machine.folders for machine in self.machines.values() if machine.up):
            return "agents were never told to forget"
        return ""
