"""Elastic gangs in the core: members join and leave while the job runs, slot by slot."""

from __future__ import annotations

import pytest

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.reconcile import reconcile
from fairlead.model.events import Grown, MemberEnded, MemberStarted, NodeJoined, NodeLost, Shrunk
from fairlead.model.jobs import Exit, Phase
from fairlead.model.messages import MemberState, Report
from fairlead.model.resources import Slot
from strategies import (
    FAILED,
    LOST,
    OK,
    TERMINATED,
    cluster,
    end,
    free,
    image,
    node,
    place,
    start,
    stop,
    submit,
)

P = Phase


@pytest.fixture
def core():
    return cluster(*(node(f"n{index}", cpus=4) for index in range(4)))


def elastic(core, *slots, most=6, **more):
    """Return a running elastic job whose least members are on these nodes."""
    job = submit(core, cpus=2, members=len(slots), members_max=most, **more)
    place(core, job, *slots)
    start(core, job)
    return job


def grow(core, job, *nodes):
    slots = tuple(Slot(node=each) for each in nodes)
    core.apply(core.now, Grown(job=job.id, attempt=job.attempt, slots=slots))


def shrink(core, job, members):
    core.apply(core.now, Shrunk(job=job.id, attempt=job.attempt, members=members))


def status(core, job):
    return [each for each in core.drain().statuses if each.id == job.id][-1]


def stops(core, node_id):
    return [key[2] for key in core.desired(node_id).stop]


def team(core, node_id):
    (found,) = core.desired(node_id).teams
    return found


def cpus_held(core):
    return core.usage["default"][0]


def test_members_that_join_are_launched_and_all_hear_of_them(core):
    job = elastic(core, 0, 1)
    grow(core, job, 2, 1)
    assert job.phase is P.RUNNING
    assert cpus_held(core) == 8000
    (launch,) = core.desired(2).run
    assert (launch.rank, launch.place, launch.generation) == (2, 2, 1)
    assert launch.nodes == ("n0", "n1", "n2", "n1")
    (second,) = core.desired(1).run
    assert (second.rank, second.local_rank) == (3, 1)
    for each in range(3):
        assert team(core, each).numbers == (0, 1, 2, 3)
        assert team(core, each).generation == 1
    check(core)


def test_of_a_gang_that_is_not_elastic_agents_hear_what_they_always_heard(core):
    job = submit(core, members=2)
    place(core, job, 0, 1)
    desired = core.desired(0)
    assert desired.teams == ()
    assert (desired.run[0].place, desired.run[0].generation) == (None, 0)


def test_members_that_leave_give_back_each_its_slot_when_it_is_gone(core):
    job = elastic(core, 0, 1)
    grow(core, job, 2, 3)
    start(core, job, 2, 3)
    shrink(core, job, 2)
    assert (stops(core, 0), stops(core, 2), stops(core, 3)) == ([], [2], [3])
    assert team(core, 0).numbers == team(core, 3).numbers == (0, 1)
    assert cpus_held(core) == 8000, "nothing is free before it is confirmed"
    end(core, job, 3, exit=TERMINATED)
    assert (free(core, 2)[0], free(core, 3)[0]) == (2000, 4000)
    end(core, job, 2, exit=OK)
    assert cpus_held(core) == 4000
    assert (job.phase, job.slots) == (P.RUNNING, (Slot(node=0), Slot(node=1)))
    check(core)
    end(core, job)
    assert status(core, job).phase is P.SUCCEEDED


def test_a_number_is_never_used_twice_so_a_late_word_harms_nobody(core):
    job = elastic(core, 0)
    grow(core, job, 1)
    start(core, job, 1)
    shrink(core, job, 1)
    end(core, job, 1, exit=TERMINATED)
    grow(core, job, 1)
    assert team(core, 0).numbers == (0, 2)
    (launch,) = core.desired(1).run
    assert (launch.rank, launch.place) == (2, 1), "the rank that the program sees is dense"
    before = image(core)
    end(core, job, 1, exit=FAILED)
    assert image(core) == before


def test_a_member_that_is_gone_before_it_was_known_to_start_gives_back_too(core):
    job = elastic(core, 0)
    grow(core, job, 1)
    shrink(core, job, 1)
    assert stops(core, 1) == [1]
    end(core, job, 1, exit=LOST)
    assert (job.phase, cpus_held(core)) == (P.RUNNING, 2000)
    check(core)


def test_an_agent_that_had_not_heard_of_a_new_member_proves_nothing_about_it(core):
    job = elastic(core, 0)
    seen = core.seq
    grow(core, job, 0)
    members = (MemberState(job=1, attempt=1, rank=0, state="running"),)
    report = Report(node="n0", boot="", seen=seen, members=members)
    assert reconcile(core, report) == ([], ())
    late = Report(node="n0", boot="", seen=core.seq, members=members)
    ((lost,), _) = reconcile(core, late)
    assert (type(lost), lost.rank) == (MemberEnded, 1)


@pytest.mark.parametrize("how", ["node", "report", "reboot"])
def test_an_elastic_job_goes_on_without_a_member_that_is_lost(core, how):
    job = elastic(core, 0, 1)
    grow(core, job, 2)
    start(core, job, 2)
    if how == "node":
        core.apply(5, NodeLost(node=0))
    elif how == "reboot":
        core.apply(5, NodeJoined(node=0, spec=node("n0", cpus=4, boot="next")))
    else:
        core.apply(5, MemberEnded(job=1, attempt=1, rank=0, exit=LOST))
    assert (job.phase, job.attempt, job.slots) == (P.RUNNING, 1, (Slot(node=1), Slot(node=2)))
    assert "rank 0 lost" in job.because
    assert "goes on with 2 members" in job.because
    assert team(core, 1).numbers == (1, 2)
    assert (cpus_held(core), job.team.lost, job.failures) == (4000, 1, 0)
    check(core)
    core.apply(6, NodeLost(node=1))  # one less than the least: the gang goes as a whole
    assert (job.phase, job.then) == (P.STOPPING, P.PENDING)
    assert stops(core, 2) == [2]
    end(core, job, 2, exit=TERMINATED)
    assert job.phase is P.PENDING
    assert not core.elastic
    check(core)


def test_a_member_that_fails_uses_up_a_retry_and_without_one_the_gang_fails(core):
    job = elastic(core, 0, most=4, retries=1)
    grow(core, job, 1, 2)
    start(core, job, 1, 2)
    end(core, job, 1, exit=FAILED)
    assert (job.phase, job.failures, job.team.size) == (P.RUNNING, 1, 2)
    end(core, job, 2, exit=FAILED)
    assert (job.phase, job.then) == (P.STOPPING, P.FAILED)
    check(core)


def test_a_new_member_that_cannot_start_does_not_fail_the_others(core):
    job = elastic(core, 0)
    grow(core, job, 1)
    end(core, job, 1, exit=Exit(why="cannot-start", detail="no such folder"))
    assert (job.phase, job.team.size, job.failures) == (P.RUNNING, 1, 0)


def test_a_member_that_asks_to_run_again_is_heard_as_ever(core):
    job = elastic(core, 0)
    grow(core, job, 1)
    start(core, job, 1)
    end(core, job, 1, exit=Exit(code=75))
    assert (job.phase, job.then) == (P.STOPPING, P.PENDING)


def test_who_comes_to_a_good_end_keeps_its_slot_until_all_have(core):
    job = elastic(core, 0)
    grow(core, job, 1)
    start(core, job, 1)
    end(core, job, 0)
    assert (job.phase, cpus_held(core)) == (P.RUNNING, 4000)
    end(core, job, 1)
    assert (status(core, job).phase, cpus_held(core)) == (P.SUCCEEDED, 0)
    check(core)


@pytest.mark.parametrize("gone_by", [MemberEnded, NodeLost])
def test_a_job_whose_others_have_ended_is_over_when_the_last_that_leaves_has_left(core, gone_by):
    job = elastic(core, 0)
    grow(core, job, 1)
    start(core, job, 1)
    shrink(core, job, 1)
    end(core, job, 0)
    assert job.phase is P.RUNNING
    if gone_by is NodeLost:
        core.apply(1, NodeLost(node=1))
    else:
        end(core, job, 1, exit=TERMINATED)
    assert (status(core, job).phase, cpus_held(core)) == (P.SUCCEEDED, 0)
    check(core)


@pytest.mark.parametrize("when", ["growing", "shrinking"])
def test_a_cancel_at_any_time_stops_all_that_hold_anything(core, when):
    job = elastic(core, 0)
    grow(core, job, 1, 2)
    if when == "shrinking":
        start(core, job, 1, 2)
        shrink(core, job, 2)
    stop(core, job)
    assert [stops(core, each) for each in range(3)] == [[0], [1], [2]]
    for rank in (2, 0, 1):
        assert job.phase is P.STOPPING
        end(core, job, rank, exit=TERMINATED)
    assert (status(core, job).phase, cpus_held(core)) == (P.CANCELLED, 0)
    check(core)


def test_a_later_attempt_begins_with_the_least_and_with_numbers_of_its_own(core):
    job = elastic(core, 0, 1)
    grow(core, job, 2)
    stop(core, job, P.PENDING)
    end(core, job, exit=TERMINATED)
    place(core, job, 2, 3)
    assert (list(job.ranks), job.team.generation) == ([0, 1], 0)
    assert core.desired(3).run[0].key == (1, 2, 1)
    check(core)


def test_an_image_knows_who_leaves_and_who_has_just_come(core):
    job = elastic(core, 0)
    grow(core, job, 1, 2)
    start(core, job, 1)
    shrink(core, job, 2)
    twin = Core.load(core.dump())
    check(twin)
    assert image(twin) == image(core)
    assert image(core.clone()) == image(core)
    for each in (core, twin):
        assert stops(each, 2) == [2]
        each.apply(9, MemberEnded(job=1, attempt=1, rank=2, exit=TERMINATED))
        each.apply(9, MemberStarted(job=1, attempt=1, rank=1))
    assert image(twin) == image(core)


def test_a_clone_shrinks_alone(core):
    job = elastic(core, 0)
    grow(core, job, 1)
    before = image(core)
    copy = core.clone()
    copy.apply(0, Shrunk(job=job.id, attempt=1, members=1))
    check(copy)
    assert image(core) == before


@pytest.mark.parametrize(
    "decision",
    [
        Grown(job=1, attempt=1, slots=()),
        Grown(job=1, attempt=1, slots=(Slot(node=2),) * 5),
        Grown(job=1, attempt=2, slots=(Slot(node=2),)),
        Grown(job=1, attempt=1, slots=(Slot(node=0), Slot(node=0))),
        Shrunk(job=1, attempt=1, members=1),
        Shrunk(job=1, attempt=1, members=3),
    ],
)
def test_a_resize_that_cannot_be_stops_the_core(core, decision):
    job = elastic(core, 0, 1)
    grow(core, job, 2)
    with pytest.raises(AssertionError, match="job 1"):
        core.apply(0, decision)


def test_a_gang_that_is_not_elastic_never_changes(core):
    job = submit(core, members=2)
    place(core, job, 0, 1)
    start(core, job)
    with pytest.raises(AssertionError, match="job 1 cannot grow"):
        grow(core, job, 2)
