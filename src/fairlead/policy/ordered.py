"""Carries out plans that are an order: who comes first in it is first, on the model it names.

So plan AlloX, Sia and Pollux: a job runs on one model until the plan says otherwise, whatever time
it had there. Sia and Pollux say also how many members an elastic job is to have: it grows and
shrinks to that in place, and moves to another model by being preempted, starting again with its
least members and growing at once. Devices are counted first, in the order of the plan; what it
leaves goes to jobs that it left out. One that came since the plan was made waits for the next:
where it starts is not changed lightly. If that does not come for a whole round, the job starts
beside the plan: a plan that is late costs speed, never work. O(jobs) a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from fairlead.core.advice import seen_of
from fairlead.core.engine import Core
from fairlead.core.fits import members_that_fit
from fairlead.core.jobs import Job
from fairlead.core.speeds import model_of
from fairlead.model.advice import Question, Share
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.events import AnyEvent, Grown, Shrunk, StopDecided
from fairlead.model.jobs import LIVE, Phase
from fairlead.model.resources import CPU, GPU, asked_in_all, width_milli
from fairlead.policy.finish import HANDOVER, round_start
from fairlead.policy.preempt import stoppable
from fairlead.policy.question import SIZING, question, stale
from fairlead.policy.reserved import closed_nodes
from fairlead.policy.roomier import may_resize

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

PLANS = ("allox", *SIZING)
Room: TypeAlias = dict[str, int]  # thousandths of GPUs by model, or of cores for ""


class Target(NamedTuple):
    """Where a job is to be in this round, and with how many members."""

    model: str
    members: int


class Ordered:
    """The part of a pipeline that carries out plans in their own order."""

    at_once = False  # it asks when a round begins

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._layout = -1
        self._able: dict[tuple[int, str, frozenset[NodeId]], bool] = {}  # for this layout
        self.awaited = False  # whether a plan will be there soon, says the world; not heeded

    def due(self, core: Core) -> bool:
        """Whether to ask for a plan now: a round begins, and things have changed since the last."""
        begins = core.clock == round_start(core.clock, core.policy.lease_ms)
        if not core.jobs or not begins or not stale(core):
            return False
        return core.advice.at_ms < core.clock or core.advice.seen != seen_of(core)

    def question(self, core: Core, now: Ms | None = None) -> Question:
        """Return what to ask, by default as of the turn."""
        return question(core, now)

    def wake_at(self, core: Core) -> Ms | None:
        """Return when the next round begins in which somebody's place may be another one."""
        if not core.jobs:
            return None
        live = (job for job in core.jobs.values() if job.phase in LIVE)
        if not (core.pending or stale(core) or any(_astray(core, job) for job in live)):
            return None
        lease = self.pipeline.config.lease_ms
        return round_start(core.clock, lease) + lease

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield stops, changes of size, and placements."""
        config = self.pipeline.config
        begun = round_start(core.clock, config.lease_ms)
        beginning = core.clock - begun <= config.lease_ms // HANDOVER
        live = [job for job in core.jobs.values() if job.phase in LIVE]
        movable = {
            job.id
            for job in (stoppable(core, config) if beginning else [])
            if (job.placed_ms or 0) < begun  # by our clock, not a node's
        }
        room = _free(core)
        targets = self._targets(core, live, movable, room)
        yield from self._stops(core, live, targets)
        yield from self._shrinks(live, targets)
        waiting = [
            (core.pending[job_id], target.model)
            for job_id, target in targets.items()
            if job_id in core.pending
        ]
        waiting.sort(key=lambda each: -width_milli(each[0].spec.shape))
        yield from self.pipeline.start_on(core, waiting, f"{config.plan} plan")
        yield from self._grows(core, live, targets)
        if not any(job.phase is Phase.STOPPING or job.leaving for job in live):
            yield from self.pipeline.start_on(
                core, self._left_out(core, begun, room), "beside the plan"
            )

    # ---- who is to be where ---------------------------------------------------------------------

    def _targets(
        self, core: Core, live: list[Job], movable: set[JobId], room: Room
    ) -> dict[JobId, Target]:
        """Return the aims of this round, counting devices in `room`: it keeps what is left.

        What cannot be stopped now is counted first, at its least.
        """
        floors: dict[JobId, int] = {}
        for job in live:
            model, held = model_of(core, job.slots), each_milli(job) * len(job.slots)
            room[model] = room.get(model, 0) + held
            if job.phase is not Phase.STOPPING and job.id not in movable:
                least = job.spec.shape.members if may_resize(job) else len(job.slots)
                floors[job.id] = each_milli(job) * least
                room[model] -= floors[job.id]
        targets: dict[JobId, Target] = {}
        for job_id, share in core.advice.of.items():
            job = core.jobs[job_id]
            if job.phase is Phase.STOPPING:
                continue
            aim, floor = _aim(core, job, share, job_id in movable), floors.get(job_id, 0)
            members = _fitting(job, aim, floor, room)
            if members and (job_id not in core.pending or not self.pipeline.over_quota(core, job)):
                room[aim.model] += floor - members * each_milli(job)
                targets[job_id] = Target(aim.model, members)
        for job in live:
            if job.id in targets or job.phase is Phase.STOPPING:
                continue
            here, floor = Target(model_of(core, job.slots), _size(job)), floors.get(job.id, 0)
            members = _fitting(job, here, floor, room)
            if members:
                room[here.model] += floor - members * each_milli(job)
                targets[job.id] = Target(here.model, members)
        return targets

    def _left_out(self, core: Core, begun: Ms, room: Room) -> list[tuple[Job, str]]:
        """Return jobs that may start beside the plan, on models that have room for them."""
        made, late = core.advice.at_ms, begun - self.pipeline.config.lease_ms
        known = made if made > late else begun
        jobs = [
            job
            for job in core.pending.values()
            if (job.id not in core.advice.of and job.submitted_ms <= known)
            or (job.id in core.advice.of and not self._planned_well(core, job))
        ]
        queue = self.pipeline.queue
        queue.sync(core)
        found: list[tuple[Job, str]] = []
        for job in sorted(jobs, key=queue.entry):
            width = width_milli(job.spec.shape)
            able = [model for model in room if self._possible(core, job, model)]
            if not able:
                found.append((job, ""))  # on several models, or on cores beside GPUs
            for model in sorted(able, key=lambda each: (-room[each], each)):
                if width <= room[model]:
                    room[model] -= width
                    found.append((job, model))
                    break
        return found

    def _planned_well(self, core: Core, job: Job) -> bool:
        """Whether a job could run where the plan wants it: an adviser does not see all."""
        return self._possible(core, job, _wanted(job, core.advice.of[job.id]).model)

    def _possible(self, core: Core, job: Job, model: str) -> bool:
        """Whether the nodes of a model alone could ever take a job."""
        if bool(asked_in_all(job.spec.shape)[GPU]) != bool(model) or job.spec.shape.kinds:
            return False
        takes = core.shapes[job.shape_id].shape.gpu_models
        if takes and model not in takes:
            return False
        if self._layout != core.ledger.layout:
            self._layout = core.ledger.layout
            self._able.clear()
        without = closed_nodes(core, job.spec.tenant)
        if not model:
            without |= {index for index, node in enumerate(core.nodes) if node.spec.devices}
        known = self._able.get((job.shape_id, model, without))
        if known is None:
            request = self.pipeline.on_model(core, job, model)
            fitting = members_that_fit(
                core.ledger, request, empty=True, up_only=True, without=without
            )
            known = self._able[job.shape_id, model, without] = fitting >= request.members
        return known

    # ---- how they come there --------------------------------------------------------------------

    def _stops(
        self, core: Core, live: list[Job], targets: dict[JobId, Target]
    ) -> Iterator[AnyEvent]:
        for job in live:
            target = targets.get(job.id)
            if job.phase is Phase.STOPPING:
                continue
            if target is not None and target.model == model_of(core, job.slots):
                continue
            why = "others come first" if target is None else f"it goes to {target.model}"
            because = f"{self.pipeline.config.plan} plan: {why}"
            yield StopDecided(job=job.id, attempt=job.attempt, then=Phase.PENDING, because=because)

    def _shrinks(self, live: list[Job], targets: dict[JobId, Target]) -> Iterator[AnyEvent]:
        for job in live:
            target = targets.get(job.id)
            if target is None or not may_resize(job) or target.members >= _size(job):
                continue
            members = target.members
            because = f"{self.pipeline.config.plan} plan: {members} members"
            yield Shrunk(job=job.id, attempt=job.attempt, members=members, because=because)

    def _grows(
        self, core: Core, live: list[Job], targets: dict[JobId, Target]
    ) -> Iterator[AnyEvent]:
        """Yield who grows, as far as there is room now: the rest comes when others have left."""
        resize = self.pipeline.resize
        for job in live:
            target = targets.get(job.id)
            if target is None or not may_resize(job) or resize.recovers(core, job):
                continue
            because = f"{self.pipeline.config.plan} plan: {target.members} members"
            while _size(job) < target.members and resize.block(core, job) is None:
                slot = resize.slot(core, job, None, target.model)
                if slot is None:
                    break
                yield Grown(job=job.id, attempt=job.attempt, slots=(slot,), because=because)


def each_milli(job: Job) -> int:
    """Return how wide a member of a job is, in thousandths of a GPU, or of a core."""
    shape = job.spec.shape
    return width_milli(shape) // shape.members


def _size(job: Job) -> int:
    """Return the members that stay."""
    return len(job.slots) if job.team is None else job.team.size


def _free(core: Core) -> Room:
    """Return what is free on nodes that are up."""
    found: Room = {}
    for index, node in enumerate(core.nodes):
        if not node.up:
            continue
        devices = core.ledger.devices[index]
        if not devices.size:
            found[""] = found.get("", 0) + max(int(core.ledger.room[CPU, index]), 0)
        for device, free in zip(node.spec.devices, devices.milli, strict=True):
            found[device.model] = found.get(device.model, 0) + max(int(free), 0)
    return found


def _wanted(job: Job, share: Share) -> Target:
    """Return where the plan wants a job."""
    least = job.spec.shape.members
    members = min(max(share.members, least), max(job.spec.members_max, least))
    return Target(max(share.on, key=lambda each: each[1], default=("", 0))[0], members)


def _aim(core: Core, job: Job, share: Share, movable: bool) -> Target:
    """Return where the plan wants a job, as far as it can be had now."""
    wanted = _wanted(job, share)
    if job.phase is Phase.PENDING:
        return wanted
    here = Target(model_of(core, job.slots), _size(job))
    if job.spec.shape.kinds:
        return here  # different workers may be on several models
    if here.model == wanted.model:
        return wanted if share.members and may_resize(job) else here
    return wanted if movable else here


def _astray(core: Core, job: Job) -> bool:
    """Whether a running job is not yet where the plan wants it."""
    share = core.advice.of.get(job.id)
    if share is None:
        return True
    if job.spec.shape.kinds:
        return False
    wanted = _wanted(job, share)
    if model_of(core, job.slots) != wanted.model:
        return True
    return bool(share.members) and may_resize(job) and _size(job) != wanted.members


def _fitting(job: Job, aim: Target, floor: int, room: Room) -> int:
    """Return how many of the members that it is to have fit; 0: not even its least."""
    each, least = each_milli(job), job.spec.shape.members
    fits = (room.setdefault(aim.model, 0) + floor) // each if each else aim.members
    members = min(aim.members, fits)
    if members < least:
        return least if floor else 0
    return members
