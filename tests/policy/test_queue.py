"""Corners of the incremental queue, each with a story; test_rounds.py covers the broad field."""

from __future__ import annotations

import pytest

from fairlead.core.turn import Scheduler
from fairlead.model.events import Cancelled, ForeignUsage, NodeLost, Placed, Submitted, TenantSet
from fairlead.model.jobs import Phase, Tenant
from fairlead.model.resources import Slot
from fairlead.policy.registry import build
from strategies import TERMINATED, cluster, end, node, place, spec, stop, submit


def turn(scheduler, *inbox, at=None):
    """Return the jobs that a turn places, in order."""
    now = scheduler.core.now if at is None else at
    return [event.job for event in scheduler.turn(now, inbox).events if isinstance(event, Placed)]


def submitted(scheduler, *specs):
    first = scheduler.core.next_job
    return [Submitted(job=first + n, spec=each) for n, each in enumerate(specs)]


def test_a_run_of_equal_jobs_ends_where_another_job_is_next():
    scheduler = Scheduler(cluster(node(cpus=16), policy="fifo"), build)
    small, large = spec(1), spec(4)
    placed = turn(scheduler, *submitted(scheduler, *[small] * 10, large, *[small] * 10))
    assert placed == [*range(1, 11), 11, 12, 13]


def test_a_run_goes_on_past_a_job_that_may_be_overtaken():
    scheduler = Scheduler(cluster(node(cpus=16), policy="fifo-skip"), build)
    held = submit(scheduler.core, 4)
    place(scheduler.core, held, 0)
    placed = turn(scheduler, *submitted(scheduler, spec(16), *[spec(1)] * 20))
    assert placed == list(range(3, 15))


def test_a_better_job_of_a_shape_that_does_not_fit_takes_the_place_of_the_first():
    scheduler = Scheduler(cluster(node(), policy="priority-strict"), build)
    place(scheduler.core, submit(scheduler.core, 5), 0)
    wide, small = {"cpus": 8}, {"cpus": 1}
    assert turn(scheduler, *submitted(scheduler, spec(**wide, priority=50))) == []
    assert turn(scheduler, *submitted(scheduler, spec(**wide, priority=90))) == []
    # Before the first of its shape in the order, but behind the second: it must not start.
    assert turn(scheduler, *submitted(scheduler, spec(**small, priority=70))) == []
    assert turn(scheduler, *submitted(scheduler, spec(**small, priority=95))) == [5]


def test_when_the_node_that_a_stuck_job_waits_for_is_lost_others_go_on():
    core = cluster(node("n0"), node("n1", cpus=16), policy="fifo")
    core.apply(0, ForeignUsage(node=1, amounts=(9000, 0, 0, 0, 0)))
    scheduler = Scheduler(core, build)
    assert turn(scheduler, *submitted(scheduler, spec(12), spec(1))) == []
    assert turn(scheduler, NodeLost(node=1)) == [2]


def test_when_the_first_that_does_not_fit_is_cancelled_others_go_on():
    scheduler = Scheduler(cluster(node(), policy="fifo"), build)
    place(scheduler.core, submit(scheduler.core, 4), 0)
    assert turn(scheduler, *submitted(scheduler, spec(8), spec(1))) == []
    assert turn(scheduler, Cancelled(job=2)) == [3]


def test_when_others_leave_the_node_what_waits_goes_on():
    core = cluster(node(), policy="fifo")
    core.apply(0, ForeignUsage(node=0, amounts=(8000, 0, 0, 0, 0)))
    scheduler = Scheduler(core, build)
    assert turn(scheduler, *submitted(scheduler, spec(1))) == []
    assert turn(scheduler, ForeignUsage(node=0, amounts=(0, 0, 0, 0, 0))) == [1]


@pytest.mark.parametrize("policy", ["fifo", "priority"])
def test_a_quota_that_comes_goes_or_grows_takes_effect_at_once(policy):
    scheduler = Scheduler(cluster(node(), policy=policy), build)
    jobs = submitted(scheduler, *[spec(2, tenant="t")] * 4)
    small = TenantSet(tenant=Tenant(name="t", quota=(2000, None, None, None, None)))
    assert turn(scheduler, small, *jobs) == [1]
    larger = TenantSet(tenant=Tenant(name="t", quota=(4000, None, None, None, None)))
    assert turn(scheduler, larger) == [2]
    assert turn(scheduler, TenantSet(tenant=Tenant(name="t"))) == [3, 4]


def test_a_requeued_job_comes_before_those_that_arrived_after_it():
    core = cluster(node(cpus=1), policy="fifo")
    scheduler = Scheduler(core, build)
    assert turn(scheduler, *submitted(scheduler, spec(1), spec(1)), at=1) == [1]
    stop(core, core.jobs[1], Phase.PENDING, "preempted")
    end(core, core.jobs[1], exit=TERMINATED)
    assert turn(scheduler, at=5) == [1]
    assert core.jobs[1].attempt == 2


def test_a_stopping_job_makes_room_only_when_it_is_gone():
    core = cluster(node(gpus=1), policy="fifo")
    scheduler = Scheduler(core, build)
    assert turn(scheduler, *submitted(scheduler, spec(1, gpus=1), spec(1, gpus=1))) == [1]
    stop(core, core.jobs[1])
    assert turn(scheduler) == []
    end(core, core.jobs[1])
    assert turn(scheduler) == [2]
    assert core.jobs[2].slots == (Slot(node=0, devices=(0,)),)


def test_a_queue_that_fell_far_behind_starts_afresh():
    core = cluster(node(cpus=1), policy="fifo")
    scheduler = Scheduler(core, build)
    for number in range(1, 70_001):  # more arrivals than are kept for slow readers
        core.apply(0, Submitted(job=number, spec=spec(1)))
        if number < 70_000:
            core.apply(0, Cancelled(job=number))
    assert core.arrivals_forgotten
    assert turn(scheduler) == [70_000]
