"""A scheduler in a test whose jobs start when placed, and stop when the test says so."""

from __future__ import annotations

from fairlead.core import invariants
from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    QueueSet,
    StopDecided,
    Submitted,
    UserSet,
)
from fairlead.model.jobs import Exit, JobSpec, Phase, Queue
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.registry import build, policy_config
from fairlead.policy.settings import override


class Life:
    """A scheduler whose jobs start when placed, and stop when the test says so."""

    def __init__(self, *queues: Queue, policy="priority", nodes=(8,), users=(), **settings):
        self.scheduler = Scheduler(Core(), build)
        self.core = self.scheduler.core
        self.events: list[object] = []
        joins = [
            NodeJoined(
                node=index,
                spec=Node(
                    name=f"n{index}",
                    cpu_milli=64_000,
                    devices=tuple(Device(model=each) for each in gpus)
                    if isinstance(gpus, str)
                    else tuple(Device() for _ in range(gpus)),
                ),
            )
            for index, gpus in enumerate(nodes)
        ]
        config = override(policy_config(policy), settings)
        sets = [*(QueueSet(queue=each) for each in queues), *(UserSet(user=each) for each in users)]
        self.turn(0, PolicySet(policy=config), *joins, *sets)

    def turn(self, now, *inbox):
        now = max(now, self.core.now)
        turn = self.scheduler.turn(now, list(inbox))
        self.events += turn.events
        invariants.check(self.core)
        for event in turn.events:
            if isinstance(event, Placed):
                for rank in range(len(event.slots)):
                    self.core.apply(
                        now, MemberStarted(job=event.job, attempt=event.attempt, rank=rank)
                    )
        return turn.events

    def submit(self, now, queue, gpus, count=1, members=1, gpu_models=(), **more):
        first = self.core.next_job
        shape = Shape(cpu_milli=100, gpus=gpus, members=members, gpu_models=gpu_models)
        for i in range(count):  # one after the other: the last has run for the shortest time
            spec = JobSpec(shape=shape, queue=queue, **more)
            self.turn(now + i, Submitted(job=first + i, spec=spec))
        return [*range(first, first + count)] if count > 1 else first

    def end(self, now, *jobs, code=0):
        inbox = []
        for job_id in jobs:
            job = self.core.jobs[job_id]
            how = Exit(code=code) if job.phase is not Phase.STOPPING else Exit(signal=15)
            inbox += [
                MemberEnded(job=job_id, attempt=job.attempt, rank=rank, exit=how)
                for rank in range(len(job.slots))
            ]
        return self.turn(now, *inbox)

    def phase(self, job):
        return self.core.jobs[job].phase

    def stopping(self):
        return {job.id for job in self.core.jobs.values() if job.phase is Phase.STOPPING}

    def running(self):
        return {job.id for job in self.core.jobs.values() if job.phase is Phase.RUNNING}

    def stops(self):
        return [each for each in self.events if isinstance(each, StopDecided)]


def gpus(amount):
    return {"gpu_milli": 1000 * amount}


NLP, CV = Queue(name="nlp", quota=gpus(4)), Queue(name="cv", quota=gpus(4))
