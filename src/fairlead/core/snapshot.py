"""A durable image of the core, for a quick restart. The log stays the truth."""

from __future__ import annotations

import hashlib
import heapq
from typing import TYPE_CHECKING

import msgspec

from fairlead.core.ends import believed_run_ms
from fairlead.core.jobs import Job, Promise
from fairlead.model.base import JobId, Ms, Record
from fairlead.model.jobs import (
    LIVE,
    Exit,
    Forecast,
    JobSpec,
    Phase,
    PolicyConfig,
    Queue,
    Reservation,
    Tenant,
    User,
)
from fairlead.model.resources import Node, Slot

if TYPE_CHECKING:
    from fairlead.core.engine import Core

VERSION = 1


class JobImage(Record, frozen=True):
    """One pending or live job."""

    id: JobId
    spec: JobSpec
    submitted_ms: Ms
    token: int
    phase: Phase
    token_placed: int = 0
    attempt: int = 0
    failures: int = 0
    slots: tuple[Slot, ...] = ()
    started: tuple[int, ...] = ()
    exits: tuple[tuple[int, Exit], ...] = ()
    worst: Exit | None = None
    then: Phase | None = None
    kill: bool = False
    placed_ms: Ms | None = None
    started_ms: Ms | None = None
    first_started_ms: Ms | None = None
    last_ms: Ms = 0
    because: str = ""
    forecast: Forecast | None = None
    promise: tuple[Ms, tuple[Slot, ...], Ms] | None = None
    end_ms: Ms = 0  # believed, of a live job
    served_ms: Ms = 0
    preemptions: int = 0
    pending_ms: Ms = 0
    waited_ms: Ms = 0
    promoted_served_ms: Ms = 0
    crowd_ms: int = 0


class NodeImage(Record, frozen=True):
    """One node with what others use on it."""

    spec: Node
    up: bool
    foreign: tuple[int, ...] = ()
    foreign_devices: tuple[int, ...] = ()


class AccountImage(Record, frozen=True):
    """What is known of the past of a user in a queue: the rest follows from the jobs."""

    queue: str
    user: str
    at_ms: Ms
    average: tuple[int, ...] = ()


class Image(Record, frozen=True):
    """Everything that `apply` has brought about."""

    version: int
    seq: int
    now: Ms
    next_job: JobId
    policy: PolicyConfig
    tenants: tuple[Tenant, ...]
    queues: tuple[Queue, ...]
    nodes: tuple[NodeImage, ...]
    jobs: tuple[JobImage, ...]
    requests: tuple[tuple[str, tuple[JobId, ...]], ...]
    reservations: tuple[Reservation, ...] = ()
    services: tuple[int, ...] = ()
    services_seen: int = 0
    crowd_ms: int = 0
    users: tuple[User, ...] = ()
    accounts: tuple[AccountImage, ...] = ()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Image)


def dump(core: Core) -> bytes:
    """Return the image of a core as JSON; O(jobs + nodes)."""
    nodes = tuple(
        NodeImage(
            spec=node.spec,
            up=node.up,
            foreign=tuple(core.ledger.foreign[:, index].tolist()),
            foreign_devices=tuple(sorted(core.ledger.devices[index].foreign)),
        )
        for index, node in enumerate(core.nodes)
    )
    jobs = tuple(
        JobImage(
            id=job.id,
            spec=job.spec,
            submitted_ms=job.submitted_ms,
            token=job.token,
            token_placed=job.token_placed,
            phase=job.phase,
            attempt=job.attempt,
            failures=job.failures,
            slots=job.slots,
            started=tuple(sorted(job.started)),
            exits=tuple(job.exits.items()),
            worst=job.worst,
            then=job.then,
            kill=job.kill,
            placed_ms=job.placed_ms,
            started_ms=job.started_ms,
            first_started_ms=job.first_started_ms,
            last_ms=job.last_ms,
            because=job.because,
            forecast=job.forecast,
            promise=job.promise,
            end_ms=core.ends.get(job.id) if job.phase in LIVE else 0,
            served_ms=job.served_ms,
            preemptions=job.preemptions,
            pending_ms=job.pending_ms,
            waited_ms=job.waited_ms,
            promoted_served_ms=job.promoted_served_ms,
            crowd_ms=job.crowd_ms,
        )
        for _, job in sorted(core.jobs.items())
    )
    image = Image(
        version=VERSION,
        seq=core.seq,
        now=core.now,
        next_job=core.next_job,
        policy=core.policy,
        tenants=tuple(core.tenants[name] for name in sorted(core.tenants)),
        queues=tuple(core.queues[name] for name in sorted(core.queues)),
        nodes=nodes,
        jobs=jobs,
        requests=tuple((key, tuple(jobs)) for key, jobs in core.requests.items()),
        reservations=tuple(core.reservations.values()),
        services=tuple(core.services),
        services_seen=core.services_seen,
        crowd_ms=core.crowd_ms,
        users=tuple(core.users[name] for name in sorted(core.users)),
        accounts=tuple(
            AccountImage(queue=queue, user=user, at_ms=each.at_ms, average=tuple(each.average))
            for (queue, user), each in sorted(core.shares.accounts.items())
            if any(each.average) or any(each.held)
        ),
    )
    return _encoder.encode(image)


def digest(body: bytes) -> str:
    """Return the fingerprint of an image."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def load(body: bytes) -> Core:
    """Return the core of an image; raises msgspec.DecodeError if it is damaged."""
    from fairlead.core.engine import Core, NodeState

    image = _decoder.decode(body)
    core = Core()
    core.seq, core.now, core.next_job = image.seq, image.now, image.next_job
    core.clock = image.now
    core.policy = image.policy
    core.set_tenants({tenant.name: tenant for tenant in image.tenants})
    core.queues = {queue.name: queue for queue in image.queues}
    core.users = {user.name: user for user in image.users}
    core.requests = {key: list(jobs) for key, jobs in image.requests}
    core.services, core.services_seen = list(image.services), image.services_seen
    core.crowd_ms = image.crowd_ms
    core.reservations = {each.name: each for each in image.reservations}
    for index, node in enumerate(image.nodes):
        state = NodeState(node.spec)
        state.up = node.up
        core.nodes.append(state)
        core.node_ids[node.spec.name] = index
        core.ledger.join(index, node.spec)
        core.ledger.set_foreign(index, node.foreign, node.foreign_devices)
        if not node.up:
            core.ledger.down(index)
    for item in image.jobs:
        _restore(core, item)
    for job in sorted(core.jobs.values(), key=lambda job: job.token):
        if job.phase is Phase.PENDING:
            core.pending[job.id] = job
            core.arrivals.append(job.id)
            core.waiting[job.spec.queue] = core.waiting.get(job.spec.queue, 0) + 1
    past = ((each.queue, each.user, each.at_ms, each.average) for each in image.accounts)
    core.shares.restore(past)
    return core


def _restore(core: Core, item: JobImage) -> None:
    job = Job(item.id, item.spec, core.intern(item.spec.shape), item.submitted_ms, item.token)
    job.phase, job.attempt, job.failures = item.phase, item.attempt, item.failures
    job.token_placed = item.token_placed
    job.slots, job.started, job.exits = item.slots, set(item.started), dict(item.exits)
    job.worst, job.then, job.kill = item.worst, item.then, item.kill
    job.because = item.because
    job.placed_ms, job.started_ms = item.placed_ms, item.started_ms
    job.first_started_ms, job.last_ms = item.first_started_ms, item.last_ms
    job.forecast, job.served_ms, job.preemptions = item.forecast, item.served_ms, item.preemptions
    job.pending_ms, job.waited_ms = item.pending_ms, item.waited_ms
    job.promoted_served_ms, job.crowd_ms = item.promoted_served_ms, item.crowd_ms
    core.jobs[job.id] = job
    if job.phase not in LIVE:
        if item.promise is not None:
            job.promise = Promise(*item.promise)
            core.promises[job.id] = job
        return
    believed = believed_run_ms(job, core.policy)
    final = job.phase is Phase.STOPPING or believed == job.spec.limit_ms
    core.ends.set(job.id, item.end_ms, final=final)
    request = core.shapes[job.shape_id]
    for rank, slot in enumerate(job.slots):
        core.ledger.take(slot.node, request, slot.devices)
        if rank not in job.exits:
            core.nodes[slot.node].members[job.id, job.attempt, rank] = job
    core.account(job, 1, live=1)
    if job.phase is Phase.RUNNING and job.spec.limit_ms is not None:
        assert job.started_ms is not None
        deadline = job.started_ms + job.spec.limit_ms
        heapq.heappush(core.limits, (deadline, job.id, job.attempt))
