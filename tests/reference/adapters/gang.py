"""All or nothing: gangs of whole GPUs through a core and the pipeline, in one turn.

A case says what is free, not how large the nodes are. Here others hold enough GPUs of each node
for any gang: a gang that could never run would be refused at the gate, and hold up nobody.
"""

from __future__ import annotations

from typing import Any

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.events import AnyEvent, ForeignUsage, NodeJoined, Placed, PolicySet, Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import GPU, Device, Node, Shape
from fairlead.policy.registry import build, policy_config


def answer(given: dict[str, Any]) -> dict[str, Any]:
    core = Core()
    scheduler = Scheduler(core, build)
    names = sorted(given["free"])
    mode = {"strict": "fifo", "skip": "fifo-skip"}[given["mode"]]
    placement = given.get("place", "best_fit").replace("_", "-")
    inbox: list[AnyEvent] = [PolicySet(policy=policy_config(f"{mode}+{placement}"))]
    busy = max(gang["gpus_per_worker"] * gang["workers"] for gang in given["gangs"])
    for index, name in enumerate(names):
        free = given["free"][name]
        devices = tuple(Device() for _ in range(free + busy))
        inbox.append(NodeJoined(node=index, spec=Node(name=name, cpu_milli=0, devices=devices)))
        others = tuple(range(free, free + busy))
        amounts = (0, 0, 0, 1000 * busy, 0)
        inbox.append(ForeignUsage(node=index, amounts=amounts, devices=others))
    for number, gang in enumerate(given["gangs"], 1):
        shape = Shape(cpu_milli=0, gpus=gang["gpus_per_worker"], members=gang["workers"])
        inbox.append(Submitted(job=number, spec=JobSpec(shape=shape, name=gang["id"])))
    placement_of: dict[str, list[str] | None] = {gang["id"]: None for gang in given["gangs"]}
    for event in scheduler.turn(0, inbox).events:
        if isinstance(event, Placed):
            gang_id = core.jobs[event.job].spec.name
            placement_of[gang_id] = [names[slot.node] for slot in event.slots]
    view = core.ledger.view()
    left = {name: int(view[GPU, index]) // 1000 for index, name in enumerate(names)}
    return {"placement": placement_of, "free_after": left}
