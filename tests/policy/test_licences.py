"""Named resources that a job holds from its start to its end: granted with its place, or not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fairlead.core.invariants import check
from fairlead.core.turn import Scheduler
from fairlead.model.events import Asked, MemberEnded, MemberStarted, Placed, ResourceSet, Submitted
from fairlead.model.jobs import JobSpec, Phase, Resource
from fairlead.model.resources import Shape
from fairlead.policy.explain import explain, reasons
from fairlead.policy.registry import POLICIES, build, policy_config
from strategies import OK, TERMINATED, cluster, node

MINUTE = 60_000


class World:
    def __init__(self, policy="priority", cpus=8, **amounts: int) -> None:
        config = policy_config(policy) if isinstance(policy, str) else policy
        self.core = cluster(node(cpus=cpus), policy=config)
        self.scheduler = Scheduler(self.core, build)
        self.now = 0
        resources = [Resource(name=name, amount=amount) for name, amount in amounts.items()]
        self.turn(*(ResourceSet(resource=each) for each in resources))

    def turn(self, *inbox):
        while True:
            events = self.scheduler.turn(self.now, list(inbox)).events[len(inbox) :]
            check(self.core)
            inbox = [
                MemberStarted(job=event.job, attempt=event.attempt)
                for event in events
                if isinstance(event, Placed)
            ]
            inbox += [
                MemberEnded(job=event.job, attempt=event.attempt, exit=TERMINATED)
                for event in events
                if type(event).__name__ == "StopDecided"
            ]
            if not inbox:
                return

    def submit(self, cpus=1, priority=50, may=None, **counted: int) -> int:
        spec = JobSpec(
            shape=Shape(cpu_milli=1000 * cpus),
            priority=priority,
            expected_ms=MINUTE,
            counted=tuple(sorted(counted.items())),
            may_acquire=tuple(sorted((may or {}).items())),
        )
        self.turn(Submitted(job=self.core.next_job, spec=spec))
        return self.core.next_job - 1

    def end(self, job: int) -> None:
        self.turn(MemberEnded(job=job, attempt=self.core.jobs[job].attempt, exit=OK))

    @property
    def running(self) -> set[int]:
        return {job.id for job in self.core.jobs.values() if job.phase is Phase.RUNNING}

    def why(self, job: int) -> str:
        return reasons(self.core, build(self.core.policy))[job]


def test_a_job_waits_for_a_licence_though_there_is_room_and_why_says_who_holds_it():
    world = World(matlab=4)
    world.submit(matlab=2)
    waits = world.submit(matlab=3)
    assert world.running == {1}
    assert world.why(waits) == ("Licenses: 2 of 4 matlab free, asks for 3; held by job 1 (2)")
    found = explain(world.core, build(world.core.policy), waits)
    assert found is not None and "needs 3 matlab: 2 of 4 matlab free" in found.lines[1]
    world.end(1)
    assert world.running == {2} and world.core.named.holders("matlab") == [(2, 3)]


def test_all_of_several_or_none():
    world = World(a=1, b=1)
    world.submit(b=1)
    both = world.submit(a=1, b=1)
    assert world.core.named.free("a") == 1, "what it could have is not held while it waits"
    assert world.submit(a=1) in world.running
    world.end(1)
    assert both not in world.running
    world.end(3)
    assert world.running == {both}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_under_every_policy_jobs_share_one_licence_and_all_come_to_their_end(policy):
    world = World(policy, cpus=2, lic=1)
    jobs = [world.submit(lic=1) for _ in range(4)] + [world.submit(cpus=2) for _ in range(2)]
    for _ in jobs:
        assert len([job for job in world.running if world.core.jobs[job].spec.counted]) <= 1
        assert world.running, "somebody can always run"
        world.now += MINUTE
        world.end(min(world.running))
    assert not world.core.jobs


def test_jobs_that_need_no_licence_are_not_held_up_by_one_that_waits_for_its():
    world = World("fifo", matlab=1)
    world.submit(matlab=1)
    world.submit(matlab=1)
    assert world.submit() in world.running


def test_a_job_that_asks_for_many_is_not_starved_by_those_that_ask_for_few():
    """After a quarter of an hour nobody takes what the first waits for."""
    world = World("priority", matlab=4)
    world.submit(matlab=2)
    large = world.submit(matlab=4)
    small = world.submit(matlab=1)
    assert small in world.running, "for some time others may go first"
    world.now += 20 * MINUTE
    late = world.submit(matlab=1)
    assert late not in world.running
    assert (
        world.why(late) == f"Licenses: matlab is kept for job {large}, which may not be overtaken"
    )
    world.end(1)
    assert late not in world.running
    world.end(small)
    assert world.running == {large}


def test_nothing_is_kept_for_a_job_that_something_else_holds_up():
    world = World("priority", cpus=2, matlab=4)
    world.submit(cpus=1, matlab=2)
    world.submit(matlab=4)
    world.now += 20 * MINUTE
    world.turn(ResourceSet(resource=Resource(name="matlab", amount=3)))
    assert world.submit(matlab=1) in world.running, "there will never be 4"


def test_a_job_does_not_take_what_a_running_one_waits_for():
    world = World(replace(policy_config("priority"), deadlock="detect"), db=3)
    first = world.submit(may={"db": 3})
    world.submit(db=2)
    world.turn(Asked(job=first, attempt=1, name="db", amount=3))
    assert world.submit(db=1) not in world.running
    assert world.why(3) == f"Licenses: job {first}, which runs, waits for 3 db before it"
    world.end(2)
    assert world.core.named.holders("db") == [(first, 3)]
    world.end(first)
    assert world.running == {3}


def test_the_banker_keeps_a_job_from_starting_that_could_end_in_a_deadlock():
    world = World(db=4)
    first = world.submit(db=2, may={"db": 2})
    second = world.submit(db=2, may={"db": 2})
    assert world.running == {first} and world.core.named.free("db") == 2
    words = f"to hold 2 db and ask for more could end in a deadlock with job {first}"
    assert world.why(second) == f"Licenses: {words}"
    assert world.submit(db=1) in world.running, "one that asks for no more may have it"


def test_an_order_that_preempts_does_not_start_two_jobs_with_one_licence():
    world = World("srtf", cpus=2, lic=1)
    world.submit()
    world.submit()
    for _ in range(2):
        spec = JobSpec(shape=Shape(cpu_milli=1000), expected_ms=1, counted=(("lic", 1),))
        world.turn(Submitted(job=world.core.next_job, spec=spec))
    assert len(world.running & {3, 4}) == 1 and len(world.running) == 2
