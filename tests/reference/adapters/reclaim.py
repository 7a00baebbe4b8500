"""Reclaim through a core with queues: who goes, by fairlead.policy.reclaim, for one that waits.

A case's sizes are cores of one pool that has as many as were promised in all.
"""

from __future__ import annotations

from typing import Any

from fairlead.core.engine import Core
from fairlead.model.events import (
    AnyEvent,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    QueueSet,
    Submitted,
)
from fairlead.model.jobs import JobSpec, PolicyConfig, Queue
from fairlead.model.resources import Node, Shape, Slot
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.reclaim import Scene


def answer(given: dict[str, Any]) -> dict[str, Any]:
    core = Core()
    config = PolicyConfig(
        order="fifo",
        reclaim=given["reclaim"].replace("_", "-"),
        within=given["within_queue"].replace("_", "-"),
    )
    whole = sum(queue["nominal"] for queue in given["queues"])
    # Where a case has more running than was promised, its pool is as large as that.
    whole = max(whole, sum(each["size"] for each in given["workloads"]))
    node = Node(name="pool", cpu_milli=1000 * whole)
    events: list[tuple[int, AnyEvent]] = [
        (0, PolicySet(policy=config)),
        (0, NodeJoined(node=0, spec=node)),
    ]
    for queue in given["queues"]:
        quota = {"cpu_milli": 1000 * queue["nominal"]}
        events.append((0, QueueSet(queue=Queue(name=queue["name"], quota=quota))))
    jobs = [*given["workloads"], given["incoming"]]
    ids = {each["id"]: number for number, each in enumerate(jobs, 1)}
    names = {number: name for name, number in ids.items()}
    events += [(0, Submitted(job=ids[each["id"]], spec=_spec(each))) for each in jobs]
    for each in sorted(given["workloads"], key=lambda each: each["admitted_at"]):
        job, at = ids[each["id"]], each["admitted_at"]
        events.append((at, Placed(job=job, attempt=1, slots=(Slot(node=0),))))
        events.append((at, MemberStarted(job=job, attempt=1)))
    for at, event in events:
        core.apply(at, event)
    core.clock = core.now + 1
    pipeline = Pipeline(config)
    pipeline.bind(core)
    reclaim, incoming = pipeline.reclaim, core.jobs[ids[given["incoming"]["id"]]]
    reclaim.core = core
    scene = Scene(reclaim, incoming, ())
    victims = reclaim.victims(incoming, scene)
    scene = Scene(reclaim, incoming, ())
    scene.guaranteed = scene.leaf.above()  # the order in which they would go if it were
    own, others = reclaim.candidates(incoming, scene)
    return {
        "victims": None if victims is None else [names[each.id] for each in victims],
        "victims_order": [names[each.id] for each in [*others, *own]],
    }


def _spec(each: dict[str, Any]) -> JobSpec:
    shape = Shape(cpu_milli=1000 * each["size"])
    return JobSpec(shape=shape, queue=each["queue"], priority=each["priority"])
