"""What preemption has to do with where a job is: for whom it made room, whose room it waits for."""

from __future__ import annotations

from fairlead.core import watch
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import Ms
from fairlead.model.jobs import Phase
from fairlead.model.units import format_duration

SHOWN = 8


def victims_of(core: Core, job: Job) -> list[Job]:
    """Return the jobs that are stopping to make room for a waiting job, by id."""
    found = [
        each
        for each in core.jobs.values()
        if each.phase is Phase.STOPPING and each.beneficiary == job.id
    ]
    return sorted(found, key=lambda each: each.id)


def held_in_words(core: Core, job: Job, now: Ms) -> str:
    """Return whom a job with a hold waits for, and until when at the latest."""
    promise = job.promise
    assert promise is not None and promise.until_ms is not None
    victims = victims_of(core, job)
    names = ", ".join(str(each.id) for each in victims[:SHOWN])
    if len(victims) > SHOWN:
        names += f" and {len(victims) - SHOWN} more"
    until = format_duration(max(0, promise.until_ms - now), exact=False)
    smaller = "".join(f"; {line}" for line in _smaller(core, job, now))
    moving = _moving(core, job)
    if moving:
        moves = "jobs move" if len(moving) > 1 else "another job moves"
        names = ", ".join(str(each.id) for each in moving[:SHOWN])
        return f"{moves} elsewhere to make room for it ({names}), within {until}{smaller}"
    if not victims:
        return f"room is held for it, for {until} at the latest{smaller}"
    ends = max(core.ends.get(each.id) for each in victims)
    left = format_duration(max(0, ends - now), exact=False)
    return (
        f"waits for job{'s' if len(victims) > 1 else ''} {names}, preempted for it, to be gone in "
        f"{left} at the latest; their room is held for it for {until}{smaller}"
    )


def _moving(core: Core, job: Job) -> list[Job]:
    """Return the jobs that are yet to move to make room for a waiting job, by id."""
    moving = [each for each in core.promises.values() if each.promise and each is not job]
    those = [each for each in moving if each.promise and each.promise.move_for == job.id]
    return sorted(those, key=lambda each: each.id)


def _moves_in_words(core: Core, job: Job, now: Ms) -> str:
    """Return where a job that runs is to move, and for whom; "" where it stays."""
    promise = job.promise
    if promise is None or promise.move_for is None or promise.until_ms is None:
        return ""
    nodes = dict.fromkeys(core.nodes[slot.node].spec.name for slot in promise.slots)
    whom = f" for job {promise.move_for}" if promise.move_for else ""
    until = format_duration(max(0, promise.until_ms - now), exact=False)
    return f"moves to {', '.join(nodes)} to make room{whom}, or stays if it cannot within {until}"


def _smaller(core: Core, job: Job, now: Ms) -> list[str]:
    """Say which elastic jobs lose members on the machines where room is held for a job."""
    nodes = {slot.node for slot in job.promise.slots} if job.promise else set()
    found = []
    for each in core.jobs.values():
        team = each.team
        if team is None or not team.leaving or nodes.isdisjoint(slot.node for slot in each.slots):
            continue
        left = format_duration(max(0, team.leave_ms - now), exact=False)
        count = len(team.leaving)
        members = f"{count} member{'s' if count > 1 else ''}"
        found.append(f"job {each.id} gets smaller by {members} in {left} at the latest")
    return found[:SHOWN]


def preempted_in_words(job: Job) -> str:
    """Return how often a job was preempted, and for whom lately."""
    times = "once" if job.preemptions == 1 else f"{job.preemptions} times"
    line = f"preempted {times}"
    last = [str(each) for each in dict.fromkeys(job.made_room) if each]
    if last:
        line += f", lately for job{'s' if len(last) > 1 else ''} {', '.join(last)}"
    return line


def preempted_lines(core: Core, job: Job, now: Ms) -> list[str]:
    """Return what is to say of the preemptions and checkpoints of a job, one line each."""
    lines = [line] if (line := _moves_in_words(core, job, now)) else []
    if job.preemptions:
        lines.append(preempted_in_words(job))
    cycle = watch.cycle_of(core.jobs, job)
    if cycle is not None:
        shield = format_duration(cycle.shield_ms, exact=False)
        line = f"gets nowhere: preempted {cycle.times} times since it last saved its work"
        if cycle.mutual is not None:
            line += f", in turns with job {cycle.mutual}"
        lines.append(f"{line}; once it runs it is left alone for {shield}")
    if job.checkpoint_ms is not None:
        ago = format_duration(max(0, now - job.checkpoint_ms), exact=False)
        lines.append(f"saved its work {ago} ago")
    return lines
