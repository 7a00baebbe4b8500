"""The gate at submission: what can never run is refused there, with the nearest that can."""

from __future__ import annotations

import difflib

from fairlead.core.engine import Core
from fairlead.core.fits import lacking, largest, members_that_fit
from fairlead.core.ledger import Request
from fairlead.core.named import check_spec
from fairlead.model import limits
from fairlead.model.base import Misuse, Refused
from fairlead.model.jobs import JobSpec, Tenant
from fairlead.model.resources import DIMENSIONS, GPU_MEMORY, Shape
from fairlead.model.units import format_cpus, format_size


def admit(core: Core, spec: JobSpec) -> None:
    """Raise Misuse for a wrong and Refused for an impossible request; else return None."""
    queue = core.queues.get(spec.queue)
    if queue is None:
        raise Misuse(
            f"there is no queue '{spec.queue}'", field="queue", hint=_nearest(spec.queue, core)
        )
    if core.waiting.get(spec.queue, 0) >= queue.pending_max:
        raise Refused(
            f"queue '{queue.name}' is full: {queue.pending_max} jobs wait in it",
            field="queue",
            hint="submit again when some have started, or raise pending_max of the queue",
            code="queue-full",
        )
    if queue.limit_ms is not None and (spec.limit_ms is None or spec.limit_ms > queue.limit_ms):
        asked = "no time limit" if spec.limit_ms is None else f"{spec.limit_ms // 1000} s"
        raise Refused(
            f"queue '{queue.name}' takes jobs of at most {queue.limit_ms // 1000} s, "
            f"asked: {asked}",
            field="time_limit",
            hint=f"ask for time_limit: {queue.limit_ms // 1000}s or less",
            code="never-fits",
        )
    _check_shape(spec.shape)
    request = Request(spec.shape)
    if core.nodes and spec.shape not in core.fitting:
        check_fits(core, request)
    _check_quota(core, spec)
    check_spec(core, spec)


def _nearest(name: str, core: Core) -> str:
    close = difflib.get_close_matches(name, core.queues, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return "the queues are: " + ", ".join(sorted(core.queues))


def _check_shape(shape: Shape) -> None:
    if shape.gpus and shape.gpu_milli:
        raise Misuse("ask for whole GPUs or for a share of one, not both", field="resources.gpus")
    if shape.gpu_memory_mib and not (shape.gpus or shape.gpu_milli):
        raise Misuse(
            "gpu_memory without gpus",
            field="resources.gpu_memory",
            hint="say how much of a GPU too, for example gpus: 1 or gpus: 0.5",
        )
    if not 1 <= shape.members <= limits.MEMBERS_MAX:
        raise Misuse(f"members must be 1 to {limits.MEMBERS_MAX}", field="members")
    if not any((*shape.amounts(), shape.gpus, shape.gpu_milli)):
        raise Misuse("the job asks for nothing at all", field="resources", hint="ask for some cpus")


def check_fits(core: Core, request: Request) -> None:
    """Raise Refused if the request would not fit the empty cluster, even with every node up."""
    shape = request.shape
    fitting = members_that_fit(core.ledger, request, empty=True)
    if fitting >= shape.members:
        core.fitting.add(shape)
        return
    near = largest(core.ledger, request)
    hint = f"the nearest that can run: {describe(near)}" if near else "no node has any of that"
    if fitting:
        what = f"only {fitting} of {shape.members} members fit at once, with nobody else there"
    else:
        counts = lacking(core.ledger, request, empty=True)
        what = "no node is large enough: " + describe_lack(counts)
    raise Refused(f"can never run: {what}", field="resources", hint=hint, code="never-fits")


def _check_quota(core: Core, spec: JobSpec) -> None:
    tenant = core.tenants.get(spec.tenant)
    if tenant is None or not tenant.quota:
        return
    for row, (most, asked) in enumerate(
        zip(tenant.quota, counted(core, tenant, spec.shape), strict=True)
    ):
        if most is not None and asked > most:
            raise Refused(
                f"can never run: tenant '{tenant.name}' may use {most} {DIMENSIONS[row]} at once, "
                f"this job asks for {asked}",
                field="resources",
                hint="ask for less, or raise the quota of the tenant",
                code="over-quota",
            )


def asked_in_all(shape: Shape) -> tuple[int, ...]:
    """Return what all members ask for, in the order of DIMENSIONS (a lower bound for devices)."""
    milli = 1000 * shape.gpus + shape.gpu_milli
    memory = shape.gpu_memory_mib * max(shape.gpus, 1)
    return tuple(
        amount * shape.members
        for amount in (shape.cpu_milli, shape.memory_mib, shape.disk_mib, milli, memory)
    )


def counted(core: Core, tenant: Tenant, shape: Shape) -> tuple[int, ...]:
    """Return what a job counts against its tenant's quota, in the order of DIMENSIONS.

    Of whole GPUs the memory counts as that of the largest it may get: which they will be is not
    known before they are chosen, and a quota is never exceeded.
    """
    asked = asked_in_all(shape)
    if not shape.gpus or tenant.quota[GPU_MEMORY] is None:
        return asked
    largest = max(
        (
            device.memory_mib
            for node in core.nodes
            for device in node.spec.devices
            if not shape.gpu_models or device.model in shape.gpu_models
        ),
        default=0,
    )
    return (*asked[:GPU_MEMORY], max(asked[GPU_MEMORY], largest * shape.gpus * shape.members))


def describe_lack(counts: dict[str, int]) -> str:
    """Return counts of nodes by what they lack: "4 nodes: memory; 2 nodes: GPUs"."""
    parts = [
        f"{count} node{'s' if count > 1 else ''}: {lack}"
        for lack, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if lack
    ]
    return "; ".join(parts) or "no nodes"


def describe(shape: Shape) -> str:
    """Return a request in words, for hints."""
    parts = [f"cpus: {format_cpus(shape.cpu_milli)}"]
    if shape.memory_mib:
        parts.append(f"memory: {format_size(shape.memory_mib)}")
    if shape.disk_mib:
        parts.append(f"disk: {format_size(shape.disk_mib)}")
    if shape.gpus or shape.gpu_milli:
        parts.append(f"gpus: {format_cpus(1000 * shape.gpus + shape.gpu_milli)}")
    if shape.gpu_memory_mib:
        parts.append(f"gpu_memory: {format_size(shape.gpu_memory_mib)}")
    if shape.members > 1:
        parts.append(f"members: {shape.members}")
    return ", ".join(parts)
