"""Firm promises: starts that were promised to waiting jobs with deadlines, kept by every policy.

So are holds: room that others leave for a job. It is the job's from now on, by its id, however
the jobs that leave it end one after the other; a job with a hold starts as soon as it can.

Nothing else may start that could still be there by then, by its time limit, not by what is
believed of it. PAD_MS lies before every such start: whoever is stopped at its limit may take its
grace to go. At its time a promised job starts before all others.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.admission import counted
from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.future import request_of
from fairlead.core.jobs import Job, Promise, in_time
from fairlead.core.reserve import limit_of
from fairlead.model import limits
from fairlead.model.base import Ms, NodeId
from fairlead.model.jobs import Phase, Tenant
from fairlead.policy.place.trial import Trial

PAD_MS: Ms = limits.GRACE_MS_DEFAULT + 5_000


def is_firm(job: Job) -> bool:
    """Whether the job was promised a start in time for its deadline, or room is held for it."""
    return job.promise is not None and firm(job, job.promise)


def firm(job: Job, promise: Promise) -> bool:
    """Whether nobody may be in the way of a promise, not even on the strength of beliefs."""
    return promise.until_ms is not None or in_time(job.spec, promise)


def is_held(job: Job) -> bool:
    """Whether others leave room for the waiting job."""
    return job.promise is not None and job.promise.until_ms is not None


def firm_jobs(core: Core) -> list[Job]:
    """Return the waiting jobs with firm promises, the first to start first."""
    found = [(job.promise.start_ms, job.id, job) for job in core.promises.values() if job.promise]
    return [job for _, _, job in sorted(found, key=lambda item: item[:2]) if is_firm(job)]


def due(core: Core) -> list[Job]:
    """Return those whose time has come, and those for whom room is held."""
    if not core.promises:
        return []
    return [
        job
        for job in firm_jobs(core)
        if job.phase is Phase.PENDING
        and job.promise
        and (job.promise.start_ms <= core.clock or job.promise.until_ms is not None)
    ]


def window(job: Job, promise: Promise) -> tuple[Ms, Ms]:
    """Return from when until when what a job was promised is not for others."""
    if promise.until_ms is not None:
        # From now on, and as long as it would run if it started at the last moment.
        return 0, min(promise.until_ms + promise.run_ms, FAR)
    pad = PAD_MS if in_time(job.spec, promise) else 0
    return promise.start_ms - pad, promise.end_ms


def less_promised(core: Core, trial: Trial, node: NodeId, job: Job) -> None:
    """Take from what is free on a node what is promised there before a job would be gone.

    For policies without plans: all promises count together, though they may follow each other.
    """
    until = core.clock + limit_of(job)
    free, milli, memory = list(trial.free), list(trial.devices.milli), list(trial.devices.memory)
    for other in firm_jobs(core):
        if other is job or other.promise is None or window(other, other.promise)[0] >= until:
            continue
        for its, slots in request_of(core, other).split(other.promise.slots):
            for slot in slots:
                if slot.node == node:
                    trial.move(its, slot.devices, -1)
    # What runs there now and is gone by then is no lack; it is nothing for the job either.
    trial.free = _no_new_lack(free, trial.free)
    devices = trial.devices
    if devices.size:
        devices.milli = _no_new_lack(milli, devices.milli)
        devices.memory = _no_new_lack(memory, devices.memory)


def _no_new_lack(before: Sequence[int], after: Sequence[int]) -> list[int]:
    return [min(old, 0) if new < 0 else new for old, new in zip(before, after, strict=True)]


def kept_of_quota(core: Core, tenant: Tenant, job: Job) -> list[int]:
    """Return what of a tenant's quota its promised jobs will need, apart from the job itself."""
    kept = [0] * len(tenant.quota)
    for other in core.promises.values():
        waits = other is not job and other.phase is Phase.PENDING and is_firm(other)
        if waits and other.spec.tenant == tenant.name:
            asked = counted(core, tenant, other.spec.shape)
            kept = [k + a for k, a in zip(kept, asked, strict=True)]
    return kept
