"""A service's life in a test: a scheduler on a store, whose jobs end when they are told to."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    Submitted,
    TenantSet,
)
from fairlead.model.jobs import Exit, JobSpec, Tenant
from fairlead.model.resources import Node
from fairlead.policy.registry import build, policy_config
from fairlead.store.sqlite import SqliteStore


class Lived:
    """A service's scheduler with a store; jobs start when they are placed, and end as told."""

    def __init__(self, folder, policy="fifo"):
        self.store = SqliteStore(folder / "fairlead.db")
        self.scheduler = Scheduler(Core(), build, self.store)
        self.core = self.scheduler.core
        self.turn(
            0,
            PolicySet(policy=policy_config(policy)),
            TenantSet(tenant=Tenant(name="nlp", quota=(2000, None, None, None, None))),
            NodeJoined(node=0, spec=Node(name="box", cpu_milli=4000)),
        )

    def turn(self, now, *inbox):
        for event in self.scheduler.turn(now, list(inbox)).events:
            if isinstance(event, Placed):
                self.turn(now, MemberStarted(job=event.job, attempt=event.attempt, at_ms=now))

    def submit(self, now, shape, **more):
        self.turn(now, Submitted(job=self.core.next_job, spec=JobSpec(shape=shape, **more)))
        return self.core.next_job - 1

    def end(self, now, job):
        attempt = self.core.jobs[job].attempt
        self.turn(now, MemberEnded(job=job, attempt=attempt, exit=Exit(code=0), at_ms=now))
