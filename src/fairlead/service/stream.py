"""Streams: the output of a member while it is written, and the log of events as it grows."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from fairlead.backends.local import output
from fairlead.backends.local.files import task_folder
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import LIVE
from fairlead.service.shell import Shell
from fairlead.store.sqlite import SqliteStore

READ_BYTES = 65_536
POLL_FIRST_S = 0.02  # output has no notification: look often while it flows, seldom when not
POLL_MAX_S = 0.25
WAIT_S = 15.0  # also how often an idle event stream says that it is alive
EVENTS_AT_ONCE = 1_000


class Tail:
    """Reads one rank of a job, from attempt to attempt unless one is named."""

    def __init__(
        self, shell: Shell, store: SqliteStore, state: Path, job: JobId, rank: int, attempt: int
    ) -> None:
        self.shell, self.store, self.state = shell, store, state
        self.job, self.rank = job, rank
        self.fixed = attempt > 0
        self.attempt = attempt or self._newest()
        self.offset = 0

    def _newest(self) -> int:
        job = self.shell.core.jobs.get(self.job)
        if job is not None:
            return job.attempt
        status = self.store.status_of(self.job)
        return status.attempt if status is not None else 0

    @property
    def folder(self) -> str:
        """Return where the output is."""
        return task_folder(str(self.state), (self.job, self.attempt, self.rank))

    def last(self, lines: int) -> bytes:
        """Return the last lines and go on behind them; `offset` is then that of their end."""
        data, self.offset = output.tail(self.folder, lines)
        return data

    def over(self) -> bool:
        """Whether this attempt's member writes no more."""
        job = self.shell.core.jobs.get(self.job)
        if job is None or job.attempt > self.attempt:
            return True
        gone = self.rank in job.exits or self.rank not in job.ranks
        return self.attempt > 0 and (job.phase not in LIVE or gone)

    def next_attempt(self) -> bool:
        """Go on to a later attempt, if there is one and none was named."""
        newest = self._newest()
        if self.fixed or newest <= self.attempt:
            return False
        self.attempt = self.attempt + 1 if self.attempt else newest
        self.offset = 0
        return True

    async def read(self, *, follow: bool) -> AsyncIterator[bytes]:
        """Yield what is there; with `follow` until the job is final (or the service stops)."""
        pause = POLL_FIRST_S
        while True:
            over = self.over()  # asked first: what is written before the end is not missed
            data, self.offset, gaps = output.read(self.folder, self.offset, READ_BYTES)
            for start, end in gaps:
                yield b"[fairlead: %d bytes of output were dropped here]\n" % (end - start)
            if data:
                pause = POLL_FIRST_S
                yield data
                continue
            if self.next_attempt():
                continue
            final = self.job not in self.shell.core.jobs
            if not follow or self.shell.stopped or final or (over and self.fixed):
                return
            if over or not self.attempt:
                await self.shell.changed(self.shell.core.seq, WAIT_S)  # it waits to run
            await self.shell.ended(self.job, pause)
            pause = min(2 * pause, POLL_MAX_S)


def event_view(seq: int, at_ms: Ms, event: AnyEvent) -> dict[str, Any]:
    """Return an event of the log with its place and time."""
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return {"seq": seq, "at_ms": at_ms, **fields}


async def events(shell: Shell, store: SqliteStore, after: int) -> AsyncIterator[bytes]:
    """Yield the log after a sequence number as server-sent events, for ever."""
    while not shell.stopped:
        found = list(itertools.islice(store.replay(after), EVENTS_AT_ONCE))
        for seq, at_ms, event in found:
            after = seq
            body = msgspec.json.encode(event_view(seq, at_ms, event))
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, _kind(event), body)
        if not found and not await shell.changed(after, WAIT_S):
            yield b": nothing new\n\n"


def _kind(event: AnyEvent) -> bytes:
    return str(type(event).__struct_config__.tag).encode()


async def chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield some bytes, then those of a stream."""
    if first:
        yield first
    async for data in rest:
        yield data
