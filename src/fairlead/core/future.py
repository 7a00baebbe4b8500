"""What is known of the future: forecasts, beliefs, promises, reservations. `apply` changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core.ends import FAR, believed_run_ms
from fairlead.core.jobs import Job, Promise, in_time
from fairlead.core.ledger import Request
from fairlead.model.base import Ms, NodeId
from fairlead.model.events import (
    Checkpointed,
    Forecasted,
    Outlived,
    Promised,
    Promoted,
    ReservationDeleted,
    ReservationSet,
)
from fairlead.model.jobs import LIVE, Phase
from fairlead.model.resources import WHOLE_GPU_MILLI, gang_of, width_milli

if TYPE_CHECKING:
    from fairlead.core.engine import Core

SERVICES_KEPT = 512
GOING_ON = (Phase.STARTING, Phase.RUNNING)


def believe(core: Core, job: Job, start_ms: Ms) -> None:
    """Believe that an attempt which starts then runs as long as the policy's estimate says."""
    run_ms = believed_run_ms(job, core.policy)
    core.ends.set(job.id, min(start_ms + run_ms, FAR), final=run_ms == job.spec.limit_ms)


def believe_all(core: Core) -> None:
    """Believe anew of all that runs: the policy's estimate is another one."""
    for job in core.jobs.values():
        if job.phase in GOING_ON:
            believe(core, job, core.now if job.started_ms is None else job.started_ms)


def forecasted(core: Core, event: Forecasted) -> None:
    """A prediction was made; one for a job that has ended meanwhile is too late."""
    job = core.jobs.get(event.job)
    if job is None:
        return
    job.forecast = event.forecast
    core.note(job)
    if job.phase in GOING_ON:
        believe(core, job, core.now if job.started_ms is None else job.started_ms)
        core.wakeups += 1
    elif job.phase is Phase.PENDING:
        line_up(core, job)


def line_up(core: Core, job: Job) -> None:
    """The place of a waiting job in an order may be another one now."""
    job.token = core.seq
    core.arrivals.append(job.id)


def outlived(core: Core, event: Outlived) -> None:
    """An attempt runs longer than was believed."""
    job = core.jobs[event.job]
    assert job.attempt == event.attempt and job.started_ms is not None, event
    final = event.expected_ms == job.spec.limit_ms
    core.ends.set(job.id, min(job.started_ms + event.expected_ms, FAR), final=final)
    core.wakeups += 1


def promised(core: Core, event: Promised) -> None:
    """A job that waits, or is to move, has been promised a start, or a promise is taken back."""
    job = core.jobs[event.job]
    moves = event.move_for is not None or (job.promise and job.promise.move_for is not None)
    assert job.phase is Phase.PENDING or moves, f"job {job.id} does not wait: {event}"
    if event.slots:
        run_ms = believed_run_ms(job, core.policy)
        if job.spec.deadline_ms is not None and job.spec.limit_ms is not None:
            run_ms = job.spec.limit_ms  # what was admitted by its limit keeps all of it
        shares = core.shares  # booked anew before there is a hold, if need be
        forget_promise(core, job)
        start, slots, until = event.start_ms, event.slots, event.until_ms
        job.promise = Promise(start, slots, run_ms, until, event.move_for, event.ranks)
        core.promises[job.id] = job
        if event.move_for is not None:
            core.moving[job.id] = job
        if until is not None and job.phase is Phase.PENDING:
            shares.keep(job)
    else:
        forget_promise(core, job)


def request_of(core: Core, job: Job) -> Request:
    """Return what the slots are for that a waiting job is promised: for all its members, or for
    those of its different workers that keep theirs."""
    if job.promise is None or not job.promise.ranks:
        return core.shapes[job.shape_id]
    kinds = [job.spec.shape.of(rank) for rank in job.promise.ranks]
    return Request(gang_of([replace(kind, members=1) for kind in kinds]))


def waits(core: Core, job: Job) -> None:
    """A job that was stopped to be moved holds nothing any more: its quota is kept for it."""
    if job.promise is not None and job.promise.until_ms is not None:
        core.shares.keep(job)


def forget_promise(core: Core, job: Job) -> None:
    """A job starts, is gone, or has to wait without a promise; what was held for it is free."""
    if job.promise is None:
        return
    if job.promise.until_ms is not None:
        if job.id in core.shares.kept:  # else it has what it needs yet: it has not been moved
            core.shares.unkeep(job)
        core.wakeups += 1
    job.promise = None
    del core.promises[job.id]
    core.moving.pop(job.id, None)


def withdraw(core: Core, node: NodeId | None = None) -> None:
    """Take back promises: those of a policy that rules no more, or of devices that are gone.

    What is promised in time for a deadline, by admission, every policy keeps.
    """
    for job in list(core.promises.values()):
        assert job.promise is not None
        slots, held = job.promise.slots, job.promise.until_ms is not None
        gone = any(slot.node == node and (slot.devices or held) for slot in slots)
        if gone or (node is None and not in_time(job.spec, job.promise)):
            forget_promise(core, job)


def withdraw_holds(core: Core, node: NodeId) -> None:
    """Take back what is held for waiting jobs on a node that is gone: others may help them."""
    for job in list(core.promises.values()):
        assert job.promise is not None
        if job.promise.until_ms is not None and any(s.node == node for s in job.promise.slots):
            forget_promise(core, job)


def checkpointed(core: Core, event: Checkpointed) -> None:
    """A job has saved its work. Late words of an attempt that is over are ignored."""
    job = core.jobs.get(event.job)
    if job is None or job.attempt != event.attempt or job.phase not in LIVE:
        return
    at_ms = core.now if event.at_ms is None else event.at_ms
    if job.placed_ms is not None and at_ms < job.placed_ms:
        return  # of before this attempt, by a clock that is wrong or a file that is old
    if job.checkpoint_ms is None or at_ms > job.checkpoint_ms:
        job.checkpoint_ms, job.fruitless = at_ms, 0
        core.note(job)


def promoted(core: Core, event: Promoted) -> None:
    """A job that had sunk by its service is back at the top; both its accounts start anew."""
    job = core.jobs[event.job]
    job.promoted_served_ms = job.attained_ms(core.now)
    job.waited_ms, job.pending_ms = 0, core.now
    if job.phase is Phase.PENDING:
        line_up(core, job)


def reservation_set(core: Core, event: ReservationSet) -> None:
    """A reservation was made or changed."""
    core.reservations[event.reservation.name] = event.reservation
    core.wakeups += 1


def reservation_deleted(core: Core, event: ReservationDeleted) -> None:
    """A reservation is over or was given up."""
    core.reservations.pop(event.name, None)
    core.wakeups += 1


def served(core: Core, job: Job) -> None:
    """A job has ended well: remember how much service it took, for orders that learn from it."""
    core.services.append(job.served_ms * width_milli(job.spec.shape) // WHOLE_GPU_MILLI)
    core.services_seen += 1
    if len(core.services) > 2 * SERVICES_KEPT:
        del core.services[:-SERVICES_KEPT]
