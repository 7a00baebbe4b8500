"""Jobs that share a GPU: who is beside whom (algorithms.md 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fairlead.core.jobs import Job
from fairlead.model.base import JobId
from fairlead.model.jobs import LIVE
from fairlead.model.resources import width_milli

if TYPE_CHECKING:
    from fairlead.core.engine import Core

Side: TypeAlias = tuple[str, int]  # job type and width: of one of two that share a GPU


def side_of(job: Job) -> Side:
    """Return what jobs of a kind have in common when they share."""
    return (job.spec.kind, width_milli(job.spec.shape))


def may_share(job: Job) -> bool:
    """Whether a job takes a part of one GPU and no more. Others have each GPU for themselves."""
    shape = job.spec.shape
    one = shape.devices == 1 and shape.gpu_milli > 0 and shape.members == 1
    return one and job.spec.members_max == 0


def beside(core: Core, job: Job) -> list[Job]:
    """Return the live jobs that hold a part of a GPU of which this one holds a part."""
    if not job.spec.shape.gpu_milli:
        return []
    held = {(slot.node, device) for slot in job.slots for device in slot.devices}
    found: dict[JobId, Job] = {}
    for node in {slot.node for slot in job.slots}:
        for (_, _, rank), other in core.nodes[node].members.items():
            if other is not job and other.spec.shape.gpu_milli:
                devices = other.slot(rank).devices
                if any((node, device) in held for device in devices):
                    found[other.id] = other
    return list(found.values())


def disturbed(core: Core, job: Job) -> None:
    """A job has come to a part of a GPU or left it: those beside it are as fast as before no more.

    What they say next counts from then on.
    """
    for other in beside(core, job):
        if other.progress is not None:
            other.progress = other.progress._replace(disturbed=True)


def shared(core: Core) -> dict[tuple[int, int], list[Job]]:
    """Return the live jobs that hold parts of GPUs, by node and device. O(live jobs)."""
    found: dict[tuple[int, int], list[Job]] = {}
    for job in core.jobs.values():
        if job.phase in LIVE and job.spec.shape.gpu_milli:
            for slot in job.slots:
                for device in slot.devices:
                    found.setdefault((slot.node, device), []).append(job)
    return found
