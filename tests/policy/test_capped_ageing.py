"""Capped ageing orders anew in every round, and is refused where nobody could catch up."""

from __future__ import annotations

import pytest

from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.base import Misuse
from fairlead.model.events import NodeJoined, Placed, PolicySet, Submitted
from fairlead.model.jobs import JobSpec, PolicyConfig
from fairlead.model.resources import Node, Shape
from fairlead.policy.explain import explain
from fairlead.policy.order import HOUR_MS
from fairlead.policy.registry import build, check

WIDE = Shape(cpu_milli=4000)


def started_first(config: PolicyConfig, later_priority: int) -> int:
    """Job 1 (priority 0) waits 200 h, job 2 comes 50 h later; a node comes. Which one starts?"""
    scheduler = Scheduler(Core(), build)
    scheduler.turn(0, [PolicySet(policy=config)])
    scheduler.turn(1, [Submitted(job=1, spec=JobSpec(shape=WIDE, priority=0))])
    late = Submitted(job=2, spec=JobSpec(shape=WIDE, priority=later_priority))
    scheduler.turn(50 * HOUR_MS, [late])
    node = NodeJoined(node=0, spec=Node(name="a", cpu_milli=4000))
    turn = scheduler.turn(200 * HOUR_MS, [node])
    return next(event.job for event in turn.events if isinstance(event, Placed))


def test_without_a_cap_the_older_job_stays_ahead_of_the_better_one() -> None:
    config = PolicyConfig(ageing_per_hour=1)
    assert started_first(config, later_priority=40) == 1


def test_with_a_cap_two_old_jobs_are_told_apart_by_their_own_priority_again() -> None:
    config = PolicyConfig(ageing_per_hour=1, ageing_cap=100)
    assert started_first(config, later_priority=40) == 2


def test_a_cap_below_the_span_of_priorities_is_refused_with_the_least_that_works() -> None:
    with pytest.raises(Misuse, match="no starvation bound") as caught:
        check(PolicyConfig(ageing_cap=99))
    assert caught.value.field == "ageing_cap"
    assert "100 or more" in caught.value.hint
    check(PolicyConfig(ageing_cap=100))


def test_why_shows_what_waiting_has_added_to_the_priority() -> None:
    scheduler = Scheduler(Core(), build)
    scheduler.turn(0, [PolicySet(policy=PolicyConfig(ageing_per_hour=60))])
    scheduler.turn(0, [Submitted(job=1, spec=JobSpec(shape=WIDE, priority=40))])
    why = explain(scheduler.core, scheduler.policy, 1, now=HOUR_MS // 8)
    assert why is not None
    assert "priority: 40, with its waiting 47.5" in why.lines
