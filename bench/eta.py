"""ETAs: what it costs to say of 1,000 waiting jobs on 1,000 nodes when they will start."""

from __future__ import annotations

import json
import time
from random import Random

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    AnyEvent,
    Forecasted,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    Submitted,
)
from fairlead.model.jobs import Forecast, JobSpec
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.eta import Etas
from fairlead.policy.registry import build, policy_config

NODES = 1_000
WAITING = 1_000
WIDTHS = (1, 1, 1, 2, 4, 8, 8)
SHARES = (20, 33, 50, 100, 200, 300, 400)  # quantiles of a run time, in percent of the median


def job(rng: Random) -> tuple[JobSpec, Forecast]:
    width = rng.choice(WIDTHS)
    members = rng.choice((1, 1, 1, 1, 1, 2, 4)) if width == 8 else 1
    median = int(60_000 * 10 ** rng.uniform(1, 3))
    shape = Shape(cpu_milli=4000 * width, memory_mib=1000 * width, gpus=width, members=members)
    spec = JobSpec(shape=shape, limit_ms=4 * median)
    quantiles = tuple(median * share // 100 for share in SHARES)
    return spec, Forecast(expected_ms=median, quantiles_ms=quantiles)


def crowded(policy: str) -> Core:
    """Return a cluster that is full, with so many jobs waiting."""
    rng, core = Random(1), Core()
    scheduler = Scheduler(core, build)
    devices = tuple(Device(model="H100", memory_mib=81_920) for _ in range(8))
    node = {"cpu_milli": 128_000, "memory_mib": 2**20, "devices": devices}
    joins = [NodeJoined(node=n, spec=Node(name=f"n{n}", **node)) for n in range(NODES)]
    scheduler.turn(0, [PolicySet(policy=policy_config(policy)), *joins])
    now = 0
    while len(core.pending) < WAITING:
        now += 1000
        inbox: list[AnyEvent] = []
        for number in range(core.next_job, core.next_job + 100):
            spec, forecast = job(rng)
            inbox += [Submitted(job=number, spec=spec), Forecasted(job=number, forecast=forecast)]
        for event in scheduler.turn(now, inbox).events:
            if isinstance(event, Placed):
                for rank in range(len(event.slots)):
                    core.apply(now, MemberStarted(job=event.job, attempt=1, rank=rank))
    return core


def main() -> None:
    for policy in ("priority", "priority-easy"):
        core = crowded(policy)
        waiting = len(core.pending)
        began = time.process_time()
        etas = Etas()
        etas.compute(core)
        line = {
            "what": f"ETAs of all waiting jobs, {policy}",
            "unit": "s of CPU",
            "value": round(time.process_time() - began, 3),
            "target": 1,
            "better": "less",
            "waiting": waiting,
            "running": len(core.jobs) - waiting,
            "nodes": NODES,
            "unknown": sum(each.likely_ms is None for each in etas.of.values()),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
