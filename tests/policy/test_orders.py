"""Who is next, the ageing bound, and what is refused in words when there is none."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.jobs import Job
from fairlead.model.base import Misuse
from fairlead.model.jobs import JobSpec, PolicyConfig
from fairlead.model.limits import LIMIT_MS_MAX
from fairlead.model.resources import Shape
from fairlead.policy import order
from fairlead.policy.registry import build, check, describe, policy_config
from fairlead.sim.cluster import pool
from fairlead.sim.replay import replay
from fairlead.sim.workload import SimJob, Workload
from strategies import POLICIES, spec

HOUR = order.HOUR_MS
priorities = st.integers(0, 100)
times = st.integers(0, 10**10)
rates = st.integers(1, 10_000)


def waiting(number: int, at: int = 0, **more) -> Job:
    return Job(number, spec(**more), 0, at, number)


# ---- orders ------------------------------------------------------------------------------------


def test_first_come_is_first_and_ties_go_by_id():
    jobs = [waiting(3, 5), waiting(2, 5), waiting(1, 9, priority=100)]
    assert [job.id for job in sorted(jobs, key=order.fifo)] == [2, 3, 1]


def test_the_shortest_is_first_the_limit_stands_in_for_an_estimate_and_unknown_is_last():
    jobs = [
        waiting(1),
        waiting(2, expected_ms=500),
        waiting(3, limit_ms=400),
        waiting(4, expected_ms=300, limit_ms=9000),
        waiting(5, expected_ms=LIMIT_MS_MAX + 1),
    ]
    assert [job.id for job in sorted(jobs, key=order.shortest_first)] == [4, 3, 2, 1, 5]


@given(st.lists(st.tuples(priorities, times), min_size=2, max_size=8), rates, times)
def test_the_fixed_key_of_ageing_orders_as_the_effective_priorities_at_any_time(jobs, rate, later):
    now = max(at for _, at in jobs) + later
    key = order.ageing(rate)
    made = [waiting(n, at, priority=base) for n, (base, at) in enumerate(jobs, 1)]

    def merit(job: Job) -> int:  # exact: thousandths of a point times an hour
        return job.spec.priority * HOUR + rate * (now - job.submitted_ms)

    by_merit = sorted(made, key=lambda job: (-merit(job), job.submitted_ms, job.id))
    assert sorted(made, key=key) == by_merit


@given(
    st.lists(st.tuples(priorities, times), min_size=2, max_size=8),
    rates,
    times,
    st.integers(1, 150),
)
def test_the_key_of_capped_ageing_orders_as_the_effective_priorities_at_its_time(
    jobs, rate, later, cap
):
    now = max(at for _, at in jobs) + later
    key = order.capped_ageing(rate, cap, now)
    made = [waiting(n, at, priority=base) for n, (base, at) in enumerate(jobs, 1)]
    for one in made:
        for other in made:
            mine, its = (
                order.effective_milli(j.spec.priority, rate, cap, now - j.submitted_ms)
                for j in (one, other)
            )
            if mine > its:
                assert key(one) < key(other)


def test_effective_priority_grows_by_the_rate_and_stops_at_the_cap():
    assert order.effective_milli(10, 360, None, 1_000_000) == 110_000  # 0.1 points a second
    assert order.effective_milli(10, 360, 30, 1_000_000) == 40_000
    assert order.effective_milli(10, 60, None, 0) == 10_000


# ---- the bound ---------------------------------------------------------------------------------


@given(priorities, times, rates, priorities, st.integers(1, 10**9))
def test_no_job_that_arrives_after_the_bound_is_ordered_before(base, at, rate, other, delay):
    bound = order.protected_after_ms(base, at, rate)
    assert bound is not None and bound >= at
    key = order.ageing(rate)
    old, late = waiting(1, at, priority=base), waiting(2, bound + delay, priority=other)
    assert key(old) < key(late)


@given(st.integers(0, 99), times, rates)
def test_the_bound_is_tight_a_job_of_the_highest_priority_just_before_it_is_first(base, at, rate):
    bound = order.protected_after_ms(base, at, rate)
    key = order.ageing(rate)
    old, rival = waiting(1, at, priority=base), waiting(2, bound - 1, priority=100)
    if bound - 1 >= at:
        assert key(rival) < key(old)


def test_the_bound_in_the_units_of_the_product():
    assert order.protected_after_ms(10, 0, 360) == 900_000  # 90 points at 0.1 a second
    assert order.protected_after_ms(100, 500, 360) == 500
    assert order.protected_after_ms(0, 0, 7) == -(-100 * HOUR // 7)  # rounded up: a bound
    assert order.protected_after_ms(0, 0, 0) is None
    assert order.protected_after_ms(0, 0, 60, cap=99) is None
    assert order.protected_after_ms(0, 0, 60, cap=100) == 100 * 60_000
    assert order.protected_after_ms(20, 0, 60, cap=30, base_max=50) == 30 * 60_000


@pytest.mark.parametrize("seed", range(3))
def test_in_a_busy_cluster_nobody_starts_before_a_job_that_is_past_its_bound(seed):
    rng = Random(seed)
    at, jobs = 0, []
    for number in range(400):
        at += rng.randint(0, 20 * 60_000)
        run_ms = rng.randint(1, 60 * 60_000)
        wanted = JobSpec(shape=Shape(), priority=rng.choice([0, 0, 30, 90, 100]))
        jobs.append(SimJob(number, at, run_ms, wanted))
    done = replay(Workload(tuple(jobs), {}, {}), pool(2), "priority-strict")
    tight = 0
    for index, job in enumerate(jobs):
        bound = order.protected_after_ms(job.spec.priority, job.submit_ms, 60)
        for later in range(index + 1, len(jobs)):
            overtakes = done.start_ms[later] < done.start_ms[index]
            if jobs[later].submit_ms > bound:
                assert not overtakes, f"{later} overtakes {index}"
            tight += overtakes
    assert tight > 50  # within the bound they do overtake


# ---- refusals in words -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        (PolicyConfig(ageing_per_hour=0), "ageing_per_hour", "no starvation bound"),
        (PolicyConfig(ageing_per_hour=-5), "ageing_per_hour", "no starvation bound"),
        (PolicyConfig(ageing_cap=30), "ageing_cap", "30 points has no starvation bound"),
        (PolicyConfig(ageing_cap=0), "ageing_cap", "never catch up"),
        (PolicyConfig(ageing_cap=99), "ageing_cap", "priorities span 100 points"),
        (PolicyConfig(order="lottery"), "order", "no order 'lottery'"),
        (PolicyConfig(placement="tetris"), "placement", "no placement 'tetris'"),
        (PolicyConfig(overtake_ms=-1), "overtake", "negative"),
    ],
)
def test_a_policy_without_a_bound_or_without_sense_is_refused_in_words(config, field, words):
    with pytest.raises(Misuse) as no:
        check(config)
    assert no.value.field == field and words in no.value.message


def test_a_cap_that_lets_the_lowest_catch_up_with_the_highest_is_allowed():
    check(PolicyConfig(ageing_cap=100))


@pytest.mark.parametrize("name", POLICIES)
def test_every_named_policy_passes_and_says_what_it_does(name):
    config = policy_config(name)
    check(config)
    assert build(config).config == config
    words = describe(config)
    assert words.endswith(f"placement: {config.placement}")
    if name == "priority":
        assert "waiting adds 60 points an hour" in words and "1 h 40 min" in words
        assert "once it has waited 15 min" in words
    if name.startswith("sjf"):
        assert "no starvation bound" in words
    if "skip" in name:
        assert "may wait for ever" in words


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("FIFO", "fifo"),
        (" fifo_skip ", "fifo-skip"),
        ("sjf-strict", "sjf"),
        ("fifo-strict", "fifo"),
    ],
)
def test_names_are_read_with_some_leniency(text, same):
    assert policy_config(text) == policy_config(same)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("fif", "did you mean 'fifo'"),
        ("sjf+bestfit", "did you mean 'best-fit'"),
        ("zzz", "known: "),
    ],
)
def test_an_unknown_name_gets_a_suggestion(text, hint):
    with pytest.raises(Misuse) as no:
        policy_config(text)
    assert hint in no.value.hint


def test_the_default_of_the_config_is_the_policy_named_priority():
    assert policy_config("priority") == PolicyConfig() == msgspec.structs.replace(PolicyConfig())
