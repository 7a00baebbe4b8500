"""Gangs that lost a member: rebuilt or released as a whole, with the first claim on their slots."""

from __future__ import annotations

import pytest
from test_resize import POLICIES, World

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.model.events import Cancelled, NodeJoined, NodeLost, Promised, ReservationSet
from fairlead.model.jobs import Phase, Reservation
from strategies import LOST, TERMINATED, image, node

P = Phase


def broken(*cpus, lose=0, policy="fifo-skip", members=None, **more):
    """Return a world and its gang of one member a node of 4 cores, after it lost a node."""
    world = World(*cpus, policy=policy, **more)
    count = len(cpus) if members is None else members
    gang = world.submit(count, cpus=4, spread="distinct-nodes", limit_ms=10**6)
    assert gang.phase is P.RUNNING
    world.turn(NodeLost(node=lose))
    assert gang.phase is P.STOPPING
    return world, gang


@pytest.mark.parametrize("policy", POLICIES)
def test_a_gang_gets_its_own_slots_again_and_nobody_slips_in_between(policy):
    world, gang = broken(4, 4, 4, policy=policy)
    small = world.submit(1, cpus=4, limit_ms=1000, expected_ms=1, priority=90)
    world.gone(gang, TERMINATED)
    assert (gang.phase, small.phase) == (P.PENDING, P.PENDING)
    assert {slot.node for slot in gang.promise.slots} == {1, 2}
    world.turn(NodeJoined(node=0, spec=node("n0", cpus=4, boot="next")))
    assert (gang.attempt, small.attempt) == (2, 0), "first of all, whatever the order says then"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_gang_that_cannot_be_rebuilt_in_time_is_released_as_a_whole(policy):
    world, gang = broken(4, 4, 4, policy=policy, rebuild_ms=20_000)
    world.gone(gang, TERMINATED)
    small = world.submit(1, cpus=4, limit_ms=1000, expected_ms=1, priority=90)
    assert small.phase is P.PENDING
    world.now = world.scheduler.next_wake()
    assert world.now == 20_000
    world.turn()
    assert small.phase is P.RUNNING
    assert not any(isinstance(each, Promised) and each.until_ms for each in world.wait(100))


def test_it_starts_at_once_where_there_is_room_elsewhere():
    world, gang = broken(4, 4, 4, 4, members=3, lose=0)
    world.gone(gang, TERMINATED)
    assert (gang.phase, gang.attempt) == (P.RUNNING, 2)
    assert sorted(slot.node for slot in gang.slots) == [1, 2, 3]


def test_why_says_that_the_rest_is_held_for_it():
    world, gang = broken(4, 4)
    world.gone(gang, TERMINATED)
    (hold,) = [each for each in world.log if isinstance(each, Promised)]
    assert "held while it is rebuilt: rank 0 lost" in hold.because
    other = world.submit(1, cpus=4)
    assert world.why(other).reason in ("Reserved", "Priority")
    assert str(gang.id) in world.why(other).summary


def test_nothing_is_held_for_a_gang_that_was_told_to_go_anyway():
    world, gang = broken(4, 4)
    world.turn()
    assert gang.broken
    single = World(4)
    job = single.submit(1)
    single.gone(job, LOST)
    assert (job.phase, job.attempt, job.promise) == (P.RUNNING, 2, None)


def test_nothing_is_held_if_the_policy_says_never():
    world, gang = broken(4, 4, rebuild_ms=0)
    world.gone(gang, TERMINATED)
    assert gang.promise is None
    assert world.submit(1, cpus=4).phase is P.RUNNING


def test_a_drained_node_is_not_held():
    world, gang = broken(4, 4, 4)
    world.turn(ReservationSet(reservation=Reservation(name="drain-n1", start_ms=0, nodes=(1,))))
    world.gone(gang, TERMINATED)
    assert [slot.node for slot in gang.promise.slots] == [2]


def test_a_second_loss_leaves_what_is_still_there():
    world, gang = broken(4, 4, 4)
    world.gone(gang, TERMINATED)
    world.turn(NodeLost(node=1))
    assert [slot.node for slot in gang.promise.slots] == [2]
    world.turn(NodeLost(node=2))
    assert gang.promise is None
    world.turn(Cancelled(job=gang.id))
    assert not world.core.broken


def test_a_restart_of_the_service_forgets_no_hold():
    world, gang = broken(4, 4, 4)
    world.gone(gang, TERMINATED)
    twin = Core.load(world.core.dump())
    check(twin)
    assert list(twin.broken) == list(twin.promises) == [gang.id]
    assert image(twin) == image(world.core) == image(world.core.clone())
