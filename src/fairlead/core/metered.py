"""What was used in a window of time, and by whom: a core that meters while a log runs through it.

What a job holds is booked in one place, `Core.account`, so what is metered is what quotas and fair
shares count: from the decision that places it until the last member is confirmed gone. Amounts are
exact integers: a unit of a resource times a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.events import (
    AnyEvent,
    NodeJoined,
    NodeLost,
    ReservationDeleted,
    ReservationSet,
    StopDecided,
)
from fairlead.model.jobs import LIVE, JobSpec, Phase, Reservation
from fairlead.model.resources import DIMENSIONS, WHOLE_GPU_MILLI, Slot

D = len(DIMENSIONS)
FORGET_EVERY = 1024  # events
_OF_RESERVATIONS = (ReservationSet, ReservationDeleted, NodeJoined, NodeLost)


class Key(NamedTuple):
    """Whose use it is."""

    queue: str
    user: str
    tenant: str


class Meter:
    """What one of them used within the window."""

    __slots__ = ("at", "held", "jobs", "preemptions", "used")

    def __init__(self) -> None:
        self.held, self.at = [0] * D, 0
        self.used = [0] * D  # unit x ms, in the order of DIMENSIONS
        self.jobs: set[JobId] = set()  # that held something
        self.preemptions = 0


class Kept(NamedTuple):
    """What a reservation kept of GPUs within the window while nobody used them."""

    reservation: Reservation
    gpu_milli_ms: int


class Metered(Core):
    """A core that meters between `since` and `until`, both in ms."""

    def __init__(self, since: Ms, until: Ms) -> None:
        super().__init__()
        self.since, self.until = since, until
        self.meters: dict[Key, Meter] = {}
        self._idle: dict[str, _Idle] = {}  # of the reservations in force or to come
        self._over: list[_Idle] = []  # of those that are no more

    def account(self, job: Job, sign: int, *, live: int = 0) -> None:
        """Book what a job holds, and meter what was held until now."""
        spec = job.spec
        meter = self._meter(spec)
        self._bring_up(meter)
        before = list(self.usage.get(spec.tenant) or [0] * D)
        super().account(job, sign, live=live)
        after = self.usage[spec.tenant]
        meter.held = [h + a - b for h, a, b in zip(meter.held, after, before, strict=True)]
        if live < 0 and self.since < self.now:
            meter.jobs.add(job.id)
        if self._idle:
            self._touch({slot.node for slot in job.slots})

    def _meter(self, spec: JobSpec) -> Meter:
        key = Key(spec.queue, spec.user, spec.tenant)
        found = self.meters.get(key)
        if found is None:
            found = self.meters[key] = Meter()
        return found

    def _bring_up(self, meter: Meter) -> None:
        span = min(self.now, self.until) - max(meter.at, self.since)
        if span > 0 and any(meter.held):
            meter.used = [u + h * span for u, h in zip(meter.used, meter.held, strict=True)]
        meter.at = self.now

    def take(self, at: Ms, event: AnyEvent) -> None:
        """Take in one event of the log."""
        inside = self.since <= at < self.until
        if inside and isinstance(event, StopDecided) and event.then is Phase.PENDING:
            self._meter(self.jobs[event.job].spec).preemptions += 1
        self.apply(at, event)
        if isinstance(event, _OF_RESERVATIONS):
            self._look_at_reservations()
        if self.seq % FORGET_EVERY == 0:
            self.forget_changes()

    def finish(self) -> list[Kept]:
        """End the window; return what reservations kept, those for tenants and those for nobody."""
        self.now = max(self.now, self.until)
        for meter in self.meters.values():
            self._bring_up(meter)
        for job in self.jobs.values():
            if job.phase in LIVE:
                self._meter(job.spec).jobs.add(job.id)
        for idle in self._idle.values():
            idle.bring_up(self)
        found = [*self._over, *self._idle.values()]
        return [Kept(each.reservation, each.unused) for each in found if each.unused]

    def _look_at_reservations(self) -> None:
        """Begin with those that are new, end with those that are gone or others now."""
        for name, idle in list(self._idle.items()):
            if self.reservations.get(name) is not idle.reservation:
                idle.bring_up(self)
                self._over.append(self._idle.pop(name))
        for name, each in self.reservations.items():
            if name not in self._idle:
                self._idle[name] = _Idle(self, each)
        self._touch(None)

    def _touch(self, nodes: set[NodeId] | None) -> None:
        """Something is held, or no more, on these nodes; None: nodes are others now."""
        for idle in self._idle.values():
            if nodes is None or not nodes.isdisjoint(idle.nodes):
                idle.bring_up(self)
                idle.look(self)


class _Idle:
    """The GPUs of a reservation that nobody uses."""

    __slots__ = ("at", "free", "nodes", "reservation", "unused")

    def __init__(self, core: Metered, reservation: Reservation) -> None:
        self.reservation = reservation
        self.nodes = {*reservation.nodes, *(slot.node for slot in reservation.slots)}
        self.at = core.now
        self.free = 0  # thousandths of GPUs, now
        self.unused = 0  # thousandths x ms, within the window

    def slots(self, core: Metered) -> Iterable[Slot]:
        """Yield the devices that it keeps, by node."""
        yield from self.reservation.slots
        for node in self.reservation.nodes:
            count = len(core.nodes[node].spec.devices)
            yield Slot(node=node, devices=tuple(range(count)))

    def look(self, core: Metered) -> None:
        """See how much of it is free now; what is down is kept from nobody."""
        self.free = 0
        for slot in self.slots(core):
            if core.nodes[slot.node].up:
                milli = core.ledger.devices[slot.node].milli
                self.free += sum(
                    min(milli[index], WHOLE_GPU_MILLI)
                    for index in slot.devices
                    if index < len(milli)
                )

    def bring_up(self, core: Metered) -> None:
        """Count the time until now."""
        its = self.reservation
        begin = max(self.at, core.since, its.start_ms)
        end = min(core.now, core.until, core.now if its.end_ms is None else its.end_ms)
        if end > begin:
            self.unused += self.free * (end - begin)
        self.at = core.now
