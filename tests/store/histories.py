"""Histories to store: true ones, made by a core, and one event of every kind."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator

from fairlead.core.engine import Core
from fairlead.model.base import Ms
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    ForeignUsage,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    PolicySet,
    QueueSet,
    StopDecided,
    Submitted,
    TenantSet,
)
from fairlead.model.jobs import Exit, JobSpec, Phase, PolicyConfig, Queue, Tenant
from fairlead.model.resources import Device, Node, Shape, Slot
from fairlead.model.status import JobStatus

Turn = tuple[list[tuple[Ms, AnyEvent]], list[JobStatus]]

EVERY_KIND: tuple[AnyEvent, ...] = (
    NodeJoined(node=0, spec=Node(name="n0", cpu_milli=8000, devices=(Device(model="A100"),))),
    NodeLost(node=0, because="no answer"),
    ForeignUsage(node=0, amounts=(1, 2, 3, 0, 0), devices=(0,)),
    TenantSet(tenant=Tenant(name="vision", weight=3, quota=(None, 5, None, None, None))),
    QueueSet(queue=Queue(name="night", limit_ms=5)),
    PolicySet(policy=PolicyConfig(order="sjf", overtake_ms=None)),
    Submitted(
        job=1,
        spec=JobSpec(
            shape=Shape(gpus=1, gpu_models=("A100", "H100")),
            name='Größe "x"\n\x00 \'; DROP TABLE log; --',
            command=("/bin/sh", "-c", "echo ☃"),
            env={"A": "b=c"},
            labels=(("k", "v"),),
        ),
        request="key",
    ),
    Placed(job=1, attempt=1, slots=(Slot(node=0, devices=(0, 1)),), because="best-fit"),
    StopDecided(job=1, attempt=1, then=Phase.CANCELLED, because="by ann"),
    Cancelled(job=2, because="not needed"),
    MemberStarted(job=1, attempt=1, rank=3),
    MemberEnded(job=1, attempt=1, exit=Exit(signal=9, why="oom", detail="killed")),
)


def status(job: int, **changes: object) -> JobStatus:
    """A pending job of ann's, but for the changes."""
    values: dict[str, object] = {
        "id": job,
        "name": f"job-{job}",
        "user": "ann",
        "tenant": "vision",
        "queue": "default",
        "phase": Phase.PENDING,
        "priority": 50,
        "submitted_ms": 1_000 + job,
    }
    return JobStatus(**(values | changes))  # type: ignore[arg-type]


def turns(jobs: int, core: Core | None = None) -> Iterator[Turn]:
    """A true history: a node joins, and each job is submitted, runs and ends; four turns each.

    The last job stays pending, the one before it keeps running.
    """
    core = core or Core()
    now = 1_000

    def turn(*events: AnyEvent) -> Turn:
        nonlocal now
        now += 10
        for event in events:
            core.apply(now, event)
        return [(now, event) for event in events], core.drain().statuses

    yield turn(NodeJoined(node=0, spec=Node(name="n0", cpu_milli=8_000, memory_mib=64_000)))
    for job in range(1, jobs + 1):
        spec = JobSpec(shape=Shape(cpu_milli=1000), name=f"train-{job}", user="ann")
        yield turn(Submitted(job=job, spec=spec))
        if job == jobs:
            return
        yield turn(Placed(job=job, attempt=1, slots=(Slot(node=0),), because=f"fits-{job}"))
        yield turn(MemberStarted(job=job, attempt=1))
        if job < jobs - 1:
            yield turn(MemberEnded(job=job, attempt=1, exit=Exit(code=job % 2)))


def numbered(turn: int, size: int) -> Turn:
    """A turn that can be recognised: each event says which turn it is of, and of how many."""
    records: list[tuple[Ms, AnyEvent]] = [
        (turn, Cancelled(job=turn + 1, because=f"{i}/{size}")) for i in range(size)
    ]
    return records, [status(turn + 1, because=f"{size}")]


def in_child(work: Callable[[], None]) -> int:
    """Run something in a forked process; return its exit code, negative if a signal ended it."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
