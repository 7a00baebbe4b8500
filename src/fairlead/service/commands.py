"""What clients may ask the single writer for, and how it becomes events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from fairlead.core import queues as sharing
from fairlead.core.admission import admit, check_room
from fairlead.core.engine import Core
from fairlead.model.base import JobId, Misuse, Ms
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    ForeignUsage,
    NodeJoined,
    Promised,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import JobSpec, Phase, PolicyConfig, Queue, Reservation, Tenant, User
from fairlead.model.resources import DIMENSIONS, Node
from fairlead.policy.deadline_gate import admit as admit_deadlines
from fairlead.policy.deadline_gate import check as check_deadline
from fairlead.policy.deadline_gate import settled
from fairlead.policy.registry import build
from fairlead.service.spec import Defaults, parse_body


class Batch:
    """What the commands of one turn have planned so far, on top of the core."""

    def __init__(self, core: Core, now: Ms | None = None) -> None:
        self.core = core
        self.now = core.clock if now is None else now
        self.events: list[AnyEvent] = []  # of the commands so far
        self._copy: tuple[Core, int] | None = None  # with so many of the events
        self._latest: tuple[Core, int] | None = None  # the same, with nothing tried on it
        self.settled = True  # whether none of the events changes queues or users
        self.next_job = core.next_job
        self.requests: dict[str, tuple[JobId, ...]] = {}
        self.waiting: dict[tuple[str, str], int] = {}  # planned jobs by queue and user
        self.stopped: set[JobId] = set()
        self.reserved: dict[str, Reservation] = {}
        self.asked: dict[JobId, list[tuple[str, int]]] = {}  # of named resources
        self.released: dict[tuple[JobId, str], int] = {}

    def latest(self) -> Core:
        """Return the core as it will be after what this turn has brought so far. Read only."""
        if not self.events:
            return self.core
        copy, known = self._latest or (self.core.clone(), 0)
        copy.clock = max(self.now, copy.now)
        for event in self.events[known:]:
            copy.apply(copy.clock, event)
        self._latest = (copy, len(self.events))
        return copy

    def try_on(self, events: Sequence[AnyEvent], jobs: Sequence[JobId]) -> list[Promised]:
        """Return the promises with which jobs with deadlines are admitted. Raises Refused.

        Tried on a copy of the core that has what this turn has brought so far.
        """
        copy, known = self._copy or (self.core.clone(), 0)
        self._copy = None  # when it is refused, the copy is spoilt
        copy.clock = max(self.now, copy.now)
        for event in (*self.events[known:], *events):
            copy.apply(copy.clock, event)
        promises = admit_deadlines(copy, build(copy.policy), jobs)
        for promise in promises:
            copy.apply(copy.clock, promise)
        self._copy = (copy, len(self.events) + len(events) + len(promises))
        return promises


class Command(Protocol):
    """Something asked for: first planned, then, once the turn is durable, answered."""

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Return the events that fulfil it. Reads the core only; raises Misuse."""
        ...

    def answer(self, core: Core) -> Any:
        """Return what the asker gets to know."""
        ...


class Submit:
    """Accept jobs, all or none. Answers with (ids, whether they are new)."""

    def __init__(self, body: object, defaults: Defaults, key: str = "") -> None:
        self.body, self.defaults, self.key = body, defaults, key
        self.ids: tuple[JobId, ...] = ()
        self.fresh = True

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Admit every job; a key that is known already submits nothing."""
        known = batch.core.requests.get(self.key) or batch.requests.get(self.key)
        if self.key and known:
            self.ids, self.fresh = tuple(known), False
            return ()
        first = batch.next_job
        core = batch.core if batch.settled else batch.latest()
        defaults = self.defaults._replace(queues=core.queues)
        specs = [settled(spec) for spec in parse_body(self.body, defaults, first).jobs]
        for spec in specs:
            check_deadline(spec, batch.now)
        _admit_all(core, specs, batch.waiting if core is batch.core else {})
        for spec in specs:
            key = (spec.queue, spec.user)
            batch.waiting[key] = batch.waiting.get(key, 0) + 1
        ids = tuple(range(first, first + len(specs)))
        events: list[AnyEvent] = [
            Submitted(job=job, spec=spec, request=self.key)
            for job, spec in zip(ids, specs, strict=True)
        ]
        urgent = [job for job, spec in zip(ids, specs, strict=True) if spec.deadline_ms is not None]
        if urgent:
            events += batch.try_on(events, urgent)
        self.ids = ids
        batch.next_job += len(specs)
        if self.key:
            batch.requests[self.key] = ids
        return events

    def answer(self, core: Core) -> tuple[tuple[JobId, ...], bool]:
        """Return the ids, and whether this call made them."""
        return self.ids, self.fresh


def _admit_all(
    core: Core, specs: Sequence[JobSpec], planned: Mapping[tuple[str, str], int]
) -> None:
    counts: dict[tuple[str, str], int] = {}
    admitted: set[object] = set()
    for index, spec in enumerate(specs):
        key = (spec.queue, spec.user)
        counts[key] = counts.get(key, 0) + 1
        named = (spec.counted, spec.may_acquire)
        kind = (*key, spec.tenant, spec.priority, spec.limit_ms, spec.shape, *named)
        if kind in admitted:  # many jobs of a call differ in nothing that matters here
            continue
        try:
            admit(core, spec)
        except Misuse as error:
            if len(specs) > 1:
                error.message = f"job {index + 1} of {len(specs)}: {error.message}"
            raise
        admitted.add(kind)
    check_room(core, counts, planned)


class Cancel:
    """Cancel jobs: those that wait at once, those that run by stopping them.

    `now`: kill without grace, also those that are stopping already.
    """

    def __init__(self, ids: Sequence[JobId], because: str, now: bool = False) -> None:
        self.ids, self.because, self.now = ids, because, now

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Leave alone what is gone, unknown, or on its way to an end already."""
        events: list[AnyEvent] = []
        for job_id in self.ids:
            job = batch.core.jobs.get(job_id)
            if job is None or job_id in batch.stopped:
                continue
            if job.phase is Phase.PENDING:
                events.append(Cancelled(job=job_id, because=self.because))
            elif (
                job.phase is not Phase.STOPPING
                or job.then is Phase.PENDING
                or (self.now and not job.kill)
            ):
                events.append(
                    StopDecided(
                        job=job_id,
                        attempt=job.attempt,
                        then=Phase.CANCELLED,
                        because=self.because,
                        now=self.now,
                    )
                )
            else:
                continue
            batch.stopped.add(job_id)
        return events

    def answer(self, core: Core) -> dict[JobId, Phase]:
        """Return the phases of those that are not final."""
        return {job_id: core.jobs[job_id].phase for job_id in self.ids if job_id in core.jobs}


class CancelAll(Cancel):
    """Cancel everything that waits or runs, in one turn, so that nothing moves up."""

    def __init__(self, because: str, now: bool = False) -> None:
        super().__init__((), because, now)

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Take the jobs of the moment."""
        self.ids = list(batch.core.jobs)
        return super().plan(batch)


def keep_devices(known: Node | None, found: Node) -> tuple[Node, tuple[int, ...]]:
    """Return the node with devices at the indices they have, and those that are gone.

    A GPU may fall off the bus, or come back, while jobs run on the others: in one life of the
    machine an index never comes to mean another device. One that is gone is lent to nobody.
    """
    if known is None or known.boot != found.boot:
        return found, ()
    there = {device.uuid for device in found.devices}
    before = {device.uuid for device in known.devices}
    fresh = tuple(device for device in found.devices if device.uuid not in before)
    gone = tuple(i for i, device in enumerate(known.devices) if device.uuid not in there)
    return msgspec.structs.replace(found, devices=known.devices + fresh), gone


class Configure:
    """Make the log agree with the configuration and this machine. Logs only what differs.

    What the configuration says of queues, users and tenants is in force whole or not at all: where
    it does not go together with what was set since, the answer says why not. The service runs.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        tenants: Sequence[Tenant],
        queues: Sequence[Queue],
        policy: PolicyConfig | None,
        users: Sequence[User] = (),
    ) -> None:
        self.nodes, self.tenants, self.queues, self.policy = nodes, tenants, queues, policy
        self.users = users
        self.problem: Misuse | None = None

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Compare with the core."""
        core = batch.latest()
        now = sharing.current(core)
        wanted = sharing.Sharing(
            {**now.queues, **{each.name: each for each in self.queues}},
            {**now.users, **{each.name: each for each in self.users}},
            {**now.tenants, **{each.name: each for each in self.tenants}},
            now.policy if self.policy is None else self.policy,
        )
        try:
            events = sharing.changes(core, wanted, self.nodes)
        except Misuse as wrong:
            self.problem = wrong
            events = sharing.changes(core, now._replace(policy=wanted.policy))
        batch.settled = batch.settled and not events
        count = len(core.nodes)
        for node in self.nodes:
            known = core.node_ids.get(node.name)
            if known is None:
                events.append(NodeJoined(node=count, spec=node))
                count += 1
                continue
            kept, gone = keep_devices(core.nodes[known].spec, node)
            joins = core.nodes[known].spec != kept or not core.nodes[known].up
            if joins:
                events.append(NodeJoined(node=known, spec=kept))
            if gone if joins else core.ledger.devices[known].foreign != frozenset(gone):
                nothing = (0,) * len(DIMENSIONS)
                events.append(ForeignUsage(node=known, amounts=nothing, devices=gone))
        return events

    def answer(self, core: Core) -> Misuse | None:
        """Return why what it says of sharing is not in force; None if it is."""
        return self.problem
