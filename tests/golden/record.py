"""Record the log of a release: `python tests/golden/record.py VERSION` (once, when it is released).

The file is history: never record it again after the release. A new version must still replay it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.base import Ms
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    ForeignUsage,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    PolicySet,
    QueueSet,
    StopDecided,
    Submitted,
    TenantSet,
)
from fairlead.model.jobs import Exit, JobSpec, Phase, Queue, Tenant
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.registry import build, policy_config

A100 = tuple(Device(model="A100", memory_mib=81920, uuid=f"GPU-{i}") for i in range(2))


def story() -> list[tuple[Ms, AnyEvent]]:
    """Return a log with every kind of event and every phase in it."""
    records: list[tuple[Ms, AnyEvent]] = []
    scheduler = Scheduler(Core(), build)

    def turn(now: Ms, *inbox: AnyEvent) -> None:
        records.extend((now, event) for event in scheduler.turn(now, inbox).events)

    def submit(now: Ms, spec: JobSpec, request: str = "") -> None:
        turn(now, Submitted(job=scheduler.core.next_job, spec=spec, request=request))

    turn(
        1_000,
        PolicySet(policy=policy_config("priority+worst-fit")),
        QueueSet(queue=Queue(name="night", priority=20, pending_max=10, limit_ms=3_600_000)),
        TenantSet(tenant=Tenant(name="vision", weight=2, quota=(6000, None, None, None, None))),
        NodeJoined(node=0, spec=Node(name="a", cpu_milli=8000, memory_mib=65536, devices=A100)),
        NodeJoined(node=1, spec=Node(name="b", cpu_milli=4000, memory_mib=16384, boot="1")),
    )
    one = Shape(cpu_milli=2000, memory_mib=4096)
    submit(2_000, JobSpec(shape=one, name="train", tenant="vision", command=("true",)), "key-1")
    submit(2_500, JobSpec(shape=Shape(cpu_milli=1000, gpus=1, gpu_models=("A100",)), limit_ms=500))
    submit(3_000, JobSpec(shape=Shape(cpu_milli=500, gpu_milli=250, gpu_memory_mib=8192)))
    submit(3_100, JobSpec(shape=Shape(cpu_milli=1500, members=2, spread="distinct-nodes")))
    submit(3_200, JobSpec(shape=Shape(cpu_milli=8000), priority=90, queue="night"))
    submit(3_300, JobSpec(shape=one, tenant="vision", retries=1, array=6, array_count=2))
    for job, ranks in ((1, 1), (2, 1), (3, 1), (4, 2), (6, 1)):
        for rank in range(ranks):
            turn(3_400, MemberStarted(job=job, attempt=1, rank=rank))
    turn(3_950)  # job 2 reaches its limit
    turn(4_000, MemberEnded(job=2, attempt=1, exit=Exit(signal=15)))
    turn(4_100, MemberEnded(job=1, attempt=1, exit=Exit(code=75)))
    turn(4_200, ForeignUsage(node=1, amounts=(1000, 0, 0, 0, 0)))
    turn(4_300, MemberEnded(job=6, attempt=1, exit=Exit(why="oom", detail="4096 MiB")))
    turn(4_400, NodeLost(node=1, because="no word for 60 s"))
    turn(4_500, MemberEnded(job=4, attempt=1, rank=0, exit=Exit(signal=9)))
    turn(4_600, NodeJoined(node=1, spec=Node(name="b", cpu_milli=4000, memory_mib=8192, boot="2")))
    turn(4_700, MemberStarted(job=3, attempt=1), MemberEnded(job=3, attempt=1, exit=Exit(code=0)))
    turn(4_800, Cancelled(job=5, because="cancelled by root"))
    live = next(job for job in scheduler.core.jobs.values() if job.phase is Phase.STARTING)
    turn(
        4_900,
        StopDecided(job=live.id, attempt=live.attempt, then=Phase.PENDING, because="preempted"),
    )
    return records


def main(version: str) -> None:
    """Write tests/golden/VERSION.jsonl: the digest of the state, then the events."""
    records = story()
    core = Core()
    for now, event in records:
        core.apply(now, event)
    lines = [msgspec.json.encode({"version": version, "digest": core.digest()})]
    lines += [msgspec.json.encode(record) for record in records]
    path = Path(__file__).parent / f"{version}.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
