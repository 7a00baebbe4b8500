"""Who is next for each part of a plan: least of what it was promised first (algorithms.md 5.1).

A job's rank on a device model is how long it ran there beyond what is owed to it, over its share:
equal for all where everybody has had what the plan promises. While a job waits its rank stays the
same, so waiting jobs stand in lines, one for each share and model, and a round costs as much as
there are devices to give away, however many wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from fairlead.core.advice import Advice
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.advice import WHOLE, Share
from fairlead.model.base import JobId
from fairlead.model.resources import width_milli
from fairlead.policy.finish import round_start

FINE = 1 << 20  # ranks are whole numbers of so many parts
Entry: TypeAlias = tuple[int, JobId, int]  # rank, job, its token: another once it has run again
Room: TypeAlias = dict[str, int]  # by model: thousandths of GPUs, or of cores for ""


class Claim(NamedTuple):
    """A job may run on a model: the least rank is first; then who is there already, then the
    greater part, then who came first."""

    rank: int
    moves: bool
    less: int  # minus its part
    job_id: JobId
    model: str


class Line:
    """Waiting jobs of one share, for one model."""

    __slots__ = ("entries", "model", "part", "width")

    def __init__(self, model: str, part: int) -> None:
        self.model, self.part = model, part
        self.entries: list[Entry] = []
        self.width = 0  # the least of any of its jobs


def rank_of(core: Core, job: Job, model: str, part: int) -> int:
    """Return the rank of a job on a model of which it is to have this part of its time, now.

    What it has received is counted up to the beginning of the round, so that all passes of a round
    come to the same; and a plan that was made shortly before moves nobody for that little while.
    """
    advice, lease = core.advice, core.policy.lease_ms
    begun = round_start(core.clock, lease)
    until = begun if begun - advice.at_ms >= lease // 2 else advice.at_ms
    received = advice.received_ms(core, job, model, until) * WHOLE
    return (received - advice.owed.get((job.id, model), 0)) * FINE // part


class Lines:
    """The lines of one core. Derived state: rebuilt at any time."""

    def __init__(self) -> None:
        self._advice: Advice | None = None
        self._read = 0
        self._lines: dict[tuple[int, str], Line] = {}

    def sync(self, core: Core) -> None:
        """Take in a new plan, or the jobs that wait again since the last time."""
        lost = self._read < core.arrivals_forgotten
        if core.advice is not self._advice or lost:
            self._advice = core.advice
            self._lines = {}
            fresh: Iterable[JobId] = core.pending
        else:
            fresh = core.arrivals[self._read - core.arrivals_forgotten :]
        self._read = core.arrivals_forgotten + len(core.arrivals)
        found: dict[tuple[int, str], list[Entry]] = {}
        of = core.advice.of
        for job_id in fresh:
            share, job = of.get(job_id), core.pending.get(job_id)
            if share is not None and job is not None:
                self._add(core, job, share, found)
        for key, entries in found.items():
            line = self._lines[key]
            if line.entries:
                for entry in entries:
                    heapq.heappush(line.entries, entry)
            else:
                line.entries = entries
                heapq.heapify(entries)

    def _add(
        self, core: Core, job: Job, share: Share, found: dict[tuple[int, str], list[Entry]]
    ) -> None:
        for model, part in share.on:
            if part <= 0:
                continue
            key = (id(share), model)
            line = self._lines.get(key)
            width = width_milli(job.spec.shape)
            if line is None:
                line = self._lines[key] = Line(model, part)
                line.width = width
            line.width = min(line.width, width)
            rank = rank_of(core, job, model, part)
            found.setdefault(key, []).append((rank, job.id, job.token))

    def in_order(self, core: Core, movable: Iterable[Claim], room: Room) -> Iterator[Claim]:
        """Yield claims, first come first, on models of which there is room; the caller takes it."""
        lines = [line for line in self._lines.values() if room.get(line.model, 0) >= line.width]
        heap: list[tuple[Claim, int]] = [(claim, -1) for claim in movable]
        given: list[tuple[Line, Entry]] = []
        for number, line in enumerate(lines):
            if (first := _first(core, line)) is not None:
                heap.append((first, number))
        heapq.heapify(heap)
        while heap:
            claim, number = heapq.heappop(heap)
            if number < 0:
                if room.get(claim.model, 0) > 0:
                    yield claim
                continue
            line = lines[number]
            if room.get(line.model, 0) < line.width:
                continue  # nobody in it fits
            given.append((line, heapq.heappop(line.entries)))
            yield claim
            if (after := _first(core, line)) is not None:
                heapq.heappush(heap, (after, number))
        for line, entry in given:  # whoever does start is skipped the next time
            heapq.heappush(line.entries, entry)


def _first(core: Core, line: Line) -> Claim | None:
    """Return the first claim of a line; forget those who wait no more, or stand elsewhere."""
    entries, pending = line.entries, core.pending
    while entries:
        rank, job_id, token = entries[0]
        job = pending.get(job_id)
        if job is not None and job.token == token:
            return Claim(rank, True, -line.part, job_id, line.model)
        heapq.heappop(entries)
    return None
