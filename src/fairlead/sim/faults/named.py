"""Oracle of named resources: never more held than there is, nothing held beyond the end, and
nobody stopped for a deadlock who was in none.

By the durable log alone: what each attempt holds is added up from what was granted and released.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.model.base import JobId
from fairlead.model.events import (
    AnyEvent,
    Asked,
    Granted,
    Placed,
    Released,
    ResourceSet,
    StopDecided,
    Withdrawn,
)
from fairlead.sim.faults.known import Violation

if TYPE_CHECKING:
    from fairlead.sim.faults.oracles import Oracles

Amounts = dict[str, int]


class Named:
    """Looks at each durable event before the shadow core has applied it."""

    def __init__(self, oracles: Oracles) -> None:
        self.oracles = oracles
        self.amounts: Amounts = {}
        self.acquired: dict[JobId, Amounts] = {}  # by live attempts, beyond what they began with
        self.asks: dict[int, Asked] = {}  # by number

    def before(self, seq: int, event: AnyEvent) -> None:
        """Judge an event by what was before it."""
        live = self.oracles.live
        self.acquired = {job: held for job, held in self.acquired.items() if job in live}
        self.asks = {number: ask for number, ask in self.asks.items() if ask.job in live}
        match event:
            case ResourceSet(resource=resource):
                self.amounts[resource.name] = resource.amount
            case Placed(job=job):
                for name, amount in self.oracles.specs[job].counted:
                    self._room(name, amount, job)
            case Asked(job=job):
                if job in live and live[job].number == event.attempt:
                    self.asks[seq] = event
            case Withdrawn():
                self.asks.pop(event.ask, None)
            case Granted():
                self._granted(event)
            case Released(job=job, name=name, amount=amount):
                held = self.acquired.get(job, {})
                current = job in live and live[job].number == event.attempt
                if current and held.get(name, 0) >= amount:
                    held[name] -= amount
            case _:
                pass

    def _held(self, job: JobId) -> Amounts:
        found = dict(self.oracles.specs[job].counted)
        for name, amount in self.acquired.get(job, {}).items():
            found[name] = found.get(name, 0) + amount
        return found

    def _free(self, name: str) -> int:
        held = sum(self._held(job).get(name, 0) for job in self.oracles.live)
        return self.amounts.get(name, 0) - held

    def _room(self, name: str, amount: int, job: JobId) -> None:
        free = self._free(name)
        if free < amount:
            raise Violation("named-twice", f"job {job}: {amount} {name}, free are {free}", job)

    def _granted(self, event: Granted) -> None:
        job, ask = event.job, self.asks.pop(event.ask, None)
        if ask is None or (ask.job, ask.name, ask.amount) != (job, event.name, event.amount):
            raise Violation("granted-unasked", f"{event}", job)
        self._room(event.name, event.amount, job)
        held = self.acquired.setdefault(job, {})
        held[event.name] = held.get(event.name, 0) + event.amount
        if held[event.name] > dict(self.oracles.specs[job].may_acquire).get(event.name, 0):
            raise Violation("granted-too-much", f"{event}", job)

    def stuck(self) -> set[JobId]:
        """Return who can never go on by what is asked for now: whoever waits is let go on as soon
        as it can have all that it waits for, and gives back all that it has."""
        waits: dict[JobId, Amounts] = {}
        for ask in self.asks.values():
            attempt = self.oracles.live.get(ask.job)
            if attempt is not None and attempt.doomed is None:
                mine = waits.setdefault(ask.job, {})
                mine[ask.name] = mine.get(ask.name, 0) + ask.amount
        free = dict(self.amounts)
        for job in waits:
            for name, amount in self._held(job).items():
                free[name] = free.get(name, 0) - amount
        able = True
        while able:
            able = False
            for job, mine in list(waits.items()):
                if all(free.get(name, 0) >= amount for name, amount in mine.items()):
                    del waits[job]
                    able = True
                    for name, amount in self._held(job).items():
                        free[name] = free.get(name, 0) + amount
        return set(waits)

    def deadlocked(self, event: StopDecided) -> bool:
        """Whether a job that is stopped is in a deadlock, and holds what others wait for."""
        return event.job in self.stuck()

    def at_the_end(self) -> None:
        """Everything is over: nothing is held."""
        for name in self.amounts:
            if self.oracles.shadow.named.free(name) != self.amounts[name]:
                raise Violation("leaked", f"{name}: {self.oracles.shadow.named.holders(name)}")
