"""Taking back what was lent: stories, and what must hold for any jobs, quotas and settings."""

from __future__ import annotations

import pytest

from fairlead.core import invariants
from fairlead.core.engine import Core
from fairlead.model.events import (
    Cancelled,
    Checkpointed,
    NodeLost,
    Promised,
    QueueSet,
    Submitted,
)
from fairlead.model.jobs import JobSpec, Phase, Queue, User
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.explain import explain
from fairlead.sim.outcome import Rules
from fairlead.sim.workload import SimJob
from policy.reclaim_life import CV, NLP, Life, gpus
from policy.worlds import Watched

GRACE = 30_000


def test_a_queue_gets_back_what_it_lent_and_only_that():
    life = Life(NLP, CV)
    lent = life.submit(0, "cv", 1, count=8)
    assert life.running() == set(lent)
    owner = life.submit(60_000, "nlp", 2)
    assert life.stopping() == {7, 8}  # the last that started lose least
    life.end(61_000, 7)
    assert life.phase(owner) is Phase.PENDING
    life.end(62_000, 8)
    assert life.phase(owner) is Phase.RUNNING
    assert life.running() == {1, 2, 3, 4, 5, 6, owner}


def test_two_victims_that_end_at_different_times_do_not_start_a_loop():
    life = Life(NLP, CV, Queue(name="small"))
    life.submit(0, "cv", 2, count=4)
    third = life.submit(1_000, "small", 2)  # waits, and would take the first place that is free
    owner = life.submit(2_000, "nlp", 4)
    first, second = sorted(life.stopping())
    for at, victim in ((3_000, first), (20_000, second)):
        life.end(at, victim)
        life.turn(at + 1)
        assert life.phase(third) is Phase.PENDING
    assert life.phase(owner) is Phase.RUNNING
    assert life.phase(third) is Phase.PENDING  # it would borrow, and there is nothing left
    life.turn(10 * 60_000)
    assert len(life.stops()) == 2


def test_without_the_hold_the_third_job_would_take_the_place():
    """The same story with the hold taken away shows what it is for."""
    life = Life(NLP, CV, Queue(name="small"))
    life.submit(0, "cv", 2, count=4)
    third = life.submit(1_000, "small", 2)
    owner = life.submit(2_000, "nlp", 4)
    first, _ = sorted(life.stopping())
    life.core.apply(2_500, Promised(job=owner, start_ms=2_500, because="taken away by the test"))
    life.scheduler.policy.reclaim.decide = lambda core, served=(): iter(())
    life.end(3_000, first)
    assert {first, third} & life.running()  # the victim itself comes back, if nobody else


def test_a_hold_survives_a_restart_and_a_snapshot():
    life = Life(NLP, CV)
    life.submit(0, "cv", 1, count=8)
    owner = life.submit(1_000, "nlp", 2)
    core = Core.load(life.core.dump())
    assert core.digest() == life.core.digest()
    invariants.check(core)
    assert core.jobs[owner].promise == life.core.jobs[owner].promise
    assert core.shares.kept.keys() == {owner}
    copy = life.core.clone()
    invariants.check(copy)
    assert copy.digest() == life.core.digest()
    copy.apply(2_000, Promised(job=owner, start_ms=2_000, because="gone"))
    invariants.check(copy)
    assert life.core.shares.kept.keys() == {owner}


def test_a_hold_lapses_when_the_victims_do_not_go_and_is_made_again():
    life = Life(NLP, CV)
    life.submit(0, "cv", 1, count=8)
    owner = life.submit(1_000, "nlp", 2, grace_ms=1)
    until = life.core.jobs[owner].promise.until_ms
    assert until == 1_000 + GRACE + 60_000
    assert life.scheduler.next_wake() <= until
    life.turn(until)
    again = life.core.jobs[owner].promise
    assert again is not None and again.until_ms > until
    assert len(life.stops()) == 2


def test_a_hold_is_kept_to_its_end_also_for_a_job_that_will_not_run_for_long():
    life = Life(NLP, CV, Queue(name="small"), policy="easy")
    life.submit(0, "cv", 2, count=4, limit_ms=3_600_000)
    third = life.submit(1_000, "small", 2, limit_ms=5_000)
    owner = life.submit(2_000, "nlp", 4, limit_ms=1_000)
    first, second = sorted(life.stopping())
    life.end(3_000, first)
    life.turn(50_000)  # the other one is late, and what the owner would have done is long over
    assert life.phase(third) is Phase.PENDING
    life.end(60_000, second)
    assert life.phase(owner) is Phase.RUNNING


def test_a_hold_is_given_back_when_the_job_is_cancelled():
    life = Life(NLP, CV)
    life.submit(0, "cv", 1, count=8)
    owner = life.submit(1_000, "nlp", 2)
    life.turn(1_500, Cancelled(job=owner))
    assert not life.core.shares.kept and not life.core.promises
    victims = life.stopping()
    life.end(2_000, *victims)
    assert victims <= life.running()  # nobody else wants it


def test_a_hold_is_given_back_when_its_node_goes():
    life = Life(NLP, CV, nodes=(4, 4))
    life.submit(0, "cv", 1, count=8)
    owner = life.submit(1_000, "nlp", 4)
    node = life.core.jobs[owner].promise.slots[0].node
    life.core.apply(2_000, NodeLost(node=node))
    assert owner not in life.core.promises and not life.core.shares.kept


def test_queues_that_reclaim_in_one_round_do_not_take_the_same_twice():
    life = Life(
        Queue(name="a", quota=gpus(2)),
        Queue(name="b", quota=gpus(2)),
        Queue(name="c"),
    )
    life.submit(0, "c", 1, count=8)
    shape = Shape(cpu_milli=100, gpus=2)
    life.turn(
        1_000,
        Submitted(job=9, spec=JobSpec(shape=shape, queue="a")),
        Submitted(job=10, spec=JobSpec(shape=shape, queue="b")),
    )
    assert len(life.stopping()) == 4
    assert life.core.shares.kept.keys() == {9, 10}
    life.end(2_000, *life.stopping())
    assert {9, 10} <= life.running()


def test_a_queue_within_its_quota_loses_nothing_and_nobody_goes_in_vain():
    life = Life(NLP, CV, nodes=(4, 4))
    life.submit(0, "cv", 1, count=3)
    life.submit(0, "nlp", 1, count=3)
    life.submit(100, "nlp", 4)  # beyond its quota
    life.submit(200, "cv", 2)  # beyond its quota too
    assert not life.stopping()


def test_victims_are_chosen_where_the_job_fits_and_not_by_counts():
    """The last that started sit on both nodes; four on one node are needed."""
    life = Life(NLP, CV, nodes=(4, 4), policy="priority+worst-fit")
    life.submit(0, "cv", 1, count=8)
    owner = life.submit(1_000, "nlp", 4)
    nodes = {slot.node for job in life.stopping() for slot in life.core.jobs[job].slots}
    assert len(life.stopping()) == 4 and len(nodes) == 1
    life.end(2_000, *life.stopping())
    assert life.phase(owner) is Phase.RUNNING


def test_a_gang_goes_whole_and_a_gang_gets_its_room():
    life = Life(NLP, CV, nodes=(4, 4))
    gang = life.submit(0, "cv", 2, members=3)
    life.submit(0, "cv", 2)
    owner = life.submit(1_000, "nlp", 2, members=2)
    assert gang in life.stopping()
    life.end(2_000, *life.stopping())
    assert life.phase(owner) is Phase.RUNNING


def test_work_saved_since_makes_a_victim_cheap():
    life = Life(NLP, CV)
    life.submit(0, "cv", 1, count=7)
    life.submit(50_000, "cv", 1)
    life.turn(99_000, Checkpointed(job=3, attempt=1, at_ms=98_000))
    life.submit(100_000, "nlp", 1)
    assert life.stopping() == {3}
    stop = life.stops()[-1]
    assert stop.beneficiary == 9 and "job 9 of queue nlp" in stop.because
    assert "loses 2" in stop.because


def test_reclaim_can_be_confined_to_lower_priority_or_turned_off():
    for reclaim, stopped in (("any", 1), ("lower-priority", 0), ("never", 0)):
        life = Life(NLP, CV, reclaim=reclaim)
        life.submit(0, "cv", 1, count=8, priority=50)
        life.submit(1_000, "nlp", 1, priority=50)
        assert len(life.stopping()) == stopped, reclaim
    life = Life(NLP, CV, reclaim="lower-priority")
    life.submit(0, "cv", 1, count=8, priority=50)
    life.submit(1_000, "nlp", 1, priority=51)
    assert len(life.stopping()) == 1


def test_within_a_queue_a_job_takes_the_place_of_one_of_lower_priority_only():
    life = Life(within="lower-priority")
    low = life.submit(0, "default", 4, priority=10)
    life.submit(0, "default", 4, priority=50)
    assert not life.stopping()
    life.submit(1_000, "default", 4, priority=10)
    assert not life.stopping()
    high = life.submit(2_000, "default", 4, priority=50)
    assert life.stopping() == {low}
    life.end(3_000, low)
    assert life.phase(high) is Phase.RUNNING
    assert life.phase(low) is Phase.PENDING


@pytest.mark.parametrize("policy", ["fifo", "easy", "conservative", "sjf-skip", "priority-preempt"])
def test_every_order_gives_back_and_keeps_the_hold(policy):
    life = Life(NLP, CV, Queue(name="small"), policy=policy)
    life.submit(0, "cv", 2, count=4, limit_ms=3_600_000)
    third = life.submit(1_000, "small", 2, limit_ms=1_000)
    owner = life.submit(2_000, "nlp", 4, limit_ms=3_600_000)
    first, second = sorted(life.stopping())
    life.end(3_000, first)
    assert life.phase(third) is Phase.PENDING
    life.end(20_000, second)
    assert life.phase(owner) is Phase.RUNNING
    assert len(life.stops()) == 2


def test_min_run_delays_and_not_preemptible_prevents():
    life = Life(NLP, CV, min_run="60s")
    life.submit(0, "cv", 1, count=7, preemptible=False)
    victim = life.submit(0, "cv", 1)
    owner = life.submit(10_000, "nlp", 1)
    assert not life.stopping()
    assert life.scheduler.next_wake() == 60_006  # the victim started 6 ms after the first
    life.turn(60_006)
    assert life.stopping() == {victim}
    life.end(61_000, victim)
    assert life.phase(owner) is Phase.RUNNING


def test_a_guarantee_goes_before_the_protection_by_count_which_only_ranks():
    life = Life(NLP, CV, preemptions_max=1)
    life.submit(0, "cv", 1, count=8)
    life.core.jobs[8].preemptions = 1
    life.submit(1_000, "nlp", 1)
    assert life.stopping() == {7}
    life.submit(1_000, "nlp", 3)
    assert life.stopping() == {7, 6, 5, 4}


def test_in_a_tree_what_is_lent_inside_a_department_comes_back_from_inside():
    life = Life(
        Queue(name="lab", quota=gpus(0)),
        Queue(name="x", parent="lab", quota=gpus(4)),
        Queue(name="y", parent="lab"),
        Queue(name="other", quota=gpus(4)),
    )
    life.submit(0, "other", 1, count=4)
    life.submit(100, "y", 1, count=4)
    life.submit(1_000, "x", 2)
    assert life.stopping() == {7, 8}
    assert {life.core.jobs[job].spec.queue for job in life.stopping()} == {"y"}


def test_the_watchdog_leaves_a_job_alone_that_gets_nowhere():
    life = Life(NLP, CV)
    life.submit(0, "cv", 1, count=7)
    victim = life.submit(50, "cv", 1)
    now = 1_000
    for _ in range(3):
        owner = life.submit(now, "nlp", 1)
        assert life.stopping() == {victim}
        life.end(now + 1_000, victim)
        life.end(now + 2_000, owner)
        assert life.phase(victim) is Phase.RUNNING
        now += 10_000
    owner = life.submit(now, "nlp", 1)
    assert life.stopping() == {7}  # the same job would be the cheapest again
    words = life.stops()[-1].because
    assert f"job {victim} was not chosen: it was preempted 3 times" in words


def why(life, job):
    return explain(life.core, life.scheduler.policy, job, life.core.now)


def test_why_says_for_whom_a_victim_goes_and_whom_the_owner_waits_for():
    life = Life(NLP, CV)
    life.submit(0, "cv", 1, count=8)
    owner = life.submit(1_000, "nlp", 1)
    found = why(life, owner)
    assert found.reason == "WaitingForPreemptedWorkloads"
    assert "waits for job 8, preempted for it, to be gone in 30s" in found.summary
    life.turn(2_000)
    victim = why(life, 8)
    assert victim.phase is Phase.STOPPING and f"for job {owner} of queue nlp" in victim.summary
    assert "takes back 1 of its 4 gpus" in victim.summary
    assert victim.lines == (f"preempted once, lately for job {owner}",)
    life.end(3_000, 8)
    again = why(life, 8)
    assert again.reason == "WaitingForQuota"
    assert f"preempted once, lately for job {owner}" in again.lines


def test_in_the_simulator_victims_are_chosen_by_what_its_rules_make_them_lose():
    """With a checkpoint every 100 ms the older job has lost less when the owner comes."""
    node = [Node(name="n", cpu_milli=64_000, devices=(Device(), Device()))]
    one = Shape(cpu_milli=100, gpus=1)
    jobs = [
        SimJob(0, 0, 1_000, JobSpec(shape=one, queue="cv")),
        SimJob(1, 30, 1_000, JobSpec(shape=one, queue="cv")),
        SimJob(2, 210, 50, JobSpec(shape=one, queue="nlp")),
    ]
    setup = [QueueSet(queue=Queue(name="nlp", quota=gpus(1)))]
    stopped = {}
    for every in (0, 100):
        rules = Rules(checkpoint_ms=every, restart_ms=5)
        world = Watched(jobs, node, "priority", rules, setup=setup).done()
        stopped[every] = [job for _, job, _ in world.stops]
    assert stopped == {0: [2], 100: [1]}  # 180 against 210 ms; 80 against 10


# ---- GPU types ----------------------------------------------------------------------------


ORDERS = ["fifo", "fifo-skip", "easy", "conservative", "srtf", "fair"]


@pytest.mark.parametrize("policy", ORDERS)
def test_a_job_that_takes_several_gpu_types_gets_only_those_its_queue_has_room_for(policy):
    limited = Queue(name="lab", most={"gpu_milli/H": 1000})
    life = Life(limited, nodes=("HH", "AAAA"), policy=policy)
    jobs = life.submit(0, "lab", 1, count=4, expected_ms=9_000)
    models = sorted(model_of(life, job) for job in jobs)
    assert models == ["A", "A", "A", "H"]
    other = life.submit(10, "default", 1, expected_ms=9_000)
    assert other in life.running()  # of what is left it may have any


def model_of(life, job):
    (slot,) = life.core.jobs[job].slots
    return life.core.nodes[slot.node].spec.devices[slot.devices[0]].model


def test_limits_of_users_and_quotas_by_type_are_kept_and_why_says_so():
    queues = Queue(name="a", quota={"gpu_milli/H": 1000}), Queue(name="b")
    users = [User(name="ann", most={"gpu_milli/A": 1000})]
    life = Life(*queues, nodes=("H", "A"), users=users, policy="fifo-skip", reclaim="never")
    first = life.submit(0, "a", 1, user="ann")
    second = life.submit(1, "a", 1, user="ann")
    assert {model_of(life, first), model_of(life, second)} == {"A", "H"}
    third = life.submit(2, "a", 1, user="ann")
    assert "any GPU type that it takes: A, H" in why(life, third).summary


def test_a_quota_of_one_type_comes_back_in_that_type():
    life = Life(Queue(name="a", quota={"gpu_milli/H": 2000}), Queue(name="b"), nodes=("HH", "AA"))
    life.submit(0, "b", 1, count=2, gpu_models=("H",))
    life.submit(10, "b", 1, count=2, gpu_models=("A",))
    owner = life.submit(1_000, "a", 1)  # takes any type, and is guaranteed the one
    assert life.stopping() == {2}
    life.end(2_000, 2)
    assert model_of(life, owner) == "H"
