"""Gangs that lost a member run again as a whole, and have the first claim on what they had.

A gang that is not elastic cannot go on without the member that was lost with its node: it stops as
a whole and waits again. Meanwhile its other slots, on nodes that are up, are held for it by its id,
until it starts, wherever it then finds room for the missing ones, or until `rebuild` has passed:
then they are free for all. So a gang is rebuilt or released as a whole, and nobody slips into the
gap so that it has to wait for a place that it had.

Cost: O(gangs that lost a member and wait).
"""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import UP
from fairlead.core.reserve import limit_of
from fairlead.model.base import Ms, NodeId
from fairlead.model.events import AnyEvent, Promised
from fairlead.model.resources import Slot
from fairlead.policy.fence import Fence
from fairlead.policy.place.trial import Trial


def hold(core: Core, rebuild_ms: Ms) -> Iterator[AnyEvent]:
    """Yield the holds of gangs that have just lost a member."""
    for job in list(core.broken.values()):
        until = job.pending_ms + rebuild_ms
        if job.promise is not None or core.clock >= until:
            continue
        slots = left(core, job)
        if slots:
            different = core.shapes[job.shape_id].parts
            yield Promised(
                job=job.id,
                start_ms=core.clock,
                slots=tuple(slots.values()),
                because=f"held while it is rebuilt: {job.because}",
                until_ms=until,
                ranks=tuple(slots) if different else (),
            )


def left(core: Core, job: Job) -> dict[int, Slot]:
    """Return the slots of a waiting gang's last attempt that it could have again, by place."""
    request = core.shapes[job.shape_id]
    fence = Fence(core, job, min(core.clock + limit_of(job), FAR))
    trials: dict[NodeId, Trial] = {}
    found: dict[int, Slot] = {}
    for place, slot in enumerate(job.slots):
        if not core.ledger.room.item(UP, slot.node) or slot.node in fence.closed:
            continue
        trial = trials.get(slot.node)
        if trial is None:
            now = Trial.now(core.ledger, slot.node)
            trial = trials[slot.node] = fence.within(slot.node, now)
        known = all(device < len(trial.devices.size) for device in slot.devices)
        its = request.of(place)
        if len(slot.devices) == its.picks and known and trial.has_room(its, slot.devices):
            trial.move(its, slot.devices, -1)
            found[place] = slot
            if len(found) == request.members:
                break
    return found
