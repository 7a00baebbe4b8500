"""Jobs move so that another one fits: held, step by step, and nobody is lost on the way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reclaim_life import Life

from fairlead.core.engine import Core
from fairlead.model.events import (
    Cancelled,
    NodeJoined,
    NodeLost,
    Promised,
    ReservationDeleted,
    StopDecided,
)
from fairlead.model.jobs import Phase
from fairlead.model.resources import Shape, Slot
from fairlead.policy.defrag import (
    ROOM,
    decided,
    plan_of,
    search,
    somebody,
    under_way,
)

MIN = 60_000


def settled(life: Life) -> None:
    """Let whoever was told to go be gone, until nobody is."""
    while stopping := life.stopping():
        life.end(life.core.now + 1000, *sorted(stopping))


def move_for(life: Life, job_id: int) -> None:
    """Decide on the moves for a waiting job (0: for anybody who takes a whole machine)."""
    core = life.core
    whole = somebody(core, Shape(cpu_milli=0, gpus=8))
    job = core.jobs[job_id] if job_id else whole
    way = search(core, life.scheduler.policy, job, 1000).way
    assert way is not None
    life.turn(core.now, *decided(core, plan_of(core, way), job))


def node_of(life: Life, job_id: int) -> set[int]:
    return {slot.node for slot in life.core.jobs[job_id].slots}


def scattered(**settings) -> tuple[Life, int, int]:
    """Return two machines with half of each in use by long jobs, and a job that needs a whole."""
    life = Life(nodes=(8, 8), reclaim="never", **settings)
    first = life.submit(0, "default", 4, limit_ms=600 * MIN)
    blocker = life.submit(0, "default", 4, limit_ms=600 * MIN)
    second = life.submit(0, "default", 4, limit_ms=600 * MIN)
    life.end(1000, blocker)
    assert node_of(life, first) == {0} and node_of(life, second) == {1}
    whole = life.submit(2000, "default", 8, limit_ms=60 * MIN)
    return life, whole, first


def test_a_job_that_needs_a_whole_machine_gets_one_and_who_moved_runs_again():
    life, whole, first = scattered()
    assert life.phase(whole) is Phase.PENDING
    move_for(life, whole)
    (stop,) = life.stops()
    assert (stop.job, stop.then, stop.beneficiary) == (first, Phase.PENDING, whole)
    settled(life)
    assert life.running() == {first, 3, whole}
    assert node_of(life, first) == {1} and node_of(life, whole) == {0}
    assert not life.core.promises


def test_nobody_else_takes_the_new_place_nor_what_becomes_free():
    life, whole, first = scattered()
    move_for(life, whole)
    greedy = life.submit(3000, "default", 4, count=2, limit_ms=MIN)
    settled(life)
    assert life.running() == {first, 3, whole}
    assert [life.phase(each) for each in greedy] == [Phase.PENDING] * 2


def test_without_a_job_the_room_is_kept_until_all_have_moved_then_whoever_waits_has_it():
    life, whole, first = scattered()
    life.turn(2000, Cancelled(job=whole))
    move_for(life, 0)
    assert ROOM in life.core.reservations
    late = life.submit(3000, "default", 4, limit_ms=MIN)
    assert life.phase(late) is Phase.PENDING
    settled(life)
    assert not life.core.reservations and life.running() == {first, 3, late}


def chain() -> Life:
    """Three machines of 4, 3 and 2: job 1 goes to where job 2 is, which goes to the third."""
    life = Life(nodes=(4, 3, 2), reclaim="never", placement="worst-fit")
    one = life.submit(0, "default", 3, limit_ms=600 * MIN)
    two = life.submit(0, "default", 2, limit_ms=600 * MIN)
    assert (node_of(life, one), node_of(life, two)) == ({0}, {1})
    return life


def test_a_job_goes_on_running_until_its_new_place_is_free():
    life = chain()
    whole = life.submit(1000, "default", 4, limit_ms=MIN)
    move_for(life, whole)
    assert life.stopping() == {2} and life.running() == {1}
    life.end(2000, 2)
    assert life.stopping() == {1} and 2 in life.running()
    settled(life)
    assert life.running() == {1, 2, whole} and node_of(life, 1) == {1}


def circle() -> Life:
    """Two machines whose jobs are to change places."""
    life = Life(nodes=(3, 2), reclaim="never")
    life.submit(0, "default", 2, limit_ms=600 * MIN)
    life.submit(0, "default", 2, limit_ms=600 * MIN)
    assert node_of(life, 1) == {1} and node_of(life, 2) == {0}
    return life


def test_in_a_circle_one_job_waits_for_the_other():
    life = circle()
    whole = life.submit(1000, "default", 1, gpu_models=("gpu",), limit_ms=MIN)
    assert life.phase(whole) is Phase.RUNNING
    pair = [(1, (Slot(0, (0, 1)),)), (2, (Slot(1, (0, 1)),))]
    waits = life.submit(1000, "default", 3, limit_ms=MIN)
    hold = Promised(waits, 2000, (Slot(0, (0, 1, 2)),), "", 9 * MIN)
    moves = [Promised(job, 2000, slots, "it moves", 9 * MIN, move_for=waits) for job, slots in pair]
    life.turn(2000, hold, *moves)
    assert life.stopping() == {1}, "the first of equals is suspended"
    life.end(3000, 1)
    assert life.stopping() == {2} and life.phase(1) is Phase.PENDING
    life.end(4000, 2)
    assert node_of(life, 2) == {1} and 2 in life.running()


def test_whoever_ends_by_itself_need_not_move_and_the_others_stay_when_the_job_has_started():
    life = chain()
    whole = life.submit(1000, "default", 4, limit_ms=MIN)
    move_for(life, whole)
    life.end(2000, 1)
    assert whole in life.running()
    settled(life)
    assert life.running() == {2, whole} and not life.core.promises
    stops = [each for each in life.stops() if each.job == 1]
    assert not stops


@pytest.mark.parametrize("how", ["cancelled", "node lost", "in vain"])
def test_moves_that_are_needed_no_more_are_given_up_and_nobody_is_stopped_for_them(how):
    life = chain()
    whole = life.submit(1000, "default", 4, limit_ms=MIN)
    move_for(life, whole)
    if how == "cancelled":
        life.turn(2000, Cancelled(job=whole))
    elif how == "node lost":
        life.turn(2000, NodeLost(node=0))
    else:
        until = max(job.promise.until_ms for job in under_way(life.core))
        life.turn(until, *life.scheduler.core.due(until)[:0])
    if how != "node lost":
        assert life.running() == {1}
        last = [each for each in life.events if isinstance(each, Promised) and each.job == 1][-1]
        assert not last.slots and "not" in last.because
    settled(life)
    assert not any(each.job == 1 for each in life.stops())
    assert not under_way(life.core)
    assert life.phase(2) is Phase.RUNNING


def test_all_of_it_is_in_the_log_so_that_a_service_that_was_killed_goes_on():
    life = chain()
    whole = life.submit(1000, "default", 4, limit_ms=MIN)
    move_for(life, whole)
    again = Core.load(life.core.dump())
    assert again.digest() == life.core.digest()
    assert {job.id: job.promise for job in under_way(again)} == {
        job.id: job.promise for job in under_way(life.core)
    }
    life.scheduler.core = life.core = again
    settled(life)
    assert life.running() == {1, 2, whole}


def test_jobs_that_must_not_be_stopped_are_not_moved():
    life = Life(nodes=(8, 8), reclaim="never")
    for _ in range(2):
        life.submit(0, "default", 5, limit_ms=600 * MIN, preemptible=False)
    whole = life.submit(0, "default", 8, limit_ms=MIN)
    answer = search(life.core, life.scheduler.policy, life.core.jobs[whole], 1000)
    assert answer == (None, True)


def test_by_itself_a_policy_moves_what_costs_less_than_the_waiting_that_it_saves():
    life, whole, first = scattered(defrag="when-worth")
    assert [each.job for each in life.stops()] == [first]
    settled(life)
    assert life.running() == {first, 3, whole}


def test_by_itself_it_moves_nobody_who_has_more_to_lose_than_the_other_has_to_wait():
    life = Life(nodes=(8, 8), reclaim="never", defrag="when-worth")
    life.submit(0, "default", 4, limit_ms=600 * MIN)
    blocker = life.submit(0, "default", 4, limit_ms=600 * MIN)
    life.submit(0, "default", 4, limit_ms=600 * MIN)
    life.end(500 * MIN, blocker)
    whole = life.submit(500 * MIN, "default", 8, limit_ms=MIN)
    assert life.phase(whole) is Phase.PENDING and not life.stops()


def test_a_policy_that_moves_jobs_by_itself_comes_to_rest():
    life = scattered(defrag="when-worth")[0]
    settled(life)
    life.submit(5000, "default", 8, count=3, limit_ms=MIN)
    for now in range(10_000, 60_000, 5_000):
        life.turn(now)
        settled(life)
    assert len([each for each in life.events if isinstance(each, StopDecided)]) == 1
    assert not any(isinstance(each, ReservationDeleted) for each in life.events)


@pytest.mark.parametrize(
    "policy",
    [
        "fifo",
        "fifo-strict",
        "easy",
        "conservative",
        "fair",
        "sjf",
        "srtf",
        "las",
        "priority-preempt",
    ],
)
def test_what_was_decided_comes_about_under_every_policy(policy):
    life, whole, first = scattered(policy=policy)
    move_for(life, whole)
    settled(life)
    assert life.running() == {first, 3, whole}
    assert not life.core.promises


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_whatever_happens_nothing_is_held_in_the_end_and_an_image_says_it_all(rng):
    life = Life(nodes=(4, 4, 2), reclaim="never", defrag="when-worth", policy="easy")
    now, core = 0, life.core
    for _ in range(40):
        now += rng.choice([1000, 30_000, 20 * MIN])
        live = sorted(life.running() | life.stopping())
        pick = rng.random()
        if pick < 0.5:
            limit = rng.choice([5, 60, 600]) * MIN
            life.submit(now, "default", rng.choice([1, 1, 2, 3, 4]), limit_ms=limit)
        elif pick < 0.6:
            life.turn(now, NodeLost(node=rng.randrange(3)))
        elif pick < 0.7:
            gone = [node for node, each in enumerate(core.nodes) if not each.up]
            life.turn(now, *(NodeJoined(node=n, spec=core.nodes[n].spec) for n in gone))
        elif live:
            life.end(now, rng.choice(live))
        else:
            life.turn(now)
        assert Core.load(core.dump()).digest() == core.digest() == core.clone().digest()
    life.turn(now, *(Cancelled(job=job) for job in list(core.pending)))
    while live := sorted(life.running() | life.stopping()):
        life.end(core.now + 1000, *live)
        life.turn(core.now, *(Cancelled(job=job) for job in list(core.pending)))
    assert not core.jobs and not core.promises and not core.moving and not core.shares.kept
