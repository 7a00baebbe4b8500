"""What a job asks for per member, where a trace gives totals and a number of nodes."""

from __future__ import annotations

from fairlead.model import limits
from fairlead.model.resources import Shape


def spread(nodes: int, *, gpus: int, cpu_milli: int, member_mib: int = 0) -> Shape:
    """Return equal members for a job's totals: one per node, or one per GPU if that is uneven.

    `member_mib` is the memory on each node.
    """
    nodes = max(nodes, 1)
    members = nodes
    if gpus % nodes or gpus // nodes > limits.DEVICES_PER_NODE_MAX:
        members = gpus
    return Shape(
        cpu_milli=-(-cpu_milli // members),
        gpus=gpus // members,
        memory_mib=-(-member_mib * nodes // members),
        members=members,
    )
