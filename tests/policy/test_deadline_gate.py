"""Jobs with deadlines are admitted with a promise that is kept, or refused with what could be."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.core.engine import Core
from fairlead.core.invariants import check as check_core
from fairlead.core.turn import Scheduler
from fairlead.model.base import Misuse, Refused
from fairlead.model.events import (
    Forecasted,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    ReservationSet,
    StopDecided,
    Submitted,
    TenantSet,
)
from fairlead.model.jobs import Exit, Forecast, JobSpec, Reservation, Tenant
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.deadline_gate import admit, check, settled
from fairlead.policy.firm import PAD_MS
from fairlead.policy.registry import build, policy_config

MIN = 60_000
POLICIES = (
    *("fifo", "fifo-skip", "priority", "sjf", "easy", "easy++", "conservative", "priority-easy"),
    *("conservative-expected", "srtf", "las", "edf", "priority-preempt", "gittins"),
)


class World:
    """A scheduler whose jobs run as long as they are told, in steps of its own time."""

    def __init__(self, policy: str = "priority", cpus: int = 2, nodes: int = 1) -> None:
        self.core = Core()
        self.scheduler = Scheduler(self.core, build)
        self.now = 1_000_000
        self.runs: dict[int, int] = {}
        self.ends: list[tuple[int, int, int]] = []
        self.ended: dict[int, int] = {}
        self.started: dict[int, int] = {}
        node = {"cpu_milli": 1000 * cpus, "memory_mib": 1000, "boot": "1"}
        devices = (Device(model="A", memory_mib=1000, uuid="0"),)
        joined = [
            NodeJoined(node=at, spec=Node(name=f"n{at}", devices=devices, **node))
            for at in range(nodes)
        ]
        self.turn([PolicySet(policy=policy_config(policy)), *joined])

    def turn(self, events: list) -> None:
        while True:
            done = self.scheduler.turn(self.now, events).events
            more = []
            for event in done[len(events) :]:
                if isinstance(event, Placed):
                    self.started.setdefault(event.job, self.now)
                    more += [
                        MemberStarted(event.job, event.attempt, rank)
                        for rank in range(len(event.slots))
                    ]
                    end = self.now + self.runs[event.job]
                    heapq.heappush(self.ends, (end, event.job, event.attempt))
                elif isinstance(event, StopDecided):
                    more += self.gone(event.job, event.attempt, Exit(signal=15))
            check_core(self.core)
            if not more:
                return
            events = more

    def gone(self, job_id: int, attempt: int, exit: Exit) -> list:
        job = self.core.jobs.get(job_id)
        if job is None or job.attempt != attempt or not job.slots:
            return []
        self.ended[job_id] = self.now
        return [
            MemberEnded(job_id, attempt, exit, rank)
            for rank in range(len(job.slots))
            if rank not in job.exits
        ]

    def submit(self, run_ms: int, *, cpus: int = 1, forecast: int | None = None, **spec) -> int:
        """Submit as the service does; raises Refused."""
        shape = spec.pop("shape", None) or Shape(cpu_milli=1000 * cpus)
        made = settled(JobSpec(shape=shape, **spec))
        job = self.core.next_job
        events: list = [Submitted(job=job, spec=made)]
        if forecast is not None:
            events.append(Forecasted(job, Forecast(expected_ms=forecast)))
        if made.deadline_ms is not None:
            check(made, self.now)
            copy = self.core.clone()
            copy.clock = self.now
            for event in events:
                copy.apply(self.now, event)
            events += admit(copy, build(self.core.policy), [job])
        self.runs[job] = run_ms
        self.turn(events)
        return job

    def until(self, at: int) -> None:
        """Let time pass; everything that is due happens at its time."""
        for _ in range(20_000):
            wake = self.scheduler.next_wake()
            times = [each for each in (wake, self.ends[0][0] if self.ends else None) if each]
            if not times or min(times) > at:
                self.now = max(self.now, at)
                return
            self.now = max(min(times), self.now)
            events = []
            while self.ends and self.ends[0][0] <= self.now:
                _, job, attempt = heapq.heappop(self.ends)
                events += self.gone(job, attempt, Exit(code=0))
            before = self.core.seq
            self.turn(events)
            if self.core.seq == before and not events:
                self.now += 1  # nothing to do at that time after all
        raise AssertionError("it goes on for ever")

    @property
    def promises(self) -> dict[int, int]:
        return {job.id: job.promise.start_ms for job in self.core.promises.values()}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_promised_job_starts_in_time_though_others_came_before_it_and_after(policy):
    world = World(policy)
    world.submit(60 * MIN, cpus=2, limit_ms=60 * MIN)
    big = world.submit(30 * MIN, cpus=2, limit_ms=30 * MIN, priority=100)
    at = world.now + 120 * MIN
    job = world.submit(10 * MIN, cpus=2, limit_ms=10 * MIN, deadline_ms=at, priority=0)
    for _ in range(5):
        world.submit(200 * MIN, cpus=1, limit_ms=200 * MIN, priority=100)
    world.until(world.now + 24 * 60 * MIN)
    assert world.ended[job] <= at
    assert big in world.ended


def test_what_cannot_be_done_in_time_is_told_the_earliest_deadline_and_who_is_in_its_way():
    world = World()
    world.submit(60 * MIN, cpus=2, limit_ms=60 * MIN)
    first = world.submit(20 * MIN, cpus=2, limit_ms=20 * MIN, deadline_ms=world.now + 100 * MIN)
    assert world.promises == {first: world.now + 60 * MIN + PAD_MS}
    with pytest.raises(Refused) as no:
        world.submit(30 * MIN, cpus=2, limit_ms=30 * MIN, deadline_ms=world.now + 95 * MIN)
    assert no.value.field == "deadline"
    assert "limit of 30m" in no.value.message
    # 60 minutes, a pad, 20 minutes, a pad, 30 minutes: 112 minutes after 1970-01-01 00:16:40.
    assert "the earliest deadline that could be met is 1970-01-01 02:08 UTC" in no.value.hint
    assert f"job {first} would have to give way" in no.value.hint
    assert world.core.next_job == 3


def test_promises_move_when_that_lets_one_more_deadline_be_met():
    world = World()
    start = world.now
    world.submit(60 * MIN, cpus=2, limit_ms=60 * MIN)
    patient = world.submit(20 * MIN, cpus=2, limit_ms=20 * MIN, deadline_ms=start + 200 * MIN)
    urgent = world.submit(20 * MIN, cpus=2, limit_ms=20 * MIN, deadline_ms=start + 90 * MIN)
    assert world.promises[urgent] == start + 60 * MIN + PAD_MS
    assert world.promises[patient] == start + 80 * MIN + 2 * PAD_MS
    world.until(start + 300 * MIN)
    assert world.ended[urgent] <= start + 90 * MIN
    assert world.ended[patient] <= start + 200 * MIN


def test_behind_a_job_without_a_time_limit_nothing_can_be_promised():
    world = World()
    world.submit(MIN, cpus=2, expected_ms=MIN)
    with pytest.raises(Refused) as no:
        world.submit(MIN, limit_ms=MIN, deadline_ms=world.now + 1000 * MIN)
    assert "no time limit" in no.value.hint


def test_a_job_may_not_start_on_the_strength_of_a_forecast_where_a_deadline_is_promised():
    world = World("easy++")
    start = world.now
    world.submit(60 * MIN, cpus=2, limit_ms=60 * MIN)
    job = world.submit(20 * MIN, cpus=2, limit_ms=20 * MIN, deadline_ms=start + 90 * MIN)
    world.until(start + 55 * MIN)
    world.runs[99] = 0
    liar = world.submit(500 * MIN, cpus=1, limit_ms=500 * MIN, forecast=MIN)
    world.until(start + 600 * MIN)
    assert world.ended[job] <= start + 90 * MIN
    assert world.started[liar] >= world.ended[job]


def test_a_deadline_job_that_waits_for_its_time_holds_nobody_up():
    world = World("fifo")  # strict: whoever does not fit blocks those behind
    start = world.now
    other = Reservation(name="r", start_ms=start, end_ms=start + 300 * MIN, nodes=(0,))
    world.turn([ReservationSet(other)])
    job = world.submit(MIN, limit_ms=MIN, deadline_ms=start + 400 * MIN)
    assert world.promises == {job: start + 300 * MIN + PAD_MS}
    world.until(start + 500 * MIN)
    assert start + 300 * MIN <= world.started[job]
    assert world.ended[job] <= start + 400 * MIN
    world = World("fifo")
    start = world.now
    world.submit(60 * MIN, cpus=1, limit_ms=60 * MIN)
    world.submit(20 * MIN, cpus=2, limit_ms=20 * MIN, deadline_ms=start + 90 * MIN)
    short = world.submit(10 * MIN, cpus=1, limit_ms=10 * MIN)
    assert world.started[short] == start


def test_another_policy_keeps_what_was_promised():
    world = World("fifo")
    start = world.now
    world.submit(60 * MIN, cpus=2, limit_ms=60 * MIN)
    job = world.submit(20 * MIN, cpus=2, limit_ms=20 * MIN, deadline_ms=start + 90 * MIN)
    world.turn([PolicySet(policy=policy_config("easy"))])
    world.submit(20 * MIN, cpus=2, limit_ms=20 * MIN)
    assert job in world.promises
    world.until(start + 90 * MIN)
    assert world.ended[job] <= start + 90 * MIN


def test_the_quota_of_a_tenant_is_kept_for_its_promised_jobs():
    world = World("fifo-skip", cpus=4)
    start = world.now
    world.turn([TenantSet(Tenant("t", quota=(2000, None, None, None, None)))])
    world.submit(60 * MIN, cpus=4, limit_ms=60 * MIN)
    mine = world.submit(20 * MIN, limit_ms=20 * MIN, deadline_ms=start + 90 * MIN, tenant="t")
    hogs = [world.submit(500 * MIN, limit_ms=500 * MIN, tenant="t") for _ in range(3)]
    world.until(start + 90 * MIN)
    assert world.ended[mine] <= start + 90 * MIN
    assert sum(hog in world.started for hog in hogs) >= 1
    with pytest.raises(Refused) as no:
        world.submit(*(MIN,), cpus=2, limit_ms=MIN, deadline_ms=world.now + 9 * MIN, tenant="t")
    assert no.value.code == "over-quota"


def test_a_running_deadline_job_is_not_preempted():
    world = World("priority-preempt", cpus=1)
    start = world.now
    job = world.submit(50 * MIN, limit_ms=50 * MIN, deadline_ms=start + 50 * MIN, priority=0)
    world.submit(10 * MIN, limit_ms=10 * MIN, priority=100)
    world.until(start + 100 * MIN)
    assert world.ended[job] == start + 50 * MIN


@pytest.mark.parametrize(
    ("limit", "deadline", "field"), [(None, 10 * MIN, "time_limit"), (MIN, -1, "deadline")]
)
def test_a_deadline_without_a_limit_or_in_the_past_makes_no_sense(limit, deadline, field):
    world = World()
    with pytest.raises(Misuse) as wrong:
        world.submit(MIN, limit_ms=limit, deadline_ms=world.now + deadline)
    assert wrong.value.field == field and wrong.value.hint


JOBS = st.lists(
    st.fixed_dictionaries(
        {
            "wait": st.integers(0, 40),
            "run": st.integers(1, 90),
            "cpus": st.integers(1, 3),
            "gpus": st.integers(0, 1),
            "members": st.sampled_from([1, 1, 1, 2]),
            "limit": st.sampled_from([0, 5, 20, 60, 90]),
            "forecast": st.sampled_from([0, 0, 1, 30]),
            "slack": st.sampled_from([-1, -1, 0, 5, 60, 300]),
            "priority": st.sampled_from([0, 50, 100]),
        }
    ),
    min_size=1,
    max_size=16,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policy=st.sampled_from(POLICIES), nodes=st.integers(1, 2), jobs=JOBS)
def test_whoever_is_admitted_is_done_in_time_whatever_comes_later(policy, nodes, jobs):
    world = World(policy, cpus=3, nodes=nodes)
    deadlines: dict[int, int] = {}
    for each in jobs:
        world.until(world.now + each["wait"] * MIN)
        limit = each["limit"] * MIN or None
        shape = Shape(
            cpu_milli=1000 * each["cpus"], gpus=each["gpus"], members=min(each["members"], nodes)
        )
        deadline = None
        if each["slack"] >= 0 and limit:
            deadline = world.now + limit + each["slack"] * MIN
        try:
            job = world.submit(
                min(each["run"] * MIN, limit or 10**9),
                **{"shape": shape, "limit_ms": limit, "deadline_ms": deadline},
                **{"forecast": each["forecast"] * MIN or None, "priority": each["priority"]},
            )
        except Refused:
            continue
        if deadline is not None:
            deadlines[job] = deadline
    world.until(world.now + 5000 * MIN)
    for job, deadline in deadlines.items():
        assert world.ended.get(job, 10**15) <= deadline, f"job {job}"
