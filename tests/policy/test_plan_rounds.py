"""Plans are carried out in rounds: whoever has had least of its share is next, gangs whole."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.turn import Scheduler
from fairlead.model.advice import WHOLE, Share
from fairlead.model.events import (
    Advised,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    PolicySet,
    QueueSet,
    SpeedSet,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import LIVE, Exit, JobSpec, Queue, Speed
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.question import question
from fairlead.policy.registry import build, policy_config
from fairlead.policy.settings import override

LEASE = 360_000


class Life:
    """A core under a plan, round by round; what is told to stop goes at once."""

    def __init__(self, *nodes: tuple[str, int], policy: str = "gavel-maxmin", **more) -> None:
        self.core = Core()
        self.scheduler = Scheduler(self.core, build)
        self.now = 0
        config = override(policy_config(policy), more)
        joins = [
            NodeJoined(
                node=at,
                spec=Node(
                    name=f"n{at}",
                    cpu_milli=64_000,
                    memory_mib=64_000,
                    devices=(Device(model=model),) * gpus,
                ),
            )
            for at, (model, gpus) in enumerate(nodes)
        ]
        self.turn(PolicySet(policy=config), QueueSet(queue=Queue(name="default")), *joins)

    def turn(self, *events) -> None:
        inbox = list(events)
        while True:
            decided = self.scheduler.turn(self.now, inbox).events[len(inbox) :]
            check(self.core)
            inbox = self._obeyed(decided)
            if not inbox:
                return

    def obey(self, decided) -> None:
        """Do what was decided in a turn."""
        self.turn(*self._obeyed(decided))

    def _obeyed(self, decided) -> list:
        inbox = []
        for event in decided:
            if isinstance(event, Placed):
                for rank in range(len(event.slots)):
                    self.core.apply(self.now, MemberStarted(event.job, event.attempt, rank))
            elif isinstance(event, StopDecided):
                for rank in range(len(self.core.jobs[event.job].slots)):
                    inbox.append(MemberEnded(event.job, event.attempt, Exit(signal=15), rank))
        return inbox

    def submit(self, gpus: int = 1, members: int = 1, **more) -> int:
        job = self.core.next_job
        shape = Shape(cpu_milli=1000, gpus=gpus, members=members, **more.pop("shape", {}))
        self.turn(Submitted(job=job, spec=JobSpec(shape=shape, **more)))
        return job

    def plan(self, **shares) -> None:
        """Set the plan: j1={"fast": 0.5} and so on."""
        plan = tuple(
            Share(
                jobs=(int(name[1:]),),
                on=tuple((model, int(part * WHOLE)) for model, part in on.items()),
            )
            for name, on in shares.items()
        )
        self.turn(Advised(adviser="gavel-maxmin", plan=plan))

    def round(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += LEASE
            self.turn()

    def on(self, job: int) -> str | None:
        found = self.core.jobs[job]
        if found.phase not in LIVE:
            return None
        devices = {
            self.core.nodes[slot.node].spec.devices[each].model
            for slot in found.slots
            for each in slot.devices
        }
        assert len(devices) == 1
        return devices.pop()


def test_jobs_take_turns_on_a_device_as_often_as_their_shares_say():
    life = Life(("fast", 1))
    jobs = [life.submit() for _ in range(3)]
    life.plan(j1={"fast": 0.5}, j2={"fast": 0.25}, j3={"fast": 0.25})
    ran = dict.fromkeys(jobs, 0)
    for _ in range(40):
        life.round()
        for job in jobs:
            ran[job] += life.on(job) == "fast"
    assert [ran[job] for job in jobs] == [20, 10, 10]


def test_who_keeps_its_model_keeps_its_devices_and_is_not_restarted():
    life = Life(("fast", 1), ("slow", 1))
    first, second = life.submit(), life.submit()
    life.plan(j1={"fast": 1}, j2={"slow": 1})
    life.round()
    assert (life.on(first), life.on(second)) == ("fast", "slow")
    attempts = [life.core.jobs[job].attempt for job in (first, second)]
    life.round(5)
    assert [life.core.jobs[job].attempt for job in (first, second)] == attempts


def test_a_new_plan_does_not_forget_what_the_old_one_owes():
    life = Life(("fast", 1))
    first, second = life.submit(), life.submit()
    ran = {first: 0, second: 0}
    for _ in range(20):  # a new plan, equal to the last, before each round
        life.plan(j1={"fast": 0.5}, j2={"fast": 0.5})
        life.round()
        for job in ran:
            ran[job] += life.on(job) is not None
    assert ran == {first: 10, second: 10}


def test_a_gang_that_is_its_turn_gets_its_node_though_single_jobs_lie_in_its_way():
    life = Life(("fast", 2), ("fast", 2))
    for _ in range(3):
        life.submit()
    life.plan(j1={"fast": 1}, j2={"fast": 1}, j3={"fast": 1})
    life.round()
    # One goes: the two that stay may be on one node each.
    gang = life.submit(gpus=2)
    life.plan(j1={"fast": 0.9}, j2={"fast": 0.9}, j3={"fast": 0.05}, **{f"j{gang}": {"fast": 0.9}})
    life.round()
    ran = 0
    for _ in range(10):
        life.round()
        ran += life.on(gang) == "fast"
    assert ran >= 8


def test_a_job_that_may_not_be_stopped_stays_and_the_others_share_the_rest():
    life = Life(("fast", 2))
    stays = life.submit(preemptible=False)
    first, second = life.submit(), life.submit()
    life.plan(j1={"fast": 0.1}, j2={"fast": 0.5}, j3={"fast": 0.5})
    ran = {first: 1, second: 0}  # it runs already
    for _ in range(9):
        life.round()
        assert life.on(stays) == "fast" and life.core.jobs[stays].attempt == 1
        for job in ran:
            ran[job] += life.on(job) is not None
    assert ran == {first: 5, second: 5}


def test_what_the_plan_leaves_goes_to_jobs_that_it_does_not_know():
    life = Life(("fast", 1), ("slow", 1))
    known = life.submit()
    life.plan(j1={"slow": 1})
    life.round()
    unknown = life.submit()
    assert (life.on(known), life.on(unknown)) == ("slow", "fast")


def test_without_any_plan_jobs_run_where_they_are_fastest():
    life = Life(("a", 1), ("b", 1))
    for model, speed in (("a", 1), ("b", 3)):
        life.turn(SpeedSet(speed=Speed("lm", 1000, model, speed)))
    assert life.on(life.submit(job_type="lm")) == "b"
    assert life.on(life.submit(job_type="lm")) == "a"


def test_model_by_model_what_is_left_of_the_better_one_goes_to_whoever_can_run_there():
    life = Life(("fast", 2), ("slow", 2), rounds="by-model")
    for model, speed in (("fast", 3), ("slow", 1)):
        life.turn(SpeedSet(speed=Speed("lm", 1000, model, speed)))
    first, second = life.submit(job_type="lm"), life.submit(job_type="lm")
    life.plan(j1={"fast": 1}, j2={"slow": 1})
    life.round()
    assert (life.on(first), life.on(second)) == ("fast", "fast")


def test_fractions_of_a_device_take_turns_too():
    life = Life(("fast", 1))
    shape = {"gpu_milli": 500, "gpu_memory_mib": 0}
    jobs = [life.submit(gpus=0, shape=shape) for _ in range(4)]
    life.plan(**{f"j{job}": {"fast": 0.5} for job in jobs})
    ran = dict.fromkeys(jobs, 0)
    for _ in range(12):
        life.round()
        for job in jobs:
            ran[job] += life.on(job) is not None
    assert set(ran.values()) == {6}


def test_a_quota_holds_for_a_round_too_and_its_jobs_take_turns_within_it():
    life = Life(("fast", 4))
    life.turn(QueueSet(queue=Queue(name="small", most={"gpu_milli": 1000})))
    small = [life.submit(queue="small") for _ in range(2)]
    life.plan(**{f"j{job}": {"fast": 1.0} for job in small})
    ran = {small[0]: 1, small[1]: 0}  # it runs already
    for _ in range(9):
        life.round()
        running = [job for job in small if life.on(job) is not None]
        assert len(running) == 1
        ran[running[0]] += 1
    assert set(ran.values()) == {5}


@st.composite
def plans(draw):
    """Shares of 1-GPU jobs on two models that fit, each over twenty."""
    counts = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    left = [20 * count for count in counts]
    jobs = []
    for _ in range(draw(st.integers(1, 7))):
        time = draw(st.integers(1, 20))
        first = draw(st.integers(0, min(time, left[0])))
        second = draw(st.integers(0, min(time - first, left[1])))
        left[0] -= first
        left[1] -= second
        jobs.append((first, second))
    return counts, jobs


@given(plans())
@settings(max_examples=25, deadline=None)
def test_what_jobs_receive_tends_to_their_shares(drawn):
    counts, jobs = drawn
    life = Life(*[("a", 1)] * counts[0], *[("b", 1)] * counts[1])
    # Those without a share fill what is left, so that it is no gift to the others.
    ids = [life.submit() for _ in jobs]
    for _ in range(sum(counts)):
        life.submit()
    life.plan(
        **{
            f"j{job}": {"a": Fraction(first, 20), "b": Fraction(second, 20)}
            for job, (first, second) in zip(ids, jobs, strict=True)
        }
    )
    received = {(job, model): 0 for job in ids for model in "ab"}
    rounds = 100
    for _ in range(rounds):
        life.round()
        for job in ids:
            if (model := life.on(job)) is not None:
                received[job, model] += 1
    for job, shares in zip(ids, jobs, strict=True):
        for model, share in zip("ab", shares, strict=True):
            assert received[job, model] >= share * rounds / 20 * 0.7 - 4


def test_a_fresh_policy_decides_as_one_that_was_there_all_the_time():
    life = Life(("fast", 2), ("fast", 2), ("slow", 4))
    for number in range(12):
        life.submit(gpus=1 + number % 2)
    life.plan(**{f"j{job}": {"fast": 0.2, "slow": 0.3} for job in range(1, 13)})
    for _ in range(10):
        life.now += LEASE
        copy = Core.load(life.core.dump())
        copy.clock = life.now
        fresh = []
        for event in build(copy.policy).decide(copy):
            fresh.append(event)
            copy.apply(copy.clock, event)
        rounds = life.scheduler.policy.rounds
        assert rounds.question(life.core, life.now) == question(life.core, life.now)
        own = life.scheduler.turn(life.now, []).events
        assert fresh == own and fresh
        life.obey(own)


def never(job_type: str, *models: str) -> list:
    return [SpeedSet(speed=Speed(job_type, 1000, model, 0)) for model in models]


@pytest.mark.parametrize("policy", ["fifo", "priority", "las", "fair", "easy", "gavel-maxmin"])
def test_a_job_never_starts_on_a_model_on_which_its_speed_is_zero(policy):
    life = Life(("slow", 1), ("fast", 1), policy=policy)
    life.turn(*never("lm", "slow"))
    first, second = life.submit(job_type="lm"), life.submit(job_type="lm")
    other = life.submit(job_type="cnn")
    if policy == "gavel-maxmin":
        life.plan(j1={"slow": 1}, j2={"slow": 1})  # a plan of before
        life.round()
    assert life.on(first) == "fast"
    assert life.on(second) is None
    assert life.on(other) in ("slow", None)  # a strict order waits for the second
