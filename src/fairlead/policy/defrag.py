"""Moving running jobs so that another one fits: what it costs, what it saves, and step by step.

What is decided is held, for each job that moves its new place and for whom room is made that room
(event `Promised` with `until_ms`, for the first with `move_for`). The rest follows from these
facts: a job goes on running until its new place is free, is stopped then, and starts there before
all others. So no node ever holds more than it has, a kill of the service loses nothing, and what
does not come about in time is forgotten: whoever has not been stopped by then stays where it is.

Costs and savings are work, as in reclaim.py: ms times thousandths of a GPU (of a core where a job
has no GPU). A move costs what was done since the work was last saved, and the restart
(algorithms.md 7.3); it saves the waiting of those who fit then and did not before.

By itself (`defrag = when-worth`) a policy moves jobs for a blocked job that is first of those
like it, where this saves more than it costs, for one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fairlead.core.ends import believed_run_ms, total_run_ms
from fairlead.core.engine import Core
from fairlead.core.jobs import Job, Promise
from fairlead.core.ledger import Request
from fairlead.core.models import narrowed
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.events import (
    AnyEvent,
    Promised,
    ReservationDeleted,
    ReservationSet,
    StopDecided,
)
from fairlead.model.jobs import JobSpec, Phase, PolicyConfig, Reservation
from fairlead.model.resources import Shape, width_milli
from fairlead.policy.firm import is_firm, is_held
from fairlead.policy.migrate import (
    Answer,
    Mover,
    Step,
    Way,
    cheapest,
    has_room,
    in_safe_order,
    shift,
)
from fairlead.policy.place.seats import seat
from fairlead.policy.place.trial import Trial
from fairlead.policy.reclaim import lost_work, may_stop, restart_ms, tired
from fairlead.policy.reserved import closed_nodes

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

MARGIN_MS: Ms = 60_000  # for each step, beyond the graces, until it is given up
ROOM = "defrag:room"  # the reservation of what is freed for nobody yet; users cannot name one so
NOBODY: JobId = 0
HEADS = 4  # blocked jobs that a policy looks at in one round
STEPS = 500  # of the search, where a policy asks
SERVED_MAX = 100  # waiting jobs that are tried on what would be free


class Plan(NamedTuple):
    """What would be moved, in safe order, and when all of it is done at the latest."""

    way: Way
    steps: tuple[Step, ...]
    ready_ms: Ms


def stays(core: Core, config: PolicyConfig, job: Job) -> str:
    """Return in words why a live job is not moved now, "" where it may be."""
    spec = job.spec
    if not spec.preemptible:
        return "it is not preemptible"
    if spec.deadline_ms is not None:
        return "it has a deadline"
    if spec.members_max:
        return "it is elastic: others make it smaller instead"
    if config.share != "any" and any(kind.shares for kind in spec.shape.parts()):
        return (
            "it has a part of a GPU, and who may share one is decided by how well they go together"
        )
    if spec.counted or spec.may_acquire:
        return "it holds named resources"
    if job.phase is Phase.STOPPING or job.promise is not None:
        return "it is on its way out already"
    if tired(config, job):
        return "it was preempted as often as it may be"
    if not may_stop(core, config, job):
        return "it has not run for long enough"
    if _too_long(config, job, core.clock):
        return "its time limit leaves no room for what it would do again"
    return "" if len(_models(core, job)) < 2 else "it runs on GPUs of several types"


def _too_long(config: PolicyConfig, job: Job, now: Ms) -> bool:
    """Whether a job that is moved may not be done by its time limit, which begins anew then."""
    limit = job.spec.limit_ms
    if limit is None:
        return False
    total = total_run_ms(job) or limit
    done = job.attained_ms(now) - job.unsaved_ms(now)
    return total - done + restart_ms(job, config) > limit


def _models(core: Core, job: Job) -> set[str]:
    return {
        core.nodes[slot.node].spec.devices[device].model
        for slot in job.slots
        for device in slot.devices
    }


def movers(core: Core, config: PolicyConfig) -> list[Mover]:
    """Return the jobs that may be moved now, each with what it asks for and what it costs."""
    found = []
    requests: dict[tuple[int, tuple[str, ...]], Request] = {}
    for _, job_id in core.ends.sorted:
        job = core.jobs[job_id]
        if stays(core, config, job):
            continue
        key = job.shape_id, tuple(sorted(_models(core, job)))
        request = requests.get(key)
        if request is None:
            own = job.spec.shape
            request = requests[key] = Request(narrowed(own, key[1]) or own)
        found.append(Mover(job, request, lost_work(job, config, core.clock)))
    return found


def somebody(core: Core, shape: Shape) -> Job:
    """Return a job of this shape that nobody has submitted: room is made for whoever comes."""
    return Job(NOBODY, JobSpec(shape=shape), -1, core.clock, 0)


def search(
    core: Core, pipeline: Pipeline, job: Job, steps_max: int, those: Sequence[Mover] | None = None
) -> Answer:
    """Return the cheapest moves after which a job fits that does not run; `those` may move."""
    request = Request(job.spec.shape) if job.shape_id < 0 else core.shares.request(job)
    those = movers(core, pipeline.config) if those is None else those
    return cheapest(core, pipeline.fit, (job, request), those, steps_max)


def plan_of(core: Core, way: Way) -> Plan:
    """Return the steps of a way, and when they are made at the latest: all graces are used up."""
    steps = in_safe_order(core, way.moves)
    grace = sum(core.jobs[move.job].spec.grace_ms for move in way.moves)
    return Plan(way, steps, core.clock + grace)


def expected_start(core: Core, pipeline: Pipeline, job: Job) -> Ms | None:
    """Return when a waiting job starts if nobody is moved, by what is believed of run times.

    None: nothing that is known lets it start.
    """
    if job.promise is not None:
        return job.promise.start_ms
    run_ms = believed_run_ms(job, pipeline.config)
    plan = pipeline.plans(core).view(job)
    found = plan.earliest(core.shares.request(job), run_ms)
    return None if found is None else found[0]


def saved(core: Core, plan: Plan, expected: Mapping[JobId, Ms | None]) -> int | None:
    """Return how much waiting the moves save those whose starts are given; None: without end."""
    total = 0
    for job_id, start in expected.items():
        if start is None:
            return None
        total += max(0, start - plan.ready_ms) * width_milli(core.jobs[job_id].spec.shape)
    return total


def worth(plan: Plan, savings: int | None) -> bool:
    """Whether what is saved is more than what it costs."""
    return savings is None or savings > plan.way.cost


def served(core: Core, pipeline: Pipeline, way: Way, waiting: Sequence[JobId]) -> list[Job]:
    """Return those of the waiting jobs, in this order, that fit into what the moves free."""
    trials: dict[NodeId, Trial] = {}
    for move in way.moves:
        shift(core, trials, core.shapes[core.jobs[move.job].shape_id], move.source, 1)
    for move in way.moves:
        shift(core, trials, core.shapes[core.jobs[move.job].shape_id], move.to, -1)
    nodes = sorted({slot.node for slot in way.slots} & trials.keys())
    found = []
    for job in [core.pending[job_id] for job_id in waiting[:SERVED_MAX]]:
        request = core.shares.request(job)
        if pipeline.over_quota(core, job) or is_firm(job):
            continue
        copies = {node: trials[node].copy() for node in nodes}
        slots = seat(pipeline.fit, request, copies)
        if slots is not None:
            shift(core, trials, request, slots, -1)
            found.append(job)
    return found


def decided(core: Core, plan: Plan, job: Job) -> Iterator[AnyEvent]:
    """Yield the holds by which it comes about: for this job, and for each that moves."""
    way, now = plan.way, core.clock
    until = plan.ready_ms + MARGIN_MS * (len(way.moves) + 1)
    if job.id == NOBODY:
        kept = Reservation(
            name=ROOM,
            start_ms=now,
            end_ms=until,
            shape=job.spec.shape,
            slots=way.slots,
            because="jobs move elsewhere to make room there",
        )
        yield ReservationSet(reservation=kept)
        whom = "to make room"
    else:
        whom = f"to make room for job {job.id}"
        ids = ", ".join(str(move.job) for move in way.moves)
        yield Promised(
            job=job.id,
            start_ms=plan.ready_ms,
            slots=way.slots,
            because=f"what is free once other jobs have moved ({ids}) is held for it",
            until_ms=until,
        )
    for move in way.moves:
        names = dict.fromkeys(core.nodes[slot.node].spec.name for slot in move.to)
        yield Promised(
            job=move.job,
            start_ms=now,
            slots=move.to,
            because=f"it moves to {', '.join(names)} {whom}",
            until_ms=until,
            move_for=job.id,
        )


def under_way(core: Core) -> list[Job]:
    """Return the jobs that are to move, or have been stopped for it, by id."""
    return [core.moving[job] for job in sorted(core.moving)]


def _for(job: Job) -> JobId | None:
    return None if job.promise is None else job.promise.move_for


def take_steps(core: Core, config: PolicyConfig) -> Iterator[AnyEvent]:
    """Stop whoever can go where it is to move; give up what cannot come about any more."""
    moving = under_way(core)
    for whom in sorted({_for(job) or NOBODY for job in moving}):
        those = [job for job in moving if _for(job) == whom]
        over = _over(core, whom)
        if over:
            yield from _give_up(core, those, over)
        else:
            yield from _next(core, config, those, whom)
    if ROOM in core.reservations and not any(_for(job) == NOBODY for job in moving):
        yield ReservationDeleted(name=ROOM)


def _over(core: Core, whom: JobId) -> str:
    """Return in words why nobody has to move for somebody any more, "" where they have to."""
    if whom == NOBODY:
        return "" if ROOM in core.reservations else "the room is not kept any more"
    job = core.pending.get(whom)
    if job is None:
        return f"job {whom} does not wait any more"
    return "" if is_held(job) else f"nothing is held for job {whom} any more"


def _give_up(core: Core, those: Sequence[Job], because: str) -> Iterator[AnyEvent]:
    for job in those:
        if job.phase in (Phase.STARTING, Phase.RUNNING):
            because_of = f"it stays where it is: {because}"
            yield Promised(job=job.id, start_ms=core.clock, because=because_of)


def _next(
    core: Core, config: PolicyConfig, those: Sequence[Job], whom: JobId
) -> Iterator[AnyEvent]:
    """Stop those whose new place is free; where all wait for each other, the cheapest."""
    trials: dict[NodeId, Trial] = {}
    here = [job for job in those if job.phase in (Phase.STARTING, Phase.RUNNING)]
    ready: list[Job] = []
    for job in here:
        if _fits_elsewhere(core, trials, job):
            shift(core, trials, core.shapes[job.shape_id], _to(job).slots, -1)
            ready.append(job)
    if not ready and here and len(here) == len(those):  # nobody is on its way
        for job in here:
            shift(core, trials, core.shapes[job.shape_id], job.slots, 1)
        for job in here:
            request = core.shapes[job.shape_id]
            if not has_room(core, trials, request, _to(job).slots):
                gone = f"the place that job {job.id} was to move to is not free any more"
                yield from _give_up(core, here, gone)
                if whom != NOBODY:
                    yield Promised(job=whom, start_ms=core.clock, because=gone)
                return
            shift(core, trials, request, _to(job).slots, -1)
        ready = [min(here, key=lambda job: (lost_work(job, config, core.clock), job.id))]
    for job in ready:
        names = dict.fromkeys(core.nodes[slot.node].spec.name for slot in _to(job).slots)
        whose = f" to make room for job {whom}" if whom else " to make room"
        yield StopDecided(
            job=job.id,
            attempt=job.attempt,
            then=Phase.PENDING,
            because=f"moved to {', '.join(names)}{whose}",
            beneficiary=whom or None,
        )


def _to(job: Job) -> Promise:
    assert job.promise is not None
    return job.promise


def _fits_elsewhere(core: Core, trials: dict[NodeId, Trial], job: Job) -> bool:
    """Whether a job's new place is free, or held by nobody but itself."""
    request = core.shapes[job.shape_id]
    shift(core, trials, request, job.slots, 1)
    fits = has_room(core, trials, request, _to(job).slots)
    shift(core, trials, request, job.slots, -1)
    return fits


class Defrag:
    """The part of a pipeline that moves jobs: what was decided, and by itself where it is worth it.

    Last in a round: whoever can start or take back without has done so.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._failed: dict[JobId, int] = {}  # waiting job -> its token, while nothing changed
        self._stamp: tuple[object, ...] = ()

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield the moves for one blocked job that save more than they cost, if there is one."""
        pipeline = self.pipeline
        if pipeline.config.defrag == "never" or not core.pending or core.moving:
            return
        stamp = (core, core.ledger.changes, core.ledger.layout, core.wakeups)
        if stamp != self._stamp:
            self._stamp = stamp
            self._failed.clear()
        blocked = [job for job in self._blocked(core) if self._failed.get(job.id) != job.token]
        those = movers(core, pipeline.config) if blocked else ()
        for job in blocked:
            self._failed[job.id] = job.token
            way = search(core, pipeline, job, STEPS, those).way
            if way is None or not way.moves:
                continue
            plan = plan_of(core, way)
            savings = saved(core, plan, {job.id: expected_start(core, pipeline, job)})
            if worth(plan, savings):
                yield from decided(core, plan, job)
                yield from take_steps(core, pipeline.config)
                return

    def _blocked(self, core: Core) -> list[Job]:
        """Return the first of each kind of waiting jobs that nothing but room keeps waiting."""
        pipeline = self.pipeline
        pipeline.queue.sync(core)
        heads = [group.first(core) for group in pipeline.queue.groups.values()]
        found: list[Job] = []
        for entry in sorted(entry for entry in heads if entry is not None)[:HEADS]:
            job = core.pending[entry[2]]
            if is_firm(job) or pipeline.over_quota(core, job):
                continue
            if pipeline.fits_up(core, job, closed_nodes(core, job.spec.tenant)):
                found.append(job)
        return found
