"""What the clock demands: time limits, beliefs that were outlived, the ends of reservations."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from fairlead.core.ends import next_belief_ms
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent, Outlived, Promised, ReservationDeleted, StopDecided
from fairlead.model.jobs import Phase

if TYPE_CHECKING:
    from fairlead.core.engine import Core


def next_deadline(core: Core) -> Ms | None:
    """Return when `due` next has something to say, None if never."""
    heap = core.limits
    while heap and not _limited(core, heap[0][1], heap[0][2]):
        heapq.heappop(heap)
    times = [heap[0][0]] if heap else []
    if (open_end := core.ends.next_open(core.jobs)) is not None:
        times.append(open_end[0] + 1)  # it is outlived by a job that runs longer
    for each in core.reservations.values():
        if each.end_ms is not None:
            times.append(each.end_ms)
    times += [until_ms for until_ms, _ in _holds(core)]
    return min(times, default=None)


def _holds(core: Core) -> list[tuple[Ms, JobId]]:
    """Return until when room is held for which waiting jobs."""
    return [
        (job.promise.until_ms, job.id)
        for job in core.promises.values()
        if job.promise is not None and job.promise.until_ms is not None
    ]


def _limited(core: Core, job_id: JobId, attempt: int) -> bool:
    job = core.jobs.get(job_id)
    return job is not None and job.attempt == attempt and job.phase is Phase.RUNNING


def due(core: Core, now: Ms) -> list[AnyEvent]:
    """Return stops at time limits, longer beliefs, and the ends of reservations."""
    events: list[AnyEvent] = [*due_stops(core, now)]
    for job in core.ends.outlived(now, core.jobs):
        assert job.started_ms is not None
        longer = next_belief_ms(job, now - job.started_ms)
        events.append(Outlived(job=job.id, attempt=job.attempt, expected_ms=longer))
    for name, each in core.reservations.items():
        if each.end_ms is not None and each.end_ms <= now:
            events.append(ReservationDeleted(name=name))
    for until_ms, job_id in _holds(core):
        if until_ms <= now:
            over = "what was to make room for it is not gone in time"
            if core.jobs[job_id].phase is not Phase.PENDING:
                over = "it was not moved in time"
            events.append(Promised(job=job_id, start_ms=now, because=over))
    return events


def due_stops(core: Core, now: Ms) -> list[StopDecided]:
    """Return the stops of jobs that have reached their time limits."""
    limits = core.limits
    reached: list[tuple[Ms, JobId, int]] = []
    while limits and limits[0][0] <= now:
        reached.append(heapq.heappop(limits))
    reached = [entry for entry in reached if _limited(core, entry[1], entry[2])]
    for entry in reached:
        heapq.heappush(limits, entry)  # until the stop is applied
    return [
        StopDecided(
            job=job_id, attempt=attempt, then=Phase.TIMEOUT, because="its time limit is over"
        )
        for _, job_id, attempt in reached
    ]
