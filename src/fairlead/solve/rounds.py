"""Turn shares of time into rounds: who runs on which type in the next one (algorithms.md 5.1).

Whoever has had the least of what its share promises on a type is first there: its priority is
share / rounds received on that type. A gang runs whole or not at all, a job on one type per round.
Whoever keeps its type keeps its devices: the lease is extended, which costs no restart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fairlead.model.base import Misuse

NOTHING = 1e-9  # a share below is rounding


class Grant(NamedTuple):
    """A job runs on a type in this round; `extended` if it did so in the round before."""

    job: int
    type: int
    extended: bool


@dataclass
class Rounds:
    """What each job has received since the shares were last set. Jobs are any integers."""

    devices: Sequence[int]
    shares: dict[int, Sequence[float]] = field(default_factory=dict)
    scale: dict[int, int] = field(default_factory=dict)
    received: dict[int, list[int]] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)  # the type of the round before

    def set(self, shares: Mapping[int, Sequence[float]], scale: Mapping[int, int]) -> None:
        """Aim for new shares from here on: what was received under others counts no more."""
        for job, row in shares.items():
            if len(row) != len(self.devices):
                raise Misuse(f"job {job} has {len(row)} shares for {len(self.devices)} types")
            if scale.get(job, 1) < 1 or min(row, default=0) < 0 or sum(row) > 1 + 1e-6:
                raise Misuse(f"the shares of job {job} are no fractions of its time")
        self.shares = {job: list(shares[job]) for job in sorted(shares)}
        self.scale = {job: scale.get(job, 1) for job in self.shares}
        self.received = {job: [0] * len(self.devices) for job in self.shares}
        self.last = {job: type for job, type in self.last.items() if job in self.shares}

    def remove(self, job: int) -> None:
        """A job has ended; the others keep their shares until new ones are set."""
        for table in (self.shares, self.scale, self.received, self.last):
            table.pop(job, None)

    def next(self, devices: Sequence[int] | None = None) -> list[Grant]:
        """Return who runs in the next round, and count it as received. Sorted by job.

        `devices`: how many of each type there are now, at most; by default all. Ties: whoever
        keeps its type, then the larger share, then the lower job.
        """
        free = list(self.devices if devices is None else devices)
        asking = sorted(
            (self._rank(job, type, share), job, type)
            for job, row in self.shares.items()
            for type, share in enumerate(row)
            if share > NOTHING
        )
        granted: dict[int, Grant] = {}
        for _, job, type in asking:
            if job not in granted and self.scale[job] <= free[type]:
                free[type] -= self.scale[job]
                granted[job] = Grant(job, type, self.last.get(job) == type)
        for job, grant in granted.items():
            self.received[job][grant.type] += 1
        self.last = {job: grant.type for job, grant in granted.items()}
        return [granted[job] for job in sorted(granted)]

    def _rank(self, job: int, type: int, share: float) -> tuple[float, bool, float]:
        """Return the least for the highest priority; who has received nothing is first."""
        return (self.received[job][type] / share, self.last.get(job) != type, -share)
