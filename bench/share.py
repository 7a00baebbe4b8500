"""A week of two tenants in overload: shares beside weights, and how soon a guarantee is met.

Both tenants ask for 1.1 times the cluster all week, with weights 1 and 2. A third queue is
guaranteed a third of the cluster and asks for it now and then; meanwhile the two have it. What is
preempted is gone at once here: in the service its grace (30 s unless asked otherwise) comes on top,
and is counted.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from random import Random

from fairlead.model.jobs import JobSpec
from fairlead.model.limits import GRACE_MS_DEFAULT
from fairlead.model.resources import Shape
from fairlead.policy.registry import policy_config
from fairlead.policy.sharing_file import read_sharing
from fairlead.sim.cluster import Cluster, parse_cluster
from fairlead.sim.generate import generate, jobs_in
from fairlead.sim.meter import Meter, Over
from fairlead.sim.queues import arrange
from fairlead.sim.replay import World, gate
from fairlead.sim.traces import jsonl
from fairlead.sim.workload import SimJob, Workload, fit

CLUSTER = "4x8gpu"
WEEK_MS = 7 * 24 * 3_600_000
WEIGHTS = {"tenant1": 1, "tenant2": 2}
BURSTS, BURST_GPUS, BURST_MS = 40, 8, 3_600_000
POLICIES = ("usage", "fair", "hdrf")


def overload(cluster: Cluster, seed: int = 1) -> Workload:
    """Return a week of two tenants that want more than there is."""
    jobs = jobs_in(WEEK_MS / 1000, load=2.2, cluster=cluster, seed=seed)
    header, lines = generate("overload", jobs=jobs, load=2.2, cluster=cluster, seed=seed, tenants=2)
    text = b"".join(jsonl.encode(header, lines)).splitlines()
    return fit(jsonl.parse("overload", list(enumerate(text, 1))), cluster, gate(cluster))


def with_bursts(workload: Workload, seed: int = 1) -> Workload:
    """Return the workload with somebody who asks for all of its guarantee now and then."""
    rng = Random(seed)
    bursts = []
    for number in range(BURSTS):
        at = round((number + 0.2 + 0.4 * rng.random()) * WEEK_MS / BURSTS)
        for each in range(BURST_GPUS):
            shape = Shape(cpu_milli=0, gpus=1)
            spec = JobSpec(
                shape=shape, tenant="owner", user="owner", expected_ms=BURST_MS, limit_ms=BURST_MS
            )
            bursts.append(SimJob(f"burst{number}.{each}", at, BURST_MS, spec))
    jobs = sorted([*workload.jobs, *bursts], key=lambda job: job.submit_ms)
    return Workload(tuple(jobs), {}, {})


def measure(workload: Workload, cluster: Cluster, policy: str, quota: int) -> None:
    queues: dict[str, object] = {name: {"weight": weight} for name, weight in WEIGHTS.items()}
    if quota:
        queues["owner"] = {"quota": {"gpus": quota}}
    found = arrange(workload, cluster, read_sharing({"queues": queues}), "tenant")
    world = World(found.workload, cluster, policy_config(policy), setup=found.setup)
    meter = Meter(list(WEIGHTS), WEEK_MS)
    begun = time.thread_time()
    with suppress(Over):
        world.run(None, meter)
    cpu_s = round(time.thread_time() - begun, 1)
    name = f"{policy} {CLUSTER}, a week, {len(found.workload.jobs)} jobs"
    if not quota:
        total = sum(WEIGHTS.values())
        off = max(abs(meter.share(each) - weight / total) for each, weight in WEIGHTS.items())
        say = {
            "bench": f"share beside weight: {name}",
            "unit": "% of GPU-time off the weight, the worse of two tenants",
            "value": round(100 * off, 2),
            "shares": {each: round(meter.share(each), 4) for each in WEIGHTS},
            "counted_h": round(meter.counted_ms / 3_600_000, 1),
        }
        target = 2.0 if policy == "usage" else None
    else:
        starts = zip(found.workload.jobs, world.start_ms, strict=True)
        waits = [
            start - job.submit_ms if start >= 0 else WEEK_MS
            for job, start in starts
            if job.spec.queue == "owner"
        ]
        grace = GRACE_MS_DEFAULT if sum(world.preempted) else 0
        say = {
            "bench": f"guarantee met: {name}",
            "unit": "s after asking, the latest of all jobs, a grace of 30 s included",
            "value": (max(waits) + grace) / 1000,
            "asked": len(waits),
        }
        target = 60.0
    say |= {"better": "less", "preemptions": sum(world.preempted), "cpu_s": cpu_s}
    print(json.dumps(say | ({"target": target} if target else {})), flush=True)


def main() -> None:
    cluster = parse_cluster(CLUSTER)
    week = overload(cluster)
    for policy in POLICIES:
        measure(week, cluster, policy, 0)
    measure(with_bursts(week), cluster, "usage", BURST_GPUS)


if __name__ == "__main__":
    main()
