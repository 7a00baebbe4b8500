"""Elastic jobs: members that join and leave while the job runs. `apply` changes it.

A gang is still all or nothing at its least size: it starts with that, and never goes on with less.
What it has beyond is given back member by member, each slot when its member is confirmed gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core.ending import describe_exit
from fairlead.core.jobs import Job
from fairlead.core.team import Team
from fairlead.model import limits
from fairlead.model.events import Event, Grown, Shrunk
from fairlead.model.jobs import Exit, Phase
from fairlead.model.resources import Slot

if TYPE_CHECKING:
    from fairlead.core.engine import Core


def begin(core: Core, job: Job) -> None:
    """An attempt begins: its members are numbered if some may join or leave."""
    if job.spec.members_max:
        job.team = Team(len(job.slots))
        core.elastic[job.id] = job


def over(core: Core, job: Job) -> None:
    """An attempt is over: every member is confirmed gone."""
    if job.team is not None:
        job.team = None
        del core.elastic[job.id]


def halt(job: Job) -> None:
    """The whole gang stops: those who were leaving anyway are no exception any more."""
    if job.team is not None:
        job.team.leaving.clear()


def grown(core: Core, event: Grown) -> None:
    """Members join."""
    job = core._ours(event, event.attempt)
    core._move(job, event, Phase.RUNNING)
    team, request = job.team, core.shapes[job.shape_id]
    assert team is not None and not job.exits, f"job {job.id} cannot grow: {event}"
    size = team.size + len(event.slots)
    assert event.slots and size <= job.spec.members_max, f"job {job.id} has {team.size}: {event}"
    for slot in event.slots:
        node = core.nodes[slot.node]
        free = core.ledger.has_room(slot.node, request, slot.devices)
        assert free, f"job {job.id}: node {node.spec.name} is down or has no room: {event}"
        core.ledger.take(slot.node, request, slot.devices)
        number = team.unused
        team.unused += 1
        team.numbers.append(number)
        team.joined[number] = core.seq
        node.members[job.id, job.attempt, number] = job
    job.slots += event.slots
    core.book(job, event.slots, 1)
    _changed(core, job, event.because)


def shrunk(core: Core, event: Shrunk) -> None:
    """The last members are told to leave."""
    job = core._ours(event, event.attempt)
    core._move(job, event, Phase.RUNNING)
    team, least = job.team, job.spec.shape.members
    assert team is not None and not job.exits, f"job {job.id} cannot shrink: {event}"
    assert least <= event.members < team.size, f"job {job.id} has {team.size}: {event}"
    team.leaving.update(team.staying()[event.members :])
    team.leave_ms = max(team.leave_ms, core.now + job.spec.grace_ms)
    _changed(core, job, event.because)


def leaves(core: Core, job: Job, rank: int, exit: Exit, event: Event) -> bool:
    """Whether a running elastic job goes on without a member that is gone now.

    So it does where the member was told to leave, and where it was lost, or failed while there
    are retries, and enough others are left. A failure uses up one retry.
    """
    team = job.team
    assert team is not None
    if rank in team.leaving:
        _give_back(core, job, rank)
        core.note(job)
        if len(job.exits) == len(job.slots):  # the others have come to their end already
            core._release(job, event)
        return True
    others = [each for each in team.staying() if each != rank and each not in job.exits]
    if exit.ok or exit.code == limits.EXIT_REQUEUE or len(others) < job.spec.shape.members:
        return False
    if exit.why not in ("lost", "cannot-start"):
        if job.failures >= job.spec.retries:
            return False
        job.failures += 1
    place = team.staying().index(rank)
    _give_back(core, job, rank)
    team.lost += 1
    core._move(job, event, Phase.RUNNING)
    what = f"rank {place} {describe_exit(exit)}"
    _changed(core, job, f"{what}; it goes on with {team.size} members")
    return True


def _give_back(core: Core, job: Job, rank: int) -> None:
    """A member is confirmed gone while the job goes on: its slot is free."""
    team = job.team
    assert team is not None
    index = team.numbers.index(rank)
    slot: Slot = job.slots[index]
    core.ledger.give(slot.node, core.shapes[job.shape_id], slot.devices)
    core.book(job, (slot,), -1)
    del team.numbers[index]
    job.slots = job.slots[:index] + job.slots[index + 1 :]
    team.leaving.discard(rank)
    team.joined.pop(rank, None)
    job.started.discard(rank)
    core.wakeups += 1


def _changed(core: Core, job: Job, because: str) -> None:
    """The membership is another one: every member is to hear of it."""
    assert job.team is not None
    job.team.changed(core.now)
    job.because = because or job.because
    core.note(job)
    core.wakeups += 1
    for slot in job.slots:
        core.touch(slot.node)
