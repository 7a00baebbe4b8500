"""Quotas and limits by GPU type, of jobs that take several types: which are open to a job now.

What such a job will hold of each type is not known before its devices are chosen, so it is placed
only on types of which its queue and its user have room for all of it. A gang of mixed types is
therefore never started on the strength of room that two types have together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core.jobs import Job
from fairlead.core.ledger import Request
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape

if TYPE_CHECKING:
    from fairlead.core.engine import Core
    from fairlead.core.shares import Shares

APART = "\0apart"  # beside the names of models


def accepted(shares: Shares, job: Job) -> list[str]:
    """Return the GPU types that there are and that a job takes."""
    asked = shares.core.shapes[job.shape_id].shape.gpu_models
    there = {device.model for node in shares.core.nodes for device in node.spec.devices}
    return sorted(there if not asked else there & set(asked))


def closed(shares: Shares, job: Job, shape: Shape) -> frozenset[str]:
    """Return the types of which the job's queue or user has no room for a shape of it now."""
    milli = (WHOLE_GPU_MILLI * shape.gpus + shape.gpu_milli) * shape.members
    if not shares.models or not milli or len(job.spec.shape.gpu_models) == 1:
        return frozenset()
    return frozenset(
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
    """Return what a waiting job may be placed by: for the GPU types alone that are open to it.

    Where not anybody may share a GPU with anybody, a part of one is looked for on an empty one;
    who may join whom is decided elsewhere (policy/together.py).
    """
    whole = shares.core.shapes[job.shape_id]
    if shares.models:
        # Where none is open the job may not start at all (`Shares.block`).
        whole = open_to(shares, job, whole) or whole
    return apart(shares, whole)


def planned(core: Core, job: Job) -> Request:
    """Return what a job is planned by, whatever its quotas are now: parts of GPUs as `request`."""
    return apart(core.shares, core.shapes[job.shape_id])


def apart(shares: Shares, whole: Request) -> Request:
    """Return a request for parts of GPUs as one for as many empty ones, where that is the rule."""
    if not whole.milli or shares.core.policy.share == "any":
        return whole
    key = (whole.shape, frozenset((APART,)))
    found = shares.narrowed.get(key)
    if found is None:
        found = shares.narrowed[key] = Request(replace(whole.shape, gpus=1, gpu_milli=0))
    return found


def open_to(shares: Shares, job: Job, whole: Request) -> Request | None:
    """Return a request of a job for the types alone that are open to it, None if none is."""
    shut = closed(shares, job, whole.shape) if shares.models else None
    if not shut:
        return whole
    key = (whole.shape, shut)
    if key not in shares.narrowed:
        rest = tuple(model for model in accepted(shares, job) if model not in shut)
        narrow = Request(replace(whole.shape, gpu_models=rest)) if rest else None
        shares.narrowed[key] = narrow
    return shares.narrowed[key]


def none_open(shares: Shares, job: Job) -> str:
    """Return in words that no type is open to the job, "" if one is."""
    shut = closed(shares, job, shares.core.shapes[job.shape_id].shape)
    if not shut or any(model not in shut for model in accepted(shares, job)):
        return ""
    return f"no room in the quotas for any GPU type that it takes: {', '.join(sorted(shut))}"
