"""The state machine. `apply` is the only thing that changes state; time is an argument.

What came from outside (reports of agents) may be late, repeated or out of order: whatever does not
match the current attempt is ignored. What we decided ourselves must fit: an impossible decision is
our bug and stops the core (AssertionError), because a wrong ledger is worse than a stopped
scheduler; running jobs do not need the scheduler to live.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from typing import Any

from fairlead.core import advice, due, future, groups, machines, resize, together, watch
from fairlead.core.demand import Demand
from fairlead.core.desired import desired
from fairlead.core.ending import after_failure
from fairlead.core.ends import Ends
from fairlead.core.jobs import TRANSITIONS, Job
from fairlead.core.ledger import Ledger, Request
from fairlead.core.named import Named
from fairlead.core.nodes import Drained, NodeState
from fairlead.core.shares import Shares, plus
from fairlead.core.speeds import Speeds, shape_of
from fairlead.core.status import status_of
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    Checkpointed,
    Event,
    Forecasted,
    ForeignUsage,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Outlived,
    Placed,
    PolicySet,
    Promised,
    Promoted,
    QueueDeleted,
    QueueSet,
    ReservationDeleted,
    ReservationSet,
    Shrunk,
    StopDecided,
    Submitted,
    TenantDeleted,
    TenantSet,
    UserDeleted,
    UserSet,
)
from fairlead.model.jobs import (
    FINAL,
    LIVE,
    Exit,
    Phase,
    PolicyConfig,
    Queue,
    Reservation,
    Tenant,
    User,
)
from fairlead.model.messages import Desired
from fairlead.model.resources import Shape, Slot
from fairlead.model.status import JobStatus

REQUESTS_KEPT = 10_000  # idempotency keys remembered


class Core:
    """All state of one cluster. `apply` changes it, everything else only reads."""

    def __init__(self) -> None:
        self.seq = 0
        self.now: Ms = 0  # of the last event
        self.clock: Ms = 0  # of this turn, which may have brought no event; policies go by it
        self.next_job: JobId = 1
        self.jobs: dict[JobId, Job] = {}
        self.pending: dict[JobId, Job] = {}
        self.nodes: list[NodeState] = []
        self.node_ids: dict[str, NodeId] = {}
        self.tenants: dict[str, Tenant] = {}
        self.queues: dict[str, Queue] = {"default": Queue(name="default")}
        self.quota_tenants: frozenset[str] = frozenset()
        self.waiting: dict[str, int] = {}  # pending jobs per queue
        self.usage: dict[str, list[int]] = {}  # held per tenant, in the order of DIMENSIONS
        self.policy = PolicyConfig()
        self.requests: dict[str, list[JobId]] = {}  # idempotency key -> the jobs it made
        self.ledger = Ledger()
        self.users: dict[str, User] = {}
        self._shares = Shares(self)
        self.named = Named(self)
        self.shapes: list[Request] = []
        self.shape_ids: dict[Shape, int] = {}
        self.demand = Demand()
        self.speeds = Speeds()
        self.advice = advice.Advice()
        self.fitting: set[Shape] = set()  # shapes known to fit the empty cluster; a cache
        # For policies that keep an order: jobs in the order in which they became pending, and how
        # often something happened that may let a job start that could not before.
        self.arrivals: list[JobId] = []
        self.arrivals_forgotten = 0
        self.wakeups = 0
        self.ends = Ends()
        self.reservations: dict[str, Reservation] = {}
        self.promises: dict[JobId, Job] = {}  # who was promised a start: they wait, or are to move
        self.moving: dict[JobId, Job] = {}  # of these who is to move, or was stopped to be moved
        self.elastic: dict[JobId, Job] = {}  # live jobs whose gangs may grow and shrink
        self.broken: dict[JobId, Job] = {}  # waiting gangs that lost a member
        self.services: list[int] = []  # of the last jobs that ended well, in GPU-ms or core-ms
        self.services_seen = 0
        self.crowd_ms = 0  # how many jobs there were, summed over time
        self.limits: list[tuple[Ms, JobId, int]] = []  # heap: time, job, attempt
        self._changed: dict[JobId, Job] = {}
        self._dirty: set[NodeId] = set()
        self._handlers = self._table()

    def _table(self) -> dict[type[Event], Callable[[Any], None]]:
        return {
            Submitted: self._submitted,
            Placed: self._placed,
            MemberStarted: self._member_started,
            MemberEnded: self._member_ended,
            StopDecided: self._stop_decided,
            Grown: partial(resize.grown, self),
            Shrunk: partial(resize.shrunk, self),
            Cancelled: self._cancelled,
            NodeJoined: partial(machines.node_joined, self),
            NodeLost: partial(machines.node_lost, self),
            ForeignUsage: partial(machines.foreign_usage, self),
            TenantSet: partial(groups.tenant_set, self),
            TenantDeleted: partial(groups.tenant_deleted, self),
            QueueSet: partial(groups.queue_set, self),
            QueueDeleted: partial(groups.queue_deleted, self),
            UserSet: partial(groups.user_set, self),
            UserDeleted: partial(groups.user_deleted, self),
            PolicySet: self._policy_set,
            Forecasted: partial(future.forecasted, self),
            Outlived: partial(future.outlived, self),
            Promised: partial(future.promised, self),
            Checkpointed: partial(future.checkpointed, self),
            Promoted: partial(future.promoted, self),
            ReservationSet: partial(future.reservation_set, self),
            ReservationDeleted: partial(future.reservation_deleted, self),
            **self.named.handlers(),
            **advice.handlers(self),
        }

    # ---- change -------------------------------------------------------------------------------

    def apply(self, now: Ms, event: AnyEvent) -> None:
        """Apply one event at time `now` (ms, never before the last). O(1) but for node events."""
        assert now >= self.now, f"time runs backwards: {now} after {self.now}"
        self.crowd_ms += len(self.jobs) * (now - self.now)
        self.now = self.clock = now
        self.seq += 1
        if self._shares.stale and not isinstance(event, groups.BOOKED_LATER):
            self._shares.rebuild()  # before jobs change: they are booked as they were
        self._handlers[type(event)](event)

    def intern(self, shape: Shape) -> int:
        """Return the id of the shape; equal shapes share one."""
        found = self.shape_ids.get(shape)
        if found is None:
            found = self.shape_ids[shape] = len(self.shapes)
            self.shapes.append(Request(shape))
        return found

    def _move(self, job: Job, event: Event, phase: Phase) -> None:
        allowed = TRANSITIONS.get((job.phase, type(event)), ())
        if phase not in allowed:
            raise AssertionError(
                f"impossible transition of job {job.id} attempt {job.attempt}: "
                f"{job.phase} to {phase} by {event}; it is here because: {job.because}"
            )
        job.phase = phase
        self._changed[job.id] = job

    def note(self, job: Job) -> None:
        """Something that users see of the job has changed."""
        self._changed[job.id] = job

    def _ours(
        self, event: Placed | StopDecided | Grown | Shrunk | Cancelled, attempt: int | None = None
    ) -> Job:
        """Return the job of a decision of ours; it must be there, in this attempt."""
        job = self.jobs.get(event.job)
        assert job is not None, f"job {event.job} is not pending or live: {event}"
        if attempt is not None:
            assert job.attempt == attempt, f"job {job.id} is in attempt {job.attempt}: {event}"
        return job

    def _submitted(self, event: Submitted) -> None:
        if event.job < self.next_job:
            return  # repeated
        assert event.job == self.next_job, f"job ids are dense: {event.job} after {self.next_job}"
        self.next_job += 1
        spec = event.spec
        job = Job(event.job, spec, self.intern(shape_of(self, spec)), self.now, self.seq)
        job.crowd_ms = self.crowd_ms
        self.jobs[job.id] = job
        self.demand.add(job.id, spec.shape)
        if event.request:
            self.requests.setdefault(event.request, []).append(job.id)
            if len(self.requests) > REQUESTS_KEPT:
                del self.requests[next(iter(self.requests))]
        self._changed[job.id] = job
        self._wait(job)

    def _wait(self, job: Job) -> None:
        job.token = self.seq
        job.pending_ms = self.now
        self.pending[job.id] = job
        if job.broken:
            self.broken[job.id] = job
        queue = job.spec.queue
        self.waiting[queue] = self.waiting.get(queue, 0) + 1
        self.shares.wait(job, 1)
        future.waits(self, job)
        self.arrivals.append(job.id)
        if len(self.arrivals) > 2 * len(self.pending) + 65_536:
            # Past every reader's place, so that each starts afresh with the list of all pending.
            self.arrivals_forgotten += len(self.arrivals) + 1
            self.arrivals = list(self.pending)

    def _unwait(self, job: Job) -> None:
        del self.pending[job.id]
        self.broken.pop(job.id, None)
        self.waiting[job.spec.queue] -= 1
        self.shares.wait(job, -1)
        job.waited_ms += self.now - job.pending_ms
        future.forget_promise(self, job)

    def _placed(self, event: Placed) -> None:
        job = self._ours(event, event.attempt - 1)
        request = self.shapes[job.shape_id]
        assert len(event.slots) == request.members, "a gang is placed whole or not at all"
        self._move(job, event, Phase.STARTING)
        self._unwait(job)
        job.attempt, job.slots, job.placed_ms = event.attempt, event.slots, self.now
        job.started_ms, job.last_ms = None, self.now
        job.beneficiary = None
        job.token_placed = self.seq
        job.because = event.because
        job.started, job.exits, job.worst, job.kill, job.broken = set(), {}, None, False, False
        for rank, slot in enumerate(event.slots):
            node, its = self.nodes[slot.node], request.of(rank)
            free = self.ledger.has_room(slot.node, its, slot.devices)
            assert free, f"job {job.id}: node {node.spec.name} is down or has no room: {event}"
            self.ledger.take(slot.node, its, slot.devices)
            node.members[job.id, job.attempt, rank] = job
            self._dirty.add(slot.node)
        resize.begin(self, job)
        together.disturbed(self, job)
        self.account(job, 1, live=1)
        self.named.take(job)
        future.believe(self, job, self.now)

    def account(self, job: Job, sign: int, *, live: int = 0) -> None:
        """Book what all of a job's slots hold, to those who pay for it; -1 takes it back.

        `live` is 1 where the job begins to hold anything, -1 where it ceases to.
        """
        self.book(job, job.slots, sign, live)

    def book(self, job: Job, slots: tuple[Slot, ...], sign: int, live: int = 0) -> list[int]:
        """Book what some slots of a job hold; return the change by DIMENSIONS."""
        change = self.shares.hold(job, slots, sign, live)
        usage = self.usage.get(job.spec.tenant)
        self.usage[job.spec.tenant] = change if usage is None else plus(usage, change)
        return change

    def touch(self, node: NodeId) -> None:
        """What should be on a node is something else now."""
        self._dirty.add(node)

    def _member_started(self, event: MemberStarted) -> None:
        job = self._current(event.job, event.attempt, event.rank)
        if job is None or event.rank in job.started:
            return
        job.started.add(event.rank)
        self._note_time(job, event.at_ms)
        self._dirty.add(job.slot(event.rank).node)  # from now on it is only kept
        if job.phase is not Phase.STARTING:
            return
        if len(job.started) < len(job.slots):
            return
        self._run(job, event)

    def _run(self, job: Job, event: Event) -> None:
        self._move(job, event, Phase.RUNNING)
        job.started_ms = job.last_ms
        future.believe(self, job, job.last_ms)
        if job.first_started_ms is None:
            job.first_started_ms = job.last_ms
        if job.spec.limit_ms is not None:
            deadline = job.last_ms + job.spec.limit_ms
            heapq.heappush(self.limits, (deadline, job.id, job.attempt))

    def _note_time(self, job: Job, at_ms: Ms | None) -> None:
        """Believe a node's clock between what we know: a report may come long after the fact."""
        at_ms = self.now if at_ms is None else min(at_ms, self.now)
        job.last_ms = max(job.last_ms, at_ms)

    def _member_ended(self, event: MemberEnded) -> None:
        job = self._current(event.job, event.attempt, event.rank)
        if job is not None:
            self._note_time(job, event.at_ms)
            self._ended(job, event.rank, event.exit, event)

    def _current(self, job_id: JobId, attempt: int, rank: int) -> Job | None:
        """Return the job if this member is not confirmed gone; None for whatever is stale."""
        job = self.jobs.get(job_id)
        if job is None or job.attempt != attempt or job.phase not in LIVE:
            return None
        if rank not in job.ranks or rank in job.exits:
            return None
        return job

    def lost(self, job: Job, rank: int, exit: Exit, event: Event) -> None:
        """A member is gone with its node."""
        self._note_time(job, None)
        self._ended(job, rank, exit, event)

    def _ended(self, job: Job, rank: int, exit: Exit, event: Event) -> None:
        node = job.slot(rank).node
        del self.nodes[node].members[job.id, job.attempt, rank]
        self._dirty.add(node)
        running = job.team is not None and job.phase is Phase.RUNNING
        if running and resize.leaves(self, job, rank, exit, event):
            return
        job.exits[rank] = exit
        if job.worst is None or (job.worst.ok and not exit.ok):
            job.worst = exit
        if rank not in job.started and exit.why not in ("lost", "cannot-start"):
            # It ended before the report of its start arrived: it did run.
            job.started.add(rank)
            if len(job.started) == len(job.slots) and job.phase is Phase.STARTING:
                self._run(job, event)
        if not exit.ok and job.phase is not Phase.STOPPING:
            job.then, job.because = after_failure(job, rank, exit)
            job.broken = exit.why == "lost" and len(job.slots) > 1
            if len(job.exits) < len(job.slots):  # the rest of the gang has to go first
                self._halt(job, event)
                return
        if len(job.exits) < len(job.slots):
            self._changed[job.id] = job
            return
        self._release(job, event)

    def _release(self, job: Job, event: Event) -> None:
        """Every member is confirmed gone: give everything back, once, and go on."""
        for its, slots in self.shapes[job.shape_id].split(job.slots):
            for slot in slots:
                self.ledger.give(slot.node, its, slot.devices)
        self.account(job, -1, live=-1)
        together.disturbed(self, job)
        resize.over(self, job)
        self.named.give(job)
        self.ends.drop(job.id)
        self.wakeups += 1
        if job.started_ms is not None:
            job.served_ms += max(job.last_ms - job.started_ms, 0)
        then, job.then = job.then, None
        assert job.worst is not None
        if then is None:
            then, job.because = Phase.SUCCEEDED, "exit 0"
        elif then is Phase.PENDING and job.phase is Phase.STOPPING and job.worst.ok:
            # A preempted job that still came to a good end has no need to run again.
            then, job.because = Phase.SUCCEEDED, "exit 0 after the notice to stop"
        self._move(job, event, then)
        self.advice.gone(self, job)
        if then is Phase.PENDING:
            self._wait(job)
        else:
            job.ended_ms = job.last_ms
            future.forget_promise(self, job)
            del self.jobs[job.id]
            if then is Phase.SUCCEEDED:
                future.served(self, job)

    def _halt(self, job: Job, event: Event) -> None:
        """The whole gang has to go."""
        self._move(job, event, Phase.STOPPING)
        resize.halt(job)
        grace_ms = 0 if job.kill else job.spec.grace_ms
        self.ends.set(job.id, self.now + grace_ms, final=True)
        for slot in job.slots:
            self._dirty.add(slot.node)

    def _stop_decided(self, event: StopDecided) -> None:
        job = self._ours(event, event.attempt)
        assert event.then is Phase.PENDING or event.then in FINAL
        job.kill = job.kill or event.now
        self._halt(job, event)
        job.then, job.because, job.broken = event.then, event.because, False
        if event.then is Phase.PENDING:
            watch.preempted(job, event.beneficiary)
            if job.started_ms is not None:
                # By a node's clock that is slow it ran for less than the order that stops it has
                # counted, would come first again at once, and be stopped again.
                self._note_time(job, None)

    def _cancelled(self, event: Cancelled) -> None:
        job = self._ours(event)
        self._move(job, event, Phase.CANCELLED)
        self._unwait(job)
        job.ended_ms, job.because = self.now, event.because
        self.advice.gone(self, job)
        del self.jobs[job.id]
        self.wakeups += 1

    def set_tenants(self, tenants: dict[str, Tenant]) -> None:
        """Replace the table of tenants (by `apply` and by a snapshot alone)."""
        self.tenants = tenants
        quotas = frozenset(name for name, tenant in tenants.items() if tenant.quota)
        if quotas != self.quota_tenants:
            self.quota_tenants = quotas

    def groups_changed(self) -> None:
        """Queues or users are others now."""
        self._shares.outdate()
        self.wakeups += 1

    @property
    def shares(self) -> Shares:
        """Return what queues and users hold, as queues and users are now."""
        if self._shares.stale:
            self._shares.rebuild()
        return self._shares

    def _policy_set(self, event: PolicySet) -> None:
        self.shares.settle(event.policy.half_life_ms)
        self.policy = event.policy
        future.withdraw(self)
        future.believe_all(self)
        self.wakeups += 1

    # ---- read ---------------------------------------------------------------------------------

    def next_deadline(self) -> Ms | None:
        """Return when `due` next has something to say, None if never."""
        return due.next_deadline(self)

    def due(self, now: Ms) -> list[AnyEvent]:
        """Return what the clock demands at `now`; see core/due.py."""
        return due.due(self, now)

    def desired(self, node: NodeId) -> Desired:
        """Return all that should be on a node, derived from the log up to `seq`."""
        return desired(self, node)

    def status(self, job: Job) -> JobStatus:
        """Return the job as users see it."""
        return status_of(self.nodes, job)

    def drain(self) -> Drained:
        """Return and forget what changed since the last drain: for the store and the agents."""
        drained = Drained(
            statuses=[self.status(job) for job in self._changed.values()],
            nodes=sorted(self._dirty),
        )
        self.forget_changes()
        return drained

    def forget_changes(self) -> None:
        """Forget what changed, for worlds that follow the events themselves."""
        self._changed.clear()
        self._dirty.clear()

    def clone(self) -> Core:
        """Return an independent copy to try things on; see core/clone.py."""
        from fairlead.core.clone import clone

        return clone(self)

    def dump(self) -> bytes:
        """Return a durable image; see core/snapshot.py."""
        from fairlead.core.snapshot import dump

        return dump(self)

    @classmethod
    def load(cls, body: bytes) -> Core:
        """Return the core that `dump` described."""
        from fairlead.core.snapshot import load

        return load(body)

    def digest(self) -> str:
        """Return a fingerprint of the whole state: equal states have equal digests."""
        from fairlead.core.snapshot import digest

        return digest(self.dump())
