from fairlead.model.events import (
    Cancelled,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    Shrunk,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import Exit, JobSpec, Phase
from fairlead.model.resources import Node, Shape, Slot
from fairlead.pages.figures import (
    core_seconds,
    quantile,
    tenant_figures,
    total_figures,
    use_over_time,
)
from fairlead.pages.history import read


def log(*events):
    return [(number, at, event) for number, (at, event) in enumerate(events, 1)]


NODE = NodeJoined(node=0, spec=Node(name="here", cpu_milli=2000))
OK = Exit(code=0)


def submitted(job, tenant="a", cpu_milli=1000, members=1):
    shape = Shape(cpu_milli=cpu_milli, members=members)
    return Submitted(job=job, spec=JobSpec(shape=shape, tenant=tenant, name=f"job{job}"))


def placed(job, attempt=1, members=1):
    return Placed(job=job, attempt=attempt, slots=(Slot(node=0),) * members)


def started(job, attempt=1, rank=0):
    return MemberStarted(job=job, attempt=attempt, rank=rank)


def ended(job, attempt=1, rank=0, how=OK):
    return MemberEnded(job=job, attempt=attempt, rank=rank, exit=how)


def test_an_elastic_job_went_well_though_members_came_left_and_were_lost():
    slots = (Slot(node=0),) * 3
    history = read(
        log(
            (0, NODE),
            (0, submitted(1)),
            (1000, placed(1)),
            (1000, started(1)),
            (2000, Grown(job=1, attempt=1, slots=slots)),
            *((2000, started(1, rank=rank)) for rank in (1, 2, 3)),
            (3000, ended(1, rank=1, how=Exit(why="lost"))),
            (4000, Shrunk(job=1, attempt=1, members=2)),
            (5000, ended(1, rank=3, how=Exit(signal=15))),
            (6000, ended(1, rank=0)),
            (6000, ended(1, rank=2)),
        )
    )
    (attempt,) = history.jobs[1].attempts
    assert (attempt.started, attempt.ended, attempt.result) == (1000, 6000, "ok")
    assert [member.left for member in attempt.members] == [False, False, False, True]
    (figures,) = tenant_figures(history)
    assert figures.core_s == 5 + 1 + 4 + 3


def test_a_job_waits_from_submission_until_every_member_runs():
    history = read(
        log(
            (0, NODE),
            (1000, submitted(1, members=2)),
            (2000, placed(1, members=2)),
            (2100, started(1, rank=1)),
            (2500, started(1, rank=0)),
            (5000, ended(1, rank=0)),
            (6000, ended(1, rank=1)),
        )
    )
    job = history.jobs[1]
    assert (job.wait_ms, job.run_ms, job.result) == (1500, 3500, "ok")
    assert core_seconds(job, history.last) == 3.0 + 4.0  # each member from decision to its own end


def test_every_attempt_is_told_and_the_last_one_is_the_result():
    history = read(
        log(
            (0, NODE),
            (0, submitted(1)),
            (100, placed(1)),
            (200, started(1)),
            (1200, ended(1, how=Exit(code=75))),
            (2000, placed(1, attempt=2)),
            (2100, started(1, attempt=2)),
            (2600, ended(1, attempt=2)),
        )
    )
    job = history.jobs[1]
    assert [attempt.result for attempt in job.attempts] == ["exit 75", "ok"]
    assert (job.wait_ms, job.run_ms) == (200, 1000 + 500)


def test_what_still_runs_holds_its_cores_until_the_end_of_the_log():
    history = read(log((0, NODE), (0, submitted(1)), (0, placed(1)), (4000, submitted(2))))
    assert history.jobs[1].result == "running"
    assert core_seconds(history.jobs[1], history.last) == 4.0
    assert history.jobs[2].result == "waiting"
    assert history.jobs[2].wait_ms is None


def test_stopped_cancelled_lost_and_killed_are_told_apart():
    stop = StopDecided(job=1, attempt=1, then=Phase.CANCELLED, because="by user")
    history = read(
        log(
            (0, NODE),
            *((0, submitted(job)) for job in (1, 2, 3, 4)),
            *((1, placed(job)) for job in (1, 3, 4)),
            (2, stop),
            (3, ended(1, how=Exit(signal=15))),
            (4, Cancelled(job=2)),
            (5, ended(4, how=Exit(signal=9))),
            (6, NodeLost(node=0)),
        )
    )
    results = [history.jobs[job].result for job in (1, 2, 3, 4)]
    assert results == ["stopped", "cancelled", "lost", "signal 9"]


def test_shares_of_the_machine_add_up():
    history = read(
        log(
            (0, NODE),
            (0, submitted(1, "a")),
            (0, submitted(2, "b", cpu_milli=500)),
            (0, placed(1)),
            (0, placed(2)),
            (10_000, ended(2)),
            (10_000, ended(1)),
        )
    )
    first, second = tenant_figures(history)
    assert (first.share, second.share) == (0.5, 0.25)
    assert total_figures(history).share == 0.75
    assert use_over_time(history, ["a", "b"]) == [(0, [1000, 500]), (10_000, [0, 0])]


def test_events_about_jobs_that_the_log_does_not_know_change_nothing():
    history = read(log((0, NODE), (1, started(7)), (2, placed(7)), (3, ended(7))))
    assert history.jobs == {}
    assert history.events == 4


def test_quantiles_are_values_of_the_list_by_nearest_rank():
    assert [quantile([1, 2], part) for part in (0, 0.5, 0.9, 1)] == [1, 1, 2, 2]
    assert quantile(list(range(1, 101)), 0.9) == 90
    assert quantile([], 0.5) is None
