"""Shares of time on mixed hardware: what every allocation must be, and what must not matter."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.solve.gavel import JobClass, group, makespan, max_min, sum_throughput
from fairlead.solve.gavel_time import cost, cost_slo, ftf
from fairlead.solve.levels import greatest
from fairlead.solve.waterfill import hierarchical, water_filling

TYPES = 3
rates = st.lists(
    st.sampled_from([0.0, 1.0, 3.0, 7.5, 40.0]), min_size=TYPES, max_size=TYPES
).filter(any)
devices = st.lists(st.integers(1, 6), min_size=TYPES, max_size=TYPES)


@st.composite
def classes(draw, most=5, scale=1, count=4):
    return [
        JobClass(
            name=f"c{number}",
            rates=tuple(draw(rates)),
            count=draw(st.integers(1, count)),
            scale=scale,
            weight=draw(st.sampled_from([1.0, 1.0, 2.0])),
            steps=float(draw(st.integers(1, 1000))),
            elapsed_s=float(draw(st.integers(0, 50))),
            ideal_s=float(draw(st.integers(20, 500))),
        )
        for number in range(draw(st.integers(1, most)))
    ]


def near(value):
    return pytest.approx(value, rel=1e-6, abs=1e-7)


def valid(found, jobs, counts) -> None:
    for row in found.shares:
        assert min(row) >= 0
        assert sum(row) <= 1 + 1e-6
    for kind, count in enumerate(counts):
        used = sum(
            job.count * job.scale * row[kind] for job, row in zip(jobs, found.shares, strict=True)
        )
        assert used <= count * (1 + 1e-6)
    for job, row, rate in zip(jobs, found.shares, found.rates, strict=True):
        assert rate == near(sum(r * x for r, x in zip(job.rates, row, strict=True)))


PLAIN = [max_min, water_filling, makespan, sum_throughput, ftf]


@pytest.mark.parametrize("policy", PLAIN)
@settings(max_examples=15)
@given(jobs=classes(), counts=devices)
def test_shares_are_times_that_there_are_and_the_order_of_jobs_changes_nothing(
    policy, jobs, counts
):
    found = policy(jobs, counts)
    valid(found, jobs, counts)
    turned = policy(jobs[::-1], counts)
    assert turned.objective == found.objective
    assert turned.shares[::-1] == found.shares


@pytest.mark.parametrize("policy", PLAIN)
@settings(max_examples=15)
@given(jobs=classes(most=3, count=3), counts=devices)
def test_a_class_of_equal_jobs_is_worth_what_its_jobs_are_one_by_one(policy, jobs, counts):
    singles = [replace(job, count=1) for job in jobs for _ in range(job.count)]
    assert policy(singles, counts).objective == near(policy(jobs, counts).objective)
    grouped, index = group(singles)
    assert sum(each.count for each in grouped) == len(singles) == len(index)
    assert policy(grouped, counts).objective == near(policy(jobs, counts).objective)


@settings(max_examples=20)
@given(classes(), devices)
def test_with_single_gpus_and_equal_weights_nobody_is_below_the_equal_share(jobs, counts):
    equal = [replace(job, weight=1.0) for job in jobs]
    assert max_min(equal, counts).objective >= 1 - 1e-6


@settings(max_examples=20)
@given(classes(), devices, st.sampled_from([0.25, 10.0]))
def test_a_faster_clock_for_one_job_changes_no_level(jobs, counts, factor):
    faster = [replace(jobs[0], rates=tuple(rate * factor for rate in jobs[0].rates)), *jobs[1:]]
    assert max_min(faster, counts).objective == near(max_min(jobs, counts).objective)
    levels = water_filling(jobs, counts).levels
    assert water_filling(faster, counts).levels == [near(level) for level in levels]


@settings(max_examples=20)
@given(classes(most=4), devices)
def test_filling_begins_at_the_max_min_and_nobody_can_rise_alone(jobs, counts):
    found = water_filling(jobs, counts)
    assert found.objective == near(max_min(jobs, counts).objective)
    for at, job in enumerate(jobs):
        others = [
            replace(each, steps=found.rates[i] * 0.999999, slo_s=1.0)
            if i != at
            else replace(job, steps=found.rates[i] * 1.0001, slo_s=1.0)
            for i, each in enumerate(jobs)
        ]
        poorer = [i for i in range(len(jobs)) if found.levels[i] > found.levels[at] * (1 + 1e-6)]
        for i in poorer:  # those above may give way, down to the level of the one that would rise
            keep = found.rates[i] * found.levels[at] / found.levels[i]
            others[i] = replace(others[i], steps=keep)
        assert cost_slo(others, counts, [1.0] * TYPES).conflict


def test_equal_jobs_have_equal_levels_in_any_number_of_classes():
    one = JobClass("a", (40.0, 20.0, 10.0))
    jobs = [one, replace(one, name="b"), JobClass("c", (3.0, 3.0, 0.0))]
    levels = water_filling(jobs, [1, 1, 1]).levels
    assert levels[0] == near(levels[1])


def test_a_queue_of_an_entity_is_served_in_turn():
    jobs = [JobClass(name, (1.0,), entity="a") for name in ("first", "second", "third")]
    jobs.append(JobClass("other", (1.0,), entity="b"))
    weights = {"a": 1.0, "b": 1.0}
    assert hierarchical(jobs, [2], weights, inside="fifo").rates == [
        near(1), near(0), near(0), near(1),
    ]  # fmt: skip
    assert hierarchical(jobs, [3], weights, inside="fifo").rates == [
        near(1), near(1), near(0), near(1),
    ]  # fmt: skip
    fair = hierarchical(jobs, [2], weights)
    assert fair.rates[0] == near(fair.rates[1]) == near(1 / 3)
    assert fair.rates[3] == near(1)


@settings(max_examples=20)
@given(classes(most=4), devices)
def test_the_makespan_is_when_the_last_is_done_and_ftf_the_worst_ratio(jobs, counts):
    found = makespan(jobs, counts)
    ends = [job.steps / rate for job, rate in zip(jobs, found.rates, strict=True)]
    assert max(ends) == near(found.objective)
    found = ftf(jobs, counts)
    ratios = [
        (job.elapsed_s + job.steps / rate) / job.ideal_s
        for job, rate in zip(jobs, found.rates, strict=True)
    ]
    assert max(ratios) == near(found.objective)


@settings(max_examples=20)
@given(classes(most=4), devices)
def test_money_is_best_spent_on_the_best_pair_of_job_and_type(jobs, counts):
    prices = [3.0, 2.0, 0.5]
    best = max(rate / price for job in jobs for rate, price in zip(job.rates, prices, strict=True))
    found = cost(jobs, counts, prices)
    assert found.objective == near(best)
    valid(found, jobs, counts)


def test_slos_that_cannot_all_be_kept_are_named_and_the_earliest_are_kept():
    asked = [(60.0, 100.0), (60.0, 200.0), (10.0, 1000.0)]  # 0.6 + 0.3 + 0.01 of one device
    jobs = [
        JobClass(f"j{n}", (1.0,), steps=steps, slo_s=slo) for n, (steps, slo) in enumerate(asked)
    ]
    assert cost_slo(jobs, [1], [1.0]).conflict == ()
    jobs[2] = replace(jobs[2], steps=900.0)  # 0.9
    found = cost_slo(jobs, [1], [1.0])
    assert found.conflict in (("j0", "j2"), ("j1", "j2"))
    assert found.dropped == ("j2",)
    assert found.rates[0] / found.rates[1] >= 0
    for job, rate in zip(jobs[:2], found.rates, strict=False):
        assert rate >= job.steps / job.slo_s * (1 - 1e-6)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.integers(1, 2))
def test_a_conflict_cannot_be_kept_and_without_any_of_it_can(percents, count):
    jobs = [
        JobClass(f"j{n}", (1.0,), steps=float(percent), slo_s=100.0, count=1)
        for n, percent in enumerate(percents)
    ]
    found = cost_slo(jobs, [count], [1.0])
    chosen = [percents[int(name[1:])] for name in found.conflict]
    if sum(percents) > 100 * count:
        assert sum(chosen) > 100 * count
        assert sum(chosen) - min(chosen) <= 100 * count
    else:
        assert not chosen


@pytest.mark.parametrize(
    ("job", "word"),
    [
        (JobClass("x", (0.0, 0.0)), "runs on no type"),
        (JobClass("x", (1.0, 0.0), scale=2), "runs on no type"),
        (JobClass("x", (1.0,)), "rates for"),
        (JobClass("x", (float("nan"), 1.0)), "throughput"),
        (JobClass("x", (1.0, 1.0), weight=0), "positive"),
    ],
)
def test_a_job_that_makes_no_sense_is_named(job, word):
    with pytest.raises(Misuse, match=word):
        max_min([job], [1, 4])
    with pytest.raises(Misuse, match="no jobs"):
        max_min([], [1, 4])


@pytest.mark.parametrize("policy", [max_min, makespan])
@settings(max_examples=25)
@given(jobs=classes(most=6), counts=devices, scales=st.lists(st.integers(1, 3), min_size=6))
def test_our_own_method_finds_what_the_general_solver_finds(policy, jobs, counts, scales):
    jobs = [
        replace(job, scale=min(scale, max(n for n, r in zip(counts, job.rates, strict=True) if r)))
        for job, scale in zip(jobs, scales, strict=False)
    ]
    general = policy(jobs, counts)
    with patch("fairlead.solve.gavel.MANY", 0), patch("fairlead.solve.gavel.linear", None):
        own = policy(jobs, counts)
        turned = policy(jobs[::-1], counts)
    valid(own, jobs, counts)
    assert own.objective == near(general.objective)
    assert turned.objective == own.objective


def test_a_level_comes_with_a_bound_and_prices_of_those_that_cannot_rise():
    rates = np.array([[4.0, 1.0], [3.0, 3.0], [0.0, 900.0]])
    found = greatest(rates, np.ones(3), np.array([1.0, 1.0]))
    assert found.level <= found.bound <= found.level * (1 + 1e-9)
    assert found.prices.sum() == pytest.approx(1)
    assert found.prices[1] > 0.9  # the second has all its time and no more than 3


def test_where_devices_are_plenty_everybody_has_the_fastest_type_all_the_time():
    jobs = [JobClass(f"j{n}", (1.0, 2.0 + n), weight=1.0 + n % 3) for n in range(40)]
    found = water_filling(jobs, [10, 50])
    assert found.rates == [near(2.0 + n) for n in range(40)]
    scarce = water_filling(jobs, [0, 20])
    assert scarce.objective == near(max_min(jobs, [0, 20]).objective)
    assert sum(row[1] for row in scarce.shares) == near(20)
