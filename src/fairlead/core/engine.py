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

import msgspec

from fairlead.core import due, future
from fairlead.core.desired import desired
from fairlead.core.ending import after_failure
from fairlead.core.ends import Ends
from fairlead.core.jobs import TRANSITIONS, Job
from fairlead.core.ledger import Ledger, Request
from fairlead.core.status import status_of
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    Event,
    Forecasted,
    ForeignUsage,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Outlived,
    Placed,
    PolicySet,
    Promised,
    Promoted,
    QueueSet,
    ReservationDeleted,
    ReservationSet,
    StopDecided,
    Submitted,
    TenantSet,
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
)
from fairlead.model.messages import Desired, MemberKey
from fairlead.model.resources import DIMENSIONS, Node, Shape, Slot
from fairlead.model.status import JobStatus

REQUESTS_KEPT = 10_000  # idempotency keys remembered


class NodeState:
    """A node: its spec, whether it is up, and the members that hold resources or run there."""

    __slots__ = ("members", "spec", "up")

    def __init__(self, spec: Node) -> None:
        self.spec = spec
        self.up = True
        self.members: dict[MemberKey, Job] = {}  # not confirmed gone, whatever their phase


class Drained(msgspec.Struct, frozen=True):
    """What changed since the last drain."""

    statuses: list[JobStatus]
    nodes: list[NodeId]


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
        self.shapes: list[Request] = []
        self.shape_ids: dict[Shape, int] = {}
        self.fitting: set[Shape] = set()  # shapes known to fit the empty cluster; a cache
        # For policies that keep an order: jobs in the order in which they became pending, and how
        # often something happened that may let a job start that could not before.
        self.arrivals: list[JobId] = []
        self.arrivals_forgotten = 0
        self.wakeups = 0
        self.ends = Ends()
        self.reservations: dict[str, Reservation] = {}
        self.promises: dict[JobId, Job] = {}  # waiting jobs that were promised a start
        self.services: list[int] = []  # of the last jobs that ended well, in GPU-ms or core-ms
        self.services_seen = 0
        self.limits: list[tuple[Ms, JobId, int]] = []  # heap: time, job, attempt
        self._changed: dict[JobId, Job] = {}
        self._dirty: set[NodeId] = set()
        self._handlers: dict[type[Event], Callable[[Any], None]] = {
            Submitted: self._submitted,
            Placed: self._placed,
            MemberStarted: self._member_started,
            MemberEnded: self._member_ended,
            StopDecided: self._stop_decided,
            Cancelled: self._cancelled,
            NodeJoined: self._node_joined,
            NodeLost: self._node_lost,
            ForeignUsage: self._foreign_usage,
            TenantSet: self._tenant_set,
            QueueSet: self._queue_set,
            PolicySet: self._policy_set,
            Forecasted: partial(future.forecasted, self),
            Outlived: partial(future.outlived, self),
            Promised: partial(future.promised, self),
            Promoted: partial(future.promoted, self),
            ReservationSet: partial(future.reservation_set, self),
            ReservationDeleted: partial(future.reservation_deleted, self),
        }

    # ---- change -------------------------------------------------------------------------------

    def apply(self, now: Ms, event: AnyEvent) -> None:
        """Apply one event at time `now` (ms, never before the last). O(1) but for node events."""
        assert now >= self.now, f"time runs backwards: {now} after {self.now}"
        self.now = self.clock = now
        self.seq += 1
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

    def _ours(self, event: Placed | StopDecided | Cancelled, attempt: int | None = None) -> Job:
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
        job = Job(event.job, spec, self.intern(spec.shape), self.now, self.seq)
        self.jobs[job.id] = job
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
        queue = job.spec.queue
        self.waiting[queue] = self.waiting.get(queue, 0) + 1
        self.arrivals.append(job.id)
        if len(self.arrivals) > 2 * len(self.pending) + 65_536:
            # Past every reader's place, so that each starts afresh with the list of all pending.
            self.arrivals_forgotten += len(self.arrivals) + 1
            self.arrivals = list(self.pending)

    def _unwait(self, job: Job) -> None:
        del self.pending[job.id]
        self.waiting[job.spec.queue] -= 1
        job.waited_ms += self.now - job.pending_ms
        if job.promise is not None:
            job.promise = None
            del self.promises[job.id]

    def _placed(self, event: Placed) -> None:
        job = self._ours(event, event.attempt - 1)
        request = self.shapes[job.shape_id]
        assert len(event.slots) == request.members, "a gang is placed whole or not at all"
        self._move(job, event, Phase.STARTING)
        self._unwait(job)
        job.attempt, job.slots, job.placed_ms = event.attempt, event.slots, self.now
        job.started_ms, job.last_ms = None, self.now
        job.token_placed = self.seq
        job.because = event.because
        job.started, job.exits, job.worst, job.kill = set(), {}, None, False
        for rank, slot in enumerate(event.slots):
            node = self.nodes[slot.node]
            free = self.ledger.has_room(slot.node, request, slot.devices)
            assert free, f"job {job.id}: node {node.spec.name} is down or has no room: {event}"
            self.ledger.take(slot.node, request, slot.devices)
            node.members[job.id, job.attempt, rank] = job
            self._dirty.add(slot.node)
        self._account(job, request, 1)
        future.believe(self, job, self.now)

    def _account(self, job: Job, request: Request, sign: int) -> None:
        usage = self.usage.get(job.spec.tenant)
        if usage is None:
            usage = self.usage[job.spec.tenant] = [0] * len(DIMENSIONS)
        self.ledger.add_held(usage, request, job.slots, sign)

    def _member_started(self, event: MemberStarted) -> None:
        job = self._current(event.job, event.attempt, event.rank)
        if job is None or event.rank in job.started:
            return
        job.started.add(event.rank)
        self._note_time(job, event.at_ms)
        self._dirty.add(job.slots[event.rank].node)  # from now on it is only kept
        if job.phase is Phase.STOPPING:
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
        if not 0 <= rank < len(job.slots) or rank in job.exits:
            return None
        return job

    def _ended(self, job: Job, rank: int, exit: Exit, event: Event) -> None:
        node = job.slots[rank].node
        job.exits[rank] = exit
        del self.nodes[node].members[job.id, job.attempt, rank]
        self._dirty.add(node)
        if job.worst is None or (job.worst.ok and not exit.ok):
            job.worst = exit
        if rank not in job.started and exit.why not in ("lost", "cannot-start"):
            # It ended before the report of its start arrived: it did run.
            job.started.add(rank)
            if len(job.started) == len(job.slots) and job.phase is Phase.STARTING:
                self._run(job, event)
        if not exit.ok and job.phase is not Phase.STOPPING:
            job.then, job.because = after_failure(job, rank, exit)
            if len(job.exits) < len(job.slots):  # the rest of the gang has to go first
                for slot in job.slots:
                    self._dirty.add(slot.node)
                self._move(job, event, Phase.STOPPING)
                return
        if len(job.exits) < len(job.slots):
            self._changed[job.id] = job
            return
        self._release(job, event)

    def _release(self, job: Job, event: Event) -> None:
        """Every member is confirmed gone: give everything back, once, and go on."""
        request = self.shapes[job.shape_id]
        for slot in job.slots:
            self.ledger.give(slot.node, request, slot.devices)
        self._account(job, request, -1)
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
        if then is Phase.PENDING:
            self._wait(job)
        else:
            job.ended_ms = job.last_ms
            del self.jobs[job.id]
            if then is Phase.SUCCEEDED:
                future.served(self, job)

    def _stop_decided(self, event: StopDecided) -> None:
        job = self._ours(event, event.attempt)
        assert event.then is Phase.PENDING or event.then in FINAL
        self._move(job, event, Phase.STOPPING)
        job.then, job.because = event.then, event.because
        job.kill = job.kill or event.now
        if event.then is Phase.PENDING:
            job.preemptions += 1
            if job.started_ms is not None:
                # By a node's clock that is slow it ran for less than the order that stops it has
                # counted, would come first again at once, and be stopped again.
                self._note_time(job, None)
        grace_ms = 0 if job.kill else job.spec.grace_ms
        self.ends.set(job.id, self.now + grace_ms, final=True)
        for slot in job.slots:
            self._dirty.add(slot.node)

    def _cancelled(self, event: Cancelled) -> None:
        job = self._ours(event)
        self._move(job, event, Phase.CANCELLED)
        self._unwait(job)
        job.ended_ms, job.because = self.now, event.because
        del self.jobs[job.id]
        self.wakeups += 1

    def _node_joined(self, event: NodeJoined) -> None:
        if event.node < len(self.nodes):
            node = self.nodes[event.node]
            same = event.spec.devices[: len(node.spec.devices)] == node.spec.devices
            if node.spec.boot != event.spec.boot or not same:
                self._lose(event.node, event, "the node started anew")
                self._drop_devices(event.node)
        else:
            assert event.node == len(self.nodes), "node ids are dense"
            node = NodeState(event.spec)
            self.nodes.append(node)
        self.node_ids.pop(node.spec.name, None)
        node.spec, node.up = event.spec, True
        self.node_ids[event.spec.name] = event.node
        self._rebuild(event.node)
        self.fitting.clear()
        self._dirty.add(event.node)
        self.wakeups += 1

    def _drop_devices(self, node: NodeId) -> None:
        """The devices of a node are other ones now: what still winds down there holds none."""
        future.withdraw(self, node)
        for job in self.jobs.values():
            if job.phase in LIVE and any(slot.node == node and slot.devices for slot in job.slots):
                request = self.shapes[job.shape_id]
                self._account(job, request, -1)
                job.slots = tuple(
                    Slot(node=node) if slot.node == node else slot for slot in job.slots
                )
                self._account(job, request, 1)

    def _rebuild(self, node: NodeId) -> None:
        """Book a node anew: its capacity as it is now, less what jobs still hold there."""
        self.ledger.join(node, self.nodes[node].spec)
        if not self.nodes[node].up:
            self.ledger.down(node)
        for job in self.jobs.values():
            if job.phase in LIVE:
                for slot in job.slots:
                    if slot.node == node:
                        self.ledger.take(node, self.shapes[job.shape_id], slot.devices)

    def _node_lost(self, event: NodeLost) -> None:
        if not self.nodes[event.node].up:
            return
        self.nodes[event.node].up = False
        self.ledger.down(event.node)
        self._lose(event.node, event, event.because or "the node is gone")
        self.wakeups += 1  # a job that was held up by one that died may go on elsewhere

    def _lose(self, node: NodeId, event: Event, because: str) -> None:
        gone = Exit(why="lost", detail=f"{self.nodes[node].spec.name}: {because}")
        cause = NodeLost(node=node, because=because) if isinstance(event, NodeJoined) else event
        for (job_id, attempt, rank), job in list(self.nodes[node].members.items()):
            if job.id == job_id and job.attempt == attempt and rank not in job.exits:
                self._note_time(job, None)
                self._ended(job, rank, gone, cause)

    def _foreign_usage(self, event: ForeignUsage) -> None:
        self.ledger.set_foreign(event.node, event.amounts, event.devices)
        self.wakeups += 1

    def _tenant_set(self, event: TenantSet) -> None:
        self.set_tenants({**self.tenants, event.tenant.name: event.tenant})
        self.wakeups += 1

    def set_tenants(self, tenants: dict[str, Tenant]) -> None:
        """Replace the table of tenants (by `apply` and by a snapshot alone)."""
        self.tenants = tenants
        quotas = frozenset(name for name, tenant in tenants.items() if tenant.quota)
        if quotas != self.quota_tenants:
            self.quota_tenants = quotas

    def _queue_set(self, event: QueueSet) -> None:
        self.queues[event.queue.name] = event.queue

    def _policy_set(self, event: PolicySet) -> None:
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
