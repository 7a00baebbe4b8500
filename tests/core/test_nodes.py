"""Nodes that join, vanish, come back and change; foreign use; what an agent is told."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.core.invariants import check
from fairlead.core.ledger import SHARE_MEMORY, SHARE_MILLI, UP, WHOLE
from fairlead.model.events import ForeignUsage, NodeJoined, NodeLost
from fairlead.model.jobs import Phase
from fairlead.model.resources import Device, Slot
from strategies import cluster, end, free, image, node, place, start, stop, submit

P = Phase


@pytest.fixture
def core():
    return cluster(node("n0", boot="a"), node("n1", gpus=2, boot="a"))


def rejoin(core, node_id=0, **changes):
    spec = msgspec.structs.replace(core.nodes[node_id].spec, **changes)
    core.apply(core.now, NodeJoined(node=node_id, spec=spec))


def test_jobs_of_a_lost_node_wait_again_and_hold_nothing(core):
    job = submit(core, cpus=2)
    place(core, job, 0)
    start(core, job)
    core.apply(5, NodeLost(node=0, because="no heartbeat"))
    assert (job.phase, job.because) == (P.PENDING, "lost (n0: no heartbeat); it runs again")
    assert free(core, 0)[0] == 8000
    assert core.ledger.room[UP, 0] == 0
    assert core.nodes[0].members == {}
    check(core)


def test_a_gang_that_loses_a_node_stops_elsewhere_before_it_waits_again(core):
    job = submit(core, cpus=2, members=3)
    place(core, job, 0, 0, 1)
    start(core, job)
    core.apply(5, NodeLost(node=0))
    assert (job.phase, job.then, set(job.exits)) == (P.STOPPING, P.PENDING, {0, 1})
    assert free(core, 1)[0] == 6000  # the rest is not confirmed gone
    assert core.desired(1).stop == ((1, 1, 2),)
    check(core)
    end(core, job, 2)
    assert (job.phase, free(core, 1)[0]) == (P.PENDING, 8000)
    check(core)


def test_a_gang_on_two_nodes_that_are_both_lost_waits_again(core):
    job = submit(core, members=2)
    place(core, job, 0, 1)
    core.apply(5, NodeLost(node=0))
    core.apply(6, NodeLost(node=1))
    assert job.phase is P.PENDING
    check(core)


def test_a_loss_does_not_undo_a_cancel(core):
    job = submit(core)
    place(core, job, 0)
    start(core, job)
    stop(core, job, P.CANCELLED)
    core.apply(0, NodeLost(node=0))
    assert job.id not in core.jobs
    assert [s.phase for s in core.drain().statuses if s.id == job.id] == [P.CANCELLED]


def test_a_node_that_is_lost_twice_is_lost_once(core):
    core.apply(0, NodeLost(node=0))
    before, wakeups = image(core), core.wakeups
    core.apply(0, NodeLost(node=0))
    assert (image(core), core.wakeups) == (before, wakeups)


def test_a_node_that_comes_back_in_the_same_life_keeps_what_runs(core):
    job = submit(core, cpus=2)
    place(core, job, 0)
    start(core, job)
    rejoin(core, cpu_milli=4000)
    assert (job.phase, free(core, 0)[0]) == (P.RUNNING, 2000)
    assert core.desired(0).keep == ((1, 1, 0),)
    check(core)


def test_a_reboot_ends_what_ran_there(core):
    job = submit(core)
    place(core, job, 0)
    start(core, job)
    rejoin(core, boot="b")
    assert job.phase is P.PENDING
    assert job.because == "lost (n0: the node started anew); it runs again"
    assert core.ledger.room[UP, 0] == 1
    check(core)


def test_a_reboot_in_the_middle_of_a_gang_lets_the_rest_wind_down(core):
    job = submit(core, cpus=2, members=2)
    place(core, job, 0, 1)
    start(core, job)
    rejoin(core, boot="b")
    assert job.phase is P.STOPPING
    assert free(core, 0)[0] == 6000  # held until the whole gang is gone
    check(core)
    end(core, job)
    assert free(core, 0)[0] == free(core, 1)[0] == 8000
    check(core)


def test_devices_that_change_end_what_ran_there_and_are_held_by_nobody(core):
    job = submit(core, gpus=1, members=2)
    place(core, job, Slot(node=1, devices=(0,)), Slot(node=1, devices=(1,)))
    start(core, job)
    other = submit(core, gpus=1)
    rejoin(core, 1, devices=(Device(model="B", memory_mib=7),))
    assert job.phase is P.PENDING
    assert core.usage["default"] == [0] * 5
    place(core, other, Slot(node=1, devices=(0,)))
    assert core.usage["default"] == [1000, 0, 0, 1000, 7]
    check(core)


def test_a_gang_that_winds_down_holds_none_of_the_new_devices(core):
    core.apply(0, NodeJoined(node=2, spec=node("n2", gpus=1)))
    job = submit(core, gpus=1, members=2)
    place(core, job, Slot(node=1, devices=(1,)), Slot(node=2, devices=(0,)))
    start(core, job)
    rejoin(core, 1, devices=(Device(memory_mib=7),))
    assert job.phase is P.STOPPING
    assert [slot.devices for slot in job.slots] == [(), (0,)]
    assert core.usage["default"] == [2000, 0, 0, 1000, 40_000]
    check(core)
    end(core, job)
    check(core)
    assert free(core, 1) == [8000, 32_000, 0, 1000, 7]


def test_foreign_use_is_room_that_nobody_has(core):
    core.apply(0, ForeignUsage(node=1, amounts=(3000, 1000, 0, 0, 0), devices=(1,)))
    assert free(core, 1)[:2] == [5000, 31_000]
    room = core.ledger.room[:, 1].tolist()
    assert (room[WHOLE], room[SHARE_MILLI], room[SHARE_MEMORY]) == (1, 1000, 40_000)
    job = submit(core, gpus=1)
    with pytest.raises(AssertionError, match="no room"):
        place(core, job, Slot(node=1, devices=(1,)))


def test_foreign_use_on_top_of_ours_makes_room_negative_and_stops_nobody(core):
    job = submit(core, cpus=6)
    place(core, job, 0)
    core.apply(0, ForeignUsage(node=0, amounts=(5000, 0, 0, 0, 0)))
    assert free(core, 0)[0] == -3000
    check(core)
    end(core, job)
    core.apply(0, ForeignUsage(node=0, amounts=(0, 0, 0, 0, 0)))
    assert free(core, 0)[0] == 8000
    check(core)


def test_the_desired_state_says_what_to_run_keep_and_stop(core):
    new, kept, stopped = (submit(core) for _ in range(3))
    for job in (new, kept, stopped):
        place(core, job, 0)
    start(core, kept)
    start(core, stopped)
    stop(core, stopped)
    desired = core.desired(0)
    assert [launch.key for launch in desired.run] == [(1, 1, 0)]
    assert (desired.keep, desired.stop) == (((2, 1, 0),), ((3, 1, 0),))
    assert desired.version == core.seq
    end(core, stopped)
    assert core.desired(0).stop == ()


def test_a_launch_knows_its_rank_its_devices_and_where_the_others_are():
    core = cluster(node("n0", address="10.0.0.1"), node("n1", gpus=2))
    job = submit(core, members=4, cpus=0, gpu_milli=500)
    for foreign in (0, 1):
        core.apply(0, ForeignUsage(node=foreign, amounts=(0,) * 5))
    slots = [Slot(node=1, devices=(index,)) for index in (0, 0, 1, 1)]
    place(core, job, *slots)
    launches = core.desired(1).run
    assert [launch.local_rank for launch in launches] == [0, 1, 2, 3]
    assert [launch.devices for launch in launches] == [(0,), (0,), (1,), (1,)]
    assert launches[0].nodes == ("n1",) * 4
    pair = submit(core, members=2)
    place(core, pair, 1, 0)
    (launch,) = core.desired(0).run
    assert (launch.rank, launch.local_rank, launch.nodes) == (1, 0, ("n1", "10.0.0.1"))


def test_a_node_is_told_only_when_something_changed_for_it(core):
    core.drain()
    job = submit(core, members=2)
    assert core.drain().nodes == []
    place(core, job, 1, 0)
    assert core.drain().nodes == [0, 1]
    start(core, job, 0)
    assert core.drain().nodes == [1]
    stop(core, job)
    assert core.drain().nodes == [0, 1]
    end(core, job, 1)
    assert core.drain().nodes == [0]
    end(core, job, 0)
    assert core.drain().nodes == [1]


def test_each_changed_job_is_drained_once_with_its_latest_status(core):
    job = submit(core)
    place(core, job, 0)
    start(core, job)
    end(core, job)
    (status,) = core.drain().statuses
    assert (status.phase, status.nodes, status.exit_code) == (P.SUCCEEDED, ("n0",), 0)
    assert core.drain().statuses == []
