"""Clients: submit under an idempotency key, repeat until answered, cancel at any moment, vanish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.model.base import JobId, Ms
from fairlead.model.messages import Launch
from fairlead.sim.faults.network import (
    Acquire,
    Answer,
    Ask,
    Cancel,
    Release,
    Submit,
    decode_answer,
)
from fairlead.sim.faults.plan import RequestPlan

if TYPE_CHECKING:
    from fairlead.sim.faults.world import World

TIMEOUT_MS: Ms = 5_000  # the first; doubles
TIMEOUT_MAX_MS: Ms = 60_000
IMPATIENCE_MS: Ms = 500  # from a cancel to one without grace


class Call:
    """One call, repeated until it is answered or its client has vanished."""

    def __init__(self, world: World, ask: Ask, tries: int | None, *, once: bool = False) -> None:
        self.world, self.ask, self.tries, self.once = world, ask, tries, once
        self.timeout_ms = TIMEOUT_MS
        self.answer: Answer | None = None
        self.over = False

    def send(self) -> None:
        """Try (again)."""
        if self.over:
            return
        if self.tries is not None:
            if self.tries <= 0:
                self.over = True
                return
            self.tries -= 1
        self.world.network.send(self.ask, self._arrives, "", self.once)
        self.world.at(self.timeout_ms, self.send)
        self.timeout_ms = min(2 * self.timeout_ms, TIMEOUT_MAX_MS)

    def _arrives(self, body: bytes) -> None:
        self.world.service.ask(body, self._answered)

    def _answered(self, body: bytes) -> None:
        answer = decode_answer(body)
        assert answer.number == self.ask.number
        if self.over:
            return
        self.over, self.answer = True, answer
        self.done(answer)

    def done(self, answer: Answer) -> None:
        """Go on after the answer."""


class SubmitCall(Call):
    """Submits; may cancel its jobs some time after the answer."""

    def __init__(self, clients: Clients, plan: RequestPlan, ask: Submit) -> None:
        tries = plan.tries if plan.key else 1
        super().__init__(clients.world, ask, tries, once=not plan.key)
        self.clients, self.plan = clients, plan

    def done(self, answer: Answer) -> None:
        """Remember to cancel."""
        for name, job in zip(self.plan.jobs, answer.ids, strict=False):
            known = self.world.plan.jobs[name]
            if known.cancel_after_ms is not None:
                self.world.at(known.cancel_after_ms, self.clients.cancel, job, False)
                if known.cancel_now:
                    later = known.cancel_after_ms + IMPATIENCE_MS
                    self.world.at(later, self.clients.cancel, job, True)


class Clients:
    """All users of the service."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Call] = []
        self._number = 0

    @property
    def waiting(self) -> int:
        """How many calls still hope for an answer."""
        self.calls = [call for call in self.calls if not call.over]
        return len(self.calls)

    def start(self) -> None:
        """Lay out everything that users will do."""
        for plan in self.world.plan.requests:
            specs = tuple(self.world.plan.jobs[name].spec for name in plan.jobs)
            ask = Submit(number=self.number(), key=plan.key, specs=specs)
            call = SubmitCall(self, plan, ask)
            self.calls.append(call)
            self.world.at(plan.at_ms, call.send)
            if plan.eager and plan.key:
                self.world.at(plan.at_ms + 1, call.send)

    def process_starts(self, launch: Launch) -> None:
        """A job whose first process has started takes what it needs, and gives it back."""
        known = self.world.plan.jobs.get(launch.spec.name)
        if known is None or launch.rank:
            return
        key = (launch.job, launch.attempt)
        for name, amount, after, length in known.takes:
            self.world.at(after, self._use, Acquire, *key, name, amount)
            if length is not None:
                self.world.at(after + length, self._use, Release, *key, name, amount)

    def _use(
        self, kind: type[Acquire | Release], job: JobId, attempt: int, name: str, amount: int
    ) -> None:
        ask = kind(number=self.number(), job=job, attempt=attempt, name=name, amount=amount)
        call = Call(self.world, ask, self.world.rng.choice((None, 1)))
        self.calls.append(call)
        call.send()

    def number(self) -> int:
        """Return a number for the next call."""
        self._number += 1
        return self._number

    def cancel(self, job: JobId, now: bool) -> None:
        """Cancel a job, whatever it does now; some clients do not wait for the answer."""
        self.world.tell(job, "a client cancels job {}{}", job, " without grace" if now else "")
        self.world.oracles.cancels(job)
        ask = Cancel(number=self.number(), ids=(job,), now=now)
        call = Call(self.world, ask, self.world.rng.choice((None, None, 1)))
        self.calls.append(call)
        call.send()
