"""One turn: apply a batch, decide, make durable, only then act. Sans I/O: the worlds drive it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from fairlead.core.engine import Core
from fairlead.core.snapshot import digest
from fairlead.model.base import Ms, NodeId
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import PolicyConfig
from fairlead.model.status import JobStatus

FORGET_EVERY = 1024  # events of a replay


class Policy(Protocol):
    """Decides. Reads the core only; each decision is applied before the next is asked for."""

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield decisions, best first."""
        ...

    def wake_at(self, core: Core) -> Ms | None:
        """Return when there is something to decide that no event brings, None if never."""
        ...


class Store(Protocol):
    """Where history is kept."""

    def append(
        self, records: Sequence[tuple[Ms, AnyEvent]], statuses: Sequence[JobStatus] = ()
    ) -> int:
        """Make the records durable, all or nothing; return the last sequence number.

        Raises StoreFailed when nothing of it became durable.
        """
        ...

    def replay(self, after: int) -> Iterator[tuple[int, Ms, AnyEvent]]:
        """Yield (sequence number, time, event) of all records after that number."""
        ...

    def save_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """Keep an image of the core after event `seq`."""
        ...

    def snapshots(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield (seq, digest, body) of the kept images, newest first."""
        ...


class Turn(msgspec.Struct, frozen=True):
    """What one turn did: all events in log order, and the nodes whose desired state changed."""

    events: list[AnyEvent]
    nodes: list[NodeId]


class Scheduler:
    """A core, the policy that its configuration names, and a store."""

    def __init__(
        self, core: Core, build: Callable[[PolicyConfig], Policy], store: Store | None = None
    ) -> None:
        self.core, self.store = core, store
        self._build = build
        self._config = core.policy
        self.policy = build(core.policy)

    def next_wake(self) -> Ms | None:
        """Return when a turn is due though nothing happens: the core's deadlines, and the policy's
        own times. None: never."""
        deadline = self.core.next_deadline()
        wake = self.policy.wake_at(self.core)
        if deadline is None or wake is None:
            return wake if deadline is None else deadline
        return min(deadline, wake)

    @classmethod
    def recover(cls, build: Callable[[PolicyConfig], Policy], store: Store) -> Scheduler:
        """Return a scheduler as of the durable log: newest sound snapshot, then the tail."""
        return cls(recover(store), build, store)

    def turn(
        self,
        now: Ms,
        inbox: Sequence[AnyEvent],
        *,
        timers: bool = True,
        advise: Callable[[Core], AnyEvent | None] | None = None,
    ) -> Turn:
        """Apply `inbox`, decide, and append everything in one commit.

        `advise` may say more, once it sees what the inbox has brought: worlds whose time stands
        still meanwhile ask for plans there.
        `now` is clamped so that it never falls. On StoreFailed the core is ahead of the log and
        must be thrown away: recover.
        """
        core = self.core
        core.clock = now = max(now, core.now)
        events: list[AnyEvent] = list(inbox)
        for event in events:
            core.apply(now, event)
        for stop in core.due(now) if timers else ():
            core.apply(now, stop)
            events.append(stop)
        if core.policy is not self._config:
            self._config = core.policy
            self.policy = self._build(core.policy)
        advice = None if advise is None else advise(core)
        if advice is not None:
            core.apply(now, advice)
            events.append(advice)
        for decision in self.policy.decide(core):
            core.apply(now, decision)
            events.append(decision)
        if self.store is None:
            nodes = sorted(core._dirty)
            core.forget_changes()
            return Turn(events, nodes)
        drained = core.drain()
        if events:
            last = self.store.append([(now, event) for event in events], drained.statuses)
            assert last == core.seq, f"the log ends at {last}, the core at {core.seq}"
        return Turn(events, drained.nodes)


def recover(store: Store) -> Core:
    """Return the core of the durable log."""
    collecting = gc.isenabled()
    gc.disable()  # nothing made here is garbage, and looking for some takes as long as the work
    try:
        return _recover(store)
    finally:
        if collecting:
            gc.enable()


def _recover(store: Store) -> Core:
    core = Core()
    for seq, fingerprint, body in store.snapshots():
        if digest(body) != fingerprint:
            continue  # damaged: an older one, or the whole log, serves as well
        try:
            image = Core.load(body)
        except msgspec.MsgspecError:
            continue  # of another version
        if image.seq == seq:
            core = image
            break
    for seq, at, event in store.replay(core.seq):
        core.apply(at, event)
        assert core.seq == seq, f"the log skips from {core.seq} to {seq}"
        if seq % FORGET_EVERY == 0:
            core.forget_changes()  # or every job that ever ended would be held until the end
    core.forget_changes()
    return core
