"""Slots for a gang with different workers in a preemptive draft (preempt.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fairlead.core.ledger import UP, Request
from fairlead.model.base import NodeId
from fairlead.model.resources import Slot
from fairlead.policy.fence import Fence
from fairlead.policy.place.seats import seat
from fairlead.policy.place.trial import Trial

if TYPE_CHECKING:
    from fairlead.policy.preempt import Draft


def slots_of_kinds(draft: Draft, request: Request, fence: Fence) -> tuple[Slot, ...] | None:
    """Return slots for all members, where as few as can be of the worst jobs have to go.

    Of the jobs whose turn is yet to come the last ones are thought away; how many, is found by
    halves. Cost: O(log jobs) packings.
    """
    waiting = {job.id for those in draft.holders.values() for job in those}
    yet = [job for _, job in draft.preemptible if job.id in waiting]
    ledger = draft.core.ledger

    def packed(count: int) -> tuple[Slot, ...] | None:
        gone = {job.id for job in yet[len(yet) - count :]}
        states: dict[NodeId, Trial] = {}
        for node in range(ledger.count):
            if not ledger.room.item(UP, node) or node in fence.closed:
                continue
            trial = draft.node(node).copy()
            for holder in draft.holders.get(node, []):
                if holder.id in gone:
                    draft.give_back(trial, holder, node)
            if draft.sound(node, trial):
                states[node] = fence.within(node, trial, draft.stopping | gone)
        return seat(draft.pipeline.fit, request, states)

    return _fewest(len(yet), packed)


def _fewest(most: int, packed: Callable[[int], tuple[Slot, ...] | None]) -> tuple[Slot, ...] | None:
    """Return what the least number gives that gives anything, by halves."""
    found = packed(0)
    if found is not None or not most or (found := packed(most)) is None:
        return found
    least = 1
    while least < most:
        middle = (least + most) // 2
        slots = packed(middle)
        if slots is None:
            least = middle + 1
        else:
            most, found = middle, slots
    return found
