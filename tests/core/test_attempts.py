"""What happens to one attempt: gangs, stops, exits, retries, time limits, repeated reports."""

from __future__ import annotations

import pytest

from fairlead.core import engine
from fairlead.core.invariants import check
from fairlead.core.nodes import Drained
from fairlead.model import limits
from fairlead.model.events import Cancelled, MemberEnded, MemberStarted, Submitted
from fairlead.model.jobs import Exit, Phase
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
REQUEUE = Exit(code=75)


def last_status(core, job):
    return [status for status in core.drain().statuses if status.id == job.id][-1]


@pytest.fixture
def core():
    return cluster(node("n0"), node("n1"), node("n2", gpus=4))


def test_a_stopping_attempt_holds_everything_until_it_is_confirmed_gone(core):
    job = submit(core, cpus=3, memory_mib=1000, gpus=2)
    place(core, job, Slot(node=2, devices=(0, 1)))
    start(core, job)
    before = free(core, 2)
    stop(core, job)
    assert free(core, 2) == before
    assert core.usage["default"] == [3000, 1000, 0, 2000, 80_000]
    end(core, job, exit=TERMINATED)
    assert free(core, 2) == [8000, 32_000, 0, 4000, 160_000]
    assert core.usage["default"] == [0] * 5
    check(core)


def test_a_gang_holds_all_its_slots_until_the_last_member_is_gone(core):
    job = submit(core, cpus=2, members=2)
    place(core, job, 0, 1)
    start(core, job)
    end(core, job, 0)
    assert job.phase is P.RUNNING
    assert (free(core, 0)[0], free(core, 1)[0]) == (6000, 6000)
    end(core, job, 1)
    assert (free(core, 0)[0], free(core, 1)[0]) == (8000, 8000)
    assert last_status(core, job).phase is P.SUCCEEDED


def test_a_gang_runs_when_its_last_member_has_started(core):
    job = submit(core, members=3)
    place(core, job, 0, 1, 1)
    start(core, job, 2)
    start(core, job, 0)
    assert (job.phase, job.started_ms) == (P.STARTING, None)
    start(core, job, 1)
    assert (job.phase, job.started_ms) == (P.RUNNING, core.now)
    check(core)


def test_when_one_member_fails_the_rest_of_the_gang_is_stopped(core):
    job = submit(core, members=3)
    place(core, job, 0, 1, 1)
    start(core, job)
    end(core, job, 1, exit=Exit(code=3))
    assert job.phase is P.STOPPING
    assert [key[2] for key in core.desired(0).stop] == [0]
    assert [key[2] for key in core.desired(1).stop] == [2]
    end(core, job, 0, exit=TERMINATED)
    end(core, job, 2, exit=OK)  # a good end of the others does not heal it
    status = last_status(core, job)
    assert (status.phase, status.exit_code, status.because) == (P.FAILED, 3, "rank 1 exit 3")


@pytest.mark.parametrize(
    ("exit", "phase", "because"),
    [
        (OK, P.SUCCEEDED, "exit 0"),
        (FAILED, P.FAILED, "exit 1"),
        (TERMINATED, P.FAILED, "killed by signal 15"),
        (Exit(signal=9, why="oom", detail="2 GiB"), P.OOM, "ran out of memory (2 GiB)"),
        (Exit(why="cannot-start", detail="no sh"), P.FAILED, "could not start: no sh"),
        (REQUEUE, P.PENDING, "asked to run again (exit 75)"),
        (LOST, P.PENDING, "lost; it runs again"),
    ],
)
def test_the_exit_decides_what_becomes_of_the_job(core, exit, phase, because):
    job = submit(core)
    place(core, job, 0)
    start(core, job)
    end(core, job, exit=exit)
    status = last_status(core, job)
    assert (status.phase, status.because) == (phase, because)
    assert (job.id in core.pending) == (phase is P.PENDING)
    check(core)


def test_an_attempt_that_ended_before_its_start_was_reported_did_run(core):
    job = submit(core, limit_ms=1000)
    place(core, job, 0)
    core.apply(7, Submitted(job=2, spec=job.spec))
    end(core, job)
    status = last_status(core, job)
    assert (status.phase, status.started_ms, status.first_started_ms) == (P.SUCCEEDED, 7, 7)
    assert core.due(10**9) == []


@pytest.mark.parametrize("exit", [LOST, Exit(why="cannot-start")])
def test_an_attempt_that_was_lost_before_it_started_never_ran(core, exit):
    job = submit(core)
    place(core, job, 0)
    end(core, job, exit=exit)
    assert last_status(core, job).first_started_ms is None


def test_own_failures_are_retried_as_often_as_allowed_and_no_more(core):
    job = submit(core, retries=2)
    for attempt in (1, 2, 3):
        assert job.phase is P.PENDING
        place(core, job, 0)
        assert job.attempt == attempt
        start(core, job)
        end(core, job, exit=FAILED)
    assert last_status(core, job).phase is P.FAILED
    assert job.id not in core.jobs


def test_neither_loss_nor_a_wish_to_run_again_nor_preemption_uses_up_retries(core):
    job = submit(core, retries=1)
    for exit in (LOST, REQUEUE, TERMINATED):
        place(core, job, 0)
        start(core, job)
        if exit is TERMINATED:
            stop(core, job, P.PENDING, "preempted")
        end(core, job, exit=exit)
        assert (job.phase, job.failures) == (P.PENDING, 0)
    place(core, job, 0)
    end(core, job, exit=FAILED)
    assert (job.phase, job.failures) == (P.PENDING, 1)
    place(core, job, 0)
    end(core, job, exit=FAILED)
    assert last_status(core, job).phase is P.FAILED


def test_a_job_that_restarts_without_end_is_given_up(core, monkeypatch):
    monkeypatch.setattr(limits, "RESTARTS_MAX", 3)
    job = submit(core)
    for _ in range(3):
        place(core, job, 0)
        end(core, job, exit=LOST)
    status = last_status(core, job)
    assert (status.phase, status.attempt) == (P.NODE_FAIL, 3)
    assert "3 attempts are the most" in status.because


def test_a_requeued_job_keeps_its_age_and_its_first_start(core):
    job = submit(core)
    core.apply(1000, Submitted(job=2, spec=job.spec))
    place(core, job, 0)
    start(core, job)
    core.apply(5000, Submitted(job=3, spec=job.spec))
    end(core, job, exit=LOST)
    core.apply(9000, Submitted(job=4, spec=job.spec))
    place(core, job, 0)
    assert (job.submitted_ms, job.placed_ms, job.started_ms) == (0, 9000, None)
    start(core, job)
    assert (job.started_ms, job.first_started_ms) == (9000, 1000)
    # It waits at the end of the list that policies read on from, under a new token.
    assert core.arrivals == [1, 2, 3, 1, 4]


def test_a_cancel_overrides_what_a_stop_was_for(core):
    job = submit(core)
    place(core, job, 0)
    start(core, job)
    stop(core, job, P.PENDING, "preempted")
    stop(core, job, P.CANCELLED, "by ann")
    end(core, job, exit=OK)
    status = last_status(core, job)
    assert (status.phase, status.because) == (P.CANCELLED, "by ann")


def test_a_preempted_job_that_still_ends_well_is_done(core):
    job = submit(core, members=2)
    place(core, job, 0, 0)
    start(core, job)
    stop(core, job, P.PENDING, "preempted")
    end(core, job)
    assert last_status(core, job).phase is P.SUCCEEDED


def test_a_preempted_gang_of_which_one_member_was_killed_runs_again(core):
    job = submit(core, members=2)
    place(core, job, 0, 0)
    start(core, job)
    stop(core, job, P.PENDING, "preempted")
    end(core, job, 0, exit=OK)
    end(core, job, 1, exit=TERMINATED)
    assert (job.phase, job.because) == (P.PENDING, "preempted")


def test_a_pending_job_is_cancelled_at_once(core):
    job = submit(core)
    core.apply(4, Cancelled(job=job.id, because="by ann"))
    status = last_status(core, job)
    assert (status.phase, status.ended_ms, status.because) == (P.CANCELLED, 4, "by ann")
    assert not core.jobs and not core.pending and core.waiting["default"] == 0


def test_reports_that_come_again_change_nothing(core):
    job = submit(core, members=2)
    place(core, job, 0, 1)
    reports = [
        MemberStarted(job=1, attempt=1, rank=0),
        MemberStarted(job=1, attempt=1, rank=1),
        MemberEnded(job=1, attempt=1, rank=0, exit=OK),
    ]
    for count, report in enumerate(reports, 1):
        core.apply(0, report)
        core.drain()
        once = image(core)
        for again in reports[:count]:
            core.apply(0, again)
        if job.exits:  # nor does a different story of the same end
            end(core, job, 0, exit=FAILED)
        assert image(core) == once
        assert core.drain() == Drained(statuses=[], nodes=[])
    check(core)


@pytest.mark.parametrize(("attempt", "rank"), [(0, 0), (2, 0), (1, 2), (1, -1)])
def test_reports_of_members_that_do_not_exist_change_nothing(core, attempt, rank):
    job = submit(core, members=2)
    place(core, job, 0, 1)
    before = image(core)
    core.apply(0, MemberStarted(job=1, attempt=attempt, rank=rank))
    core.apply(0, MemberEnded(job=1, attempt=attempt, rank=rank, exit=OK))
    assert image(core) == before
    check(core)


# ---- time limits -------------------------------------------------------------------------------


def limited(core, limit_ms=1000, at=100):
    job = submit(core, limit_ms=limit_ms)
    place(core, job, 0)
    core.apply(at, Submitted(job=core.next_job, spec=job.spec))
    start(core, job)
    return job


def test_a_time_limit_counts_from_the_start_and_not_from_the_placement(core):
    job = submit(core, limit_ms=1000)
    place(core, job, 0)
    assert core.next_deadline() is None
    core.apply(100, Submitted(job=2, spec=job.spec))
    start(core, job)
    assert core.next_deadline() == 1100
    assert core.due(1099) == []
    (due,) = core.due(1100)
    assert (due.job, due.attempt, due.then) == (1, 1, P.TIMEOUT)


def test_asking_what_is_due_changes_nothing_and_is_answered_until_it_is_decided(core):
    job = limited(core)
    assert core.due(1100) == core.due(1100) != []
    assert core.next_deadline() == 1100
    core.apply(1100, core.due(1100)[0])
    assert core.due(1100) == [] and core.next_deadline() is None
    end(core, job, exit=TERMINATED)
    assert last_status(core, job).phase is P.TIMEOUT


def test_a_limit_of_an_attempt_that_is_over_does_not_stop_the_next(core):
    job = limited(core)
    end(core, job, exit=LOST)
    place(core, job, 0)
    assert core.due(5000) == []
    core.apply(4000, Submitted(job=core.next_job, spec=job.spec))
    start(core, job)
    assert core.next_deadline() == 5000
    assert [stop.attempt for stop in core.due(5000)] == [2]


def test_limits_come_due_in_the_order_of_their_time(core):
    late = limited(core, limit_ms=5000, at=100)
    soon = limited(core, limit_ms=1000, at=200)
    assert [stop.job for stop in core.due(10_000)] == [soon.id, late.id]
    assert [stop.job for stop in core.due(1200)] == [soon.id]
    assert core.next_deadline() == 1200


def test_a_job_that_is_being_stopped_for_another_reason_does_not_time_out(core):
    job = limited(core)
    stop(core, job, P.CANCELLED)
    assert core.due(9999) == []
    assert core.next_deadline() is None


# ---- idempotent submissions ---------------------------------------------------------------------


def test_a_submission_that_comes_again_is_ignored_and_its_key_leads_to_its_jobs(core):
    job = submit(core)
    again = Submitted(job=2, spec=job.spec, request="key")
    core.apply(0, again)
    core.apply(0, Submitted(job=3, spec=job.spec, request="key"))
    core.apply(0, again)
    assert core.requests == {"key": [2, 3]}
    assert list(core.jobs) == [1, 2, 3]


def test_only_the_latest_keys_are_remembered(core, monkeypatch):
    monkeypatch.setattr(engine, "REQUESTS_KEPT", 3)
    job = submit(core)
    for number in range(2, 8):
        core.apply(0, Submitted(job=number, spec=job.spec, request=f"key{number}"))
    assert list(core.requests) == ["key5", "key6", "key7"]
