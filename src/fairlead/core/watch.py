"""The watchdog: who is preempted again and again without getting on, and for whom.

A job that has been preempted SPARE times since it last saved its work is left alone for a while
before it may be stopped again, and each further time for twice as long: however often others
come, a job of finite length is stopped finitely often. Pure bookkeeping on the job; no clock.
"""

from __future__ import annotations

from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Ms, Record
from fairlead.model.jobs import LIVE

SPARE = 3  # preemptions in a row that nobody is surprised by
SHIELD_MS: Ms = 10 * 60_000  # the first time; doubles with each further one
DOUBLINGS_MAX = 24  # three centuries
REMEMBERED = 8  # for whom a job made room


class Cycle(Record, frozen=True):
    """A job that gets nowhere: for whom it was stopped, and how long it is left alone now."""

    job: JobId
    times: int  # since it last saved its work
    made_room: tuple[JobId, ...]  # the last beneficiaries, 0 where none was named
    mutual: JobId | None  # one of them that made room for it in turn
    shield_ms: Ms


def preempted(job: Job, beneficiary: JobId | None) -> None:
    """Book that a job has to make room."""
    job.preemptions += 1
    job.fruitless += 1
    job.beneficiary = beneficiary
    job.made_room = (*job.made_room, beneficiary or 0)[-REMEMBERED:]


def shield_ms(job: Job) -> Ms:
    """Return how long an attempt of the job is left alone by now; 0: not at all."""
    over = job.fruitless - SPARE
    return SHIELD_MS << min(over, DOUBLINGS_MAX) if over >= 0 else 0


def shielded(job: Job, now: Ms) -> bool:
    """Whether the present attempt has to be left alone for some time yet."""
    shield = shield_ms(job)
    if not shield or job.phase not in LIVE:
        return False
    since = job.placed_ms if job.started_ms is None else job.started_ms
    return since is not None and now - since < shield


def cycle_of(jobs: dict[JobId, Job], job: Job) -> Cycle | None:
    """Return in what cycle of preemptions a job is caught, None if in none."""
    if job.fruitless < SPARE:
        return None
    mutual = None
    for other_id in dict.fromkeys(job.made_room):
        other = jobs.get(other_id)
        if other is not None and job.id in other.made_room:
            mutual = other_id
    return Cycle(
        job=job.id,
        times=job.fruitless,
        made_room=job.made_room,
        mutual=mutual,
        shield_ms=shield_ms(job),
    )


def cycles(jobs: dict[JobId, Job]) -> list[Cycle]:
    """Return who gets nowhere, by id; O(jobs)."""
    found = (cycle_of(jobs, job) for job in jobs.values() if job.fruitless >= SPARE)
    return sorted((each for each in found if each is not None), key=lambda each: each.job)
