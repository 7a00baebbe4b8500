"""Who is to run where in the round that begins: first by counting, then by trying it on a copy.

By counting, each in the order of its claim; whole gangs only, and a job is on one device model.
Then on a copy of the ledger from which all that may be moved is thought away: who keeps its model
keeps its devices (the lease goes on, which costs no restart), the widest find their places first.
If somebody finds none that way, nodes are filled anew: those who stay may have to move for a gang.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core import models
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import Ledger, Request
from fairlead.core.speeds import mixed, model_of
from fairlead.model.base import JobId
from fairlead.model.jobs import Phase
from fairlead.model.resources import CPU, GPU, WHOLE_GPU_MILLI, Slot, asked_in_all, width_milli
from fairlead.policy.given import Given
from fairlead.policy.lines import Claim, Lines, Room, rank_of
from fairlead.policy.place.fit import Fit
from fairlead.policy.question import fastest_first

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

NOWHERE = "\0"  # the model of no device
TRIES = 4  # of which each puts those first that found no place before


class Grants:
    """What one round gives to whom."""

    def __init__(
        self,
        core: Core,
        pipeline: Pipeline,
        lines: Lines,
        movable: Sequence[Job],
        beginning: bool,
    ) -> None:
        """`beginning`: what those leave that are on their way out is given away too."""
        self.core, self.pipeline, self.lines = core, pipeline, lines
        self.movable = {job.id: job for job in movable}
        stopping = (job for job in live(core) if job.phase is Phase.STOPPING)
        self.going = list(stopping) if beginning else []
        self.here = {job.id: _place_of(core, job) for job in movable}
        self.room = self._room()
        self.models: dict[JobId, str] = {}
        self.places: dict[JobId, tuple[Slot, ...]] = {}
        self.given = Given(core)
        for job in movable:
            if core.shares.limited or core.quota_tenants:
                self.given.move(job, job.slots, -1, -1)

    def decide(self) -> None:
        """Fill `models` and `places`."""
        self.lines.sync(self.core)
        if self.core.policy.by_model:
            for model in fastest_first(self.core, list(self.room)):
                self._give(self._on_model(model))
        else:
            claims = [claim for job in self.movable.values() for claim in self._claims(job)]
            self._give(self.lines.in_order(self.core, claims, self.room))
        # Those that no plan knows of, or that are where it wants none of them, as long as it goes.
        stay = (self._stays(job) for job in self.movable.values())
        self._give(claim for claim in stay if claim is not None)
        changes = any(self.here.get(job) != model for job, model in self.models.items())
        claimed = self.core.reservations or self.core.promises
        if changes and not claimed and not self.pipeline.interchangeable(self.core):
            self._try_out()

    def _on_model(self, model: str) -> Iterator[Claim]:
        """Yield the claims on a model, then whoever else can run there."""
        core, room = self.core, self.room
        claims = [
            claim
            for job in self.movable.values()
            for claim in self._claims(job)
            if claim.model == model
        ]
        only = {model: room[model]}
        for claim in self.lines.in_order(core, claims, only):
            yield claim
            only[model] = room[model]
        others = sorted((*self.movable, *core.pending)) if room[model] > 0 else ()
        for job_id in others:
            if room[model] <= 0:
                return
            job = core.jobs[job_id]
            if job_id not in self.models and core.speeds.of(job.spec, model) != 0:
                yield Claim(0, self.here.get(job_id) != model, 0, job_id, model)

    def _claims(self, job: Job) -> Iterator[Claim]:
        share = self.core.advice.of.get(job.id)
        for model, part in () if share is None else share.on:
            if part > 0:
                rank = rank_of(self.core, job, model, part)
                yield Claim(rank, self.here[job.id] != model, -part, job.id, model)

    def _stays(self, job: Job) -> Claim | None:
        model = self.here[job.id]
        return None if model is None else Claim(0, False, 0, job.id, model)

    def _give(self, claims: Iterable[Claim]) -> None:
        core, room, limited = self.core, self.room, bool(self.given.usage) or core_limits(self.core)
        for claim in claims:
            job = core.jobs[claim.job_id]
            width = width_milli(job.spec.shape)
            if claim.job_id in self.models or width > room.get(claim.model, 0):
                continue
            if claim.moves and not self._takes(job, claim.model):
                continue
            if limited or job.spec.counted:
                if self.pipeline.block(core, job, self.given) is not None:
                    continue
                self.given.move(job, _somewhere(core, job, claim.model), 1, 1)
            room[claim.model] -= width
            self.models[claim.job_id] = claim.model

    def _takes(self, job: Job, model: str) -> bool:
        """Whether a job may be on a model now, by what it asks for, its speed, and quotas."""
        request = self.core.shares.request(job)
        return not model or not request.models or model in request.models

    def _room(self) -> Room:
        """Return what is free or becomes so, by model: thousandths of GPUs, or of cores for ""."""
        core = self.core
        found: Room = {}
        for model, nodes in self.pipeline.nodes_of(core).items():
            row = GPU if model else CPU
            found[model] = int(core.ledger.room[row, nodes].clip(min=0).sum())
        for job in (*self.movable.values(), *self.going):
            for request, slots in core.shapes[job.shape_id].split(job.slots):
                for slot in slots:
                    spec = core.nodes[slot.node].spec.devices
                    for at, device in enumerate(slot.devices):
                        model = spec[device].model
                        found[model] = found.get(model, 0) + request.milli_of(at)
                    if not slot.devices and not spec:
                        found[""] = found.get("", 0) + request.host[CPU]
        return found

    # ---- places -------------------------------------------------------------------------------

    def _try_out(self) -> None:
        order = self.widest_first()
        places, without = self._fill(order, keep=True)
        for _ in range(TRIES):
            if not without:
                break
            # Whoever found no place comes first, and nobody keeps what is in its way.
            rest = set(without)
            order = [*without, *(job for job in order if job not in rest)]
            places, without = self._fill(order, keep=False)
        for job_id in without:
            del self.models[job_id]
        self.places = places

    def widest_first(self) -> list[JobId]:
        """Return who was given something, the widest members first, then the most."""

        def width(job_id: JobId) -> tuple[int, ...]:
            shape = self.core.jobs[job_id].spec.shape
            each = max(kind.gpus * WHOLE_GPU_MILLI + kind.gpu_milli for kind in shape.parts())
            cores = max(kind.cpu_milli for kind in shape.parts())
            return (-each, -cores, -shape.members, job_id)

        return sorted(self.models, key=width)

    def _fill(
        self, order: Sequence[JobId], keep: bool
    ) -> tuple[dict[JobId, tuple[Slot, ...]], list[JobId]]:
        """Return places in this order, and who found none. `keep`: first who stays."""
        core, ledger = self.core, self.core.ledger.copy()
        for job in (*self.movable.values(), *self.going):
            for its, slots in core.shapes[job.shape_id].split(job.slots):
                for slot in slots:
                    ledger.give(slot.node, its, slot.devices)
        fit = Fit(ledger, self.pipeline.scorer, gpus_last=self.pipeline.fit.gpus_last)
        places: dict[JobId, tuple[Slot, ...]] = {}
        staying = [job_id for job_id in order if self.here.get(job_id) == self.models[job_id]]
        moving = list(order)
        if keep:
            kept = set(staying)
            moving = [job_id for job_id in order if job_id not in kept]
            for job_id in staying:
                places[job_id] = self._hold(ledger, core.jobs[job_id], core.jobs[job_id].slots)
        stays, without = set(staying), list[JobId]()
        for job_id in moving:
            job = core.jobs[job_id]
            request = self.pipeline.on_model(core, job, self.models[job_id])
            if job_id in stays and all(
                ledger.has_room(slot.node, its, slot.devices)
                for its, those in core.shapes[job.shape_id].split(job.slots)
                for slot in those
            ):
                places[job_id] = self._hold(ledger, job, job.slots)
                continue
            found = fit.gang(request)
            if found is None:
                without.append(job_id)
            else:
                places[job_id] = self._hold(ledger, job, found)
        return places, without

    def _hold(self, ledger: Ledger, job: Job, slots: tuple[Slot, ...]) -> tuple[Slot, ...]:
        for its, those in self.core.shapes[job.shape_id].split(slots):
            for slot in those:
                ledger.take(slot.node, its, slot.devices)
        return slots


def live(core: Core) -> Iterator[Job]:
    """Return the jobs that hold something."""
    jobs = core.jobs
    return (jobs[job_id] for _, job_id in core.ends.sorted)


def core_limits(core: Core) -> bool:
    """Whether anything but room may keep jobs from starting."""
    return core.shares.limited or bool(core.quota_tenants)


def _place_of(core: Core, job: Job) -> str | None:
    """Return the one model on which a job runs; None: it runs on several, which is none."""
    return None if mixed(core, job.slots) else model_of(core, job.slots)


def _somewhere(core: Core, job: Job, model: str) -> tuple[Slot, ...]:
    """Return slots that count against quotas as those will that the job gets on a model."""
    request = core.shapes[job.shape_id]
    node, device = 0, 0
    if asked_in_all(request.shape)[GPU]:
        there = (
            (index, at)
            for index, each in enumerate(core.nodes)
            for at, its in enumerate(each.spec.devices)
            if its.model == model
        )
        found = next(there, None)
        if found is None:
            return ()
        node, device = found
    picks = (request.of(rank).picks for rank in range(request.members))
    return tuple([Slot(node=node, devices=(device,) * each) for each in picks])


def narrowed(request: Request, model: str) -> Request:
    """Return a request for one device model alone; if it does not take it, one that fits nowhere.

    What takes one model only, or none, is as it was: a plan that says otherwise is wrong. Different
    workers may be bound to others.
    """
    shape = models.narrowed(request.shape, (model,))
    if shape is None and request.parts:
        return request
    return Request(shape or replace(request.shape, gpu_models=(NOWHERE,)))
