"""The service's disk: the store in memory, which may be full, fail, or flip a bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from fairlead.model.base import Ms, StoreFailed
from fairlead.model.events import AnyEvent
from fairlead.model.status import JobStatus
from fairlead.store.memory import MemoryStore

Observer: TypeAlias = Callable[[Sequence[tuple[int, Ms, AnyEvent]], Sequence[JobStatus]], None]


class Disk(MemoryStore):
    """A MemoryStore that tells an observer what has become durable, decoded from what it wrote."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self.full = False
        self._observer = observer

    def append(
        self, records: Sequence[tuple[Ms, AnyEvent]], statuses: Sequence[JobStatus] = ()
    ) -> int:
        """Write, unless the disk is full. Raises StoreFailed, Crashed."""
        if self.full:
            raise StoreFailed("the disk is full (simulated)")
        before = self.seq
        try:
            return super().append(records, statuses)
        finally:
            if self.seq > before:  # also when the process died before it could learn of it
                self._observer([self._event(i) for i in range(before, self.seq)], statuses)

    def save_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """Keep an image, unless the disk is full. Raises StoreFailed, Crashed."""
        if self.full:
            raise StoreFailed("the disk is full (simulated)")
        super().save_snapshot(seq, digest, body)

    def damage(self, chance: int) -> None:
        """Change a digit of the newest image, or cut it off; `chance` says which and where."""
        if not self._snapshots:
            return
        seq = max(self._snapshots)
        digest, body = self._snapshots[seq]
        if not body:
            return
        if chance % 3 == 0:
            self._snapshots[seq] = (digest, body[: chance // 3 % len(body)])
            return
        digits = [index for index, byte in enumerate(body) if 48 < byte < 57]
        where = digits[chance // 3 % len(digits)] if digits else 0
        self._snapshots[seq] = (digest, body[:where] + bytes([body[where] + 1]) + body[where + 1 :])

    def heal(self) -> None:
        """No more faults."""
        self.full = False
        self._faults.clear()

    @property
    def writes(self) -> int:
        """How often something was written, or tried to be."""
        return self._writes

    def rows(self) -> Iterator[tuple[int, Ms, str]]:
        """Yield (seq, time, body) of the whole log as it was written."""
        for seq, at, *_, body in self._log:
            yield seq, at, body
