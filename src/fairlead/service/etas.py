"""When waiting jobs will start, kept by the service: worked out when asked for, never for long.

With few jobs here and now; with many in a child process (etachild.py), of which nobody waits: an
older answer is shown with its age until a newer one is there. A child that takes too long is
killed, and asked again later; the service does not need it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fairlead.core.engine import Core
from fairlead.model.base import JobId
from fairlead.model.events import AnyEvent, Cancelled, Placed
from fairlead.policy.eta import Eta, Etas
from fairlead.policy.whatif import WhatIf
from fairlead.service.child import Child, ChildFailed
from fairlead.service.shell import Shell

INLINE_JOBS = 24  # waiting and running: some 40 ms; more are looked at in the child
REST = 4  # after each look so many times as long as it took: at most a fifth of a core
FRESH_MS = 30_000  # without any event an estimate is made anew after so long
DEADLINE_S = 60.0  # then the child is killed
FAILED_S = 300.0  # after that it is not asked again for so long

log = logging.getLogger("fairlead.service")


def _asked(core: Core, **question: Any) -> bytes:
    body = core.dump()
    return msgspec.json.encode({**question, "size": len(body)}) + b"\n" + body


class EtaDesk:
    """The estimates of a shell's waiting jobs, and the errors of those before."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.etas = Etas()
        self.child = Child("fairlead.service.etachild")
        self.problem = ""
        self._rest_until = 0.0  # of the monotonic clock
        self._asking: asyncio.Task[None] | None = None
        shell.listeners.append(self._happened)

    async def close(self) -> None:
        """End the child."""
        if self._asking is not None:
            self._asking.cancel()
        await self.child.gone()

    def look(self) -> Mapping[JobId, Eta]:
        """Return what is known now, and see to it that it does not get old."""
        core, etas = self.shell.core, self.etas
        if not core.pending:
            return {}
        stale = etas.seq != core.seq or self.shell.now - etas.made_ms > FRESH_MS
        if stale and self._asking is None and time.monotonic() >= self._rest_until:
            if len(core.jobs) <= INLINE_JOBS:
                self._inline(core)
            else:
                self._asking = asyncio.get_running_loop().create_task(self._in_child(core))
        return etas.of

    def of(self, job: JobId) -> Eta | None:
        """Return the estimate of one job, None: there is none yet."""
        return self.look().get(job)

    @property
    def measured(self) -> dict[str, Any]:
        """Return how good estimates were, and how old they are."""
        calibration, now = self.etas.calibration, self.shell.now
        return {
            "compared": calibration.compared,
            "inside": calibration.inside,
            "sure": calibration.sure,
            "jobs": len(self.etas.of),
            "age_ms": max(now - self.etas.made_ms, 0) if self.etas.of else None,
            "problem": self.problem,
        }

    async def what_if(self, events: Sequence[AnyEvent]) -> WhatIf:
        """Return what would happen if these came to pass now. Raises ChildFailed."""
        from fairlead.policy.whatif import what_if
        from fairlead.service.etachild import Starts, at

        core, now = self.shell.core, self.shell.now
        if len(core.jobs) + len(events) <= INLINE_JOBS:
            return what_if(at(core, now), events)
        line = await self.child.ask(_asked(core, now_ms=now, events=events), DEADLINE_S)
        found = msgspec.json.decode(line, type=Starts).what_if
        assert found is not None, "the child answers what it is asked"
        return found

    # ---- within -------------------------------------------------------------------------------

    def _inline(self, core: Core) -> None:
        from fairlead.service.etachild import look_ahead

        began, now = time.monotonic(), self.shell.now
        try:
            self.etas.take(core.seq, now, look_ahead(core, now))
        except Exception as error:
            # A copy went wrong, not the core: estimates are not worth the service.
            self._failed(repr(error))
            log.exception("estimates fail")
            return
        self._rested(began)

    async def _in_child(self, core: Core) -> None:
        from fairlead.service.etachild import Starts

        began, seq, now = time.monotonic(), core.seq, self.shell.now
        try:
            line = await self.child.ask(_asked(core, now_ms=now), DEADLINE_S)
            starts = msgspec.json.decode(line, type=Starts).starts
        except (ChildFailed, msgspec.MsgspecError) as error:
            self._failed(str(error))
            log.warning("no estimates: %s", error)
        else:
            waiting = self.shell.core.pending  # others have started meanwhile
            self.etas.take(seq, now, {job: at for job, at in starts.items() if job in waiting})
            self._rested(began)
        finally:
            self._asking = None

    def _rested(self, began: float) -> None:
        now = time.monotonic()
        self._rest_until = now + REST * (now - began)
        self.problem = ""

    def _failed(self, why: str) -> None:
        self.problem = why
        self._rest_until = time.monotonic() + FAILED_S

    def _happened(self, core: Core, events: Sequence[AnyEvent]) -> None:
        """Compare the estimates of those that have started with the truth."""
        for event in events:
            if isinstance(event, Placed):
                job = core.jobs.get(event.job)
                if event.attempt == 1 and job is not None:
                    self.etas.started(job)
                else:
                    self.etas.gone(event.job)
            elif isinstance(event, Cancelled):
                self.etas.gone(event.job)
