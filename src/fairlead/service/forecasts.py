"""Forecasts of run times: asked at every submission, taught by every end, and never in the way.

A forecast becomes a fact of the log in the turn of its job's submission and is not worked out
again. A predictor that fails is dropped with a warning; the service goes on without forecasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.speeds import by_speed
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent, Forecasted, Submitted
from fairlead.model.jobs import FINAL, Forecast, JobSpec, Phase
from fairlead.model.status import JobStatus
from fairlead.store.codec import JobFilter

HISTORY_JOBS = 20_000  # of those that ended so many teach at the start, the newest
PAGE_JOBS = 500  # between two looks at the event loop
COMPLETED = (Phase.SUCCEEDED, Phase.FAILED)  # ended of itself, well or not

log = logging.getLogger("fairlead.service")


class Predictor(Protocol):
    """What the service needs of `fairlead.predict`."""

    name: str

    def predict(self, now: Ms, job: JobSpec) -> Forecast:
        """Return what is believed at submission."""
        ...

    def learn(self, now: Ms, job: JobSpec, ran_ms: Ms, completed: bool) -> None:
        """Take in a job that has ended; completed=False: it was stopped."""
        ...

    def why(self, now: Ms, job: JobSpec) -> tuple[str, ...]:
        """Return in sentences from what a forecast made now would come."""
        ...


class History(Protocol):
    """The part of a store that is learned from."""

    def history(
        self, which: JobFilter = ..., limit: int = ..., before: JobId | None = None
    ) -> list[JobStatus]:
        """Return jobs, newest first."""
        ...

    def spec_of(self, job: JobId) -> JobSpec | None:
        """Return what was asked for."""
        ...


def build(name: str) -> Predictor | None:
    """Return the predictor of a name, None for "none". Raises Misuse."""
    if name == "none":
        return None
    from fairlead.predict.registry import build as make

    return make(name)


class Forecasts:
    """A predictor that may fail. Silent until it has learned what is known at the start."""

    def __init__(self, predictor: Predictor | None = None, *, learned: bool = True) -> None:
        self.predictor = predictor
        self.problem = ""
        self._learned = learned
        self._later: list[tuple[Ms, JobSpec, Ms, bool]] = []  # ended while it was learning

    @property
    def name(self) -> str:
        """Return the predictor's name, "none" without one."""
        return "none" if self.predictor is None else self.predictor.name

    def attach(self, now: Ms, core: Core, events: Sequence[AnyEvent]) -> list[AnyEvent]:
        """Return the events with a forecast behind each submission; the same where there is none.

        By its steps and the speed of its type, where both are known; else by the predictor. The
        jobs of an array are alike: one question is enough for them.
        """
        found: list[AnyEvent] = []
        last: tuple[JobId | None, Forecast | None] = (None, None)
        for event in events:
            found.append(event)
            if not isinstance(event, Submitted):
                continue
            array = event.spec.array
            if array is None or array != last[0]:
                last = (array, by_speed(core, event.spec) or self._predict(now, event.spec))
            if last[1] is not None:
                found.append(Forecasted(job=event.job, forecast=last[1]))
        return found

    def ended(self, now: Ms, job: Job) -> None:
        """A job has ended for good: learn from it if it ran at all."""
        if job.served_ms > 0:
            self._learn(now, job.spec, job.served_ms, job.phase in COMPLETED)

    def why(self, now: Ms, spec: JobSpec) -> tuple[str, ...]:
        """Return from what a forecast made now would come."""
        if self.predictor is None:
            return ()
        try:
            return self.predictor.why(now, spec)
        except Exception as error:
            self._drop(error)
            return ()

    async def learn(self, store: History) -> None:
        """Learn from the newest of the jobs that have ended, in the order in which they did."""
        if self.predictor is None:
            return
        ended: list[JobStatus] = []
        before: JobId | None = None
        while len(ended) < HISTORY_JOBS:
            page = store.history(JobFilter(phases=FINAL), limit=PAGE_JOBS, before=before)
            ended += [each for each in page if each.started_ms is not None]
            if len(page) < PAGE_JOBS:
                break
            before = page[-1].id
            await asyncio.sleep(0)
        ended.sort(key=lambda each: (each.ended_ms or 0, each.id))
        for count, each in enumerate(ended[-HISTORY_JOBS:]):
            if count % PAGE_JOBS == 0:
                await asyncio.sleep(0)
            spec = store.spec_of(each.id)
            if spec is not None and each.started_ms is not None and each.ended_ms is not None:
                ran = max(each.ended_ms - each.started_ms, 1)
                self._teach(each.ended_ms, spec, ran, each.phase in COMPLETED)
        self._learned = True
        later, self._later = self._later, []
        for one in later:
            self._teach(*one)
        log.info("%s has learned from %d jobs that ended", self.name, len(ended))

    # ---- within -------------------------------------------------------------------------------

    def _predict(self, now: Ms, spec: JobSpec) -> Forecast | None:
        if self.predictor is None or not self._learned:
            return None
        try:
            return self.predictor.predict(now, spec)
        except Exception as error:
            self._drop(error)
            return None

    def _learn(self, now: Ms, spec: JobSpec, ran_ms: Ms, completed: bool) -> None:
        if self._learned:
            self._teach(now, spec, ran_ms, completed)
        elif self.predictor is not None:
            self._later.append((now, spec, ran_ms, completed))

    def _teach(self, now: Ms, spec: JobSpec, ran_ms: Ms, completed: bool) -> None:
        if self.predictor is None:
            return
        try:
            self.predictor.learn(now, spec, ran_ms, completed)
        except Exception as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        """Go on without: a forecast is not worth a stopped service."""
        self.problem = f"{self.name} failed: {error!r}"
        log.warning("no more forecasts: %s", self.problem, exc_info=error)
        self.predictor = None
        self._later.clear()
