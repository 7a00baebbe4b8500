"""Queues of a cluster file in the virtual world: which job is whose, and what is set up for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from msgspec.structs import replace

from fairlead.core.admission import admit
from fairlead.core.engine import Core
from fairlead.model.base import Misuse, Refused
from fairlead.model.events import AnyEvent, NodeJoined, QueueSet, TenantSet, UserSet
from fairlead.model.jobs import JobSpec, Queue, User
from fairlead.model.resources import DIMENSIONS, GPU, WHOLE_GPU_MILLI
from fairlead.policy.sharing_file import Sharing, check_guarantees
from fairlead.sim.cluster import Cluster
from fairlead.sim.workload import SimJob, Workload

Column: TypeAlias = Literal["user", "tenant", "queue"]
DEFAULT = "default"


class Arranged(NamedTuple):
    """A workload whose jobs stand in the queues of a file."""

    workload: Workload
    setup: tuple[AnyEvent, ...]
    unknown: dict[str, int]  # names in the trace that are no queue -> their jobs, now in "default"
    queues: tuple[Queue, ...]
    users: tuple[User, ...]


def capacity(cluster: Cluster) -> dict[str, int]:
    """Return what there is of each resource and GPU type, in the units of DIMENSIONS."""
    found = dict.fromkeys(DIMENSIONS, 0)
    for node in cluster.nodes:
        amounts = (node.cpu_milli, node.memory_mib, node.disk_mib)
        for name, amount in zip(DIMENSIONS, amounts, strict=False):
            found[name] += amount
        for device in node.devices:
            row = f"{DIMENSIONS[GPU]}/{device.model}"
            found[row] = found.get(row, 0) + WHOLE_GPU_MILLI
            found[DIMENSIONS[GPU]] += WHOLE_GPU_MILLI
            found[DIMENSIONS[GPU + 1]] += device.memory_mib
    return found


def arrange(workload: Workload, cluster: Cluster, said: Sharing, column: Column) -> Arranged:
    """Return the workload with each job in the queue that its user, tenant or queue names.

    Where there is no queue of that name it is "default". A job gets the time limit of its queue
    where it has none, and a priority that is allowed there; what the queue would not take is left
    out and counted under the scheduler's own words. Limits on how many jobs may wait are not
    applied: nobody is there to submit again. Raises Misuse for quotas above the cluster, Refused
    if no job remains.
    """
    queues = {queue.name: queue for queue in said.queues or ()}
    check_guarantees(queues.values(), capacity(cluster))
    queues.setdefault(DEFAULT, Queue(name=DEFAULT))
    most = len(workload.jobs) + 1
    setup: list[AnyEvent] = [
        QueueSet(queue=replace(queue, pending_max=most)) for queue in _parents_first(queues)
    ]
    users = tuple(replace(user, pending_max=None) for user in said.users or ())
    setup += [UserSet(user=user) for user in users]
    setup += [TenantSet(tenant=tenant) for tenant in said.tenants or ()]
    unknown: Counter[str] = Counter()
    rejected: Counter[str] = Counter(workload.rejected)
    gate = _gate(cluster, setup)
    jobs: list[SimJob] = []
    for job in workload.jobs:
        name = getattr(job.spec, column) or DEFAULT
        if name not in queues:
            unknown[name] += 1
            name = DEFAULT
        spec = _as_queued(job.spec, queues[name])
        try:
            admit(gate, spec)
        except Misuse as no:  # Refused, or beyond a limit
            rejected[no.message] += 1
        else:
            jobs.append(replace(job, spec=spec))
    if not jobs:
        (reason, count), *_ = rejected.most_common(1)
        raise Refused(f"no job can run in these queues; {count:,} of them: {reason}")
    kept = Workload(tuple(jobs), dict(sorted(rejected.items())), workload.dropped)
    return Arranged(kept, tuple(setup), dict(unknown.most_common()), tuple(queues.values()), users)


def _as_queued(spec: JobSpec, queue: Queue) -> JobSpec:
    priority = min(max(spec.priority, queue.priority_min), queue.priority_max)
    limit = queue.limit_ms if spec.limit_ms is None else spec.limit_ms
    return replace(spec, queue=queue.name, priority=priority, limit_ms=limit)


def _gate(cluster: Cluster, setup: Iterable[AnyEvent]) -> Core:
    core = Core()
    for index, node in enumerate(cluster.nodes):
        core.apply(0, NodeJoined(node=index, spec=node))
    for event in setup:
        core.apply(0, event)
    return core


def _parents_first(queues: Mapping[str, Queue]) -> list[Queue]:
    found: dict[str, Queue] = {}
    for queue in queues.values():
        path = []
        at: Queue | None = queue
        while at is not None and at.name not in found:
            path.append(at)
            at = queues.get(at.parent)
        found |= {each.name: each for each in reversed(path)}
    return list(found.values())
