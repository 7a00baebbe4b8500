"""The virtual world without faults: the service's own core and turn, driven by a trace.

Events of one instant are taken in together – ends, then arrivals – and followed by one decision
pass (algorithms.md section 0). A placed job runs from the instant of its decision; it ends after
its run time, or when the core decides that its time limit is over.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import msgspec

from fairlead.core.admission import admit
from fairlead.core.due import due_stops
from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.base import Misuse, Ms
from fairlead.model.events import (
    AnyEvent,
    Forecasted,
    Granted,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    Progressed,
    QueueSet,
    ReservationSet,
    Shrunk,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import Exit, Forecast, JobSpec, Phase, PolicyConfig, Queue, Reservation
from fairlead.model.resources import Slot
from fairlead.policy.deadlock.settle import DEADLOCK
from fairlead.policy.registry import BY_STEPS, build, policy_config
from fairlead.sim.advice import Advising
from fairlead.sim.cluster import Cluster
from fairlead.sim.company import Company
from fairlead.sim.outcome import DEFAULT_RULES, Outcome, Rules, of_jobs
from fairlead.sim.pace import Pace
from fairlead.sim.ruled import as_ruled
from fairlead.sim.steps import Stepping
from fairlead.sim.workload import Admit, Workload, told

Progress: TypeAlias = Callable[[int], None]  # called now and then with the jobs ended so far
Observe: TypeAlias = Callable[[Ms, Core], None]  # called after every decision pass; only reads


class Predictor(Protocol):
    """Says at submission how long a job will run, and learns from each that ends."""

    def predict(self, now: Ms, job: JobSpec) -> Forecast:
        """Return a forecast from what is known now."""
        ...

    def learn(self, now: Ms, job: JobSpec, ran_ms: Ms, completed: bool) -> None:
        """Take in how long a job ran; not completed: it was stopped, and would have run longer."""
        ...


NEVER: Ms = 2**62
MANY = 2**62
PROGRESS_EVERY = 1024  # instants
IDLE_WAKES_MAX = 1000  # at one instant
_DONE = Exit(code=0)
_TERMINATED = Exit(signal=15)


def gate(cluster: Cluster, setup: Sequence[AnyEvent] = ()) -> Admit:
    """Return the scheduler's own admission for this cluster, empty: raises Refused.

    `setup`: named resources, without which jobs that need some are refused.
    """
    core = Core()
    for event in (*_joins(cluster), *setup):
        core.apply(0, event)

    def check(spec: JobSpec) -> None:
        admit(core, msgspec.structs.replace(spec, queue="default"))

    return check


def _joins(cluster: Cluster) -> list[AnyEvent]:
    return [NodeJoined(node=index, spec=node) for index, node in enumerate(cluster.nodes)]


def replay(
    workload: Workload,
    cluster: Cluster,
    policy: str | PolicyConfig,
    *,
    rules: Rules = DEFAULT_RULES,
    predictor: Predictor | None = None,
    reservations: Sequence[Reservation] = (),
    setup: Sequence[AnyEvent] = (),
    progress: Progress | None = None,
    observe: Observe | None = None,
    name: str = "",
) -> Outcome:
    """Return the outcome of the workload on the cluster under a policy; the same for equal input.

    A predictor forecasts each job when it comes and learns from it when it ends. Reservations are
    known from the start, and so is what `setup` says (tenants with quotas). `name` is what to call
    the policy; by default as it was given, or by its order. Raises Misuse for an unknown policy.
    """
    config = policy_config(policy) if isinstance(policy, str) else policy
    speeds = told(workload) if rules.speeds == "told" else ()
    setup = [*speeds, *setup, *(ReservationSet(reservation=each) for each in reservations)]
    world = World(workload, cluster, config, rules, predictor, setup)
    wall, cpu = time.perf_counter(), time.thread_time()
    world.run(progress, observe)
    wall_s, cpu_s = time.perf_counter() - wall, time.thread_time() - cpu
    world.check_conservation()
    whole = Outcome(
        workload=workload,
        cluster=cluster,
        policy=name or (policy if isinstance(policy, str) else config.order),
        start_ms=world.start_ms,
        end_ms=world.end_ms,
        nodes=world.nodes,
        timeouts=world.timeouts,
        wall_s=wall_s,
        cpu_s=cpu_s,
        preempted=world.preempted,
        lost_ms=world.lost_ms,
        pauses=world.pauses,
        config=config,
        deadlocks=world.deadlocks,
        refused=world.stepping.refused,
        acquiring_ms=world.stepping.waited_ms,
        sizes=world.sizes,
    )
    return whole if rules.measure is None else of_jobs(whole, *rules.measure)


class World:
    """The truth of one replay: when each job started and ended, and what happens next."""

    def __init__(
        self,
        workload: Workload,
        cluster: Cluster,
        config: PolicyConfig,
        rules: Rules = DEFAULT_RULES,
        predictor: Predictor | None = None,
        setup: Sequence[AnyEvent] = (),
    ) -> None:
        count = len(workload.jobs)
        self.jobs, self.rules, self.predictor = workload.jobs, rules, predictor
        self.start_ms: list[Ms] = [-1] * count
        self.end_ms: list[Ms] = [-1] * count
        self.nodes: list[tuple[int, ...]] = [()] * count
        self.preempted = [0] * count
        self.left_ms = [job.run_ms for job in self.jobs]  # work still to do
        self.paces = {
            index: Pace(job)
            for index, job in enumerate(self.jobs)
            if job.spec.members_max or job.rates
        }
        self.sizes: list[tuple[int, Ms, int]] = []
        self.resumed: dict[int, Ms] = {}  # job id -> when its present attempt started, if not first
        self.lost_ms: Ms = 0
        self.stopped: dict[int, Ms] = {}  # job id -> when it was preempted last
        self.pauses: list[tuple[int, Ms, Ms]] = []
        self.timeouts = 0
        self.ended = 0
        self.arrived = 0
        self.next_arrival: Ms = self.jobs[0].submit_ms if self.jobs else NEVER
        self.ends: list[tuple[Ms, int, int]] = []  # heap of (end, order of placement, job id)
        self.ends_of: dict[int, int] = {}  # job id -> order of its present placement
        self.placed = 0
        self.deadlocks = 0
        self.measured = range(1, count + 1)
        if rules.measure is not None:
            self.measured = self.measured[slice(*rules.measure)]
            if not self.measured:
                raise Misuse(
                    f"there are {count} jobs, none of which is to be measured",
                    field="measure",
                    hint=f"choose from 0-{count - 1}, in the order in which they come",
                )
        self.missing = len(self.measured)
        self.stepping = Stepping(self)
        if self.stepping.steps and rules.event_order == "reference":
            raise Misuse(
                "jobs that acquire while they run cannot be replayed event by event",
                field="event-order",
                hint="leave --event-order out",
            )
        self.core = Core()
        self.scheduler = Scheduler(self.core, build)
        self.advising = Advising(config) if config.plan else None
        # Jobs say how far they are when they start and when a round begins.
        measuring = rules.speeds == "measured" or config.plan in BY_STEPS
        self.reporting = bool(config.plan) and measuring
        self.company = Company(self, config.share)
        queues = sorted({job.spec.queue for job in self.jobs})
        self.scheduler.turn(
            0,
            [
                PolicySet(policy=config),
                *(QueueSet(queue=Queue(name=name, pending_max=count + 1)) for name in queues),
                *_joins(cluster),
                *setup,
            ],
        )

    def run(self, progress: Progress | None, observe: Observe | None) -> None:
        """Go from instant to instant until nothing is left to happen."""
        by_event = self.rules.event_order == "reference"
        instants = idle = 0
        before: tuple[Ms, int] = (-1, -1)
        while True:
            deadline = self.scheduler.next_wake()
            if deadline is None or (self.next_arrival == NEVER and not self.core.jobs):
                deadline = NEVER  # reservations that end when nobody is there concern nobody
            now = self.next_instant(deadline)
            if now == NEVER or (not self.missing and self.ended < len(self.jobs)):
                break
            idle = idle + 1 if before == (now, self.core.seq) else 0
            assert idle < IDLE_WAKES_MAX, (
                f"policy {self.core.policy.order} is woken at {now} ms for ever: nothing changes"
            )
            before = (now, self.core.seq)
            if by_event:
                self.one_by_one(now)
            else:
                self.together(now, deadline)
            if observe is not None:
                observe(now, self.core)
            instants += 1
            if progress is not None and instants % PROGRESS_EVERY == 0:
                progress(self.ended)
        if progress is not None:
            progress(self.ended)

    def together(self, now: Ms, deadline: Ms) -> None:
        """Take in all that happens in an instant, then let the scheduler decide once."""
        inbox: list[AnyEvent] = []
        if self.ends and self.ends[0][0] <= now:
            self.take_ends(now, inbox)
        if deadline <= now:
            self.take_stops(now, inbox)
            if self.reporting and now % self.core.policy.lease_ms == 0:
                counting = (job for job in self.ends_of if self.jobs[job - 1].rates)
                inbox += [self.report(now, job_id) for job_id in counting]
        if self.next_arrival <= now:
            self.take_arrivals(now, inbox)
        if inbox or deadline <= now:
            self.company.before(now, inbox)
            self.turn(now, inbox)
            self.company.after(now)

    def one_by_one(self, now: Ms) -> None:
        """Let the scheduler decide after every single event of an instant.

        A job that ends when it was believed to end leaves its place at once, before its end is
        heard of: the simulators that are compared with plan by estimates alone.
        """
        foreseen = self.take_as_believed(now)
        while self.next_arrival <= now:
            inbox: list[AnyEvent] = []
            self.take_arrivals(now, inbox, 1)
            self.turn(now, inbox, timers=False)
        while foreseen or (self.ends and self.ends[0][0] <= now):
            inbox = []
            if foreseen and (not self.ends or foreseen[0] < self.ends[0]):
                foreseen.pop(0)  # its pass: that it is gone is known already
            else:
                self.take_ends(now, inbox, 1)
                if not inbox:
                    continue
            self.turn(now, inbox, timers=False)
        wake = self.scheduler.next_wake()
        if wake is not None and wake <= now:
            inbox = []
            self.take_stops(now, inbox)
            self.turn(now, inbox)

    def take_as_believed(self, now: Ms) -> list[tuple[Ms, int, int]]:
        """Report the ends of this instant that plans have foreseen, and return them in order.

        Nothing is decided yet.
        """
        believed: list[tuple[Ms, int, int]] = []
        others: list[tuple[Ms, int, int]] = []
        while self.ends and self.ends[0][0] <= now:
            entry = heapq.heappop(self.ends)
            known = self.ends_of.get(entry[2]) == entry[1]
            foreseen = known and self.core.ends.get(entry[2]) <= now
            (believed if foreseen else others).append(entry)
        for entry in others:
            heapq.heappush(self.ends, entry)
        for _, _, job_id in believed:
            inbox: list[AnyEvent] = []
            self.finish(now, job_id, _DONE, inbox)
            for event in inbox:
                self.core.apply(now, event)
        return believed

    def turn(self, now: Ms, inbox: list[AnyEvent], *, timers: bool = True) -> None:
        """Let the scheduler decide, and obey at once: what is stopped is gone in this instant."""
        while True:
            events = self.scheduler.turn(now, inbox, timers=timers, advise=self.advise).events
            if len(events) == len(inbox):
                return
            decisions = events[len(inbox) :]
            stops = self.obey(now, decisions)
            inbox = []
            for stop in stops:
                self.preempt(now, stop.job, inbox)
            if not self.resize(now, decisions, inbox) and not stops:
                return

    def advise(self, core: Core) -> AnyEvent | None:
        """Return the plan that the policy wants now, None if it wants none."""
        return None if self.advising is None else self.advising.ask(self.scheduler.policy, core)

    def resize(self, now: Ms, decisions: Sequence[AnyEvent], inbox: list[AnyEvent]) -> bool:
        """Let members of elastic jobs come and leave at once; whether any job is another one.

        One that has just started counts: it could not grow before.
        """
        if not self.core.elastic:
            return False
        for job_id in sorted({e.job for e in decisions if isinstance(e, Grown | Shrunk)}):
            job, index = self.core.jobs[job_id], job_id - 1
            if job.team is None or job.phase is not Phase.RUNNING:
                continue
            for rank in sorted(job.team.leaving):
                inbox.append(MemberEnded(job_id, job.attempt, _TERMINATED, rank))
            for rank in job.ranks:
                if rank not in job.started:
                    self.core.apply(now, MemberStarted(job_id, job.attempt, rank))
            self.nodes[index] = tuple([slot.node for slot in job.staying])
            self.sizes.append((index, now, job.team.size))
            models = self.models(job.slots)
            self.expect(job_id, self.paces[index].resize(now, job.team.size, models))
        resized = (Placed, Grown, Shrunk)
        return any(
            isinstance(each, resized) and each.job in self.core.elastic for each in decisions
        )

    def models(self, slots: Sequence[Slot]) -> set[str]:
        """Return the models of the devices on which a job is."""
        nodes = self.core.nodes
        return {
            nodes[slot.node].spec.devices[each].model for slot in slots for each in slot.devices
        }

    def report(self, now: Ms, job_id: int) -> Progressed:
        """Return what a running job says of itself."""
        attempt = self.preempted[job_id - 1] + 1
        return Progressed(job=job_id, attempt=attempt, steps=self.paces[job_id - 1].steps(now))

    def expect(self, job_id: int, end: Ms) -> None:
        """A job ends then, if nothing happens to it: what was expected before counts no more."""
        self.placed += 1
        self.ends_of[job_id] = self.placed
        heapq.heappush(self.ends, (end, self.placed, job_id))

    def next_instant(self, deadline: Ms) -> Ms:
        """Return the time of the next arrival, end or time limit; NEVER: nothing is left."""
        self.stepping.flush()
        now = self.next_arrival
        if self.ends and self.ends[0][0] < now:
            now = self.ends[0][0]
        return deadline if deadline < now else now

    def take_ends(self, now: Ms, inbox: list[AnyEvent], most: int = MANY) -> None:
        """Report the jobs that come to their own end by now, in order of their placement."""
        ends = self.ends
        while ends and ends[0][0] <= now and most:
            _, placed, job_id = heapq.heappop(ends)
            if self.ends_of.get(job_id) != placed:
                continue
            if self.stepping.steps and self.stepping.reached(now, job_id, inbox):
                continue
            self.finish(now, job_id, _DONE, inbox)
            most -= 1

    def take_stops(self, now: Ms, inbox: list[AnyEvent]) -> None:
        """Obey the core's time limits at once: a stopped job is gone in the same instant."""
        for stop in due_stops(self.core, now):
            if self.end_ms[stop.job - 1] < 0:  # else it comes to its own end in this instant
                inbox.append(stop)
                self.timeouts += 1
                self.finish(now, stop.job, _TERMINATED, inbox)

    def finish(self, now: Ms, job_id: int, exit: Exit, inbox: list[AnyEvent]) -> None:
        """Report that every member of a job is gone, for good."""
        self.end_ms[job_id - 1] = now
        self.ended += 1
        self.missing -= job_id in self.measured
        if self.preempted[job_id - 1]:
            self.lost_ms += min(self.rules.restart_ms, now - self.resumed[job_id])
        self.gone(now, job_id, exit, inbox)
        if self.predictor is not None:
            job = self.core.jobs[job_id]
            completed = exit is _DONE
            self.predictor.learn(now, job.spec, job.attained_ms(now), completed)

    def gone(self, now: Ms, job_id: int, exit: Exit, inbox: list[AnyEvent]) -> None:
        """Report that every member of the present attempt is gone."""
        del self.ends_of[job_id]
        attempt = self.preempted[job_id - 1] + 1
        ranks: Sequence[int] = range(len(self.nodes[job_id - 1]))
        if self.jobs[job_id - 1].spec.members_max:
            ranks = tuple(self.core.jobs[job_id].ranks)
            self.sizes.append((job_id - 1, now, 0))
        for rank in ranks:
            inbox.append(MemberEnded(job=job_id, attempt=attempt, rank=rank, exit=exit))

    def preempt(self, now: Ms, job_id: int, inbox: list[AnyEvent]) -> None:
        """A job has to go: it keeps the work that it has saved."""
        index, rules = job_id - 1, self.rules
        self.gone(now, job_id, _TERMINATED, inbox)
        if index in self.paces:
            self.lost_ms += self.paces[index].stop(now, rules.checkpoint_ms)
            self.preempted[index] += 1
            self.stopped[job_id] = now
            return
        again = self.preempted[index] > 0
        ran = now - (self.resumed[job_id] if again else self.start_ms[index])
        useful = max(0, ran - rules.restart_ms) if again else ran
        if index in self.stepping.steps:
            useful = 0  # its locks are gone, and what it did under them
        elif rules.checkpoint_ms:
            useful -= useful % rules.checkpoint_ms
        useful = min(useful, self.left_ms[index])
        self.left_ms[index] -= useful
        self.lost_ms += ran - useful
        self.preempted[index] += 1
        self.stopped[job_id] = now

    def take_arrivals(self, now: Ms, inbox: list[AnyEvent], most: int = MANY) -> None:
        """Submit the jobs that have come by now; ids follow (submit, id of the trace)."""
        jobs, index = self.jobs, self.arrived
        while index < len(jobs) and jobs[index].submit_ms <= now and most:
            spec = as_ruled(self.rules, jobs[index].spec)
            inbox.append(Submitted(job=index + 1, spec=spec))
            if self.predictor is not None:
                forecast = self.predictor.predict(now, spec)
                inbox.append(Forecasted(job=index + 1, forecast=forecast))
            index += 1
            most -= 1
        self.arrived = index
        self.next_arrival = jobs[index].submit_ms if index < len(jobs) else NEVER

    def obey(self, now: Ms, decisions: Sequence[AnyEvent]) -> list[StopDecided]:
        """Start what was placed, at once; return what is to be preempted.

        The core learns of the starts in this instant, without a new pass: it could find nothing,
        since a start frees nothing.
        """
        apply, rules = self.core.apply, self.rules
        stops: list[StopDecided] = []
        for event in decisions:
            if isinstance(event, StopDecided):
                stops.append(event)
                self.deadlocks += event.because.startswith(DEADLOCK)
            if isinstance(event, Granted):
                self.stepping.granted(now, event)
            if not isinstance(event, Placed):
                continue
            job_id, index = event.job, event.job - 1
            end = now + self.stepping.start(index, self.left_ms[index])
            if event.attempt == 1:
                self.start_ms[index] = now
            else:
                self.resumed[job_id] = now
                self.pauses.append((index, self.stopped[job_id], now))
                end += rules.restart_ms
            if index in self.paces:
                restart_ms = 0 if event.attempt == 1 else rules.restart_ms
                end = self.paces[index].start(now, restart_ms, self.models(event.slots))
                if self.jobs[index].spec.members_max:
                    self.sizes.append((index, now, len(event.slots)))
            self.nodes[index] = tuple([slot.node for slot in event.slots])
            self.expect(job_id, end)
            for rank in range(len(event.slots)):
                apply(now, MemberStarted(job=job_id, attempt=event.attempt, rank=rank))
            if self.reporting and self.jobs[index].rates:
                apply(now, self.report(now, job_id))
        return stops

    def check_conservation(self) -> None:
        """Never silently drop: every accepted job has come to an end."""
        left = [self.jobs[job - 1].id for job in self.measured if self.end_ms[job - 1] < 0]
        assert not left, f"{len(left)} jobs never ended, the first is {left[0]}"
        if self.ended == len(self.jobs):
            assert not self.core.jobs, "the core still knows jobs that have ended"
