"""Waiting jobs beside groups of nodes: who is equal, what each would take, and what fits.

Jobs that ask for the same and would take equally long are one class, nodes that have the same left
are one room. A plan for classes and device models is packed into the rooms before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from fairlead.model.advice import Candidate, Free, Question
from fairlead.model.base import JobId, Ms

WHOLE_GPU = 1000
PER_SECOND = 1_000_000_000  # (steps per million seconds) times so much are steps per ms
UNKNOWN_MS: Ms = 3_600_000  # of jobs of which nothing is known: the same everywhere


class Ask(NamedTuple):
    """What a member of a job takes, and how many members there are."""

    gpus_milli: int
    cpu_milli: int
    memory_mib: int
    members: int


@dataclass(frozen=True)
class Group:
    """Equal jobs: `times` is how long each would take per model in ms, None where it cannot run."""

    ask: Ask
    weight: int
    times: tuple[Ms | None, ...]
    jobs: tuple[JobId, ...]

    @property
    def turn(self) -> tuple[int, ...]:
        """Return when it is its turn to be packed: large members first, then large gangs."""
        ask = self.ask
        return (-ask.gpus_milli, -ask.cpu_milli, -ask.memory_mib, -ask.members)


def groups_of(question: Question) -> list[Group]:
    """Return the waiting jobs as groups, the heaviest first, then who came first."""
    found: dict[tuple[Ask, int, tuple[Ms | None, ...]], list[JobId]] = {}
    waiting = [job for job in question.jobs if job.on is None]
    waiting.sort(key=lambda job: (-job.weight, job.submitted_ms, job.job))
    for job in waiting:
        ask = Ask(job.gpus_milli, job.cpu_milli, job.memory_mib, job.members)
        times = expected(job)
        if any(time is not None for time in times):
            found.setdefault((ask, job.weight, times), []).append(job.job)
    return [Group(*key, jobs=tuple(jobs)) for key, jobs in found.items()]


def expected(job: Candidate) -> tuple[Ms | None, ...]:
    """Return how long a job would still run on each model, in ms; None where it cannot.

    By its steps and speeds; else what is expected of it, taken to hold on its fastest model. A
    speed that nobody knows is taken to be the lowest that is known.
    """
    known = [speed for speed in job.micro_per_s if speed]
    best, least = (max(known), min(known)) if known else (1, 1)
    times: list[Ms | None] = []
    for told in job.micro_per_s:
        speed = least if told is None else told
        if not speed:
            times.append(None)
        elif job.left and known:
            times.append(max(job.left * PER_SECOND // speed, 1))
        else:
            times.append(max((job.expected_ms or UNKNOWN_MS) * best // speed, 1))
    return tuple(times)


def members_in(free: Free, ask: Ask) -> int:
    """Return how many members a node of a room takes."""
    most = [1 << 30]
    if ask.gpus_milli >= WHOLE_GPU:
        most.append(free.gpus_milli.count(WHOLE_GPU) * WHOLE_GPU // ask.gpus_milli)
    elif ask.gpus_milli:
        most.append(sum(milli // ask.gpus_milli for milli in free.gpus_milli))
    for each, left in ((ask.cpu_milli, free.cpu_milli), (ask.memory_mib, free.memory_mib)):
        if each:
            most.append(left // each)
    return min(most)


def fit_in(rooms: Iterable[Free], ask: Ask) -> int:
    """Return how many jobs these rooms could take if there were no others."""
    return sum(members_in(free, ask) * free.count for free in rooms) // ask.members


class Packer:
    """The rooms of one model while jobs are put into them, each where least is left."""

    def __init__(self, rooms: Iterable[Free]) -> None:
        self.count: dict[tuple[tuple[int, ...], int, int], int] = {}
        for free in rooms:
            key = (free.gpus_milli, free.cpu_milli, free.memory_mib)
            self.count[key] = self.count.get(key, 0) + free.count

    def put(self, ask: Ask) -> bool:
        """Put in all members of a job, or none."""
        before = dict(self.count) if ask.members > 1 else self.count
        for _ in range(ask.members):
            if not self._one(ask):
                self.count = before
                return False
        return True

    def _one(self, ask: Ask) -> bool:
        best: tuple[tuple[int, int, int], tuple[tuple[int, ...], int, int]] | None = None
        chosen: tuple[tuple[int, ...], int, int] | None = None
        for room in self.count:
            left = _without(room, ask)
            if left is not None:
                rank = (sum(left[0]), left[1], left[2])
                if best is None or (rank, room) < (best[0], chosen):
                    best, chosen = (rank, left), room
        if best is None or chosen is None:
            return False
        self.count[chosen] -= 1
        if not self.count[chosen]:
            del self.count[chosen]
        self.count[best[1]] = self.count.get(best[1], 0) + 1
        return True


def _without(
    room: tuple[tuple[int, ...], int, int], ask: Ask
) -> tuple[tuple[int, ...], int, int] | None:
    """Return what is left of a node with one member more, None if it does not fit."""
    gpus, cpu, memory = room[0], room[1] - ask.cpu_milli, room[2] - ask.memory_mib
    if cpu < 0 or memory < 0:
        return None
    if ask.gpus_milli >= WHOLE_GPU:
        wanted = ask.gpus_milli // WHOLE_GPU
        if gpus.count(WHOLE_GPU) < wanted:
            return None
        gpus = tuple(sorted((*gpus[wanted:], *(0,) * wanted), reverse=True))
    elif ask.gpus_milli:
        fitting = [milli for milli in gpus if milli >= ask.gpus_milli]
        if not fitting:
            return None
        at = gpus.index(min(fitting))
        after = gpus[at] - ask.gpus_milli
        gpus = tuple(sorted((*gpus[:at], *gpus[at + 1 :], after), reverse=True))
    return gpus, cpu, memory
