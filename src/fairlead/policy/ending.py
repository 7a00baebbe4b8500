"""When those who are here now are expected to be gone: jobs that end, and members that leave."""

from __future__ import annotations

from bisect import bisect_left

from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Ms

OVERDUE_MS: Ms = 1000
END, LEAVE = -1, -2  # steps that are no node's: a job ends, some of its members leave


def expected_end(end: Ms, now: Ms) -> Ms:
    """Return when a job that is here now is expected to be gone: as believed, and where it is
    overdue, in steps that double, so that what waits for it is not planned anew at every moment."""
    late = (now - end) // OVERDUE_MS
    return end if late < 0 else end + (OVERDUE_MS << late.bit_length())


def next_end(core: Core) -> Ms:
    """Return when somebody is next expected to be gone; FAR: nobody."""
    ends, now = core.ends.sorted, core.clock
    late = bisect_left(ends, (now + 1, 0))  # of these, whoever is least late may be gone first
    first = min((expected_end(end, now) for end, _ in ends[: late + 1]), default=FAR)
    return min([first, *(at for at, _, _ in departures(core))])


def departures(core: Core) -> list[tuple[Ms, int, JobId]]:
    """Return when members are expected to be gone that leave jobs which go on, as steps."""
    return [
        (expected_end(gone_by(core, job), core.clock), LEAVE, job.id)
        for job in core.elastic.values()
        if job.team is not None and job.team.leaving
    ]


def gone_by(core: Core, job: Job) -> Ms:
    """Return when the members that leave are believed to be gone: with all others at the latest."""
    assert job.team is not None
    return min(job.team.leave_ms, core.ends.get(job.id))
