"""What clients see of jobs and nodes. Many rows are cheap: no objects per row, one encoding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Ms, Record
from fairlead.model.resources import CPU, GPU, MEMORY, asked_in_all
from fairlead.model.status import JobStatus
from fairlead.policy.eta import Eta
from fairlead.policy.explain import reasons
from fairlead.policy.pipeline import Pipeline
from fairlead.service.reservations import on_nodes


class JobRow(JobStatus, frozen=True, omit_defaults=False):
    """One job in a listing: its status, in one line why it waits ("" when it does not), and when
    it is expected to start (None: it does not wait, or there is no estimate yet)."""

    reason: str = ""
    eta: Eta | None = None


class Waits(NamedTuple):
    """What is known of waiting jobs beside their status."""

    why: Mapping[JobId, str] = {}
    etas: Mapping[JobId, Eta] = {}

    def of(self, job: JobId) -> tuple[str, dict[str, Any] | None]:
        """Return the reason and the estimate of a job."""
        return self.why.get(job, ""), shown(self.etas.get(job))


COLUMNS: tuple[str, ...] = (
    "id",
    "name",
    "user",
    "tenant",
    "queue",
    "phase",
    "priority",
    "submitted_ms",
    "started_ms",
    "ended_ms",
    "nodes",
    "exit_code",
    "exit_signal",
    "because",
    "cpu_milli",
    "memory_mib",
    "gpus_milli",
    "members",
    "members_max",
    "limit_ms",
    "attempt",
    "placed_ms",
    "array",
    "array_index",
    "array_count",
    "deadline_ms",
    "reason",
    "eta",
)
_OF_STATUS = COLUMNS[:-2]


def row_of_job(core: Core, job: Job, reason: str, eta: dict[str, Any] | None) -> tuple[Any, ...]:
    """Return a pending or live job in the order of COLUMNS, without building a status first."""
    spec = job.spec
    worst, asked = job.worst, asked_in_all(spec.shape)
    return (
        job.id,
        spec.name,
        spec.user,
        spec.tenant,
        spec.queue,
        job.phase,
        spec.priority,
        job.submitted_ms,
        job.started_ms,
        job.ended_ms,
        tuple([core.nodes[slot.node].spec.name for slot in job.slots]) if job.slots else (),
        worst.code if worst else None,
        worst.signal if worst else None,
        job.because,
        asked[CPU],
        asked[MEMORY],
        asked[GPU],
        spec.shape.members,
        spec.members_max,
        spec.limit_ms,
        job.attempt,
        job.placed_ms,
        spec.array,
        spec.array_index,
        spec.array_count,
        spec.deadline_ms,
        reason,
        eta,
    )


def row_of_status(status: JobStatus, reason: str, eta: dict[str, Any] | None) -> tuple[Any, ...]:
    """Return a job of the history in the order of COLUMNS."""
    return (*[getattr(status, name) for name in _OF_STATUS], reason, eta)


def view(status: JobStatus, reason: str, eta: dict[str, Any] | None) -> dict[str, Any]:
    """Return a job with every field, defaults too, so that scripts need not guess."""
    return {**msgspec.structs.asdict(status), "reason": reason, "eta": eta}


def page_of_jobs(core: Core, jobs: Iterable[Job], waits: Waits, *, rows: bool) -> list[Any]:
    """Return pending and live jobs as rows or as objects."""
    if rows:
        return [row_of_job(core, job, *waits.of(job.id)) for job in jobs]
    return [view(core.status(job), *waits.of(job.id)) for job in jobs]


def page_of_statuses(statuses: Iterable[JobStatus], waits: Waits, *, rows: bool) -> list[Any]:
    """Return jobs of the store's table as rows or as objects."""
    return [(row_of_status if rows else view)(each, *waits.of(each.id)) for each in statuses]


def shown(eta: Eta | None) -> dict[str, Any] | None:
    """Return an estimate with every field."""
    return None if eta is None else msgspec.structs.asdict(eta)


REASONS_MS = 10_000  # so old may a reason be that names a time


class Reasons:
    """Why each pending job waits; computed when asked for, at most once per state of the core."""

    def __init__(self) -> None:
        self._of: tuple[Core | None, int, Ms] = (None, -1, 0)
        self._known: Mapping[JobId, str] = {}
        self._positions: dict[JobId, int] = {}

    def look(self, core: Core, pipeline: Pipeline, now: Ms) -> Mapping[JobId, str]:
        """Return the reasons as of now; beside reservations they change with the time, too."""
        of = (core, core.seq, now // REASONS_MS if core.reservations else 0)
        if self._of[0] is not core or self._of[1:] != of[1:]:
            self._of = of
            self._known = reasons(core, pipeline, now) if core.pending else {}
            self._positions = {}
        return self._known

    def position(self, job: JobId) -> int | None:
        """Return a waiting job's place in the order, from 1, as of the last look."""
        if not self._positions:
            self._positions = {each: at for at, each in enumerate(self._known, 1)}
        return self._positions.get(job)


AMOUNTS = ("cpu_milli", "memory_mib", "disk_mib", "gpu_milli", "gpu_memory_mib")


def nodes(core: Core) -> list[dict[str, Any]]:
    """Return every node: capacity, used, used by others, devices and who has them, reservations."""
    ledger = core.ledger
    reserved = on_nodes(core)
    found = []
    for index, node in enumerate(core.nodes):
        capacity = [int(amount) for amount in ledger.capacity[:, index]]
        foreign = [int(amount) for amount in ledger.foreign[:, index]]
        room = [int(amount) for amount in ledger.room[: len(AMOUNTS), index]]
        used = [
            all_ - other - free for all_, other, free in zip(capacity, foreign, room, strict=True)
        ]
        holders: dict[int, list[JobId]] = {}
        jobs: dict[JobId, None] = {}
        for (job_id, _, rank), job in node.members.items():
            jobs[job_id] = None
            for device in job.slot(rank).devices:
                holders.setdefault(device, []).append(job_id)
        found.append(
            {
                "name": node.spec.name,
                "up": node.up,
                "labels": dict(node.spec.labels),
                "rack": node.spec.rack,
                "switch": node.spec.switch,
                "capacity": dict(zip(AMOUNTS, capacity, strict=True)),
                "used": dict(zip(AMOUNTS, used, strict=True)),
                "foreign": dict(zip(AMOUNTS, foreign, strict=True)),
                "devices": [
                    {
                        "index": number,
                        "model": device.model,
                        "memory_mib": device.memory_mib,
                        "uuid": device.uuid,
                        "island": device.island,
                        "pcie": device.pcie,
                        "socket": device.socket,
                        "foreign": number in ledger.devices[index].foreign,
                        "jobs": holders.get(number, []),
                    }
                    for number, device in enumerate(node.spec.devices)
                ],
                "jobs": list(jobs),
                "reserved": reserved.get(index, []),
            }
        )
    return found


def phases(core: Core) -> dict[str, int]:
    """Return how many pending and live jobs there are in each phase."""
    counts: dict[str, int] = {}
    for job in core.jobs.values():
        counts[job.phase] = counts.get(job.phase, 0) + 1
    return counts


def spec_of(record: Record) -> dict[str, Any]:
    """Return a record with every field of its top level."""
    fields: dict[str, Any] = msgspec.structs.asdict(record)
    return fields
