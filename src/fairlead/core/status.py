"""A job of the core as users see it."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.jobs import Job
from fairlead.core.nodes import NodeState
from fairlead.model.resources import CPU, GPU, MEMORY, asked_in_all
from fairlead.model.status import JobStatus


def status_of(nodes: Sequence[NodeState], job: Job) -> JobStatus:
    """Return the job as users see it."""
    spec, shape, worst = job.spec, job.spec.shape, job.worst
    asked = asked_in_all(shape)
    return JobStatus(
        id=job.id,
        name=spec.name,
        user=spec.user,
        tenant=spec.tenant,
        queue=spec.queue,
        phase=job.phase,
        priority=spec.priority,
        submitted_ms=job.submitted_ms,
        attempt=job.attempt,
        placed_ms=job.placed_ms,
        started_ms=job.started_ms,
        first_started_ms=job.first_started_ms,
        ended_ms=job.ended_ms,
        nodes=tuple(nodes[slot.node].spec.name for slot in job.slots),
        devices=tuple(slot.devices for slot in job.slots),
        exit_code=worst.code if worst else None,
        exit_signal=worst.signal if worst else None,
        because=job.because,
        cpu_milli=asked[CPU],
        memory_mib=asked[MEMORY],
        gpus_milli=asked[GPU],
        members=shape.members,
        members_max=spec.members_max,
        limit_ms=spec.limit_ms,
        array=spec.array,
        array_index=spec.array_index,
        array_count=spec.array_count,
        deadline_ms=spec.deadline_ms,
        expected_ms=None if job.forecast is None else job.forecast.expected_ms,
        preemptions=job.preemptions,
        checkpoint_ms=job.checkpoint_ms,
        steps=None if job.progress is None else job.progress.steps,
    )
