"""What a report of an agent proves: started, ended, lost, and what may be forgotten."""

from __future__ import annotations

import pytest

from fairlead.core.invariants import check
from fairlead.core.reconcile import lost_node, reconcile
from fairlead.model.events import (
    Checkpointed,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Progressed,
)
from fairlead.model.jobs import Phase
from fairlead.model.messages import MemberState, Progress, Report
from strategies import FAILED, OK, cluster, end, node, place, start, stop, submit


@pytest.fixture
def core():
    return cluster(node("n0", boot="a"), node("n1", boot="a"))


def said(core, *members, name="n0", boot="a", seen=None):
    """Return the verdict on a report of members (job, attempt, rank, state[, exit])."""
    states = [
        MemberState(job=j, attempt=a, rank=r, state=state, exit=exit[0] if exit else None)
        for j, a, r, state, *exit in members
    ]
    seen = core.seq if seen is None else seen
    return reconcile(core, Report(node=name, boot=boot, seen=seen, members=tuple(states)))


def take(core, verdict):
    """Apply the events of a verdict and return what may be forgotten."""
    for event in verdict[0]:
        core.apply(core.now, event)
    check(core)
    return verdict[1]


def placed(core, members=1, where=(0,)):
    job = submit(core, members=members)
    place(core, job, *where)
    return job


def test_a_member_that_runs_has_started(core):
    placed(core)
    assert said(core, (1, 1, 0, "starting")) == ([], ())
    events, forget = said(core, (1, 1, 0, "running"))
    assert (events, forget) == ([MemberStarted(job=1, attempt=1, rank=0)], ())


def test_a_member_known_to_run_is_no_news(core):
    start(core, placed(core))
    assert said(core, (1, 1, 0, "running")) == ([], ())


def test_a_member_that_is_told_to_stop_before_it_ran_has_not_started(core):
    job = placed(core)
    stop(core, job)
    take(core, said(core, (1, 1, 0, "stopping")))
    assert job.started == set()


def test_an_end_is_reported_with_its_exit_and_forgotten_only_once_it_is_in_the_log(core):
    job = placed(core)
    start(core, job)
    verdict = said(core, (1, 1, 0, "ended", FAILED))
    assert verdict == ([MemberEnded(job=1, attempt=1, rank=0, exit=FAILED)], ())
    take(core, verdict)
    # The same report once more, now that the end is part of the core.
    assert said(core, (1, 1, 0, "ended", FAILED)) == ([], ((1, 1, 0),))


def test_a_member_that_the_agent_saw_and_has_not_is_lost(core):
    job = placed(core)
    start(core, job)
    (event,), forget = said(core)
    assert isinstance(event, MemberEnded) and event.exit.why == "lost" and forget == ()
    assert "n0: the agent has no record of it" in event.exit.detail
    core.apply(0, event)
    assert job.phase is Phase.PENDING


def test_a_member_that_the_agent_has_not_seen_yet_is_not_lost(core):
    before = core.seq + 1  # submitted, but not placed
    job = placed(core)
    assert said(core, seen=before) == ([], ())
    assert job.token_placed == before + 1
    assert said(core, seen=before + 1)[0] != []


def test_the_agent_of_a_second_attempt_may_not_have_seen_it_although_it_saw_the_first(core):
    job = placed(core)
    seen = core.seq
    take(core, said(core))
    place(core, job, 0)
    assert said(core, seen=seen) == ([], ())


def test_a_stop_that_came_before_the_launch_is_confirmed_by_absence(core):
    job = placed(core)
    stop(core, job)
    take(core, said(core))
    assert [s.phase for s in core.drain().statuses] == [Phase.CANCELLED]


def test_members_of_a_gang_are_judged_one_by_one(core):
    job = placed(core, members=3, where=(0, 0, 1))
    take(core, said(core, (1, 1, 0, "running"), (1, 1, 1, "ended", OK)))
    assert (job.started, set(job.exits), job.phase) == ({0, 1}, {1}, Phase.STARTING)
    take(core, said(core, (1, 1, 2, "running"), name="n1"))
    assert job.phase is Phase.RUNNING


@pytest.mark.parametrize(
    "member",
    [
        (1, 1, 0, "ended", OK),  # the first attempt, whose end is known
        (7, 1, 0, "ended", OK),  # never heard of
        (1, 2, 5, "ended", OK),  # no such rank
        (1, 2, -1, "ended", OK),
        (1, 2, 1, "ended", OK),  # a member of another node
    ],
)
def test_an_end_that_nobody_waits_for_is_forgotten(core, member):
    job = placed(core, members=2, where=(0, 1))
    take(core, said(core))
    take(core, said(core, name="n1"))
    place(core, job, 0, 1)
    start(core, job)
    events, forget = said(core, (1, 2, 0, "running"), member)
    assert (events, forget) == ([], (member[:3],))


def test_an_orphan_that_still_runs_is_neither_news_nor_forgotten(core):
    placed(core)
    assert said(core, (1, 1, 0, "starting"), (9, 1, 0, "running")) == ([], ())


def test_a_late_report_of_an_earlier_life_of_the_node_proves_nothing(core):
    job = placed(core)
    core.apply(0, NodeJoined(node=0, spec=node("n0", boot="b")))
    assert job.phase is Phase.PENDING
    place(core, job, 0)
    assert said(core, boot="a") == ([], ())
    assert said(core, (1, 2, 0, "ended", OK), boot="a") == ([], ())
    assert said(core, (1, 2, 0, "running"), boot="b")[0] != []


def test_a_report_of_an_unknown_node_proves_nothing(core):
    placed(core)
    assert said(core, (1, 1, 0, "ended", OK), name="stranger") == ([], ())


def test_a_report_is_idempotent(core):
    placed(core, members=2, where=(0, 0))
    report = ((1, 1, 0, "running"), (1, 1, 1, "ended", OK))
    take(core, said(core, *report))
    assert said(core, *report) == ([], ((1, 1, 1),))


def test_reading_a_report_changes_nothing(core):
    placed(core)
    before = core.digest()
    said(core, (1, 1, 0, "ended", OK))
    said(core)
    assert core.digest() == before


def test_only_a_known_node_that_is_up_can_be_given_up(core):
    assert lost_node(core, "n0", "silent") == [NodeLost(node=0, because="silent")]
    core.apply(0, NodeLost(node=0))
    assert lost_node(core, "n0", "silent") == []
    assert lost_node(core, "stranger", "silent") == []


def test_a_checkpoint_is_news_once_and_not_if_it_is_of_an_earlier_attempt(core):
    core.clock = core.now = 50
    job = placed(core)
    start(core, job)

    def report(at):
        state = MemberState(job=1, attempt=1, rank=0, state="running", checkpoint_ms=at)
        return reconcile(core, Report(node="n0", boot="a", seen=core.seq, members=(state,)))

    assert report(None)[0] == []
    assert report(49)[0] == [], "it was written before this attempt was placed"
    events, _ = report(70)
    assert events == [Checkpointed(job=1, attempt=1, at_ms=70)]
    take(core, (events, ()))
    assert job.checkpoint_ms == 70
    assert report(70)[0] == report(60)[0] == []


# ---- how far jobs are --------------------------------------------------------------------------


def far(core, steps, at, state="running", rank=0, attempt=1):
    """Return the events of a report that says how far a member is."""
    said = Progress(steps=steps, at_ms=at)
    exit = FAILED if state == "ended" else None
    member = MemberState(
        job=1, attempt=attempt, rank=rank, state=state, progress=said, started_ms=1, exit=exit
    )
    report = Report(node="n0", boot="a", seen=core.seq, members=(member,))
    return [each for each in reconcile(core, report)[0] if isinstance(each, Progressed)]


def test_progress_is_news_at_first_then_every_ten_seconds_and_at_the_very_last(core):
    job = placed(core)
    start(core, job)
    assert far(core, -1, 500) == []
    (first,) = far(core, 3, 1_000)
    assert first == Progressed(job=1, attempt=1, steps=3, at_ms=1_000)
    core.apply(60_000, first)
    assert far(core, 9, 10_999) == []
    assert far(core, 3, 11_000) == []
    assert far(core, 2, 11_000) == [], "backwards"
    assert far(core, 9, 11_000)[0].steps == 9
    (last,) = far(core, 5, 1_500, "ended")
    assert (last.steps, last.at_ms) == (5, 1_500)


def test_once_others_have_come_to_its_device_the_next_word_is_news_at_once(core):
    job = placed(core)
    start(core, job)
    core.apply(60_000, far(core, 3, 1_000)[0])
    assert far(core, 9, 2_000) == []
    job.progress = job.progress._replace(disturbed=True)
    (said,) = far(core, 9, 2_000)
    core.apply(60_000, said)
    assert not job.progress.disturbed and job.progress.from_steps == 9
    assert far(core, 10, 3_000) == []


def test_the_longer_an_attempt_runs_the_rarer_its_lines_are(core):
    start(core, placed(core))
    at, lines, week = 1_000, 0, 7 * 24 * 3_600_000
    while at < week:  # it reports every five seconds
        for event in far(core, at // 100, at):
            core.apply(at, event)
            lines += 1
        at += 5_000
    assert 300 < lines < 500


def test_in_a_gang_the_first_member_speaks_for_all(core):
    start(core, placed(core, members=2, where=(0, 0)))
    assert far(core, 9, 1_000, rank=1) == []
    assert far(core, 8, 1_000, rank=0)[0].steps == 8


def test_a_new_attempt_may_have_made_fewer_steps(core):
    job = placed(core)
    start(core, job)
    core.apply(5_000, far(core, 70, 4_000)[0])
    stop(core, job, Phase.PENDING)
    end(core, job, exit=FAILED)
    place(core, job, 0)
    start(core, job)
    assert far(core, 90, 99_000, attempt=1) == [], "a late word of the attempt before"
    assert far(core, 20, 6_000, attempt=2)[0].steps == 20
