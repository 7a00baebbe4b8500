"""When a job ran: by the node's clock where that can be believed, since reports may come late."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.core.reconcile import reconcile
from fairlead.model.events import (
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import Exit, JobSpec, Phase
from fairlead.model.messages import MemberState, Report
from fairlead.model.resources import Node, Shape, Slot
from fairlead.model.status import JobStatus


def placed(limit_ms: int | None = None) -> Core:
    core = Core()
    core.apply(0, NodeJoined(node=0, spec=Node(name="a", cpu_milli=4000)))
    core.apply(100, Submitted(job=1, spec=JobSpec(shape=Shape(), limit_ms=limit_ms)))
    core.apply(200, Placed(job=1, attempt=1, slots=(Slot(node=0),)))
    return core


def final(core: Core) -> JobStatus:
    (status,) = core.drain().statuses
    return status


def test_an_end_that_is_reported_late_counts_from_when_it_was() -> None:
    core = placed()
    core.apply(300, MemberStarted(job=1, attempt=1, at_ms=250))
    core.apply(90_000, MemberEnded(job=1, attempt=1, exit=Exit(code=0), at_ms=5_000))
    status = final(core)
    assert (status.started_ms, status.ended_ms) == (250, 5_000)


def test_a_clock_that_is_ahead_or_behind_is_believed_within_what_we_know() -> None:
    core = placed()
    core.apply(300, MemberStarted(job=1, attempt=1, at_ms=-50))  # before it was placed
    core.apply(400, MemberEnded(job=1, attempt=1, exit=Exit(code=0), at_ms=7_000))  # the future
    status = final(core)
    assert (status.started_ms, status.ended_ms) == (200, 400)


def test_the_time_limit_runs_from_the_real_start() -> None:
    core = placed(limit_ms=1_000)
    core.apply(900, MemberStarted(job=1, attempt=1, at_ms=300))
    assert core.next_deadline() == 1_300


def test_a_job_that_ended_before_its_start_was_heard_of_ran_as_long_as_it_did() -> None:
    core = placed()
    member = MemberState(
        job=1, attempt=1, rank=0, state="ended", exit=Exit(code=0), started_ms=250, ended_ms=280
    )
    events, _ = reconcile(core, Report(node="a", boot="", seen=3, members=(member,)))
    for event in events:
        core.apply(900, event)
    status = final(core)
    assert (status.started_ms, status.ended_ms) == (250, 280)


def test_a_preempted_job_has_run_for_as_long_as_counted_though_its_nodes_clock_is_slow() -> None:
    """Else an order by attained service puts it first again at once, for ever."""
    core = placed()
    core.apply(10_000, MemberStarted(job=1, attempt=1, at_ms=5_000))
    core.apply(20_000, StopDecided(job=1, attempt=1, then=Phase.PENDING))
    counted = core.jobs[1].attained_ms(20_000)
    core.apply(20_100, MemberEnded(job=1, attempt=1, exit=Exit(signal=15), at_ms=15_050))
    assert core.jobs[1].served_ms == counted == 15_000
