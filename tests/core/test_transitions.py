"""Every pair of a phase and an event: what follows, what is ignored, and what stops the core."""

from __future__ import annotations

import itertools

import pytest

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.jobs import TRANSITIONS
from fairlead.model.events import (
    Cancelled,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeLost,
    Placed,
    Shrunk,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import FINAL, LIVE, Exit, Phase
from fairlead.model.resources import Slot
from strategies import (
    FAILED,
    LOST,
    OK,
    TERMINATED,
    cluster,
    end,
    image,
    node,
    place,
    spec,
    start,
    stop,
    submit,
)

P = Phase
OUTSIDE = (Submitted, MemberStarted, MemberEnded, NodeLost)
OWN = (Placed, StopDecided, Grown, Shrunk, Cancelled)
ENDS = {
    P.SUCCEEDED: OK,
    P.FAILED: FAILED,
    P.OOM: Exit(why="oom"),
}


def in_phase(phase: Phase) -> Core:
    """Return a core whose job 1 (attempt 1, if any, on node 0) is or ended in this phase."""
    core = cluster(node("n0"), node("n1"))
    job = submit(core, members_max=2)
    if phase is P.PENDING:
        return core
    if phase is P.CANCELLED:
        core.apply(0, Cancelled(job=1))
        return core
    place(core, job, 0)
    if phase is P.STARTING:
        return core
    start(core, job)
    if phase is P.STOPPING:
        stop(core, job)
    elif phase in (P.TIMEOUT, P.NODE_FAIL):
        stop(core, job, phase)
        end(core, job, exit=TERMINATED)
    elif phase in FINAL:
        end(core, job, exit=ENDS[phase])
    return core


def about_job_1(kind: type, phase: Phase):
    """Return an event that a careless sender could send of job 1, whatever its phase."""
    attempt = 0 if phase is P.PENDING else 1
    return {
        Submitted: Submitted(job=1, spec=spec()),
        Placed: Placed(job=1, attempt=attempt + 1, slots=(Slot(node=0),)),
        MemberStarted: MemberStarted(job=1, attempt=attempt, rank=0),
        MemberEnded: MemberEnded(job=1, attempt=attempt, rank=0, exit=OK),
        StopDecided: StopDecided(job=1, attempt=attempt, then=P.CANCELLED),
        Grown: Grown(job=1, attempt=attempt, slots=(Slot(node=1),)),
        Shrunk: Shrunk(job=1, attempt=attempt, members=1),
        Cancelled: Cancelled(job=1),
        NodeLost: NodeLost(node=0),
    }[kind]


EXPECTED = {  # what the event above does to a job of one member
    (P.PENDING, Placed): P.STARTING,
    (P.PENDING, Cancelled): P.CANCELLED,
    (P.STARTING, MemberStarted): P.RUNNING,
    (P.STARTING, MemberEnded): P.SUCCEEDED,
    (P.STARTING, NodeLost): P.PENDING,
    (P.STARTING, StopDecided): P.STOPPING,
    (P.RUNNING, MemberEnded): P.SUCCEEDED,
    (P.RUNNING, NodeLost): P.PENDING,
    (P.RUNNING, StopDecided): P.STOPPING,
    (P.RUNNING, Grown): P.RUNNING,
    (P.RUNNING, Shrunk): P.RUNNING,
    (P.STOPPING, MemberEnded): P.CANCELLED,
    (P.STOPPING, NodeLost): P.CANCELLED,
    (P.STOPPING, StopDecided): P.STOPPING,
}
ALL = list(itertools.product(Phase, (*OUTSIDE, *OWN)))


def phase_of_job_1(core: Core) -> Phase:
    if 1 in core.jobs:
        return core.jobs[1].phase
    (status,) = [status for status in core.drain().statuses if status.id == 1]
    return status.phase


@pytest.mark.parametrize(
    ("phase", "kind"),
    [pair for pair in ALL if pair in EXPECTED],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_a_transition_of_the_table_happens(phase, kind):
    core = in_phase(phase)
    assert phase_of_job_1(core) is phase
    if kind is Shrunk:
        core.apply(0, about_job_1(Grown, phase))
    core.apply(0, about_job_1(kind, phase))
    after = phase_of_job_1(core)
    assert after is EXPECTED[phase, kind]
    assert after in TRANSITIONS[phase, kind]
    assert (1 in core.jobs) == (after is P.PENDING or after in LIVE)
    check(core)


@pytest.mark.parametrize(
    ("phase", "kind"),
    [pair for pair in ALL if pair not in EXPECTED and pair[1] in OUTSIDE],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_an_outside_report_that_does_not_apply_changes_nothing(phase, kind):
    core = in_phase(phase)
    before = image(core)
    core.apply(0, about_job_1(kind, phase))
    after = image(core)
    if kind is NodeLost:  # the node is down all the same
        assert after["nodes"][0].pop("up") is False
        before["nodes"][0].pop("up")
    elif (phase, kind) == (P.STOPPING, MemberStarted):
        # Known to have started before: not even that is new. One that was not: see below.
        assert before["jobs"][0]["started"] == [0]
    assert after == before
    check(core)


@pytest.mark.parametrize(
    ("phase", "kind"),
    [pair for pair in ALL if pair not in EXPECTED and pair[1] in OWN],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_an_impossible_decision_of_ours_stops_the_core_with_the_jobs_story(phase, kind):
    core = in_phase(phase)
    with pytest.raises(AssertionError, match="job 1"):
        core.apply(0, about_job_1(kind, phase))


def test_the_table_and_this_test_know_the_same_pairs():
    wait = {(None, Submitted), (P.STARTING, MemberStarted), (P.STOPPING, MemberStarted)}
    assert set(TRANSITIONS) == set(EXPECTED) | wait
    assert {kind for _, kind in TRANSITIONS} == {*OUTSIDE, *OWN}


def test_a_member_that_starts_while_its_job_stops_is_known_to_have_started():
    core = cluster(node())
    job = submit(core)
    place(core, job, 0)
    stop(core, job)
    start(core, job)
    assert (job.phase, job.started) == (P.STOPPING, {0})
    check(core)


@pytest.mark.parametrize(
    "wrong",
    [
        Placed(job=2, attempt=1, slots=(Slot(node=0),)),  # unknown
        Placed(job=1, attempt=2, slots=(Slot(node=0),)),  # skips an attempt
        Placed(job=1, attempt=1, slots=()),  # less than the gang
        Placed(job=1, attempt=1, slots=(Slot(node=0), Slot(node=1))),  # more than the gang
        Placed(job=1, attempt=1, slots=(Slot(node=1),)),  # down
        Placed(job=1, attempt=1, slots=(Slot(node=2),)),  # full
        StopDecided(job=1, attempt=0, then=P.CANCELLED),
        StopDecided(job=2, attempt=1, then=P.CANCELLED),
        Cancelled(job=2),
        Submitted(job=3, spec=spec()),  # ids are dense
    ],
)
def test_a_decision_that_cannot_be_stops_the_core(wrong):
    core = cluster(node("n0"), node("n1"), node("n2", cpus=0))
    submit(core)
    core.apply(0, NodeLost(node=1))
    with pytest.raises(AssertionError):
        core.apply(0, wrong)


@pytest.mark.parametrize("devices", [(0,), (0, 0), (0, 1, 2), (), (1, 7)])
def test_devices_that_are_not_free_are_not_given_twice(devices):
    core = cluster(node(gpus=3))
    place(core, submit(core, gpus=1), Slot(node=0, devices=(0,)))
    job = submit(core, gpus=2)
    with pytest.raises(AssertionError):
        place(core, job, Slot(node=0, devices=devices))


def test_a_stop_ends_in_pending_or_in_a_final_phase_only():
    core = in_phase(P.RUNNING)
    with pytest.raises(AssertionError):
        stop(core, core.jobs[1], P.RUNNING)


def test_time_never_runs_backwards():
    core = cluster(node())
    core.apply(5, NodeLost(node=0))
    with pytest.raises(AssertionError, match="backwards"):
        core.apply(4, NodeLost(node=0))


def test_a_lost_attempt_leaves_no_trace_on_the_next():
    core = in_phase(P.RUNNING)
    job = core.jobs[1]
    end(core, job, exit=LOST)
    assert job.phase is P.PENDING
    place(core, job, 1)
    assert (job.attempt, job.started, job.exits, job.worst) == (2, set(), {}, None)
    core.apply(0, MemberEnded(job=1, attempt=1, rank=0, exit=OK))  # a word from the first
    assert (job.phase, job.exits) == (P.STARTING, {})
    check(core)
