"""What queues hold while a replay goes on: their shares of a span of time."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.engine import Core
from fairlead.model.base import Ms
from fairlead.model.resources import CPU, GPU


class Over(Exception):
    """The span that is measured is over: the rest of the replay does not matter."""


class Meter:
    """An observer of a replay (`Observe`): sums GPU-time, or core-time, per queue up to `until_ms`.

    It counts while all of the queues have jobs that wait, and raises Over at `until_ms`.
    """

    def __init__(self, queues: Sequence[str], until_ms: Ms, *, gpus: bool = True) -> None:
        self.queues, self.until_ms = queues, until_ms
        self.row = GPU if gpus else CPU
        self.held_ms = dict.fromkeys(queues, 0)  # thousandths x ms
        self.counted_ms = 0
        self._held = dict.fromkeys(queues, 0)
        self._all_wait = False
        self._at: Ms = 0

    def __call__(self, now: Ms, core: Core) -> None:
        """Take in what has changed; between two calls everything stood still."""
        span = min(now, self.until_ms) - self._at
        if self._all_wait:
            self.counted_ms += span
            for queue in self.queues:
                self.held_ms[queue] += self._held[queue] * span
        self._at = now
        if now >= self.until_ms:
            raise Over
        self._all_wait = True
        for queue in self.queues:
            branch = core.shares.branches[queue]
            self._held[queue] = branch.held[self.row]
            self._all_wait &= branch.waiting > 0

    def share(self, queue: str) -> float:
        """Return the part of all that these queues held which this one had."""
        return self.held_ms[queue] / (sum(self.held_ms.values()) or 1)
