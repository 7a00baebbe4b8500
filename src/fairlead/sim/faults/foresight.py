"""Oracles of what policies promise and take: reservations, promises, preemption.

Known here from the durable log alone: which reservations stand, who was promised what and whether
anything has happened since that may move it, whom a policy has stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core.ledger import Request
from fairlead.model.base import JobId, Ms
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    Forecasted,
    ForeignUsage,
    Grown,
    NodeJoined,
    NodeLost,
    Outlived,
    Placed,
    PolicySet,
    Promised,
    QueueSet,
    ReservationDeleted,
    ReservationSet,
    StopDecided,
    TenantSet,
    UserDeleted,
    UserSet,
)
from fairlead.model.jobs import Phase, PolicyConfig, Reservation
from fairlead.model.resources import Slot
from fairlead.policy.place.trial import Trial
from fairlead.sim.faults.known import Attempt, Violation
from fairlead.sim.faults.truth import all_fit

if TYPE_CHECKING:
    from fairlead.sim.faults.oracles import Oracles

CAUSES = (
    *(NodeJoined, NodeLost, ForeignUsage, Outlived, Forecasted),
    *(PolicySet, TenantSet, QueueSet, UserSet, UserDeleted),
    *(ReservationSet, ReservationDeleted),
)
PREEMPTIONS_SPARE = 20
TURN_MS: Ms = 10_000


class Foresight:
    """Looks at each durable event before the shadow core has applied it, and after each batch."""

    def __init__(self, oracles: Oracles) -> None:
        self.oracles = oracles
        self.policy = PolicyConfig()
        self.reservations: dict[str, Reservation] = {}
        self.promised: dict[JobId, Ms] = {}
        self.held: set[JobId] = set()  # whose promise is a hold, as far as the last one said
        self.excused: set[JobId] = set()  # something has happened that may move their promise
        self.preempted: dict[JobId, int] = {}  # by attempt: to run again
        self.preemptions: dict[JobId, int] = {}
        self.victims: list[JobId] = []
        self._ends: dict[JobId, Ms] = {}

    def before(self, at: Ms, event: AnyEvent) -> None:
        """Judge an event by what was before it."""
        if isinstance(event, CAUSES) or self._overdue(at):
            self.excused.update(self.promised)
        match event:
            case PolicySet(policy=policy):
                self.policy = policy
                self.promised.clear()
            case ReservationSet(reservation=reservation):
                self.reservations[reservation.name] = reservation
            case ReservationDeleted(name=name):
                self.reservations.pop(name, None)
            case Promised():
                self._promised(at, event)
            case Placed():
                if self.promised.pop(event.job, at) < at:
                    self.excused.update(self.promised)  # it starts late, and so it ends late
                self._placed(at, event)
            case Grown():
                self._placed(at, event)
            case Cancelled():
                self.promised.pop(event.job, None)
            case StopDecided(then=Phase.PENDING):
                self._preempted(at, event)
            case StopDecided():
                self.preempted.pop(event.job, None)
            case _:
                pass

    def after(self, event: AnyEvent) -> None:
        """The shadow has applied an event: is its job believed to end later than before?"""
        if isinstance(event, NodeJoined | NodeLost):  # promises of what is gone went with it
            kept = self.oracles.shadow.promises
            self.promised = {job: at for job, at in self.promised.items() if job in kept}
        job = getattr(event, "job", 0)
        ends = self.oracles.shadow.ends
        known = self.oracles.shadow.jobs.get(job)
        if known is None or known.phase is Phase.PENDING:
            self._ends.pop(job, None)
            return
        end = ends.get(job)
        if end > self._ends.get(job, end):
            self.excused.update(self.promised)
        self._ends[job] = end

    # ---- promises -----------------------------------------------------------------------------

    def _promised(self, at: Ms, event: Promised) -> None:
        job, old = event.job, self.promised.get(event.job)
        if not event.slots:
            self.promised.pop(job, None)
            if not event.because:
                raise Violation("promise-broken", f"{event}: without a cause", job)
            return
        if event.start_ms < at:
            raise Violation("promise-in-the-past", f"{event} at {at}", job)
        later = old is not None and event.start_ms > max(old, at)
        if event.until_ms is not None and old is not None and (old <= at or job in self.held):
            later = False  # it was late already, or is held for it as before
        (self.held.discard if event.until_ms is None else self.held.add)(job)
        if later and not (event.because and job in self.excused):
            raise Violation("promise-later", f"{event}: was {old}", job)
        if event.until_ms is not None:  # room that was made for it was not foreseen by others
            self.excused.update(self.promised)
        self.promised[job] = event.start_ms
        self.excused.discard(job)

    def _overdue(self, at: Ms) -> bool:
        """Whether somebody holds resources though it was believed to have ended."""
        shadow = self.oracles.shadow
        ends = shadow.ends.sorted
        # What is still starting may run for its limit from now on, and keeps others from what is
        # reserved or firmly promised so much longer.
        starting = any(shadow.jobs[job].phase is Phase.STARTING for _, job in ends)
        teams = [job.team for job in shadow.elastic.values() if job.team is not None]
        leaving = any(team.leaving and team.leave_ms <= at for team in teams)  # told to, long ago
        return bool(ends) and (ends[0][0] <= at or starting or leaving)

    # ---- reservations -------------------------------------------------------------------------

    def _placed(self, at: Ms, event: Placed | Grown) -> None:
        spec = self.oracles.specs[event.job]
        for each in self.reservations.values():
            over = each.end_ms is not None and each.end_ms <= max(at, each.start_ms)
            if over or spec.tenant in each.tenants:
                continue
            if each.start_ms > at and not self._reaches(event.job, at, each.start_ms):
                continue
            for slot in event.slots:
                if slot.node in each.nodes or self._in_part(each, event, slot):
                    raise Violation("reserved", f"{event} at {at}: {each}", event.job)

    def _reaches(self, job: JobId, at: Ms, start: Ms) -> bool:
        """Whether a job that starts now surely counts as running at a later time."""
        spec = self.oracles.specs[job]
        if self.policy.estimate == "limit" and spec.limit_ms is not None:
            return at + spec.limit_ms > start
        known = self.oracles.shadow.jobs[job].forecast
        return spec.limit_ms is None and spec.expected_ms is None and known is None

    def _in_part(self, reservation: Reservation, event: Placed | Grown, slot: Slot) -> bool:
        """Whether a member takes of a node what is reserved there."""
        shape = reservation.shape
        here = [each for each in reservation.slots if each.node == slot.node]
        if shape is None or not here:
            return False
        if set(slot.devices) & {device for each in here for device in each.devices}:
            return True
        node = self.oracles.nodes[slot.node]
        capacity = (node.spec.cpu_milli, node.spec.memory_mib, node.spec.disk_mib)
        coming = self.oracles.specs[event.job].shape
        here_too = [rank for rank, each in enumerate(event.slots) if each.node == slot.node]
        for row, most in enumerate(capacity):
            others = own = 0
            for attempt in self.oracles.live.values():
                if self.oracles.shadow.ends.get(attempt.job) <= reservation.start_ms:
                    continue  # it will be gone
                spec = self.oracles.specs[attempt.job]
                used = sum(
                    spec.shape.of(rank).amounts()[row] for rank in _ranks_here(attempt, slot.node)
                )
                if spec.tenant in reservation.tenants:
                    own += used
                else:
                    others += used
            kept = max(len(here) * shape.amounts()[row], own)
            mine = sum(coming.of(rank).amounts()[row] for rank in here_too)
            if mine and others + kept + mine > most:
                return True
        return False

    # ---- preemption ---------------------------------------------------------------------------

    def _preempted(self, at: Ms, event: StopDecided) -> None:
        job, config = event.job, self.policy
        attempt = self.oracles.live[job]
        allowed = config.preempt or bool(config.plan)
        if event.beneficiary is None and self.oracles.named.deadlocked(event):
            self.preempted[job] = event.attempt
            return  # one of those that wait for each other has to go, whatever protects it
        moves = self.oracles.moves.is_move(event)
        if moves:
            allowed = True
            self.oracles.moves.judge(event, config)
        elif event.beneficiary is not None:
            allowed = True
            self.oracles.takings.judge(event, config)
        if not allowed or not self.oracles.specs[job].preemptible:
            raise Violation("preempted-in-spite", f"{event}", job)
        count = self.preemptions[job] = self.preemptions.get(job, 0) + 1
        most = config.preemptions_max
        taken = event.beneficiary is not None and not moves
        if taken and not self.oracles.takings.within(event):
            most = None  # a guarantee goes before that protection
        if most is not None and count > most:
            raise Violation("preempted-too-often", f"{event}: {count} times", job)
        since = attempt.placed_ms  # it may be believed to run since then, not earlier
        if at - since < config.min_run_ms:
            raise Violation("preempted-too-soon", f"{event}: placed at {since}, now {at}", job)
        if attempt.doomed is not None:
            raise Violation("preempted-in-vain", f"{event}: it has to stop anyway", job)
        self.preempted[job] = event.attempt
        if not moves:  # others may have to move too before anybody fits there
            self.victims.append(job)

    def batch(self) -> None:
        """A batch is durable and applied: whoever had to go made room for somebody."""
        victims, self.victims = self.victims, []
        if self.policy.plan:
            return  # who was stopped goes elsewhere itself, or its time is over
        if victims and not any(map(self._fits, self._waiting(victims))):
            raise Violation("preempted-in-vain", f"{victims}: nobody fits there", victims[0])

    def _waiting(self, victims: list[JobId]) -> list[tuple[Request, int]]:
        shadow = self.oracles.shadow
        shapes = {job.shape_id for job in shadow.pending.values() if job.id not in victims}
        return [(shadow.shapes[shape], shadow.shapes[shape].members) for shape in sorted(shapes)]

    def _fits(self, wanted: tuple[Request, int]) -> bool:
        """Whether a request fits when all that has to stop has stopped."""
        request, members = wanted
        if request.parts:  # in the plainest way: whether each kind of workers fits alone
            return all(self._fits((part, part.members)) for part in request.parts)
        shadow = self.oracles.shadow
        trials = [Trial.now(shadow.ledger, node) for node in range(len(shadow.nodes))]
        for job in shadow.jobs.values():
            if job.phase is not Phase.PENDING:
                gone = job.slots if job.phase is Phase.STOPPING else job.leaving
                for its, slots in shadow.shapes[job.shape_id].split(gone):
                    for slot in slots:
                        trials[slot.node].move(its, slot.devices, 1)
        counts = [
            trial.copies(request, members) if node.up else 0
            for trial, node in zip(trials, shadow.nodes, strict=True)
        ]
        shape = replace(request.shape, members=members)
        return all_fit(shape, [node.spec for node in shadow.nodes], counts)

    def final(self, job: JobId, phase: Phase) -> None:
        """A job has come to its end: not by being preempted."""
        attempt = self.oracles.attempts.get(job)
        if attempt is None or self.preempted.get(job) != attempt.number:
            return
        if phase not in (Phase.SUCCEEDED, Phase.CANCELLED):
            raise Violation("preempted-for-good", f"job {job} is {phase}, not again in line", job)

    def attempts_more(self, job: JobId) -> int:
        """Return how many placements preemption may have cost.

        As many as things happen; and long jobs that take turns (levels, promotion) do so slowly.
        """
        plan = self.oracles.world.plan
        turns = self.oracles.world.now // TURN_MS
        most = len(plan.jobs) + len(plan.incidents) + PREEMPTIONS_SPARE + turns
        return min(self.preemptions.get(job, 0), most)


def _ranks_here(attempt: Attempt, node: int) -> list[int]:
    there = attempt.slots.items()
    return [rank for rank, slot in there if slot.node == node and rank not in attempt.ended]
