"""What reservations keep from others: the one place that says what a reservation means.

A reservation of whole nodes leaves nothing of them to others; one of amounts takes what its own
tenants do not hold already. Others start nothing that could still run when it begins. What could
still run is a matter of time limits, not of predictions: those who plan by predictions keep a
second plan by limits, the walls (plan.Walled), wherever the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TypeAlias

from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import HOST
from fairlead.core.reserve import end_of
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.jobs import LIVE, Reservation
from fairlead.policy.line import Line
from fairlead.policy.place.trial import Trial

EndOf: TypeAlias = Callable[[Job], Ms]


def of_others(core: Core, tenant: str) -> list[Reservation]:
    """Return the reservations that a tenant has to keep out of."""
    return [each for each in core.reservations.values() if tenant not in each.tenants]


def closed_nodes(core: Core, tenant: str) -> frozenset[NodeId]:
    """Return the nodes that are others' now and until somebody says so: drained ones, mostly."""
    return frozenset(
        node
        for each in of_others(core, tenant)
        if each.end_ms is None and each.start_ms <= core.clock
        for node in each.nodes
    )


def keep_out(
    core: Core,
    reservations: Iterable[Reservation],
    line_of: Callable[[NodeId], Line],
    end_of_job: EndOf,
) -> None:
    """Take from the lines what is reserved, less what its own tenants hold of it."""
    amounts: dict[NodeId, list[Reservation]] = {}
    for each in reservations:
        start = max(each.start_ms, core.clock)
        if end_of(each) <= start:
            continue
        for node in each.nodes:
            if node < len(core.nodes):
                line_of(node).block(start, end_of(each))
        if each.shape is not None:
            for node in sorted({slot.node for slot in each.slots}):
                if node < len(core.nodes):
                    amounts.setdefault(node, []).append(each)
    for node, those in amounts.items():
        _keep_amounts(core, line_of(node), node, those, end_of_job)


def _keep_amounts(
    core: Core, line: Line, node: NodeId, those: list[Reservation], end_of_job: EndOf
) -> None:
    """Several reservations of one tenant are not all filled by the same job: each takes what the
    one before it has left of it."""
    now = core.clock
    own = _owners(core, node, those)
    edges = {max(each.start_ms, now) for each in those} | {end_of(each) for each in those}
    edges |= {max(end_of_job(job), now) for job in own.values()}
    for low, high in pairwise(sorted(edges)):
        here = [each for each in those if each.start_ms <= low < end_of(each)]
        if not here:
            continue
        left = [
            (job.spec.tenant, _held_by(core, job, node))
            for job in own.values()
            if end_of_job(job) > low
        ]
        wanted, devices = [0] * HOST, set[int]()
        for each in here:
            mine = [held for tenant, held in left if tenant in each.tenants]
            missing, its = _missing(each, node, mine)
            wanted = [all_ + part for all_, part in zip(wanted, missing, strict=True)]
            devices |= its
        first, last = line.cut(low), (line.cut(high) if high < FAR else len(line.times))
        for state in line.states[first:last]:
            _take(state, wanted, devices)


def _owners(core: Core, node: NodeId, those: list[Reservation]) -> dict[JobId, Job]:
    tenants = {tenant for each in those for tenant in each.tenants}
    return {
        job.id: job
        for job in core.nodes[node].members.values()
        if job.phase in LIVE and job.spec.tenant in tenants
    }


def _held_by(core: Core, job: Job, node: NodeId) -> list[int]:
    held = [0] * HOST
    for its, slots in core.shapes[job.shape_id].split(job.slots):
        count = sum(slot.node == node for slot in slots)
        held = [have + count * amount for have, amount in zip(held, its.host, strict=True)]
    return held


def _missing(
    reservation: Reservation, node: NodeId, held: list[list[int]]
) -> tuple[list[int], set[int]]:
    """Return what a reservation of amounts keeps free on a node beside what is held, and its
    devices; what is held is used up."""
    assert reservation.shape is not None
    slots = [slot for slot in reservation.slots if slot.node == node]
    wanted = [len(slots) * amount for amount in reservation.shape.amounts()]
    for theirs in held:
        for row in range(HOST):
            used = min(wanted[row], theirs[row])
            wanted[row] -= used
            theirs[row] -= used
    return wanted, {device for slot in slots for device in slot.devices}


def _take(state: Trial, wanted: list[int], devices: Iterable[int]) -> None:
    for row, amount in enumerate(wanted):
        state.free[row] -= amount
    for device in devices:
        if device < len(state.devices.size):
            state.devices.milli[device] = 0
            state.devices.memory[device] = 0
