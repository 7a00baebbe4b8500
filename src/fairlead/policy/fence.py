"""What reservations and promises keep from a job that starts now, for policies without plans."""

from __future__ import annotations

from collections.abc import Collection

from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import HOST, Request
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.jobs import Reservation
from fairlead.policy.firm import less_promised
from fairlead.policy.place.trial import Trial


class Fence:
    """Nodes, and parts of nodes, that a job must not touch from now until it has ended."""

    def __init__(self, core: Core, job: Job, until: Ms) -> None:
        self.core, self.job = core, job
        self.closed: set[NodeId] = set()
        self.parts: list[tuple[Reservation, Request]] = []
        for each in core.reservations.values():
            end = FAR if each.end_ms is None else each.end_ms
            mine = job.spec.tenant in each.tenants
            if mine or each.start_ms >= until or end <= max(core.clock, each.start_ms):
                continue
            self.closed.update(each.nodes)
            if each.shape is not None:
                self.parts.append((each, Request(each.shape)))

    def __bool__(self) -> bool:
        """Whether any reservation keeps anything from the job."""
        return bool(self.closed or self.parts)

    def within(self, node: NodeId, trial: Trial, gone: Collection[JobId] = ()) -> Trial:
        """Return what the job may use of what is free on a node that is not closed.

        `gone` are thought away: what they hold of a reservation of theirs is kept for others.
        """
        for reservation, request in self.parts:
            slots = [slot for slot in reservation.slots if slot.node == node]
            if not slots:
                continue
            trial = trial.copy()
            for row in range(HOST):
                kept = len(slots) * request.host[row] - self._own(reservation, node, row, gone)
                trial.free[row] -= max(kept, 0)
            for device in (device for slot in slots for device in slot.devices):
                if device < len(trial.devices.size):  # else the node has come back smaller
                    trial.devices.milli[device] = trial.devices.memory[device] = 0
        if self.core.promises:
            trial = trial.copy()
            less_promised(self.core, trial, node, self.job)
        return trial

    def _own(
        self, reservation: Reservation, node: NodeId, row: int, gone: Collection[JobId]
    ) -> int:
        """Return what those hold on a node for whom it is reserved."""
        core = self.core
        return sum(
            core.shapes[job.shape_id].of(rank).host[row]
            for (_, _, rank), job in core.nodes[node].members.items()
            if job.spec.tenant in reservation.tenants and job.id not in gone
        )
