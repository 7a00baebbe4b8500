"""Machines that are partly full, as a core, to make room on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fairlead.core.engine import Core
from fairlead.core.ledger import Request
from fairlead.model.events import NodeJoined, Placed, Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Device, Node, Shape, Slot
from fairlead.policy.defrag import somebody
from fairlead.policy.migrate import Answer, Mover, cheapest
from fairlead.policy.place import score
from fairlead.policy.place.fit import Fit


class Held(NamedTuple):
    """A job on a machine: its GPUs, and what moving it costs, None where it must stay."""

    gpus: int
    cost: int | None


class Host(NamedTuple):
    """A machine: its GPUs, and the jobs on it by name."""

    capacity: int
    jobs: Mapping[str, Held]


def core_of(nodes: Mapping[str, Host]) -> tuple[Core, dict[int, str]]:
    """Return a core with these machines and jobs, and the jobs' names."""
    core, names = Core(), dict[int, str]()
    for index, (name, host) in enumerate(sorted(nodes.items())):
        devices = tuple(Device() for _ in range(host.capacity))
        core.apply(0, NodeJoined(node=index, spec=Node(name, 1000, devices=devices)))
        used = 0
        for job, held in sorted(host.jobs.items()):
            number = core.next_job
            spec = JobSpec(shape=Shape(cpu_milli=0, gpus=held.gpus), name=job)
            core.apply(0, Submitted(job=number, spec=spec))
            slot = Slot(index, tuple(range(used, used + held.gpus)))
            core.apply(0, Placed(job=number, attempt=1, slots=(slot,)))
            used += held.gpus
            names[number] = job
    return core, names


def movers(core: Core, nodes: Mapping[str, Host]) -> Sequence[Mover]:
    """Return who may move, at what cost."""
    held = {name: each for host in nodes.values() for name, each in host.jobs.items()}
    found = []
    for job in core.jobs.values():
        cost = held[job.spec.name].cost
        if cost is not None:
            found.append(Mover(job, core.shapes[job.shape_id], cost))
    return found


def make_room(core: Core, nodes: Mapping[str, Host], need: int, count: int = 1) -> Answer:
    """Return the cheapest moves after which so many machines have so many GPUs free each."""
    shape = Shape(cpu_milli=0, gpus=need, members=count, spread="distinct-nodes")
    fit = Fit(core.ledger, score.build("best-fit"))
    return cheapest(core, fit, (somebody(core, shape), Request(shape)), movers(core, nodes))
