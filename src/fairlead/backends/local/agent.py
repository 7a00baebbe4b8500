"""The agent as a pure state machine: which members to start, stop and drop, and what to report.

The real agent (host.py) and the fault simulator drive these very lines. What makes lost,
repeated, delayed and reordered messages harmless:

- a `Desired` for another life of the machine is ignored;
- a `Desired` older than the newest one seen is ignored; the host makes `seen` durable *before*
  it acts, so this holds across restarts of the agent;
- a key that is known is never started again; it is known until the service says `forget`, and
  every message from before that moment is older than `seen`;
- an agent that comes back starts nothing that its predecessor had seen placed: what that did not
  start is missing from the report, hence lost, and may run elsewhere by now, even if newer
  messages, made before the service knew, still ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from fairlead.model.base import Ms, Record
from fairlead.model.jobs import Exit
from fairlead.model.messages import Desired, Launch, MemberKey, MemberState, Progress, Report


class Start(Record, frozen=True):
    """Start this member on these cores (none: any core)."""

    launch: Launch
    cores: tuple[int, ...] = ()


class Stop(Record, frozen=True):
    """Tell the member's supervisor to begin: notice signal, grace, kill. Harmless when repeated.

    `now`: no grace, also when it has begun already.
    """

    key: MemberKey
    now: bool = False


class Drop(Record, frozen=True):
    """Delete the record of an ended member."""

    key: MemberKey


Action: TypeAlias = Start | Stop | Drop


class MemberRecord(Record, frozen=True):
    """What the agent remembers of a member, from its launch until it is forgotten."""

    state: MemberState
    cpu_milli: int = 0
    cores: tuple[int, ...] = ()


class Agent:
    """One node's members. Reads no clock and does no I/O: facts come in, actions go out."""

    def __init__(
        self,
        node: str,
        boot: str,
        cores: Sequence[int],
        known: Iterable[MemberRecord] = (),
        seen: int = 0,
    ) -> None:
        self.node, self.boot, self.seen = node, boot, seen
        self.changes = 0  # grows whenever the report would differ
        self.members = {record.state.key: record for record in known}
        self._unseen = seen + 1 if seen else 0  # first placement that no earlier life has seen
        self._barred: set[MemberKey] = set()  # stopped or forgotten at version `seen`
        self._load = dict.fromkeys(sorted(cores), 0)
        for record in self.members.values():
            if record.state.state != "ended":
                self._add_load(record, 1)

    def desired(self, message: Desired) -> list[Action]:
        """Return what to do to get there; the caller makes `seen` durable before it does any."""
        if message.version < self.seen or message.boot not in ("", self.boot):
            return []
        if message.version > self.seen:
            self.seen = message.version
            self.changes += 1
            self._barred.clear()
        self._barred.update(message.forget, message.stop)
        actions: list[Action] = [Drop(key=key) for key in message.forget if self._forget(key)]
        wanted = {launch.key for launch in message.run}
        wanted.update(message.keep)
        wanted.difference_update(message.stop)
        actions += [
            Stop(key=key, now=key in message.kill)
            for key in self.members
            if key not in wanted and self._stop(key)
        ]
        actions += [
            self._start(launch)
            for launch in message.run
            if launch.placed >= self._unseen
            and launch.key not in self.members
            and launch.key not in self._barred
        ]
        return actions

    def started(self, key: MemberKey, at_ms: Ms) -> None:
        """Note that the member's process runs."""
        record = self.members.get(key)
        if record is None or record.state.state == "ended" or record.state.started_ms is not None:
            return
        state = "running" if record.state.state == "starting" else record.state.state
        self._set(record, replace(record.state, state=state, started_ms=at_ms))

    def checkpointed(self, key: MemberKey, at_ms: Ms) -> None:
        """Note when the member's work was saved last."""
        record = self.members.get(key)
        if record is not None and at_ms > (record.state.checkpoint_ms or 0):
            self._set(record, replace(record.state, checkpoint_ms=at_ms))

    def progressed(self, key: MemberKey, progress: Progress) -> bool:
        """Note how far the member is; whether a line of its reports is the first that is odd."""
        record = self.members.get(key)
        if record is None or record.state.progress == progress:
            return False
        before = record.state.progress
        self._set(record, replace(record.state, progress=progress))
        return bool(progress.odd) and (before is None or not before.odd)

    def ended(self, key: MemberKey, how: Exit, started_ms: Ms | None, ended_ms: Ms | None) -> None:
        """Note that the member is gone, its whole process tree with it."""
        record = self.members.get(key)
        if record is None or record.state.state == "ended":
            return
        self._add_load(record, -1)
        self._set(
            record,
            replace(
                record.state, state="ended", exit=how, started_ms=started_ms, ended_ms=ended_ms
            ),
        )

    def report(self) -> Report:
        """Return everything that is on the node."""
        members = tuple(self.members[key].state for key in sorted(self.members))
        return Report(node=self.node, boot=self.boot, seen=self.seen, members=members)

    def _set(self, record: MemberRecord, state: MemberState) -> None:
        self.members[state.key] = replace(record, state=state)
        self.changes += 1

    def _forget(self, key: MemberKey) -> bool:
        record = self.members.get(key)
        if record is None or record.state.state != "ended":
            return False
        del self.members[key]
        self.changes += 1
        return True

    def _stop(self, key: MemberKey) -> bool:
        record = self.members[key]
        if record.state.state == "ended":
            return False
        if record.state.state != "stopping":
            self._set(record, replace(record.state, state="stopping"))
        return True

    def _start(self, launch: Launch) -> Start:
        cpu_milli = launch.shape.cpu_milli
        state = MemberState(
            job=launch.job, attempt=launch.attempt, rank=launch.rank, state="starting"
        )
        record = MemberRecord(state=state, cpu_milli=cpu_milli, cores=self._choose(cpu_milli))
        self._add_load(record, 1)
        self._set(record, state)
        return Start(launch=launch, cores=record.cores)

    def _choose(self, cpu_milli: int) -> tuple[int, ...]:
        """Return the cores for this much: whole ones on the least loaded, the rest packed."""
        whole, part = divmod(cpu_milli, 1000)
        by_load = sorted(self._load, key=lambda core: (self._load[core], core))
        if whole + bool(part) >= len(by_load):
            return tuple(by_load) if cpu_milli else ()
        chosen = by_load[:whole]
        if part:
            rest = by_load[whole:]
            # Fractions share a core as long as they fit, so that whole cores stay free.
            fits = [core for core in rest if self._load[core] + part <= 1000]
            fits.sort(key=lambda core: (-self._load[core], core))
            chosen.append((fits or rest)[0])
        return tuple(chosen)

    def _add_load(self, record: MemberRecord, sign: int) -> None:
        left = record.cpu_milli
        for core in record.cores:
            if core in self._load:  # the machine may have fewer cores than before the restart
                self._load[core] += sign * min(left, 1000)
            left -= min(left, 1000)
