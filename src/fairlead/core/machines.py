"""Nodes that come, change and go, and what becomes of those who were there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core import future
from fairlead.core.nodes import NodeState
from fairlead.core.speeds import reshape
from fairlead.model.base import NodeId
from fairlead.model.events import Event, ForeignUsage, NodeJoined, NodeLost
from fairlead.model.jobs import LIVE, Exit
from fairlead.model.resources import Device, Slot

if TYPE_CHECKING:
    from fairlead.core.engine import Core


def node_joined(core: Core, event: NodeJoined) -> None:
    """A node is up: new, back, or changed."""
    if event.node < len(core.nodes):
        node = core.nodes[event.node]
        same = _known(event.spec.devices[: len(node.spec.devices)]) == _known(node.spec.devices)
        if node.spec.boot != event.spec.boot or not same:
            lose(core, event.node, event, "the node started anew")
            _drop_devices(core, event.node)
    else:
        assert event.node == len(core.nodes), "node ids are dense"
        node = NodeState(event.spec)
        core.nodes.append(node)
    core.node_ids.pop(node.spec.name, None)
    node.spec, node.up = event.spec, True
    core.node_ids[event.spec.name] = event.node
    _rebuild(core, event.node)
    core.fitting.clear()
    core.touch(event.node)
    core.wakeups += 1
    if core.speeds.never:
        reshape(core)  # there may be models that there were not before


def _known(devices: tuple[Device, ...]) -> list[tuple[str, int, str]]:
    """Return what makes devices the same: not how they are linked, of which more may be learnt."""
    return [(each.model, each.memory_mib, each.uuid) for each in devices]


def _drop_devices(core: Core, node: NodeId) -> None:
    """The devices of a node are other ones now: what still winds down there holds none."""
    future.withdraw(core, node)
    for job in core.jobs.values():
        if job.phase in LIVE and any(slot.node == node and slot.devices for slot in job.slots):
            core.account(job, -1)
            job.slots = tuple(Slot(node=node) if slot.node == node else slot for slot in job.slots)
            core.account(job, 1)


def _rebuild(core: Core, node: NodeId) -> None:
    """Book a node anew: its capacity as it is now, less what jobs still hold there."""
    core.ledger.join(node, core.nodes[node].spec)
    if not core.nodes[node].up:
        core.ledger.down(node)
    for job in core.jobs.values():
        if job.phase in LIVE:
            for its, slots in core.shapes[job.shape_id].split(job.slots):
                for slot in slots:
                    if slot.node == node:
                        core.ledger.take(node, its, slot.devices)


def node_lost(core: Core, event: NodeLost) -> None:
    """A node is gone for good or fenced."""
    if not core.nodes[event.node].up:
        return
    core.nodes[event.node].up = False
    core.ledger.down(event.node)
    future.withdraw_holds(core, event.node)
    lose(core, event.node, event, event.because or "the node is gone")
    core.wakeups += 1  # a job that was held up by one that died may go on elsewhere


def lose(core: Core, node: NodeId, event: Event, because: str) -> None:
    """Whatever ran on a node runs no more."""
    gone = Exit(why="lost", detail=f"{core.nodes[node].spec.name}: {because}")
    cause = NodeLost(node=node, because=because) if isinstance(event, NodeJoined) else event
    for (job_id, attempt, rank), job in list(core.nodes[node].members.items()):
        if job.id == job_id and job.attempt == attempt and rank not in job.exits:
            core.lost(job, rank, gone, cause)


def foreign_usage(core: Core, event: ForeignUsage) -> None:
    """Others use so much of a node now."""
    core.ledger.set_foreign(event.node, event.amounts, event.devices)
    core.wakeups += 1
