"""What the oracles remember of the durable log and of the machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.model.base import JobId, Ms
from fairlead.model.events import Placed
from fairlead.model.jobs import Exit
from fairlead.model.resources import Node, Slot

if TYPE_CHECKING:
    from fairlead.sim.faults.machine import Machine


class Violation(Exception):
    """The world and the scheduler disagree. `job`: whom it concerns, 0 for nobody."""

    def __init__(self, name: str, message: str, job: JobId = 0) -> None:
        super().__init__(message)
        self.name, self.message, self.job = name, message, job


class Attempt:
    """One durable placement."""

    __slots__ = (
        "doomed",
        "ended",
        "job",
        "killed",
        "leaving",
        "number",
        "placed_ms",
        "running_ms",
        "seq",
        "slots",
        "started",
        "unused",
    )

    def __init__(self, event: Placed, seq: int, at: Ms) -> None:
        self.job, self.number = event.job, event.attempt
        # By rank; of an elastic job by the number of the member, which is never used again.
        self.slots: dict[int, Slot] = dict(enumerate(event.slots))
        self.unused = len(self.slots)
        self.leaving: dict[int, Ms] = {}  # who has to go while the job goes on, since when
        self.seq, self.placed_ms = seq, at
        self.started: set[int] = set()
        self.running_ms: Ms | None = None  # by the log's time: when all had started
        self.ended: dict[int, Exit] = {}
        self.doomed: Ms | None = None  # since when it has to stop: true time
        self.killed = False  # it gets no grace

    def staying(self) -> list[int]:
        """Return the members that are not told to leave."""
        return [rank for rank in self.slots if rank not in self.leaving]

    def start(self, rank: int, at: Ms) -> None:
        """Note that a member is known to have started."""
        self.started.add(rank)
        if len(self.started) == len(self.slots) and self.running_ms is None:
            self.running_ms = at


class Process:
    """One member's process tree, once it was started."""

    __slots__ = ("alive", "exit", "machine")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.alive = True
        self.exit: Exit | None = None


class KnownNode:
    """A node as the durable log has it."""

    __slots__ = ("foreign", "spec", "up")

    def __init__(self, spec: Node) -> None:
        self.spec, self.up = spec, True
        # (since which event, amounts, devices), oldest first
        self.foreign: list[tuple[int, tuple[int, ...], frozenset[int]]] = []
