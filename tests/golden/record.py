"""Record the log of a release: `python tests/golden/record.py VERSION` (once, when it is released).

The file is history: never record it again after the release. A new version must still replay it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from msgspec.structs import replace

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.turn import Scheduler
from fairlead.model.advice import Share
from fairlead.model.base import Ms
from fairlead.model.events import (
    Advised,
    AnyEvent,
    Asked,
    Cancelled,
    Checkpointed,
    Forecasted,
    ForeignUsage,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Parted,
    PolicySet,
    Progressed,
    QueueDeleted,
    QueueSet,
    Released,
    ReservationDeleted,
    ReservationSet,
    ResourceDeleted,
    ResourceSet,
    SpeedDeleted,
    SpeedSet,
    StopDecided,
    Submitted,
    TenantDeleted,
    TenantSet,
    UserDeleted,
    UserSet,
    Withdrawn,
)
from fairlead.model.jobs import (
    Exit,
    Forecast,
    JobSpec,
    Phase,
    PolicyConfig,
    Queue,
    Reservation,
    Resource,
    Speed,
    Tenant,
    User,
)
from fairlead.model.resources import Device, Node, Shape, Slot, gang_of
from fairlead.policy.registry import build, policy_config

A100 = tuple(Device(model="A100", memory_mib=81920, uuid=f"GPU-{i}") for i in range(2))


class Recorder:
    """A scheduler that lives through a story, and all that it logs."""

    def __init__(self) -> None:
        self.records: list[tuple[Ms, AnyEvent]] = []
        self.scheduler = Scheduler(Core(), build)

    def turn(self, now: Ms, *inbox: AnyEvent) -> None:
        """Let these events happen, and the scheduler decide."""
        self.records.extend((now, event) for event in self.scheduler.turn(now, inbox).events)

    def submit(self, now: Ms, spec: JobSpec, request: str = "") -> None:
        """Let a job come."""
        self.turn(now, Submitted(job=self.scheduler.core.next_job, spec=spec, request=request))


def story() -> list[tuple[Ms, AnyEvent]]:
    """Return a log with every kind of event and every phase in it."""
    recorder = Recorder()
    begin(recorder)
    plan_ahead(recorder)
    take_turns(recorder)
    share_out(recorder)
    take_and_give(recorder)
    measure_and_plan(recorder)
    return recorder.records


def begin(recorder: Recorder) -> None:
    """The first release's story: jobs, limits, failures, quotas, nodes that come and go."""
    turn, submit, scheduler = recorder.turn, recorder.submit, recorder.scheduler
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


def clear(recorder: Recorder, now: Ms) -> None:
    """Cancel all that is left, whether it waits or runs."""
    jobs = list(recorder.scheduler.core.jobs.values())
    waiting = [job for job in jobs if job.phase is Phase.PENDING]
    live = [job for job in jobs if job.phase is not Phase.PENDING]
    recorder.turn(
        now,
        *(Cancelled(job=job.id, because="cancelled") for job in waiting),
        *(StopDecided(job=job.id, attempt=job.attempt, then=Phase.CANCELLED) for job in live),
    )
    recorder.turn(now, *(gone for job in live for gone in ends(job, Exit(signal=15))))


def ends(job: Job, exit: Exit) -> list[MemberEnded]:
    """Return the ends of all members of a job that are not gone."""
    ranks = [rank for rank in range(len(job.slots)) if rank not in job.exits]
    return [MemberEnded(job=job.id, attempt=job.attempt, rank=r, exit=exit) for r in ranks]


def plan_ahead(recorder: Recorder) -> None:
    """Forecasts that are outlived, promises, reservations with and without an end."""
    turn, submit = recorder.turn, recorder.submit
    clear(recorder, 9_000)
    conservative = policy_config("conservative-expected")
    turn(10_000, PolicySet(policy=conservative), TenantSet(tenant=Tenant(name="vision")))
    first = recorder.scheduler.core.next_job
    whole = Shape(cpu_milli=3000, members=2, spread="distinct-nodes")
    submit(10_100, JobSpec(shape=whole, expected_ms=2_000, preemptible=False))
    guess = Forecast(expected_ms=5_000, quantiles_ms=(1, 2, 3, 4, 5, 6, 7), model="last 3")
    submit(10_200, JobSpec(shape=whole, limit_ms=60_000, deadline_ms=90_000))
    turn(10_300, Forecasted(job=first + 1, forecast=guess))
    for rank in range(2):
        turn(10_400, MemberStarted(job=first, attempt=1, rank=rank))
    drain = Reservation(name="drain-b", start_ms=60_000, nodes=(1,), user="root", because="fans")
    share = Reservation(
        name="vision",
        start_ms=20_000,
        end_ms=40_000,
        tenants=("vision",),
        shape=Shape(cpu_milli=1000, gpus=1),
        slots=(Slot(node=0, devices=(1,)),),
    )
    turn(10_500, ReservationSet(reservation=drain), ReservationSet(reservation=share))
    turn(13_000)  # the first has outlived what was believed
    turn(13_100, *(MemberEnded(job=first, attempt=1, rank=r, exit=Exit(code=0)) for r in range(2)))
    turn(40_000)  # the reservation is over
    turn(40_100, ReservationDeleted(name="drain-b"))


def take_turns(recorder: Recorder) -> None:
    """Preemption, and a promotion back to the top."""
    turn, submit, core = recorder.turn, recorder.submit, recorder.scheduler.core
    las = PolicyConfig(
        order="las", preempt=True, levels_gpu_ms=(1_000,), promote_percent=100, preemptions_max=9
    )
    clear(recorder, 49_000)
    turn(50_000, PolicySet(policy=las))
    for number in range(2):
        submit(50_000 + number, JobSpec(shape=Shape(cpu_milli=8000), grace_ms=0))
    for now in range(50_100, 58_000, 1_000):
        jobs = list(core.jobs.values())
        for job in jobs:
            if job.phase is Phase.STARTING:
                turn(now, MemberStarted(job=job.id, attempt=job.attempt))
        turn(now + 500)
        for job in jobs:
            if job.phase is Phase.STOPPING:
                turn(now + 600, *ends(job, Exit(signal=9)))


def share_out(recorder: Recorder) -> None:
    """A tree of queues: borrowed quota is taken back from a job that has saved its work."""
    turn, submit, core = recorder.turn, recorder.submit, recorder.scheduler.core
    clear(recorder, 59_000)
    turn(
        60_000,
        PolicySet(policy=policy_config("fair")),
        NodeJoined(node=2, spec=Node(name="c", cpu_milli=8000, devices=A100, boot="1")),
        QueueSet(queue=Queue(name="org", weight=2, most={"cpu_milli": 12_000})),
        QueueSet(queue=Queue(name="nlp", parent="org", quota={"gpu_milli": 3000})),
        QueueSet(queue=Queue(name="web", borrow={"gpu_milli": 4000}, users=("ann",))),
        QueueSet(queue=Queue(name="old")),
        UserSet(user=User(name="ann", weight=2, live_max=3)),
        UserSet(user=User(name="bob", pending_max=5)),
    )
    turn(60_100, QueueDeleted(name="old"), UserDeleted(name="bob"), TenantDeleted(name="vision"))
    gpus = Shape(cpu_milli=1000, gpus=2)
    first = core.next_job
    for number in range(2):
        submit(60_200 + number, JobSpec(shape=gpus, user="ann", queue="web", grace_ms=1_000))
    start(recorder, 60_300)
    turn(60_400, Checkpointed(job=first, attempt=1, at_ms=60_350))
    submit(60_500, JobSpec(shape=gpus, user="cara", queue="nlp"))
    for job in list(core.jobs.values()):
        if job.phase is Phase.STOPPING:
            turn(60_600, *ends(job, Exit(signal=15)))
    start(recorder, 60_700)


def take_and_give(recorder: Recorder) -> None:
    """Named resources that are asked for while jobs run, and a job that grows and shrinks."""
    turn, submit, core = recorder.turn, recorder.submit, recorder.scheduler.core
    clear(recorder, 69_000)
    small = Shape(cpu_milli=1000)
    resources = [Resource(name="matlab", amount=2), Resource(name="gate", kind="lock")]
    turn(
        70_000,
        PolicySet(policy=PolicyConfig(order="fifo", resize_every_ms=0)),
        *(ResourceSet(resource=each) for each in (*resources, Resource(name="old"))),
    )
    turn(70_100, ResourceDeleted(name="old"))
    first = core.next_job
    needs = JobSpec(shape=small, counted=(("matlab", 1),), may_acquire=(("gate", 1),))
    submit(70_200, needs)
    submit(70_300, needs)
    start(recorder, 70_400)
    for job in (first, first + 1):
        turn(70_500, Asked(job=job, attempt=1, name="gate", amount=1, key=f"key {job}"))
    (waits,) = core.named.waiting()
    turn(70_600, Withdrawn(job=waits.job, attempt=1, ask=waits.number, because="gave up"))
    turn(70_700, Released(job=first, attempt=1, name="gate", amount=1))
    submit(70_800, JobSpec(shape=small, members_max=4, grace_ms=1_000))
    start(recorder, 70_900)
    start(recorder, 71_000)
    for node in (0, 2):  # others use all the rest
        turn(71_100, ForeignUsage(node=node, amounts=(8000, 0, 0, 0, 0)))
    submit(71_200, JobSpec(shape=small))


def measure_and_plan(recorder: Recorder) -> None:
    """Speeds that are told, measured and forgotten, a plan that is carried out, a pair parted."""
    turn, submit, core = recorder.turn, recorder.submit, recorder.scheduler.core
    clear(recorder, 79_000)
    rounds = replace(policy_config("gavel-maxmin"), lease_ms=10_000, share="trial")
    old = Device(model="K80", memory_mib=12_288)
    turn(
        80_000,
        PolicySet(policy=rounds),
        NodeJoined(
            node=3, spec=Node(name="d", cpu_milli=8000, devices=(old,) * 2, rack="r1", switch="s1")
        ),
        *(SpeedSet(speed=Speed("bert", 1000, model, rate)) for model, rate in SPEEDS),
    )
    for node in (0, 2):
        turn(80_050, ForeignUsage(node=node, amounts=(0, 0, 0, 0, 0)))
    first = core.next_job
    bert = JobSpec(shape=Shape(cpu_milli=500, gpus=1), job_type="bert", steps=1_000)
    for number in range(2):
        submit(80_100 + number, bert)
    turn(80_150, SpeedDeleted(job_type="bert", width_milli=1000, model="K80"))
    start(recorder, 80_200)
    for at, steps in ((81_000, 10), (82_000, 30)):
        turn(at, Progressed(job=first, attempt=1, steps=steps, at_ms=at - 1))
    jobs = tuple(range(first, first + 2))
    share = Share(jobs=jobs, on=(("A100", 500_000), ("K80", 500_000)))
    turn(90_000, Advised(adviser="gavel-maxmin", plan=(share,), gap_ppm=0, took_us=1_500))
    for job in [job for job in core.jobs.values() if job.phase is Phase.STOPPING]:
        turn(90_050, *ends(job, Exit(signal=15)))
    part = Shape(cpu_milli=500, gpu_milli=300, gpu_memory_mib=4_096)
    gang = gang_of([Shape(cpu_milli=1000), Shape(cpu_milli=500, gpus=1, members=2)], within="rack")
    for spec in (JobSpec(shape=part, job_type="lm"), JobSpec(shape=gang, job_type="rl")):
        submit(90_100, spec)
    start(recorder, 90_200)
    pair = [job for job in core.jobs.values() if job.phase is Phase.RUNNING][-2:]
    turn(90_300, Parted(job=pair[0].id, other=pair[1].id, model="A100", because="too slow"))


SPEEDS = (("A100", 4_000_000), ("K80", 1_000_000))


def start(recorder: Recorder, now: Ms) -> None:
    """Let all members start that have not."""
    for job in list(recorder.scheduler.core.jobs.values()):
        if job.phase in (Phase.STARTING, Phase.RUNNING):
            for rank in [rank for rank in job.ranks if rank not in job.started]:
                recorder.turn(now, MemberStarted(job=job.id, attempt=job.attempt, rank=rank))


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
