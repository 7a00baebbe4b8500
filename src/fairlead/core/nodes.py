"""What the core keeps of a node, and what it hands over after a turn."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.core.jobs import Job
from fairlead.model.base import NodeId
from fairlead.model.messages import MemberKey
from fairlead.model.resources import Node, Shape
from fairlead.model.status import JobStatus


class NodeState:
    """A node: its spec, whether it is up, and the members that hold resources or run there."""

    __slots__ = ("members", "spec", "up")

    def __init__(self, spec: Node) -> None:
        self.spec = spec
        self.up = True
        self.members: dict[MemberKey, Job] = {}  # not confirmed gone, whatever their phase


class Drained(msgspec.Struct, frozen=True):
    """What changed since the last drain."""

    statuses: list[JobStatus]
    nodes: list[NodeId]


def device_memory_most(nodes: Sequence[NodeState], shape: Shape) -> int:
    """Return the memory in MiB of the largest device that a shape may get, 0 if there is none."""
    sizes = (
        device.memory_mib
        for node in nodes
        for device in node.spec.devices
        if not shape.gpu_models or device.model in shape.gpu_models
    )
    return max(sizes, default=0)
