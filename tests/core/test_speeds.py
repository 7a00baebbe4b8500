"""How fast jobs are, from what they say of their steps; and when they end by that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.ends import FAR, total_run_ms
from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.speeds import WINDOW_MS, Measured
from fairlead.model.events import (
    Forecasted,
    Grown,
    MemberStarted,
    Progressed,
    SpeedDeleted,
    SpeedSet,
)
from fairlead.model.jobs import Exit, Forecast, Phase, PolicyConfig, Speed
from fairlead.model.resources import Device, Slot
from strategies import cluster, end, image, node, place, start, stop, submit

BY_STEPS = PolicyConfig(estimate="expected")
PER_S = 1_000_000  # one step a second, in the unit of speeds


def running(core, *slots, at=1_000, **spec):
    """Return a job that runs since then."""
    core.now = at
    job = submit(core, **{"job_type": "bert", "gpus": 1, **spec})
    place(core, job, *(slots or (Slot(node=0, devices=(0,)),)))
    start(core, job)
    return job


def says(core, job, at, steps, attempt=None, at_ms=None):
    said = Progressed(job=job.id, attempt=attempt or job.attempt, steps=steps, at_ms=at_ms)
    core.apply(at, said)
    check(core)


def measured(core, model="A", width=1000, kind="bert"):
    return core.speeds.measured.get((kind, width, model))


def two_models():
    return cluster(node("n0", gpus=2), node("n1", devices=(Device(model="B"), Device(model="B"))))


def test_the_steps_between_two_reports_are_the_speed_of_the_type_on_that_device():
    core = two_models()
    first = running(core)
    says(core, first, 5_000, 40)  # where it was then says nothing of how fast it is
    assert measured(core) is None
    says(core, first, 15_000, 70)
    assert measured(core) == Measured(
        steps=30, ms=10_000, used=3 * PER_S, runs=1, low=3 * PER_S, high=3 * PER_S
    )
    says(core, first, 25_000, 80)  # it stood still for a while
    assert (measured(core).rate, measured(core).low) == (2 * PER_S, PER_S)
    other = running(core, Slot(node=0, devices=(1,)), at=30_000)
    says(core, other, 40_000, 0)
    says(core, other, 60_000, 80)
    assert measured(core) == Measured(
        steps=120, ms=40_000, used=3 * PER_S, runs=2, low=PER_S, high=4 * PER_S
    )
    elsewhere = running(core, Slot(node=1, devices=(0,)), at=60_000)
    says(core, elsewhere, 61_000, 5)
    says(core, elsewhere, 71_000, 55)
    assert core.speeds.of(elsewhere.spec, "B") == 5 * PER_S
    assert core.speeds.of(elsewhere.spec, "A") == 3 * PER_S


def test_what_goes_backwards_or_comes_late_is_ignored_and_a_new_attempt_starts_where_it_likes():
    core = cluster(node(gpus=1), policy=BY_STEPS)
    job = running(core, steps=1000, retries=1)
    says(core, job, 2_000, 100)
    says(core, job, 12_000, 200)
    known = job.progress
    says(core, job, 12_500, 150)
    says(core, job, 12_500, 999, at_ms=12_000)
    says(core, job, 13_000, 999, attempt=7)
    assert job.progress == known and measured(core).steps == 100
    stop(core, job, Phase.PENDING)
    says(core, job, 13_500, 230)  # while it saves its work: how far it is, not how fast
    assert (job.progress.steps, measured(core).steps) == (230, 100)
    end(core, job, exit=Exit(signal=15))
    says(core, job, 14_000, 300)
    assert job.progress.steps == 230, "nobody runs"
    place(core, job, Slot(node=0, devices=(0,)))
    start(core, job)
    core.now = 20_000
    says(core, job, 20_000, 180)  # from its checkpoint
    assert (job.progress.steps, job.progress.attempt) == (180, 2)
    assert measured(core).steps == 100, "no step of one attempt is compared with one of another"
    says(core, job, 30_000, 280)
    assert measured(core) == Measured(
        steps=200, ms=20_000, used=10 * PER_S, runs=2, low=10 * PER_S, high=10 * PER_S
    )


def test_of_a_gang_on_different_devices_and_of_a_job_without_a_type_nothing_is_told():
    core = two_models()
    gang = running(
        core, Slot(node=0, devices=(0,)), Slot(node=1, devices=(0,)), members=2, job_type="gang"
    )
    nameless = running(core, Slot(node=0, devices=(1,)), job_type="", name="")
    for job in (gang, nameless):
        says(core, job, core.now + 1_000, 1)
        says(core, job, core.now + 10_000, 50)
        assert job.progress.steps == 50
    assert core.speeds.measured == {}


def test_while_an_elastic_job_changes_its_size_nothing_is_measured():
    core = cluster(node(gpus=4))
    job = running(core, members=1, members_max=4)
    says(core, job, 2_000, 0)
    says(core, job, 12_000, 10)
    core.apply(15_000, Grown(job=job.id, attempt=1, slots=(Slot(node=0, devices=(1,)),)))
    core.apply(15_500, MemberStarted(job=job.id, attempt=1, rank=1))
    says(core, job, 22_000, 25)  # partly alone, partly two
    assert measured(core).steps == 10 and measured(core, width=2000) is None
    says(core, job, 32_000, 45)
    assert measured(core, width=2000).rate == 2 * PER_S and measured(core).steps == 10


def test_a_job_that_says_its_steps_is_believed_to_end_when_they_are_done():
    core = cluster(node(gpus=1), policy=BY_STEPS)
    job = running(core, steps=1_000, expected_ms=7_000)
    core.apply(1_000, Forecasted(job=job.id, forecast=Forecast(expected_ms=9_000)))
    assert core.ends.get(job.id) == 10_000
    says(core, job, 2_000, 100)
    assert core.ends.get(job.id) == 10_000, "one report tells no speed"
    says(core, job, 4_000, 200)
    assert core.ends.get(job.id) == 4_000 + 800 * 20
    assert total_run_ms(job) == 19_000
    wakeups = core.wakeups
    says(core, job, 6_000, 300)  # as believed
    says(core, job, 8_010, 400)  # within the tolerance: plans made by the old belief stand
    assert core.ends.get(job.id) == 20_000 and core.wakeups == wakeups
    says(core, job, 16_000, 500)
    assert core.ends.get(job.id) == 16_000 + 500 * 14_000 // 400


def test_its_limit_bounds_what_is_believed_and_a_plan_that_goes_by_limits_keeps_to_them():
    for policy, ends in ((BY_STEPS, 61_000), (PolicyConfig(), 61_000)):
        core = cluster(node(gpus=1), policy=policy)
        job = running(core, steps=1_000, limit_ms=60_000)
        says(core, job, 2_000, 0)
        says(core, job, 12_000, 10)
        assert core.ends.get(job.id) == ends
    says(core, job, 13_000, 999)  # now it is nearly done, and the plan still goes by its limit
    assert core.ends.get(job.id) == 61_000
    assert total_run_ms(job) == 12_000 + 11


def test_a_waiting_job_remembers_how_long_it_takes_in_all():
    core = cluster(node(gpus=1), policy=BY_STEPS)
    job = running(core, steps=100)
    assert core.ends.get(job.id) == FAR
    says(core, job, 1_000, 0)
    says(core, job, 11_000, 50)
    stop(core, job, Phase.PENDING)
    end(core, job, exit=Exit(signal=15))
    assert (job.phase, job.served_ms, total_run_ms(job)) == (Phase.PENDING, 10_000, 20_000)
    place(core, job, Slot(node=0, devices=(0,)))
    assert core.ends.get(job.id) == core.now + 10_000


def test_what_is_told_holds_until_it_is_forgotten_and_zero_means_never():
    core = cluster(node(gpus=1))
    job = running(core)
    says(core, job, 2_000, 0)
    says(core, job, 12_000, 10)
    version = core.speeds.version
    core.apply(
        13_000, SpeedSet(speed=Speed(job_type="bert", width_milli=1000, model="A", micro_per_s=0))
    )
    assert core.speeds.of(job.spec, "A") == 0 and core.speeds.version == version + 1
    says(core, job, 22_000, 99)
    assert core.speeds.version == version + 1, "what policies go by has not changed"
    core.apply(23_000, SpeedDeleted(job_type="bert", width_milli=1000, model="A"))
    assert core.speeds.of(job.spec, "A") is None


def test_what_was_long_ago_fades():
    core = cluster(node(gpus=1))
    job = running(core)
    at, steps = 2_000, 0
    for per_s in (10, 1):
        for _ in range(80):
            says(core, job, at, steps)
            at, steps = at + WINDOW_MS // 20, steps + per_s * WINDOW_MS // 20_000
    assert measured(core).rate < 2 * PER_S
    assert measured(core).high < 10 * PER_S and measured(core).low == PER_S


def test_all_of_it_survives_a_restart():
    core = two_models()
    job = running(core, steps=500)
    says(core, job, 2_000, 3)
    says(core, job, 12_000, 30)
    loaded = Core.load(core.dump())
    assert image(loaded) == image(core) and loaded.digest() == core.digest()
    assert loaded.jobs[job.id].progress == job.progress
    assert loaded.speeds.measured == core.speeds.measured
    for each in (core, loaded, loaded.clone()):
        says(each, each.jobs[job.id], 22_000, 60)
        assert each.speeds.measured["bert", 1000, "A"].runs == 1
    assert loaded.digest() == core.digest()


@given(st.lists(st.tuples(st.integers(1, 100_000), st.integers(0, 500)), min_size=1, max_size=30))
def test_the_speed_is_all_steps_in_all_the_time_and_lies_between_the_extremes(pieces):
    core = cluster(node(gpus=1))
    job = running(core)
    at, steps = 5_000, 17
    says(core, job, at, steps)
    for ms, more in pieces:
        at, steps = at + ms, steps + more
        says(core, job, at, steps)
    found = measured(core)
    assert (found.steps, found.ms) == (steps - 17, at - 5_000)
    rates = [more * 10**9 // ms for ms, more in pieces]
    assert (found.low, found.high) == (min(rates), max(rates))
    assert found.low <= found.rate <= found.high
    assert abs(found.rate - found.used) * 50 <= found.used or found.rate == found.used


@pytest.mark.parametrize("steps", [0, 4, 2**53])
def test_a_job_that_is_beyond_what_it_said_is_about_to_end(steps):
    core = cluster(node(gpus=1), policy=BY_STEPS)
    job = running(core, steps=4)
    says(core, job, 2_000, 0)
    says(core, job, 4_000, steps)
    assert core.ends.get(job.id) == (FAR if steps == 0 else 4_000)


def test_whoever_names_every_job_anew_does_not_fill_the_core(monkeypatch):
    """What was measured longest ago is forgotten first, and a restart forgets the same."""
    monkeypatch.setattr("fairlead.core.speeds.MEASURED_MAX", 3)
    speeds = Core().speeds
    for kind in ("a", "b", "c", "a", "d"):
        speeds.add((kind, 1000, "A"), 10, 1_000, first=True)
    assert [key[0] for key in speeds.measured] == ["c", "a", "d"]
    core = Core()
    core.speeds = speeds
    again = Core.load(core.dump()).speeds
    for each in (speeds, again):
        each.add(("e", 1000, "A"), 10, 1_000, first=True)
    assert list(again.measured) == list(speeds.measured)
    assert ("c", 1000, "A") not in again.measured
