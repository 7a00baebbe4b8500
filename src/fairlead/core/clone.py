"""An independent copy of a core, to try things on: what would happen if, and when. O(jobs + nodes).

Records are shared, since they never change; what `apply` writes to is copied. Much quicker than
through a snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core.jobs import Job
from fairlead.core.nodes import NodeState
from fairlead.model.jobs import LIVE

if TYPE_CHECKING:
    from fairlead.core.engine import Core

_FIELDS = Job.__slots__


def clone(core: Core) -> Core:
    """Return a core in the same state, whose changes do not touch this one.

    Idempotency keys are left out: nobody submits to a copy.
    """
    from fairlead.core.engine import Core

    copy = Core()
    copy.seq, copy.now, copy.clock = core.seq, core.now, core.clock
    copy.next_job = core.next_job
    copy.tenants, copy.queues = core.tenants, dict(core.queues)
    copy.quota_tenants, copy.policy = core.quota_tenants, core.policy
    copy.waiting = dict(core.waiting)
    copy.usage = {tenant: list(held) for tenant, held in core.usage.items()}
    copy.ledger = core.ledger.copy()
    copy.shapes, copy.shape_ids = list(core.shapes), dict(core.shape_ids)
    copy.fitting = set(core.fitting)
    copy.demand = core.demand.copy()
    copy.speeds, copy.advice = core.speeds.copy(), core.advice.copy()
    copy.jobs = {job_id: _job(job) for job_id, job in core.jobs.items()}
    copy.pending = {job_id: copy.jobs[job_id] for job_id in core.pending}
    copy.promises = {job_id: copy.jobs[job_id] for job_id in core.promises}
    copy.moving = {job_id: copy.jobs[job_id] for job_id in core.moving}
    copy.broken = {job_id: copy.jobs[job_id] for job_id in core.broken}
    copy.elastic = {job_id: copy.jobs[job_id] for job_id in core.elastic}
    copy.arrivals = list(core.pending)
    copy.reservations = dict(core.reservations)
    copy.services, copy.services_seen = list(core.services), core.services_seen
    copy.crowd_ms = core.crowd_ms
    copy.ends = core.ends.copy()
    copy.limits = list(core.limits)
    copy.node_ids = dict(core.node_ids)
    for node in core.nodes:
        state = NodeState(node.spec)
        state.up = node.up
        state.members = {key: copy.jobs[key[0]] for key in node.members}
        copy.nodes.append(state)
    copy.users = dict(core.users)
    copy._shares = core.shares.copy(copy)
    copy.named = core.named.copy(copy)
    return copy


def _job(job: Job) -> Job:
    copy = Job.__new__(Job)
    for name in _FIELDS:
        setattr(copy, name, getattr(job, name))
    if job.phase in LIVE:
        copy.started, copy.exits = set(job.started), dict(job.exits)
        copy.team = None if job.team is None else job.team.copy()
    return copy
