"""The virtual world without faults: the service's own core and turn, driven by a trace.

Events of one instant are taken in together – ends, then arrivals – and followed by one decision
pass (algorithms.md section 0). A placed job runs from the instant of its decision; it ends after
its run time, or when the core decides that its time limit is over.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from fairlead.core.admission import admit
from fairlead.core.due import due_stops
from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.base import Ms
from fairlead.model.events import (
    AnyEvent,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    QueueSet,
    Submitted,
)
from fairlead.model.jobs import Exit, JobSpec, PolicyConfig, Queue
from fairlead.policy.registry import build, policy_config
from fairlead.sim.cluster import Cluster
from fairlead.sim.workload import Admit, Workload

Progress: TypeAlias = Callable[[int], None]  # called now and then with the jobs ended so far
Observe: TypeAlias = Callable[[Ms, Core], None]  # called after every decision pass; only reads

NEVER: Ms = 2**62
PROGRESS_EVERY = 1024  # instants
_DONE = Exit(code=0)
_TERMINATED = Exit(signal=15)


class Outcome(msgspec.Struct, frozen=True):
    """What became of each job of a workload, in the workload's order. Times in ms.

    `nodes` are indices into the cluster's nodes, one per member. `wall_s` and `cpu_s` are what the
    replay took, without reading the trace and without computing metrics; `cpu_s` is that of the
    replaying thread: numpy's idle BLAS workers, which nothing here uses, spin on for a while.
    """

    workload: Workload
    cluster: Cluster
    policy: str
    start_ms: list[Ms]
    end_ms: list[Ms]
    nodes: list[tuple[int, ...]]
    timeouts: int
    wall_s: float
    cpu_s: float


def gate(cluster: Cluster) -> Admit:
    """Return the scheduler's own admission for this cluster, empty: raises Refused."""
    core = Core()
    for event in _joins(cluster):
        core.apply(0, event)

    def check(spec: JobSpec) -> None:
        admit(core, msgspec.structs.replace(spec, queue="default"))

    return check


def _joins(cluster: Cluster) -> list[AnyEvent]:
    return [NodeJoined(node=index, spec=node) for index, node in enumerate(cluster.nodes)]


def replay(
    workload: Workload,
    cluster: Cluster,
    policy: str,
    *,
    progress: Progress | None = None,
    observe: Observe | None = None,
) -> Outcome:
    """Return the outcome of the workload on the cluster under a policy; the same for equal input.

    Raises Misuse for an unknown policy.
    """
    config = policy_config(policy)
    world = _World(workload, cluster, config)
    wall, cpu = time.perf_counter(), time.thread_time()
    world.run(progress, observe)
    wall_s, cpu_s = time.perf_counter() - wall, time.thread_time() - cpu
    world.check_conservation()
    return Outcome(
        workload=workload,
        cluster=cluster,
        policy=policy,
        start_ms=world.start_ms,
        end_ms=world.end_ms,
        nodes=world.nodes,
        timeouts=world.timeouts,
        wall_s=wall_s,
        cpu_s=cpu_s,
    )


class _World:
    """The truth of one replay: when each job started and ended, and what happens next."""

    def __init__(self, workload: Workload, cluster: Cluster, config: PolicyConfig) -> None:
        count = len(workload.jobs)
        self.jobs = workload.jobs
        self.start_ms: list[Ms] = [-1] * count
        self.end_ms: list[Ms] = [-1] * count
        self.nodes: list[tuple[int, ...]] = [()] * count
        self.timeouts = 0
        self.ended = 0
        self.arrived = 0
        self.next_arrival: Ms = self.jobs[0].submit_ms if self.jobs else NEVER
        self.ends: list[tuple[Ms, int, int]] = []  # heap of (end, order of placement, job id)
        self.placed = 0
        self.core = Core()
        self.scheduler = Scheduler(self.core, build)
        queues = sorted({job.spec.queue for job in self.jobs})
        self.scheduler.turn(
            0,
            [
                PolicySet(policy=config),
                *(QueueSet(queue=Queue(name=name, pending_max=count + 1)) for name in queues),
                *_joins(cluster),
            ],
        )

    def run(self, progress: Progress | None, observe: Observe | None) -> None:
        """Go from instant to instant until nothing is left to happen."""
        turn, core = self.scheduler.turn, self.core
        instants = 0
        while True:
            deadline = core.next_deadline()
            now = self.next_instant(NEVER if deadline is None else deadline)
            if now == NEVER:
                break
            inbox: list[AnyEvent] = []
            if self.ends and self.ends[0][0] <= now:
                self.take_ends(now, inbox)
            if deadline is not None and deadline <= now:
                self.take_stops(now, inbox)
            if self.next_arrival <= now:
                self.take_arrivals(now, inbox)
            if not inbox:
                continue  # the end of a job that was stopped before
            events = turn(now, inbox).events
            if len(events) > len(inbox):
                self.start(now, events[len(inbox) :])
            if observe is not None:
                observe(now, core)
            instants += 1
            if progress is not None and instants % PROGRESS_EVERY == 0:
                progress(self.ended)
        if progress is not None:
            progress(self.ended)

    def next_instant(self, deadline: Ms) -> Ms:
        """Return the time of the next arrival, end or time limit; NEVER: nothing is left."""
        now = self.next_arrival
        if self.ends and self.ends[0][0] < now:
            now = self.ends[0][0]
        return deadline if deadline < now else now

    def take_ends(self, now: Ms, inbox: list[AnyEvent]) -> None:
        """Report the jobs that come to their own end by now, in order of their placement."""
        ends = self.ends
        while ends and ends[0][0] <= now:
            job_id = heapq.heappop(ends)[2]
            if self.end_ms[job_id - 1] < 0:
                self.finish(now, job_id, _DONE, inbox)

    def take_stops(self, now: Ms, inbox: list[AnyEvent]) -> None:
        """Obey the core's time limits at once: a stopped job is gone in the same instant."""
        for stop in due_stops(self.core, now):
            if self.end_ms[stop.job - 1] < 0:  # else it comes to its own end in this instant
                inbox.append(stop)
                self.timeouts += 1
                self.finish(now, stop.job, _TERMINATED, inbox)

    def finish(self, now: Ms, job_id: int, exit: Exit, inbox: list[AnyEvent]) -> None:
        """Report that every member of a job is gone."""
        self.end_ms[job_id - 1] = now
        self.ended += 1
        for rank in range(len(self.nodes[job_id - 1])):
            inbox.append(MemberEnded(job=job_id, attempt=1, rank=rank, exit=exit))

    def take_arrivals(self, now: Ms, inbox: list[AnyEvent]) -> None:
        """Submit the jobs that have come by now; ids follow (submit, id of the trace)."""
        jobs, index = self.jobs, self.arrived
        while index < len(jobs) and jobs[index].submit_ms <= now:
            inbox.append(Submitted(job=index + 1, spec=jobs[index].spec))
            index += 1
        self.arrived = index
        self.next_arrival = jobs[index].submit_ms if index < len(jobs) else NEVER

    def start(self, now: Ms, decisions: Sequence[AnyEvent]) -> None:
        """Start what was placed, at once; the core learns it at this instant, without a new pass.

        A pass could find nothing: a start frees nothing.
        """
        apply = self.core.apply
        for event in decisions:
            assert isinstance(event, Placed) and event.attempt == 1, f"unexpected decision {event}"
            job_id = event.job
            self.start_ms[job_id - 1] = now
            self.nodes[job_id - 1] = tuple([slot.node for slot in event.slots])
            self.placed += 1
            end = now + self.jobs[job_id - 1].run_ms
            heapq.heappush(self.ends, (end, self.placed, job_id))
            for rank in range(len(event.slots)):
                apply(now, MemberStarted(job=job_id, attempt=1, rank=rank))

    def check_conservation(self) -> None:
        """Never silently drop: every accepted job has come to an end."""
        left = [job.id for job, end in zip(self.jobs, self.end_ms, strict=True) if end < 0]
        assert not left, f"{len(left)} jobs never ended, the first is {left[0]}"
        assert not self.core.jobs, "the core still knows jobs that have ended"
