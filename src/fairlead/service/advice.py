"""Plans in the service: an adviser in a child process is asked ahead of each round.

Its answer goes through a turn like any other fact. While it is late, dead or not installed the plan
before holds, and what that does not know of runs beside it: the service never waits for a plan.
Policies that want plans at once are told to expect one, and hold others back for it; as soon as an
answer is late they are told to expect none for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

import msgspec

from fairlead.core.advice import seen_of
from fairlead.core.engine import Core
from fairlead.model.advice import WHOLE
from fairlead.model.base import JobId, Misuse, Ms, Record, StoreFailed
from fairlead.model.events import Advised, AnyEvent
from fairlead.policy.finish import round_start
from fairlead.policy.ordered import Ordered
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.question import stale
from fairlead.policy.rounds import Rounds
from fairlead.service.child import Child, ChildFailed
from fairlead.service.commands import Batch
from fairlead.service.shell import Shell
from fairlead.solve.advise.child import Asked, Said

AHEAD = 10  # asked that part of a round before the next begins,
AHEAD_MIN_MS: Ms = 5_000  # or so long before, in the middle of a round at the earliest
DEADLINE_MIN_S = 60.0  # a child is not killed before: among busy jobs it takes a while to start
LATE_S = 3.0  # so long a policy that wants plans at once holds others back for one
RETRY_S = 30.0  # so long after a late answer nobody is held back; then one is expected again
PAUSE_MS: Ms = 200  # between two plans that are wanted at once

log = logging.getLogger("fairlead.service")


class Advise:
    """A plan becomes a fact, unless another policy is in force by now."""

    def __init__(self, plan: Advised) -> None:
        self.plan_made = plan

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Check it, since it comes from another process. Raises Misuse."""
        check(self.plan_made)
        return [self.plan_made] if batch.core.policy.plan == self.plan_made.adviser else []

    def answer(self, core: Core) -> None:
        """There is nothing to tell."""


def check(plan: Advised) -> None:
    """Raise Misuse for a plan that gives a job less than none or more than all of its time."""
    seen: set[JobId] = set()
    for share in plan.plan:
        parts = [part for _, part in share.on]
        if min(parts, default=0) < 0 or sum(parts) > WHOLE + len(parts):
            raise Misuse(f"a plan gives job {share.jobs[0]} the parts {parts} of its time")
        if not seen.isdisjoint(share.jobs) or len(set(share.jobs)) < len(share.jobs):
            raise Misuse("a plan has a job twice")
        seen.update(share.jobs)


class Nothing:
    """A turn for those that a plan has kept waiting."""

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Ask for nothing."""
        return []

    def answer(self, core: Core) -> None:
        """There is nothing to tell."""


class PlanStatus(Record, frozen=True):
    """What users are told of the plan that holds."""

    adviser: str
    age_ms: Ms | None  # None: there is none yet
    jobs: int  # that it still knows of
    because: str
    gap_ppm: int | None
    took_ms: Ms
    problem: str  # why there is no newer one, "" when all is well


class AdviceDesk:
    """Asks for plans while the policy in force wants some."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.child = Child("fairlead.solve.advise.child")
        self.problem = ""
        self._expect_s = 0.0  # (monotonic) when answers are expected to come in time, again
        self._asked_ms: Ms = 0
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._letting_go: asyncio.Task[None] | None = None
        shell.listeners.append(self._happened)

    async def close(self) -> None:
        """End the child."""
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
        await self.child.gone()

    def status(self) -> PlanStatus | None:
        """Return how the plan is, None where the policy wants none."""
        core = self.shell.core
        if not core.policy.plan:
            return None
        advice, event = core.advice, core.advice.event
        made = event.adviser == core.policy.plan
        return PlanStatus(
            adviser=core.policy.plan,
            age_ms=max(self.shell.now - advice.at_ms, 0) if made else None,
            jobs=len(advice.of) if made else 0,
            because=event.because if made else "",
            gap_ppm=event.gap_ppm if made else None,
            took_ms=event.took_us // 1000 if made else 0,
            problem=self.problem,
        )

    def ask_at(self) -> Ms | None:
        """Return when to ask for the next plan, None while nobody wants one."""
        core, now = self.shell.core, self.shell.now
        lease = core.policy.lease_ms
        rounds = self.rounds()
        if rounds is None or not core.jobs or not stale(core):
            return None
        if rounds.at_once:
            return max(now, self._asked_ms + PAUSE_MS) if rounds.due(core) else None
        end = round_start(now, lease) + lease
        ahead = min(max(lease // AHEAD, AHEAD_MIN_MS), lease // 2)
        # Where it is too late for this round: some rounds are shorter than it takes to ask.
        return max(end - ahead, now)

    def rounds(self) -> Rounds | Ordered | None:
        """Return the part of the policy in force that carries out plans, None if it has none."""
        policy = self.shell.scheduler.policy
        return policy.rounds if isinstance(policy, Pipeline) else None

    async def ask(self) -> None:
        """Ask, and put the answer through a turn; a failure is said, and changes nothing."""
        core, rounds = self.shell.core, self.rounds()
        if rounds is None:
            return
        name, lease, seen = core.policy.plan, core.policy.lease_ms, seen_of(core)
        asked = Asked(adviser=name, question=rounds.question(core, self.shell.now))
        line = msgspec.json.encode(asked) + b"\n"
        began, self._asked_ms = time.monotonic(), self.shell.now
        late = asyncio.get_running_loop().call_later(LATE_S, self._late)
        try:
            round_s = 0 if rounds.at_once else lease / AHEAD / 1000
            body = await self.child.ask(line, max(round_s, DEADLINE_MIN_S))
            said = msgspec.json.decode(body, type=Said)
            if said.plan is None:
                raise ChildFailed(said.problem)
            took = int((time.monotonic() - began) * 1_000_000)
            await self.shell.ask(
                Advise(msgspec.structs.replace(said.plan, took_us=took, seen=seen))
            )
        except (ChildFailed, msgspec.MsgspecError, Misuse, StoreFailed) as error:
            self._failed(f"no plan by {name}: {error}")
        except Exception as error:
            # A question went wrong, not the core: plans are not worth the service.
            self._failed(f"no plan by {name}: {error!r}")
            log.exception("plans fail")
        else:
            if self.problem:
                log.info("plans by %s are made again", name)
            self.problem = ""
            if time.monotonic() - began < LATE_S:
                self._expect_s = 0.0
        finally:
            late.cancel()
        self._expect()
        if self.problem and rounds.at_once:
            await self._let_go()

    # ---- within -------------------------------------------------------------------------------

    def _happened(self, core: Core, events: Sequence[AnyEvent]) -> None:
        """Something may have changed that a plan goes by."""
        self._expect()
        if self._timer is None and self._asking is None:
            self.wake()

    def wake(self) -> None:
        """See to it that the next plan is asked for in time. Needs a running event loop."""
        self._expect()
        at = self.ask_at()
        if at is not None:
            delay = (at - self.shell.now) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        if self.shell.stopped or self.ask_at() is None:
            return
        self._asking = asyncio.get_running_loop().create_task(self._ask_then_wake())

    async def _ask_then_wake(self) -> None:
        end = round_start(self.shell.now, self.shell.core.policy.lease_ms)
        end += self.shell.core.policy.lease_ms
        rounds = self.rounds()
        if rounds is not None and rounds.at_once:
            end = self.shell.now + PAUSE_MS
        try:
            await self.ask()
        finally:
            self._asking = None
        if not self.shell.stopped:  # one question a round: what comes now is for the next
            delay = max(end - self.shell.now, 0) / 1000 + 0.001
            self._timer = asyncio.get_running_loop().call_later(delay, self._again)

    def _again(self) -> None:
        self._timer = None
        self.wake()

    def _expect(self) -> None:
        """Tell the policy whether a plan that it wants will be there soon."""
        rounds = self.rounds()
        if rounds is not None:
            rounds.awaited = time.monotonic() >= self._expect_s

    def _late(self) -> None:
        """An answer has not come in time: nobody is to wait for it."""
        self._failed(f"no plan by {self.shell.core.policy.plan} within {LATE_S:g} s")
        self._expect()
        self._letting_go = asyncio.get_running_loop().create_task(self._let_go())

    async def _let_go(self) -> None:
        with contextlib.suppress(StoreFailed):
            await self.shell.ask(Nothing())

    def _failed(self, why: str) -> None:
        self._expect_s = time.monotonic() + RETRY_S
        asyncio.get_running_loop().call_later(RETRY_S + 0.01, self._expect)
        if why != self.problem:
            log.warning("%s; the plan before holds, other jobs run beside it", why)
        self.problem = why
