"""A store in memory with the crash semantics of the real one, for tests and the fault simulator.

What is kept is the encoded form, so the codecs are exercised. Faults are asked for in advance and
strike at a counted write (`append` or `save_snapshot`), as SQLite's own tests do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal, TypeAlias

from fairlead.model.base import JobId, Misuse, Ms, StoreFailed
from fairlead.model.events import AnyEvent, Progressed
from fairlead.model.jobs import JobSpec
from fairlead.model.status import JobStatus
from fairlead.store.codec import (
    ALL_JOBS,
    STORY_MAX,
    JobFilter,
    JobRow,
    LogRow,
    decode_event,
    decode_status,
    job_row,
    log_rows,
    spec_in,
)

# fail: StoreFailed, nothing written. torn: the process dies in the write, nothing of it remains.
# unheard: the process dies after the commit and before it could learn of it.
Fault: TypeAlias = Literal["fail", "torn", "unheard"]


class Crashed(Exception):
    """The simulated process died inside a write; `restart` the store and recover."""


class MemoryStore:
    """The same protocol as SqliteStore; everything is durable when `append` returns."""

    def __init__(self) -> None:
        self._log: list[LogRow] = []
        self._of_job: dict[JobId, list[int]] = {}  # indices into the log
        self._jobs: dict[JobId, JobRow] = {}
        self._snapshots: dict[int, tuple[str, bytes]] = {}
        self._faults: dict[int, Fault] = {}  # write number -> what happens there
        self._writes = 0
        self._dead = False
        self._flushed: int | None = None  # while the disk lies: the durable length of the log
        self._before_lie: tuple[dict[JobId, JobRow], dict[int, tuple[str, bytes]]] | None = None

    # -- faults ----------------------------------------------------------------------------

    def fail_next(self, n: int = 1, fault: Fault = "fail") -> None:
        """Let the n-th write from now on (1: the next) suffer a fault."""
        self._faults[self._writes + n] = fault

    @property
    def fault_waits(self) -> bool:
        """Whether a fault was asked for that no write has reached yet."""
        return bool(self._faults)

    def lie(self) -> None:
        """From now on acknowledge writes that a crash will undo: a disk that ignores flushes."""
        if self._flushed is None:
            self._flushed = len(self._log)
            self._before_lie = (dict(self._jobs), dict(self._snapshots))

    def crash(self) -> None:
        """The process died and starts again: what was not durable, and waiting faults, are gone."""
        if self._before_lie is not None:
            del self._log[self._flushed :]
            self._jobs, self._snapshots = self._before_lie
            self._of_job = {}
            for index, row in enumerate(self._log):
                if row[4]:
                    self._of_job.setdefault(row[4], []).append(index)
        self._flushed = self._before_lie = None
        self._faults.clear()
        self._dead = False

    # -- the store -------------------------------------------------------------------------

    @property
    def seq(self) -> int:
        """The sequence number of the last event, 0 if there is none."""
        return len(self._log)

    def append(
        self, records: Sequence[tuple[Ms, AnyEvent]], statuses: Sequence[JobStatus] = ()
    ) -> int:
        """Write events and statuses, all or nothing. Raises StoreFailed, Crashed."""
        last = len(self._log)
        if not records and not statuses:
            return last
        rows = list(log_rows(last, records))
        jobs = {status.id: job_row(status) for status in statuses}
        fault = self._strike()
        for row in rows:
            if row[4]:
                self._of_job.setdefault(row[4], []).append(row[0] - 1)
        self._log += rows
        self._jobs.update(jobs)
        self._die_if(fault)
        return len(self._log)

    def replay(self, after: int = 0) -> Iterator[tuple[int, Ms, AnyEvent]]:
        """Yield (seq, time, event) after a sequence number, in order."""
        self._require_alive()
        for index in range(after, len(self._log)):
            yield self._event(index)

    def save_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """Keep an image; only the last two stay. Raises StoreFailed, Crashed."""
        fault = self._strike()
        self._snapshots[seq] = (digest, body)
        for old in sorted(self._snapshots)[:-2]:
            del self._snapshots[old]
        self._die_if(fault)

    def snapshots(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield (seq, digest, body), newest first."""
        self._require_alive()
        for seq in sorted(self._snapshots, reverse=True):
            if seq <= len(self._log):
                yield seq, *self._snapshots[seq]

    def story(
        self, job: JobId, after: int = 0, limit: int = STORY_MAX, *, progress: bool = True
    ) -> list[tuple[int, Ms, AnyEvent]]:
        """Return what happened to a job, oldest first, after a sequence number.

        `progress`: also how far it was, again and again.
        """
        events = (self._event(index) for index in self._of_job.get(job, ()) if index >= after)
        told = (each for each in events if progress or not isinstance(each[2], Progressed))
        return list(islice(told, limit))

    def spec_of(self, job: JobId) -> JobSpec | None:
        """Return what was submitted; None if there is no such job."""
        story = self.story(job, limit=1)
        return spec_in(story[0][2]) if story else None

    def status_of(self, job: JobId) -> JobStatus | None:
        """Return the last durable status of a job; None if there is no such job."""
        row = self._jobs.get(job)
        return decode_status(row[-1]) if row else None

    def history(
        self, which: JobFilter = ALL_JOBS, limit: int = 100, before: JobId | None = None
    ) -> list[JobStatus]:
        """Return jobs, finished or not, newest (largest id) first; `before` pages on."""
        ids = sorted((i for i in self._jobs if before is None or i < before), reverse=True)
        found = (decode_status(self._jobs[i][-1]) for i in ids)
        return [status for status in found if which.matches(status)][:limit]

    def count(self, which: JobFilter = ALL_JOBS) -> int:
        """Return how many jobs pass."""
        return sum(which.matches(decode_status(row[-1])) for row in self._jobs.values())

    def close(self) -> None:
        """Nothing to close; here so that both stores are used alike."""

    def _event(self, index: int) -> tuple[int, Ms, AnyEvent]:
        seq, at_ms, *_, body = self._log[index]
        return seq, at_ms, decode_event(body)

    def _require_alive(self) -> None:
        if self._dead:
            raise Misuse("the simulated process is dead", hint="call crash(), then recover")

    def _strike(self) -> Fault | None:
        """Count a write and let its fault happen, if it comes before the commit."""
        self._require_alive()
        self._writes += 1
        fault = self._faults.pop(self._writes, None)
        if fault == "fail":
            raise StoreFailed("the disk is full (simulated); free some space and try again")
        if fault == "torn":
            self._dead = True
            raise Crashed("died before the commit")
        return fault

    def _die_if(self, fault: Fault | None) -> None:
        if fault == "unheard":
            self._dead = True
            raise Crashed("died after the commit")
