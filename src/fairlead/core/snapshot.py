"""A durable image of the core, for a quick restart. The log stays the truth."""

from __future__ import annotations

import hashlib
import heapq
from typing import TYPE_CHECKING

import msgspec

from fairlead.core.advice import Advice
from fairlead.core.jobs import Job, Progress, Promise
from fairlead.core.named import Ask, Holding
from fairlead.core.nodes import NodeState
from fairlead.core.speeds import Key, Measured, Pair, Speeds, shape_of
from fairlead.core.team import Team
from fairlead.core.together import Side
from fairlead.model.base import JobId, Ms, Record
from fairlead.model.events import Advised
from fairlead.model.jobs import (
    LIVE,
    Exit,
    Forecast,
    JobSpec,
    Phase,
    PolicyConfig,
    Queue,
    Reservation,
    Resource,
    Tenant,
    User,
)
from fairlead.model.resources import Node, Shape, Slot

if TYPE_CHECKING:
    from fairlead.core.engine import Core

VERSION = 1


class TeamImage(Record, frozen=True):
    """The members of an elastic job; see core/team.py."""

    numbers: tuple[int, ...]
    unused: int
    leaving: tuple[int, ...] = ()
    leave_ms: Ms = 0
    joined: tuple[tuple[int, int], ...] = ()
    generation: int = 0
    resized_ms: Ms | None = None
    lost: int = 0

    @classmethod
    def of(cls, team: Team | None) -> TeamImage | None:
        """Return the image of a job's team."""
        if team is None:
            return None
        return cls(
            numbers=tuple(team.numbers),
            unused=team.unused,
            leaving=tuple(sorted(team.leaving)),
            leave_ms=team.leave_ms,
            joined=tuple(team.joined.items()),
            generation=team.generation,
            resized_ms=team.resized_ms,
            lost=team.lost,
        )

    def team(self) -> Team:
        """Return the team of the image."""
        team = Team(0)
        team.numbers, team.unused, team.leaving = list(self.numbers), self.unused, set(self.leaving)
        team.leave_ms, team.joined, team.generation = (
            self.leave_ms,
            dict(self.joined),
            self.generation,
        )
        team.resized_ms, team.lost = self.resized_ms, self.lost
        return team


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
    held_until_ms: Ms | None = None  # the promise is a hold until then
    held_ranks: tuple[int, ...] = ()
    move_for: JobId | None = None
    end_ms: Ms = 0  # believed, of a live job
    served_ms: Ms = 0
    preemptions: int = 0
    pending_ms: Ms = 0
    waited_ms: Ms = 0
    promoted_served_ms: Ms = 0
    team: TeamImage | None = None
    broken: bool = False
    acquired: tuple[tuple[str, int], ...] = ()  # of named resources, while it runs
    granted: tuple[str, ...] = ()  # keys of its last requests for them
    checkpoint_ms: Ms | None = None
    fruitless: int = 0
    made_room: tuple[JobId, ...] = ()
    beneficiary: JobId | None = None
    crowd_ms: int = 0
    progress: Progress | None = None


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


class DemandImage(Record, frozen=True):
    """How many members of a shape have come, and had when that was settled last."""

    shape: Shape
    count: int
    settled: int = 0


class SpeedsImage(Record, frozen=True):
    """How fast jobs are, told and measured."""

    told: tuple[tuple[Key, int], ...] = ()
    measured: tuple[tuple[Key, Measured], ...] = ()
    together: tuple[tuple[tuple[Key, Side], Measured], ...] = ()
    parted: tuple[Pair, ...] = ()
    version: int = 0

    @classmethod
    def of(cls, speeds: Speeds) -> SpeedsImage | None:
        """Return the image of a table, None of one that never had anything."""
        if not (speeds.version or speeds.measured or speeds.together or speeds.parted):
            return None
        return cls(
            told=tuple(sorted(speeds.told.items())),
            measured=tuple(speeds.measured.items()),  # what was measured longest ago first
            together=tuple(speeds.together.items()),
            parted=tuple(sorted(speeds.parted)),
            version=speeds.version,
        )

    def speeds(self) -> Speeds:
        """Return the table of the image."""
        speeds = Speeds()
        speeds.told, speeds.measured = dict(self.told), dict(self.measured)
        speeds.together, speeds.parted = dict(self.together), set(self.parted)
        speeds.version = self.version
        speeds.renew()
        return speeds


class AdviceImage(Record, frozen=True):
    """The plan that holds, and what was received of it."""

    event: Advised
    at_ms: Ms
    jobs: tuple[JobId, ...]
    seen: tuple[int, ...]
    received: tuple[tuple[JobId, str, Ms], ...] = ()
    owed: tuple[tuple[JobId, str, int], ...] = ()

    @classmethod
    def of(cls, advice: Advice) -> AdviceImage | None:
        """Return the image of a plan, None where there was none."""
        if not advice.seen:
            return None
        return cls(
            event=advice.event,
            at_ms=advice.at_ms,
            jobs=tuple(advice.of),
            seen=advice.seen,
            received=tuple((*key, ms) for key, ms in sorted(advice.received.items())),
            owed=tuple((*key, owed) for key, owed in sorted(advice.owed.items())),
        )

    def advice(self) -> Advice:
        """Return the plan of the image."""
        advice = Advice()
        advice.event, advice.at_ms, advice.seen = self.event, self.at_ms, self.seen
        there = set(self.jobs)
        advice.of = {job: each for each in self.event.plan for job in each.jobs if job in there}
        advice.received = {(job, model): ms for job, model, ms in self.received}
        advice.owed = {(job, model): owed for job, model, owed in self.owed}
        return advice


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
    demand: tuple[DemandImage, ...] = ()
    demand_next: JobId = 1
    resources: tuple[Resource, ...] = ()
    asks: tuple[Ask, ...] = ()
    speeds: SpeedsImage | None = None
    advice: AdviceImage | None = None


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
    jobs = tuple(_image(core, job) for _, job in sorted(core.jobs.items()))
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
        demand=tuple(
            DemandImage(shape=shape, count=count, settled=core.demand.settled.get(shape, 0))
            for shape, count in core.demand.counts.items()
        ),
        demand_next=core.demand.next_job,
        users=tuple(core.users[name] for name in sorted(core.users)),
        accounts=tuple(
            AccountImage(queue=queue, user=user, at_ms=each.at_ms, average=tuple(each.average))
            for (queue, user), each in sorted(core.shares.accounts.items())
            if any(each.average) or any(each.held)
        ),
        resources=tuple(core.named.resources[name] for name in sorted(core.named.resources)),
        asks=tuple(core.named.asks.values()),
        speeds=SpeedsImage.of(core.speeds),
        advice=AdviceImage.of(core.advice),
    )
    return _encoder.encode(image)


def _image(core: Core, job: Job) -> JobImage:
    holding = core.named.live.get(job.id)
    return JobImage(
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
        promise=None if job.promise is None else job.promise[:3],
        held_until_ms=None if job.promise is None else job.promise.until_ms,
        held_ranks=() if job.promise is None else job.promise.ranks,
        move_for=None if job.promise is None else job.promise.move_for,
        end_ms=core.ends.get(job.id) if job.phase in LIVE else 0,
        served_ms=job.served_ms,
        preemptions=job.preemptions,
        pending_ms=job.pending_ms,
        waited_ms=job.waited_ms,
        promoted_served_ms=job.promoted_served_ms,
        team=TeamImage.of(job.team),
        broken=job.broken,
        acquired=tuple(holding.acquired.items()) if holding else (),
        granted=holding.granted if holding else (),
        checkpoint_ms=job.checkpoint_ms,
        fruitless=job.fruitless,
        made_room=job.made_room,
        beneficiary=job.beneficiary,
        crowd_ms=job.crowd_ms,
        progress=job.progress,
    )


def digest(body: bytes) -> str:
    """Return the fingerprint of an image."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def load(body: bytes) -> Core:
    """Return the core of an image; raises msgspec.DecodeError if it is damaged."""
    from fairlead.core.engine import Core

    image = _decoder.decode(body)
    core = Core()
    core.seq, core.now, core.next_job = image.seq, image.now, image.next_job
    core.clock = image.now
    core.policy = image.policy
    core.set_tenants({tenant.name: tenant for tenant in image.tenants})
    core.queues = {queue.name: queue for queue in image.queues}
    core.demand.counts = {each.shape: each.count for each in image.demand}
    settled = {each.shape: each.settled for each in image.demand if each.settled}
    core.demand.settled, core.demand.next_job = settled, image.demand_next
    core.users = {user.name: user for user in image.users}
    core.requests = {key: list(jobs) for key, jobs in image.requests}
    core.services, core.services_seen = list(image.services), image.services_seen
    core.crowd_ms = image.crowd_ms
    if image.speeds is not None:
        core.speeds = image.speeds.speeds()
    if image.advice is not None:
        core.advice = image.advice.advice()
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
            if job.broken:
                core.broken[job.id] = job
            core.arrivals.append(job.id)
            core.waiting[job.spec.queue] = core.waiting.get(job.spec.queue, 0) + 1
    holdings = {
        item.id: _holding(item)
        for item in image.jobs
        if item.phase in LIVE and (item.spec.counted or item.spec.may_acquire)
    }
    core.named.restore(image.resources, holdings, image.asks)
    past = ((each.queue, each.user, each.at_ms, each.average) for each in image.accounts)
    core.shares.restore(past)
    return core


def _holding(item: JobImage) -> Holding:
    holding = Holding(item.spec, item.attempt)
    holding.acquired, holding.granted = dict(item.acquired), item.granted
    return holding


def _restore(core: Core, item: JobImage) -> None:
    shape = core.intern(shape_of(core, item.spec))
    job = Job(item.id, item.spec, shape, item.submitted_ms, item.token)
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
    job.checkpoint_ms, job.fruitless = item.checkpoint_ms, item.fruitless
    job.made_room, job.beneficiary = item.made_room, item.beneficiary
    job.broken = item.broken
    job.progress = item.progress
    core.jobs[job.id] = job
    if item.promise is not None:
        more = (item.held_until_ms, item.move_for, item.held_ranks)
        job.promise = Promise(*item.promise, *more)
        core.promises[job.id] = job
        if item.move_for is not None:
            core.moving[job.id] = job
    if job.phase not in LIVE:
        return
    limit, since = job.spec.limit_ms, job.placed_ms if job.started_ms is None else job.started_ms
    at_limit = limit is not None and item.end_ms >= (since or 0) + limit
    final = job.phase is Phase.STOPPING or at_limit
    core.ends.set(job.id, item.end_ms, final=final)
    if item.team is not None:
        job.team = item.team.team()
        core.elastic[job.id] = job
    request = core.shapes[job.shape_id]
    for rank, slot in zip(job.ranks, job.slots, strict=True):
        core.ledger.take(slot.node, request.of(rank), slot.devices)
        if rank not in job.exits:
            core.nodes[slot.node].members[job.id, job.attempt, rank] = job
    core.account(job, 1, live=1)
    if job.phase is Phase.RUNNING and job.spec.limit_ms is not None:
        assert job.started_ms is not None
        deadline = job.started_ms + job.spec.limit_ms
        heapq.heappush(core.limits, (deadline, job.id, job.attempt))
