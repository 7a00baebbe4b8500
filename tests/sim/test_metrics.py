from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.metrics import (
    binned,
    by_size,
    by_tenant,
    percentile,
    size_class,
    steps,
    summarise,
)
from fairlead.sim.outcome import Outcome
from fairlead.sim.workload import SimJob, Workload


def outcome_of(rows: Iterable[tuple[int, str, int, int, int]]) -> Outcome:
    """Return what became of jobs (cores, tenant, submit, start, end in seconds) on 8 cores."""
    cluster = parse_cluster("pool:8")
    jobs = tuple(
        SimJob(
            id=index,
            submit_ms=1000 * submit,
            run_ms=1000 * (end - start),
            spec=JobSpec(shape=Shape(cpu_milli=1000 * cores), tenant=tenant),
        )
        for index, (cores, tenant, submit, start, end) in enumerate(rows, 1)
    )
    return Outcome(
        workload=Workload(jobs, {}, {}),
        cluster=cluster,
        policy="fifo",
        start_ms=[1000 * start for _, _, _, start, _ in rows],
        end_ms=[1000 * end for *_, end in rows],
        nodes=[(0,)] * len(jobs),
        timeouts=0,
        wall_s=1.0,
        cpu_s=1.0,
    )


# Cores, tenant, submit, start, end. Waits 0, 10, 20 and 100 s; runs 10, 20, 100 and 50 s.
HAND = outcome_of(
    [(1, "a", 0, 0, 10), (3, "a", 0, 10, 30), (4, "b", 10, 30, 130), (8, "b", 30, 130, 180)]
)


def test_figures_by_size_are_those_worked_out_by_hand():
    one, four, eight = by_size(HAND)
    assert [one.size, four.size, eight.size] == ["1", "3-4", "5-8"]
    assert [one.jobs, four.jobs, eight.jobs] == [1, 2, 1]
    assert (four.mean_wait_s, four.median_wait_s, four.p95_wait_s) == (15, 10, 20)
    assert (four.mean_completion_s, four.p99_wait_s) == (75, 20)
    # Completions 30 and 120 s over runs of 20 and 100 s.
    assert four.mean_bounded_slowdown == pytest.approx((1.5 + 1.2) / 2)
    assert (four.median_bounded_slowdown, four.p95_bounded_slowdown) == (1.2, 1.5)
    # Work: 10, 60 + 400 and 400 core seconds.
    assert [row.share_ratio for row in (one, four, eight)] == [10 / 870, 460 / 870, 400 / 870]


def test_figures_by_tenant_are_those_worked_out_by_hand():
    b, a = by_tenant(HAND)
    assert (b.tenant, b.jobs, b.mean_wait_s, b.share_ratio) == ("b", 2, 60, 800 / 870)
    assert (a.tenant, a.median_wait_s, a.p95_bounded_slowdown) == ("a", 0, 1.5)


def test_medians_and_percentiles_of_a_replay_are_those_worked_out_by_hand():
    summary = summarise(HAND)
    assert (summary.median_wait_s, summary.p95_wait_s, summary.p99_wait_s) == (10, 100, 100)
    assert summary.mean_bounded_slowdown == pytest.approx((1 + 1.5 + 1.2 + 3) / 4)
    assert (summary.median_bounded_slowdown, summary.p95_bounded_slowdown) == (1.2, 3)
    assert summary.as_json()["by_size"][1]["size"] == "3-4"


def test_short_runs_count_as_ten_seconds_and_runs_of_no_time_do_not_divide_by_zero():
    summary = summarise(outcome_of([(1, "a", 0, 0, 0), (1, "a", 0, 30, 31)]))
    assert summary.mean_bounded_slowdown == pytest.approx((1 + 3.1) / 2)
    assert summary.by_size[0].share_ratio == 1


def test_shares_of_nothing_are_zero_and_not_an_error():
    assert by_tenant(outcome_of([(1, "a", 5, 5, 5)]))[0].share_ratio == 0


@pytest.mark.parametrize(
    ("milli", "name"),
    [
        (0, "0"),
        (1, "under 1"),
        (999, "under 1"),
        (1000, "1"),
        (1001, "2"),
        (2000, "2"),
        (2500, "3-4"),
        (4000, "3-4"),
        (5000, "5-8"),
        (8001, "9-16"),
        (96_000, "65-128"),
    ],
)
def test_sizes_fall_into_classes_that_double(milli, name):
    assert size_class(milli) == name


@given(st.integers(1000, 10**12))
def test_every_size_lies_within_the_class_that_is_named_after_it(milli):
    low, _, high = size_class(milli).partition("-")
    assert int(low) <= -(-milli // 1000) <= int(high or low)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.sampled_from((5, 50, 95, 99)))
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(values, percent):
    found = int(percentile(np.array(values), percent))
    assert found in values
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)


ROWS = st.lists(
    st.tuples(
        st.integers(1, 8), st.sampled_from("abc"), *[st.integers(0, 40) for _ in range(3)]
    ).map(lambda row: (*row[:2], row[2], row[2] + row[3], row[2] + row[3] + row[4])),
    min_size=1,
    max_size=12,
)


@given(ROWS)
def test_parts_of_a_replay_add_up_to_the_whole(rows):
    outcome = outcome_of(rows)
    whole = summarise(outcome)
    for parts in (by_size(outcome), by_tenant(outcome)):
        assert sum(row.jobs for row in parts) == whole.jobs
        waited = sum(row.jobs * row.mean_wait_s for row in parts)
        assert waited == pytest.approx(whole.jobs * whole.mean_wait_s)
        slowed = sum(row.jobs * row.mean_bounded_slowdown for row in parts)
        assert slowed == pytest.approx(whole.jobs * whole.mean_bounded_slowdown)
        assert sum(row.share_ratio for row in parts) == pytest.approx(
            int(any(end > start for *_, start, end in rows))
        )
        assert max(row.p95_wait_s for row in parts) >= whole.p95_wait_s


CHANGES = st.lists(st.tuples(st.integers(0, 50), st.integers(-5, 5)), min_size=1, max_size=30)


@given(CHANGES)
def test_steps_have_at_every_instant_the_sum_of_the_changes_so_far(changes):
    at = np.array([when for when, _ in changes], np.int64)
    instants, values = steps(at, np.array([by for _, by in changes], np.int64))
    assert instants.tolist() == sorted({when for when, _ in changes})
    for instant, value in zip(instants.tolist(), values.tolist(), strict=True):
        assert value == sum(by for when, by in changes if when <= instant)


@given(CHANGES, st.integers(1, 20))
def test_bins_keep_the_area_below_the_steps_and_stay_within_their_values(changes, bins):
    at = np.array([when for when, _ in changes], np.int64)
    instants, values = steps(at, np.array([by for _, by in changes], np.int64))
    low, high = 0, 60  # the steps hold their last value beyond the last instant
    means = binned(instants, values, low, high, bins)
    ends = [*instants.tolist()[1:], high]
    area = sum(
        value * (end - start)
        for start, end, value in zip(instants.tolist(), ends, values.tolist(), strict=True)
    )
    assert means.sum() * (high - low) / bins == pytest.approx(area, abs=1e-6)
    assert min(0, *values.tolist()) - 1e-9 <= means.min()
    assert means.max() <= max(0, *values.tolist()) + 1e-9
