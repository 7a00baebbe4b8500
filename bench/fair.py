"""A round of the fair orders over 100,000 pending jobs of 200 queues on 1,000 nodes. JSON lines.

The tree has four levels: 10 top queues, 5 below each of them, 4 below each of these, and the users.
`a full round` looks at all that waits where next to nothing fits; everything has been woken.
`10,000 admissions` is a whole turn in which so many jobs start, with their events applied, without
a store.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from random import Random

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    MemberEnded,
    MemberStarted,
    NodeJoined,
    PolicySet,
    QueueSet,
    Submitted,
)
from fairlead.model.jobs import Exit, JobSpec, Queue
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.registry import build, policy_config

NODES, LEAVES, JOBS, ADMITTED = 1_000, 200, 100_000, 10_000
REPEATS = 5


def tree(rng: Random) -> tuple[list[Queue], list[str]]:
    """Return the queues, those above first, and the names of the leaves."""
    queues, leaves = [], []
    for top in range(10):
        queues.append(Queue(name=f"org{top}", weight=rng.randint(1, 4)))
        for middle in range(5):
            name = f"org{top}.dep{middle}"
            queues.append(Queue(name=name, parent=f"org{top}", weight=rng.randint(1, 4)))
            for low in range(4):
                leaves.append(f"{name}.team{low}")
                queues.append(Queue(name=leaves[-1], parent=name, weight=rng.randint(1, 4)))
    assert len(leaves) == LEAVES
    return queues, leaves


def cluster(policy: str, rng: Random) -> tuple[Core, list[str]]:
    """Return 1,000 nodes of 64 cores and 8 GPUs, and the queues."""
    core = Core()
    core.apply(0, PolicySet(policy=policy_config(policy)))
    queues, leaves = tree(rng)
    for queue in queues:
        core.apply(0, QueueSet(queue=queue))
    gpus = tuple(Device(memory_mib=80 * 1024) for _ in range(8))
    for index in range(NODES):
        spec = Node(
            name=f"n{index:04}", cpu_milli=64_000, memory_mib=512 * 1024, disk_mib=0, devices=gpus
        )
        core.apply(0, NodeJoined(node=index, spec=spec))
    return core, leaves


def full_round(policy: str) -> float:
    """Return ms: the cluster is full, one small job ends, and all that waits is looked at."""
    rng = Random(7)
    core, leaves = cluster(policy, rng)
    for index in range(8 * NODES):  # one GPU each, by all queues
        spec = JobSpec(
            shape=Shape(cpu_milli=8000, memory_mib=1024, gpus=1),
            queue=leaves[index % LEAVES],
            user=f"u{index % 3}",
        )
        core.apply(1, Submitted(job=core.next_job, spec=spec))
    scheduler = Scheduler(core, build)
    scheduler.turn(2, [])
    assert not core.pending
    shapes = [
        Shape(cpu_milli=1000 * cpu, memory_mib=1024 * memory, gpus=gpus)
        for cpu in (1, 2, 4, 8, 16)
        for memory in (4, 16)
        for gpus in (1, 2, 4, 8)
    ]
    for _ in range(JOBS):
        spec = JobSpec(
            shape=rng.choice(shapes), queue=rng.choice(leaves), user=f"u{rng.randrange(3)}"
        )
        core.apply(3, Submitted(job=core.next_job, spec=spec))
    scheduler.turn(4, [])
    times = []
    for at in range(REPEATS):
        live = next(iter(core.jobs.values()))
        now = 1000 * (at + 1)
        if not live.started:
            core.apply(now, MemberStarted(job=live.id, attempt=live.attempt, rank=0))
        core.apply(now, MemberEnded(job=live.id, attempt=live.attempt, rank=0, exit=Exit(code=0)))
        before = len(core.pending)
        gc.collect()
        began = time.process_time()
        scheduler.turn(now, [])
        times.append(1000 * (time.process_time() - began))
        assert before - len(core.pending) == 1
    return statistics.median(times)


def admissions(policy: str) -> float:
    """Return ms of a turn in which 10,000 jobs of four shapes start, and nothing is left over."""
    rng = Random(11)
    core, leaves = cluster(policy, rng)
    shapes = [
        Shape(cpu_milli=cpu, memory_mib=memory) for cpu in (500, 1000) for memory in (512, 2048)
    ]
    scheduler = Scheduler(core, build)
    scheduler.turn(1, [])
    for _ in range(ADMITTED):
        spec = JobSpec(
            shape=rng.choice(shapes), queue=rng.choice(leaves), user=f"u{rng.randrange(3)}"
        )
        core.apply(3, Submitted(job=core.next_job, spec=spec))
    gc.collect()
    began = time.process_time()
    scheduler.turn(4, [])
    taken = 1000 * (time.process_time() - began)
    assert not core.pending
    return taken


def say(what: str, times: list[float], target: str | None) -> None:
    line: dict[str, object] = {
        "what": what,
        "unit": "ms of CPU",
        "value": round(statistics.median(times), 1),
        "min": round(min(times), 1),
        "max": round(max(times), 1),
        "repeats": len(times),
    }
    print(json.dumps(line | ({"target": target} if target else {})), flush=True)


if __name__ == "__main__":
    policies = sys.argv[1:] or ["fair", "hdrf", "drf", "maxmin", "multifactor", "fairtree"]
    for name in policies:
        first = name == "fair"
        say(
            f"{name}: a full round, 100,000 jobs wait",
            [full_round(name)],
            "<= 100 ms" if first else None,
        )
        say(
            f"{name}: 10,000 admissions",
            [admissions(name) for _ in range(3)],
            "<= 150 ms" if first else None,
        )
    say("fifo, to compare: 10,000 admissions", [admissions("fifo") for _ in range(3)], None)
