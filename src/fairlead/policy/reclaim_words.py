"""Why a job had to make room: for whom, by what right, what it loses, and who was spared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.core import watch
from fairlead.core.jobs import Job
from fairlead.model.amounts import of, show
from fairlead.model.jobs import Phase
from fairlead.model.resources import GPU
from fairlead.model.units import format_duration

if TYPE_CHECKING:
    from fairlead.policy.reclaim import Reclaim, Scene

SPARED_SHOWN = 3
LOOKED_AT = 64


def because(reclaim: Reclaim, job: Job, victim: Job, scene: Scene, victims: Sequence[Job]) -> str:
    """Return the reason of one preemption, in one line."""
    from fairlead.policy.reclaim import lost_ms

    config, now = reclaim.config, reclaim.core.clock
    loss = format_duration(lost_ms(victim, config, now), exact=False)
    if victim.spec.queue == job.spec.queue:
        words = (
            f"preempted for job {job.id} of the same queue, whose priority {job.spec.priority} is "
            f"above its {victim.spec.priority}: loses {loss} of work"
        )
    else:
        words = (
            f"preempted for job {job.id} of queue {job.spec.queue}, which takes back "
            f"{_amount(scene, job)}: first of those that borrow, by priority and by work lost; "
            f"loses {loss} of work"
        )
    spared = _spared(reclaim, job, victim, victims)
    return "; ".join([words, *spared])


def _amount(scene: Scene, job: Job) -> str:
    """Return what is taken back, and of which quota."""
    rows = scene.core.shares.rows
    row, amount = max(scene.asked, key=lambda each: (each[0] == GPU, -each[0]))
    branch = scene.guaranteed[0]
    whose = "its" if branch.name == job.spec.queue else f"queue {branch.name}'s"
    return f"{show(rows[row], amount)} of {whose} {of(rows[row], branch.subtree[row])}"


def _spared(reclaim: Reclaim, job: Job, victim: Job, victims: Sequence[Job]) -> list[str]:
    """Say of some that could have gone too why they were not chosen."""
    found: list[str] = []
    looked = 0
    for _, job_id in reversed(reclaim.core.ends.sorted):
        other = reclaim.core.jobs[job_id]
        if other in victims or other.phase is Phase.STOPPING:
            continue
        looked += 1
        if looked > LOOKED_AT or len(found) == SPARED_SHOWN:
            break
        beside = (other.spec.queue == job.spec.queue) == (victim.spec.queue == job.spec.queue)
        why = _why_not(reclaim, job, victim, other) if beside else ""
        if why:
            found.append(f"job {other.id} was not chosen: {why}")
    return found


def _why_not(reclaim: Reclaim, job: Job, victim: Job, other: Job) -> str:
    config, now = reclaim.config, reclaim.core.clock
    from fairlead.policy.reclaim import may_stop

    own = other.spec.queue == job.spec.queue
    if own and other.spec.priority >= job.spec.priority:
        return "its priority is not lower"
    if not other.spec.preemptible:
        return "it is not preemptible"
    if watch.shielded(other, now):
        return f"it was preempted {other.fruitless} times since it last saved its work"
    if not may_stop(reclaim.core, config, other):
        return "it has not run for long enough"
    if other.spec.priority > victim.spec.priority:
        return "higher priority"
    if own and config.preemptions_max is not None and other.preemptions >= config.preemptions_max:
        return f"it was preempted {other.preemptions} times"
    if not own and other.spec.queue != victim.spec.queue:
        return ""  # it may not borrow at all
    if reclaim.rank(other) > reclaim.rank(victim):
        return "it would lose more work"
    return "it frees nothing that is needed"
