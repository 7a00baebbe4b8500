"""Chooses where an amount is reserved: "2 GPUs from 09:00 to 12:00", on nodes that are free then.

Free by time limits, beside all other reservations; best nodes first by the policy's placement, so
that the answer is always the same. When there is not enough at that time, the refusal says when.
"""

from __future__ import annotations

from fairlead.core.admission import describe, describe_lack
from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.fits import lacking, largest, members_that_fit
from fairlead.core.ledger import Request
from fairlead.model import limits
from fairlead.model.base import Misuse, Ms, Record, Refused
from fairlead.model.resources import Shape, Slot
from fairlead.model.units import format_duration, format_moment
from fairlead.policy.place.fit import Fit
from fairlead.policy.plan import Plan

STARTS_TRIED_MAX = 1_000


class Amount(Record, frozen=True):
    """What is to be kept, in all."""

    cpu_milli: int = 0
    memory_mib: int = 0
    gpus: int = 0
    gpu_models: tuple[str, ...] = ()


def choose(
    core: Core, fit: Fit, amount: Amount, start: Ms, end: Ms | None, now: Ms
) -> tuple[Shape, tuple[Slot, ...]]:
    """Return the shape of one piece and the slots of all pieces; Refused says what is possible."""
    shape = shape_of(core, amount)
    request = Request(shape)
    _check_possible(core, request)
    plan = Plan(core, fit, by_limit=True)
    until = FAR if end is None else end
    slots = plan.at(request, start, until)
    if slots is None:
        later = _later(plan, request, start, until)
        hint = "at no later time either, by time limits: ask for less, or end what has none"
        if later is not None:
            wait = format_duration(later - now, exact=False)
            hint = f"the earliest start that works: {format_moment(later)} (in {wait})"
        raise Refused(
            f"not so much is free all the time from {format_moment(start)} on",
            field="start",
            hint=hint,
            code="in-use",
        )
    return shape, slots


def shape_of(core: Core, amount: Amount) -> Shape:
    """Return the pieces that an amount is kept in: GPU by GPU; cores together, if a node has them.

    What does not divide evenly is rounded up.
    """
    if amount.gpus:
        _check_members(amount.gpus, "gpus")
        return Shape(
            cpu_milli=-(-amount.cpu_milli // amount.gpus),
            memory_mib=-(-amount.memory_mib // amount.gpus),
            gpus=1,
            gpu_models=amount.gpu_models,
            members=amount.gpus,
        )
    whole = Shape(cpu_milli=amount.cpu_milli, memory_mib=amount.memory_mib)
    pieces = amount.cpu_milli // 1000
    if pieces <= 1 or members_that_fit(core.ledger, Request(whole), empty=True):
        return whole
    _check_members(pieces, "cpus")
    return Shape(
        cpu_milli=-(-amount.cpu_milli // pieces),
        memory_mib=-(-amount.memory_mib // pieces),
        members=pieces,
    )


def _check_members(count: int, field: str) -> None:
    if count > limits.MEMBERS_MAX:
        raise Misuse(f"more than {limits.MEMBERS_MAX:,}", field=field, hint="reserve whole nodes")


def _check_possible(core: Core, request: Request) -> None:
    fitting = members_that_fit(core.ledger, request, empty=True)
    if fitting >= request.members:
        return
    field = "gpus" if request.gpus else "cpus"
    if not fitting:
        why = describe_lack(lacking(core.ledger, request, empty=True))
        near = largest(core.ledger, request)
        hint = f"the nearest there is: {describe(near)}" if near else "fairlead nodes shows them"
        raise Refused(
            f"the nodes could never give it: {why}", field=field, hint=hint, code="never-fits"
        )
    what = "GPUs" if request.gpus else "pieces of a core"
    raise Refused(
        f"all nodes together have {fitting} such {what}, asked: {request.members}",
        field=field,
        hint=f"ask for {fitting} or fewer",
        code="never-fits",
    )


def _later(plan: Plan, request: Request, start: Ms, until: Ms) -> Ms | None:
    length = until - start
    times = {at for line in plan.lines.values() for at in line.changes(length) if at > start}
    for at in sorted(times)[:STARTS_TRIED_MAX]:
        if plan.at(request, at, FAR if until >= FAR else at + length) is not None:
            return at
    return None
