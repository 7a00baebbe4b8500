"""Carries out plans that are an order: who comes first in it is first, on the model it names.

So plan AlloX, Sia and Pollux: a job runs on one model until the plan says otherwise, whatever time
it had there. Sia and Pollux say also how many members an elastic job is to have: it grows and
shrinks to that in place, and moves to another model by being preempted, starting again with its
least members and growing at once. Devices are counted first, in the order of the plan; what it
leaves goes to jobs that it left out. One that came since the plan was made waits for the next:
where it starts is not changed lightly. If that does not come for a whole round, the job starts
beside the plan: a plan that is late costs speed, never work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.speeds import model_of
from fairlead.model.advice import Share
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent, Grown, Shrunk, StopDecided
from fairlead.model.jobs import LIVE, Phase
from fairlead.policy.finish import HANDOVER, round_start
from fairlead.policy.preempt import stoppable
from fairlead.policy.roomier import may_resize
from fairlead.policy.rounds import Claim, Rounds, each_milli, held_milli

PLANS = ("allox", "sia", "pollux")
SIZING = ("sia", "pollux")  # say how many members elastic jobs are to have


class Target(NamedTuple):
    """Where a job is to be in this round, and with how many members."""

    model: str
    members: int


class Ordered(Rounds):
    """The part of a pipeline that carries out plans in their own order."""

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield stops, changes of size, and placements."""
        config = self.pipeline.config
        begun = round_start(core.clock, config.lease_ms)
        beginning = core.clock - begun <= config.lease_ms // HANDOVER
        live = [job for job in core.jobs.values() if job.phase in LIVE]
        movable = {
            job.id
            for job in (stoppable(core, config) if beginning else [])
            if job.started_ms is None or job.started_ms < begun
        }
        room = self._room(core)
        targets = self._targets(core, live, movable, room)
        yield from self._stops(core, live, targets)
        yield from self._shrinks(core, live, targets)
        waiting = [
            Claim((at,), core.pending[job_id], target.model)
            for at, (job_id, target) in enumerate(targets.items())
            if job_id in core.pending
        ]
        waiting.sort(key=lambda claim: -held_milli(claim.job, claim.job.spec.shape.members))
        yield from self._place(core, waiting)
        yield from self._grows(core, live, targets)
        if not any(job.phase is Phase.STOPPING or job.leaving for job in live):
            yield from self._place(core, self._left_out(core, begun, room))

    # ---- who is to be where ---------------------------------------------------------------------

    def _targets(
        self, core: Core, live: list[Job], movable: set[JobId], room: dict[str, int]
    ) -> dict[JobId, Target]:
        """Return the aims of this round, counting devices in `room`: it keeps what is left.

        What cannot be stopped now is counted first, at its least.
        """
        floors: dict[JobId, int] = {}
        for job in live:
            model = model_of(core, job.slots)
            floors[job.id] = 0
            if job.phase is not Phase.STOPPING:
                room[model] = room.get(model, 0) + held_milli(job)
                if job.id not in movable:
                    least = job.spec.shape.members if may_resize(job) else len(job.slots)
                    floors[job.id] = held_milli(job, least)
                    room[model] -= floors[job.id]
        targets: dict[JobId, Target] = {}
        for job_id, share in core.advice.of.items():
            job = core.jobs[job_id]
            if job.phase is Phase.STOPPING or (job_id in core.pending and self._barred(core, job)):
                continue
            target = self._aim(core, job, share, job_id in movable)
            _count(job, target, floors.get(job_id, 0), room, targets)
        for job in live:
            if job.id not in targets and job.phase is not Phase.STOPPING:
                here = Target(model_of(core, job.slots), _size(job))
                _count(job, here, floors[job.id], room, targets)
        return targets

    def _aim(self, core: Core, job: Job, share: Share, movable: bool) -> Target:
        """Return where the plan wants a job, as far as it can be had now."""
        shape, spec = job.spec.shape, job.spec
        model = max(share.on, key=lambda each: each[1])[0] if share.on else ""
        members = min(max(share.members, shape.members), max(spec.members_max, shape.members))
        if job.phase is Phase.PENDING:
            return Target(model, members)
        here = model_of(core, job.slots)
        if not movable and here != model:
            return Target(here, _size(job))
        if here == model and (not share.members or not may_resize(job)):
            return Target(here, _size(job))
        return Target(model, members)

    def _barred(self, core: Core, job: Job) -> bool:
        """Whether a waiting job cannot start now, whatever is free."""
        return self.pipeline.over_quota(core, job)

    def _left_out(self, core: Core, begun: Ms, room: dict[str, int]) -> list[Claim]:
        """Return jobs that may start beside the plan, on models that have room for them."""
        made, late = core.advice.at_ms, begun - self.pipeline.config.lease_ms
        known = made if made >= late else begun
        found = list[Claim]()
        for _, job, _ in self._others(core):
            if job.id in core.advice.of or job.submitted_ms > known:
                continue
            width = held_milli(job, job.spec.shape.members)
            request = core.shares.request(job)
            allowed = request.shape.gpu_models
            wants = bool(request.shape.gpus or request.shape.gpu_milli)
            for model in sorted(room, key=lambda each: (-room[each], each)):
                if wants != bool(model) or (allowed and model not in allowed):
                    continue
                if width <= room[model]:
                    room[model] -= width
                    found.append(Claim((len(found),), job, model))
                    break
        return found

    # ---- how they come there --------------------------------------------------------------------

    def _stops(
        self, core: Core, live: list[Job], targets: dict[JobId, Target]
    ) -> Iterator[AnyEvent]:
        for job in live:
            if job.phase is Phase.STOPPING:
                continue
            target = targets.get(job.id)
            if target is not None and target.model == model_of(core, job.slots):
                continue
            why = "others come first" if target is None else f"it goes to {target.model}"
            because = f"{self.pipeline.config.plan} plan: {why}"
            yield StopDecided(job=job.id, attempt=job.attempt, then=Phase.PENDING, because=because)

    def _shrinks(
        self, core: Core, live: list[Job], targets: dict[JobId, Target]
    ) -> Iterator[AnyEvent]:
        for job in live:
            target = targets.get(job.id)
            if target is None or not may_resize(job) or target.members >= _size(job):
                continue
            because = f"{self.pipeline.config.plan} plan: {target.members} members"
            yield Shrunk(job=job.id, attempt=job.attempt, members=target.members, because=because)

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


def _size(job: Job) -> int:
    """Return the members that stay."""
    return len(job.slots) if job.team is None else job.team.size


def _count(
    job: Job, aim: Target, floor: int, room: dict[str, int], targets: dict[JobId, Target]
) -> None:
    """Give a job what it is to have, as far as there is room for it; not less than its least."""
    each = each_milli(job)
    fits = (room.get(aim.model, 0) + floor) // each if each else aim.members
    members = min(aim.members, fits)
    if members < job.spec.shape.members and not floor:
        return
    members = max(members, job.spec.shape.members)
    room[aim.model] = room.get(aim.model, 0) + floor - members * each
    targets[job.id] = Target(aim.model, members)
