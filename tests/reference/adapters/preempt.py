"""Victims of least cost, by fairlead.policy.victims on the nodes of a core.

A case's gangs have different numbers of GPUs on their nodes: each GPU is a member here.
"""

from __future__ import annotations

from typing import Any

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.events import AnyEvent, NodeJoined, Placed, Submitted
from fairlead.model.jobs import JobSpec, PolicyConfig
from fairlead.model.resources import Device, Node, Shape, Slot
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.reclaim import Scene, may_stop
from fairlead.policy.victims import Candidate, choose


def answer(given: dict[str, Any]) -> dict[str, Any]:
    names = sorted(given["free"])
    held = {name: sum(each["nodes"].get(name, 0) for each in given["running"]) for name in names}
    events: list[AnyEvent] = []
    for index, name in enumerate(names):
        devices = tuple(Device() for _ in range(held[name] + given["free"][name]))
        events.append(NodeJoined(node=index, spec=Node(name=name, cpu_milli=0, devices=devices)))
    used = dict.fromkeys(names, 0)
    for number, each in enumerate(given["running"], 1):
        slots: list[Slot] = []
        for name, gpus in each["nodes"].items():
            first, used[name] = used[name], used[name] + gpus
            slots += [
                Slot(node=names.index(name), devices=(device,))
                for device in range(first, first + gpus)
            ]
        spec = JobSpec(
            shape=Shape(cpu_milli=0, gpus=1, members=len(slots)),
            priority=each["priority"],
            preemptible=not each.get("protected", False),
            name=each["id"],
        )
        events += [
            Submitted(job=number, spec=spec),
            Placed(job=number, attempt=1, slots=tuple(slots)),
        ]
    asked = given["incoming"]
    shape = Shape(cpu_milli=0, gpus=asked["gpus_per_worker"], members=asked["workers"])
    incoming = len(given["running"]) + 1
    events.append(Submitted(job=incoming, spec=JobSpec(shape=shape, priority=asked["priority"])))
    core = Core()
    for event in events:
        core.apply(0, event)
    pipeline = Pipeline(PolicyConfig(within="lower-priority"))
    pipeline.bind(core)
    pipeline.reclaim.core = core
    job = core.jobs[incoming]
    scene = Scene(pipeline.reclaim, job, ())
    scene.candidates = [
        each
        for each in core.jobs.values()
        if may_stop(core, pipeline.config, each) and each.spec.priority < job.spec.priority
    ]
    lost = {each["id"]: each["lost_work_gpu_s"] for each in given["running"]}
    choice = choose([_candidate(each, lost) for each in scene.candidates], scene)
    if choice is None:
        return {"victims": None, "objective": None}
    assert choice.exact
    chosen = sorted(scene.candidates[place].spec.name for place in choice.places)
    return {"victims": chosen, "objective": list(choice.objective)}


def _candidate(job: Job, lost: dict[str, int]) -> Candidate[str]:
    name = job.spec.name
    return Candidate(name, job.spec.priority, lost[name], job.spec.shape.members)
