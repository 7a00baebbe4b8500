"""Carries out a plan in rounds: places change hands when one begins (algorithms.md 5.1, to rounds).

A plan says for which part of its time a job is to run on which device model. In each round whoever
has had the least of what it was promised on a model is first there: its rank is what it received
over its share. A job runs on one model in a round, whole gangs only. Who keeps its model keeps its
devices: the lease goes on, which costs no restart. What is left goes to those that have waited
longest for their share, then to jobs that no plan knows of, in the policy's order: a plan that is
late or wrong costs speed, never work. Every placement is checked against the ledger as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import Request
from fairlead.core.speeds import model_of
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent, Placed, StopDecided
from fairlead.model.jobs import Phase
from fairlead.model.resources import CPU, width_milli
from fairlead.policy.finish import HANDOVER, round_start
from fairlead.policy.preempt import stoppable
from fairlead.policy.question import stale

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

FINE = 1 << 20  # ranks are whole numbers of so many parts


class Claim(NamedTuple):
    """A job may run on a model: the least rank is first."""

    rank: tuple[int, ...]
    job: Job
    model: str


class Rounds:
    """The part of a pipeline that carries out plans."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._narrow: dict[tuple[Request, str], Request] = {}

    def due(self, core: Core) -> bool:
        """Whether to ask for a plan now: a round begins, and things have changed since the last."""
        lease = core.policy.lease_ms
        return bool(core.jobs) and core.clock == round_start(core.clock, lease) and stale(core)

    def wake_at(self, core: Core) -> Ms | None:
        """Return when the next round begins in which somebody's place may be another one."""
        if not core.jobs:
            return None
        lease = self.pipeline.config.lease_ms
        return round_start(core.clock, lease) + lease

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield stops and placements."""
        config, pipeline = self.pipeline.config, self.pipeline
        begun = round_start(core.clock, config.lease_ms)
        beginning = core.clock - begun <= config.lease_ms // HANDOVER
        movable = stoppable(core, config) if beginning else []
        movable = [job for job in movable if job.started_ms is None or job.started_ms < begun]
        claims = self._claims(core, movable)
        granted = self._granted(core, claims, movable) if movable else {}
        for job in movable:
            model = granted.get(job.id)
            if model != model_of(core, job.slots):
                why = "others come first in this round" if model is None else f"it goes to {model}"
                because = f"{config.plan} plan: its lease is over, {why}"
                yield StopDecided(
                    job=job.id, attempt=job.attempt, then=Phase.PENDING, because=because
                )
        first = [claim for claim in claims if granted.get(claim.job.id) == claim.model]
        first.sort(key=lambda claim: -width_milli(claim.job.spec.shape))
        yield from self._place(core, first)
        if any(job.phase is Phase.STOPPING for job in movable):
            return  # what they leave is for those that it was granted to
        yield from self._place(core, claims)
        queue = pipeline.queue
        queue.sync(core)
        yield from self._place(core, self._others(core))

    def _claims(self, core: Core, movable: list[Job]) -> list[Claim]:
        """Return what the plan promises to jobs that wait or may be moved, first come first."""
        advice, found = core.advice, list[Claim]()
        running = {job.id for job in movable}
        for job_id, share in advice.of.items():
            job = core.pending.get(job_id)
            if job is None:
                if job_id not in running:
                    continue
                job = core.jobs[job_id]
            here = model_of(core, job.slots) if job_id in running else None
            for model, part in share.on:
                if part <= 0:
                    continue
                received = advice.received_ms(core, job, model)
                owed = advice.owed.get((job_id, model), 0)
                rank = (received * FINE // part, -owed, model != here, -part, job_id)
                found.append(Claim(rank, job, model))
        found.sort()
        return found

    def _granted(self, core: Core, claims: list[Claim], movable: list[Job]) -> dict[JobId, str]:
        """Return who is to run on which model in the round that begins, counting devices."""
        room = self._room(core)
        for job in movable:
            model = model_of(core, job.slots)
            room[model] = room.get(model, 0) + width_milli(job.spec.shape)
        granted: dict[JobId, str] = {}
        for _, job, model in claims:
            width = width_milli(job.spec.shape)
            if job.id not in granted and width <= room.get(model, 0):
                room[model] -= width
                granted[job.id] = model
        for (
            job
        ) in movable:  # those that no plan knows of, or that are elsewhere, as long as it goes
            model, width = model_of(core, job.slots), width_milli(job.spec.shape)
            if job.id not in granted and width <= room.get(model, 0):
                room[model] -= width
                granted[job.id] = model
        return granted

    def _room(self, core: Core) -> dict[str, int]:
        """Return what is free or becomes so, by model: thousandths of GPUs, or of cores for ""."""
        found: dict[str, int] = {}
        for index, node in enumerate(core.nodes):
            if not node.up:
                continue
            devices = core.ledger.devices[index]
            if devices.size:
                for device, free in zip(node.spec.devices, devices.milli, strict=True):
                    found[device.model] = found.get(device.model, 0) + max(int(free), 0)
            else:
                free = int(core.ledger.room[CPU, index])
                found[""] = found.get("", 0) + max(free, 0)
        for job in core.jobs.values():
            if job.phase is Phase.STOPPING:
                model = model_of(core, job.slots)
                found[model] = found.get(model, 0) + width_milli(job.spec.shape)
        return found

    def _others(self, core: Core) -> list[Claim]:
        """Return the waiting jobs in the policy's order, on any model."""
        entry = self.pipeline.queue.entry
        jobs = sorted((entry(job), job) for job in core.pending.values())
        return [Claim((at,), job, "") for at, (_, job) in enumerate(jobs)]

    def _place(self, core: Core, claims: list[Claim]) -> Iterator[AnyEvent]:
        """Yield the start of every job that fits, in this order; what does not is passed over."""
        pipeline = self.pipeline
        full: set[tuple[int, str]] = set()
        for _, job, model in claims:
            if job.phase is not Phase.PENDING or (job.shape_id, model) in full:
                continue
            if pipeline.over_quota(core, job):
                continue
            request = self._request(core, job, model)
            if core.reservations or core.promises:
                slots = pipeline.beside_claims(core, job, request)
            else:
                slots = pipeline.fit.gang(request)
                if slots is None:
                    full.add((job.shape_id, model))
            if slots is not None:
                what = f"{core.advice.event.adviser} plan" if model else "beside the plan"
                because = f"{what}, {pipeline.because}"
                yield Placed(job=job.id, attempt=job.attempt + 1, slots=slots, because=because)

    def _request(self, core: Core, job: Job, model: str) -> Request:
        """Return what a job asks for, on one model alone where there is one."""
        request = core.shares.request(job)
        if not model or request.shape.gpu_models == (model,):
            return request
        narrow = self._narrow.get((request, model))
        if narrow is None:
            shape = replace(request.shape, gpu_models=(model,))
            narrow = self._narrow[request, model] = Request(shape)
        return narrow
