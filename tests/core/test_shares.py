"""What queues and users hold, and when they may hold no more."""

from __future__ import annotations

import pytest

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    PolicySet,
    QueueDeleted,
    QueueSet,
    Submitted,
    UserDeleted,
    UserSet,
)
from fairlead.model.jobs import JobSpec, Phase, Queue, User
from fairlead.model.resources import Device, Shape
from fairlead.policy.explain import explain
from fairlead.policy.registry import build, policy_config
from strategies import OK, node

GPU = Shape(cpu_milli=1000, gpus=1)
H100 = "gpu_milli/H100"


class Shop:
    """A scheduler in which jobs run until they are told to end."""

    def __init__(self, *queues: Queue, gpus: int = 8, policy: str = "fifo") -> None:
        self.scheduler = Scheduler(Core(), build)
        self.core = self.scheduler.core
        self.now = 0
        self.turn(
            PolicySet(policy=policy_config(policy)),
            NodeJoined(node=0, spec=node(cpus=64, gpus=gpus)),
            *(QueueSet(queue=queue) for queue in queues),
        )

    def turn(self, *inbox):
        placed = [
            event
            for event in self.scheduler.turn(self.now, list(inbox)).events
            if isinstance(event, Placed)
        ]
        check(self.core)
        starts = [
            MemberStarted(job=event.job, attempt=event.attempt, rank=rank)
            for event in placed
            for rank in range(len(event.slots))
        ]
        if starts:
            self.turn(*starts)

    def submit(self, queue: str = "default", user: str = "ann", shape: Shape = GPU, **more) -> int:
        job = self.core.next_job
        self.turn(Submitted(job=job, spec=JobSpec(shape=shape, queue=queue, user=user, **more)))
        return job

    def end(self, job: int) -> None:
        self.turn(MemberEnded(job=job, attempt=self.core.jobs[job].attempt, exit=OK))

    def runs(self, job: int) -> bool:
        return self.core.jobs[job].phase is Phase.RUNNING

    def why(self, job: int) -> str:
        found = explain(self.core, self.scheduler.policy, job, self.now)
        assert found is not None
        return f"{found.reason}: {found.summary}"


def quota(**queues: int) -> list[Queue]:
    return [Queue(name=name, quota={"gpu_milli": 1000 * gpus}) for name, gpus in queues.items()]


def test_what_nobody_was_promised_is_for_everybody() -> None:
    shop = Shop(*quota(nlp=4))
    jobs = [shop.submit() for _ in range(9)]
    assert all(shop.runs(job) for job in jobs[:8]), "it borrows what nlp does not use"
    assert not shop.runs(jobs[8])


def test_a_queue_borrows_no_more_than_its_limit_and_why_says_so() -> None:
    nlp, vision = quota(nlp=4, vision=4)
    limited = Queue(name="vision", quota=vision.quota, borrow={"gpu_milli": 1000})
    shop = Shop(nlp, limited)
    jobs = [shop.submit("vision") for _ in range(6)]
    assert [shop.runs(job) for job in jobs] == [True] * 5 + [False]
    assert shop.why(jobs[5]).startswith("WaitingForQuota: queue vision holds 5 gpus")


def test_what_is_not_lent_stays_free() -> None:
    keeps = Queue(name="nlp", quota={"gpu_milli": 4000}, lend={"gpu_milli": 1000})
    shop = Shop(keeps)
    jobs = [shop.submit() for _ in range(6)]
    assert [shop.runs(job) for job in jobs] == [True] * 5 + [False]
    own = [shop.submit("nlp") for _ in range(4)]
    assert [shop.runs(job) for job in own] == [True] * 3 + [False], "one of its four is lent"


def test_a_hard_limit_holds_though_all_is_free_and_counts_what_is_below() -> None:
    top = Queue(name="org", most={"gpu_milli": 3000})
    shop = Shop(top, Queue(name="a", parent="org"), Queue(name="b", parent="org"))
    jobs = [shop.submit("a"), shop.submit("b"), shop.submit("a"), shop.submit("b")]
    assert [shop.runs(job) for job in jobs] == [True, True, True, False]
    assert shop.why(jobs[3]).startswith("ExceedsMaxQuota: queue org holds 3 gpus")
    shop.end(jobs[0])
    assert shop.runs(jobs[3])


def test_a_queue_and_a_user_run_no_more_jobs_than_they_may() -> None:
    shop = Shop(Queue(name="a", live_max=2))
    shop.turn(UserSet(user=User(name="bob", live_max=1)))
    jobs = [shop.submit("a") for _ in range(3)]
    assert [shop.runs(job) for job in jobs] == [True, True, False]
    assert shop.why(jobs[2]).startswith("QOSMaxJobsLimit")
    bobs = [shop.submit(user="bob") for _ in range(2)]
    assert [shop.runs(job) for job in bobs] == [True, False]
    assert shop.why(bobs[1]).startswith("QOSMaxJobsPerUserLimit")
    shop.turn(UserDeleted(name="bob"))
    assert shop.runs(bobs[1])


def test_everybody_who_is_not_named_has_the_limits_of_the_star() -> None:
    shop = Shop()
    shop.turn(UserSet(user=User(name="*", most={"gpu_milli": 1000})))
    shop.turn(UserSet(user=User(name="boss")))
    mine = [shop.submit(user="ann"), shop.submit(user="ann"), shop.submit(user="bob")]
    theirs = [shop.submit(user="boss"), shop.submit(user="boss")]
    assert [shop.runs(job) for job in mine] == [True, False, True]
    assert all(shop.runs(job) for job in theirs)


def test_a_limit_on_one_type_of_gpu_counts_the_gpus_that_were_given() -> None:
    shop = Shop(Queue(name="a", most={H100: 1000}))
    devices = (Device(model="H100", memory_mib=80_000),) * 2
    shop.turn(NodeJoined(node=1, spec=node("h", cpus=8, devices=devices)))
    only = Shape(cpu_milli=1000, gpus=1, gpu_models=("H100",))
    jobs = [shop.submit("a", shape=only) for _ in range(2)]
    assert [shop.runs(job) for job in jobs] == [True, False]
    row = shop.core.shares.rows.index(H100)
    assert shop.core.shares.branches["a"].held[row] == 1000


def test_lost_capacity_is_lent_to_nobody() -> None:
    shop = Shop(*quota(nlp=4), gpus=8)
    shop.turn(NodeJoined(node=1, spec=node("n1", cpus=8, gpus=4)))
    shares = shop.core.shares
    shares.sync()
    assert shares.root.subtree[3] == 12_000
    shop.turn(NodeLost(node=1))
    shares.sync()
    assert shares.root.subtree[3] == 8_000


def test_queues_change_while_jobs_run_and_the_sums_stay_right() -> None:
    shop = Shop(Queue(name="org"), Queue(name="a", parent="org"))
    jobs = [shop.submit("a") for _ in range(3)]
    shop.turn(QueueSet(queue=Queue(name="a", parent="", quota={"gpu_milli": 2000})))
    assert shop.core.shares.branches["a"].borrowed(3) == 1000
    assert shop.core.shares.branches["org"].held[3] == 0
    for job in jobs:
        shop.end(job)
    shop.turn(QueueDeleted(name="a"))
    assert "a" not in shop.core.queues


def test_a_queue_in_which_jobs_wait_cannot_vanish() -> None:
    shop = Shop(Queue(name="a", live_max=0))
    shop.submit("a")
    with pytest.raises(AssertionError, match="jobs wait in queue a"):
        shop.core.apply(0, QueueDeleted(name="a"))


def test_shares_survive_a_restart_and_a_copy() -> None:
    shop = Shop(*quota(nlp=4), Queue(name="b", weight=3))
    shop.turn(UserSet(user=User(name="ann", weight=2)))
    first = shop.submit("nlp")
    shop.now = 3_600_000
    shop.submit("b")
    shop.end(first)
    shop.now = 7_200_000
    shop.submit("nlp", user="bob")
    again = Core.load(shop.core.dump())
    check(again)
    assert again.dump() == shop.core.dump()
    copy = shop.core.clone()
    check(copy)
    assert copy.shares.accounts["nlp", "ann"].average == (
        again.shares.accounts["nlp", "ann"].average
    )
    assert any(again.shares.accounts["nlp", "ann"].average)
    copy.apply(7_200_000, QueueSet(queue=Queue(name="c")))
    assert "c" not in shop.core.shares.branches


def test_another_half_life_counts_from_now_on() -> None:
    shop = Shop()
    job = shop.submit()
    shop.now = 3_600_000
    shop.end(job)
    account = shop.core.shares.accounts["default", "ann"]
    before = account.average[0]
    shop.now = 7_200_000
    config = policy_config("fifo")
    shop.turn(PolicySet(policy=type(config)(order="fifo", overtake_ms=0, half_life_ms=3_600_000)))
    kept = account.average[0]
    assert before * 0.99 < kept < before, "an hour of a week-long half-life"
    assert account.as_of(10_800_000, 3_600_000)[0] == kept // 2
