"""Where a job may start now beside the claims of others: the best node, or the next best."""

from __future__ import annotations

from typing import Protocol

from fairlead.core.ledger import Request
from fairlead.model.base import Ms, NodeId
from fairlead.model.resources import Slot
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.seats import seat, take
from fairlead.policy.place.trial import Trial


class Guard(Protocol):
    """What knows what others have claimed."""

    def allows(self, node: NodeId, request: Request, devices: tuple[int, ...], until: Ms) -> bool:
        """Whether one member may have these devices of a node from now until then."""
        ...

    def bound(self, node: NodeId, until: Ms) -> Trial | None:
        """Return the least that is free on a node from now until then; None: only what is now."""
        ...


def find(fit: Fit, request: Request, guard: Guard | None, until: Ms) -> tuple[Slot, ...] | None:
    """Return slots that are free now, and until then by the claims of others; None if none are."""
    slots = fit.gang(request)
    return None if slots is None else left_alone(fit, request, slots, guard, until)


def left_alone(
    fit: Fit, request: Request, slots: tuple[Slot, ...], guard: Guard | None, until: Ms
) -> tuple[Slot, ...] | None:
    """Return these slots, free now, or others, that no claim takes before then; None: none."""
    if guard is None or _allowed(request, slots, guard, until):
        return slots
    return _beside(fit, request, guard, until)


def _allowed(request: Request, slots: tuple[Slot, ...], guard: Guard, until: Ms) -> bool:
    if len(slots) == 1:
        return guard.allows(slots[0].node, request, slots[0].devices, until)
    trials: dict[NodeId, Trial] = {}
    for its, those in request.split(slots):
        for slot in those:
            trial = trials.get(slot.node)
            if trial is None:
                bound = guard.bound(slot.node, until)
                if bound is None:
                    continue
                trial = trials[slot.node] = bound.copy()
            if not trial.has_room(its, slot.devices):
                return False
            trial.move(its, slot.devices, -1)
    return True


def _left(fit: Fit, node: NodeId, guard: Guard, until: Ms) -> Trial:
    """Return what is free of a node, less what is claimed there."""
    state, bound = Trial.now(fit.ledger, node), guard.bound(node, until)
    return state if bound is None else state.least(bound)


def _beside(fit: Fit, request: Request, guard: Guard, until: Ms) -> tuple[Slot, ...] | None:
    """Look at every node that fits now, best first, less what is claimed there."""
    if fit.ledger.count == 1 and not request.picks:
        return None  # no other node, and no other devices
    spread, members = request.shape.spread, request.members
    if request.parts:
        nodes = {node for part in request.parts for node in fit.in_order(part)}
        return seat(fit, request, {node: _left(fit, node, guard, until) for node in nodes})
    states = ((node, _left(fit, node, guard, until)) for node in fit.in_order(request))
    if request.tree:
        return seat(fit, request, dict(states))
    slots: list[Slot] = []
    for node, state in states:
        most = 1 if spread == "distinct-nodes" else members - len(slots)
        here = list(take(request, node, state, most))
        if spread == "same-node":
            if len(here) == members:
                return tuple(here)
            continue
        slots += here
        if len(slots) == members:
            return tuple(slots)
    return None
