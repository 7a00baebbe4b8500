"""Quotas and limits by GPU type, of jobs that take several types: which are open to a job now.

What such a job will hold of each type is not known before its devices are chosen, so it is placed
only on types of which its queue and its user have room for all of it. A gang of mixed types is
therefore never started on the strength of room that two types have together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core.fits import members_that_fit
from fairlead.core.jobs import Job
from fairlead.core.ledger import Request
from fairlead.model.resources import GPU, Shape, asked_in_all

if TYPE_CHECKING:
    from fairlead.core.engine import Core
    from fairlead.core.shares import Shares

APART = "\0apart"  # beside the names of models


def accepted(shares: Shares, job: Job) -> list[str]:
    """Return the GPU types that there are and that a job takes, where it takes several."""
    there = {device.model for node in shares.core.nodes for device in node.spec.devices}
    kinds = shares.core.shapes[job.shape_id].shape.parts()
    return sorted(model for model in there if gpus_of(kinds, model))


def flexible(shape: Shape) -> list[Shape]:
    """Return the kinds of members that are given GPUs of one of several types."""
    kinds = shape.parts()
    return [kind for kind in kinds if kind.gpus + kind.gpu_milli and len(kind.gpu_models) != 1]


def gpus_of(kinds: Sequence[Shape], model: str = "") -> int:
    """Return the thousandths of GPUs of all members that take a type, "" for any."""
    return sum(
        asked_in_all(kind)[GPU]
        for kind in kinds
        if not model or not kind.gpu_models or model in kind.gpu_models
    )


def narrowed(shape: Shape, models: Sequence[str]) -> Shape | None:
    """Return a shape that takes only these GPU types where it could have several; None: none."""
    if shape.kinds:
        kinds = [narrowed(kind, models) for kind in shape.kinds]
        some = [kind for kind in kinds if kind is not None]
        return shape.with_kinds(some) if len(some) == len(kinds) else None
    if not flexible(shape):
        return shape
    rest = tuple(each for each in models if not shape.gpu_models or each in shape.gpu_models)
    return replace(shape, gpu_models=rest) if rest else None


def closed(shares: Shares, job: Job, shape: Shape) -> frozenset[str]:
    """Return the types of which the job's queue or user has no room for a shape of it now."""
    kinds = flexible(job.spec.shape) if shares.models else ()
    if not kinds:
        return frozenset()
    return frozenset(
        model
        for model, row in shares.models.items()
        if gpus_of(kinds, model) and _short(shares, job, row, gpus_of(shape.parts(), model))
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
    """Return a request for parts of GPUs as one for as many empty ones, where that is the rule.

    What the machines that are up could never take so shares as if there were no rule.
    """
    ledger = shares.core.ledger
    if shares.core.policy.share == "any":
        return whole
    key = (whole.shape, frozenset((APART, str(ledger.layout))))
    found = shares.narrowed.get(key)
    if found is None:
        shape = _apart(whole.shape)
        found = whole if shape == whole.shape else Request(shape)
        if members_that_fit(ledger, found, empty=True, up_only=True) < found.members:
            found = whole
        shares.narrowed[key] = found
    return found


def _apart(shape: Shape) -> Shape:
    if shape.kinds:
        return shape.with_kinds([_apart(kind) for kind in shape.kinds])
    if not shape.shares:
        return shape
    return replace(shape, gpus=shape.devices, gpu_milli=0, gpu_parts=())


def open_to(shares: Shares, job: Job, whole: Request) -> Request | None:
    """Return a request of a job for the types alone that are open to it, None if none is."""
    shut = closed(shares, job, whole.shape) if shares.models else None
    if not shut:
        return whole
    key = (whole.shape, shut)
    if key not in shares.narrowed:
        rest = [each for each in accepted(shares, job) if each not in shut]
        shape = narrowed(whole.shape, rest) if rest else None
        shares.narrowed[key] = None if shape is None else Request(shape)
    return shares.narrowed[key]


def none_open(shares: Shares, job: Job) -> str:
    """Return in words that no type is open to the job, "" if one is."""
    if open_to(shares, job, shares.core.shapes[job.shape_id]) is not None:
        return ""
    shut = closed(shares, job, job.spec.shape)
    return f"no room in the quotas for any GPU type that it takes: {', '.join(sorted(shut))}"
