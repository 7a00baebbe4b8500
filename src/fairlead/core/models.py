"""Which GPU types are open to a job now: by quotas and limits of each type, and by its speeds.

A job never runs on a type on which its speed was told to be zero.

What such a job will hold of each type is not known before its devices are chosen, so it is placed
only on types of which its queue and its user have room for all of it. A gang of mixed types is
therefore never started on the strength of room that two types have together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core.jobs import Job
from fairlead.core.ledger import Request
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape

if TYPE_CHECKING:
    from fairlead.core.engine import Core
    from fairlead.core.shares import Shares


def accepted(shares: Shares, job: Job) -> list[str]:
    """Return the GPU types that there are and that a job takes."""
    asked = job.spec.shape.gpu_models
    there = {device.model for node in shares.core.nodes for device in node.spec.devices}
    return sorted(there if not asked else there & set(asked))


def closed(shares: Shares, job: Job, shape: Shape) -> frozenset[str]:
    """Return the types on which a shape of the job may not be now: it gets nowhere there, or its
    queue or user has no room."""
    never = shares.core.speeds.closed(job.spec)
    milli = (WHOLE_GPU_MILLI * shape.gpus + shape.gpu_milli) * shape.members
    if not shares.models or not milli or len(shape.gpu_models) == 1:
        return never
    return never | frozenset(
        model
        for model, row in shares.models.items()
        if (not shape.gpu_models or model in shape.gpu_models) and _short(shares, job, row, milli)
    )


def _short(shares: Shares, job: Job, row: int, amount: int) -> bool:
    """Whether a user or a queue has no room for so much of one resource."""
    user, account = shares.user(job.spec.user), shares.people.get(job.spec.user)
    most = None if user is None else user.most.get(shares.rows[row])
    if most is not None and (account.held[row] if account else 0) + amount > most:
        return True
    leaf = shares.branch(job.spec.queue)
    if row in shares.governed and leaf.available(row) < amount:
        return True
    limits = ((each.most[row], each.held[row]) for each in leaf.above()[:-1])
    return any(most is not None and held + amount > most for most, held in limits)


def request(shares: Shares, job: Job) -> Request:
    """Return the job's request, for the types alone that are open to it."""
    whole = shares.core.shapes[job.shape_id]
    # Where none is open the job may not start at all (`Shares.block`).
    return open_to(shares, job, whole) or whole


def open_to(shares: Shares, job: Job, whole: Request) -> Request | None:
    """Return a request of a job for the types alone that are open to it, None if none is."""
    asked = shares.models or shares.core.speeds.never
    shut = closed(shares, job, whole.shape) if asked else None
    if not shut:
        return whole
    key = (whole.shape, shut)
    if key not in shares.narrowed:
        rest = tuple(model for model in accepted(shares, job) if model not in shut)
        narrow = Request(replace(whole.shape, gpu_models=rest)) if rest else None
        shares.narrowed[key] = narrow
    return shares.narrowed[key]


def nowhere(core: Core, spec: JobSpec) -> str:
    """Return in words that a job runs on no device model that it takes, "" if it does on one."""
    never = core.speeds.closed(spec)
    if not never:
        return ""
    shape = spec.shape
    there = {device.model for node in core.nodes for device in node.spec.devices}
    takes = there & set(shape.gpu_models) if shape.gpu_models else there
    if not (shape.gpus or shape.gpu_milli):
        takes = {""}
    if not takes or takes - never:
        return ""
    where = ", ".join(sorted(takes - {""})) or "nodes without GPUs"
    return f"its speed on {where} was told to be zero, and it takes nothing else that there is"


def none_open(shares: Shares, job: Job) -> str:
    """Return in words that no type is open to the job, "" if one is."""
    shut = closed(shares, job, job.spec.shape)
    if not shut or any(model not in shut for model in accepted(shares, job)):
        return ""
    return f"no room in the quotas for any GPU type that it takes: {', '.join(sorted(shut))}"
