"""Node choice: a core, a pipeline with the rule, one turn per task."""

from __future__ import annotations

from typing import Any

from fairlead.core.engine import Core
from fairlead.core.ledger import Columns
from fairlead.core.turn import Scheduler
from fairlead.model.events import AnyEvent, NodeJoined, Placed, PolicySet, Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import CPU, DISK, GPU, MEMORY, Device, Node, Shape
from fairlead.policy.registry import build, policy_config

ROWS = {"cpu": (CPU, 1), "mem": (MEMORY, 1), "disk": (DISK, 1), "gpu": (GPU, 1000)}


def answer(given: dict[str, Any]) -> dict[str, Any]:
    core = Core()
    scheduler = Scheduler(core, build)
    names = sorted(given["nodes"])
    setup: list[AnyEvent] = [
        NodeJoined(node=index, spec=_node(name, given["nodes"][name]))
        for index, name in enumerate(names)
    ]
    policy = policy_config(f"fifo-skip+{given['rule'].replace('_', '-')}")
    scheduler.turn(0, [PolicySet(policy=policy), *setup])
    chosen: list[str | None] = []
    for number, task in enumerate(given["tasks"], 1):
        shape = Shape(
            cpu_milli=task.get("cpu", 0),
            memory_mib=task.get("mem", 0),
            disk_mib=task.get("disk", 0),
            gpus=task.get("gpu", 0),
        )
        turn = scheduler.turn(number, [Submitted(job=number, spec=JobSpec(shape=shape))])
        placed = [event for event in turn.events if isinstance(event, Placed)]
        chosen.append(names[placed[0].slots[0].node] if placed else None)
    view = core.ledger.view()
    return {
        "chosen": chosen,
        "free_after": {
            name: _free(view, index, given["nodes"][name]) for index, name in enumerate(names)
        },
    }


def _node(name: str, capacity: dict[str, int]) -> Node:
    assert capacity.keys() <= ROWS.keys(), f"unknown resources: {sorted(capacity)}"
    return Node(
        name=name,
        cpu_milli=capacity.get("cpu", 0),  # any unit does: amounts count relative to the largest
        memory_mib=capacity.get("mem", 0),
        disk_mib=capacity.get("disk", 0),
        devices=tuple(Device() for _ in range(capacity.get("gpu", 0))),
    )


def _free(view: Columns, node: int, capacity: dict[str, int]) -> dict[str, int]:
    column = view[:, node].tolist()
    return {name: column[row] // unit for name, (row, unit) in ROWS.items() if name in capacity}
