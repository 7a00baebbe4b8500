"""Elastic jobs: what a batch is worth, and which configuration each job should have."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.solve.goodput import (
    Model,
    best_batch,
    best_replicas,
    efficiency,
    goodput,
    power_mean,
    restart_factor,
    throughput,
)
from fairlead.solve.sia import Config, Elastic, choose, configs_of, relative, value_of

MODEL = Model(0.1, 0.005, 0.08, 0.01, 0.02, 0.002, 2.0, init_batch=128, sqr=1.0, var=4.0)


@given(st.integers(128, 10_000), st.integers(1, 500))
def test_efficiency_is_one_at_the_first_batch_and_falls_after(batch, more):
    assert efficiency(MODEL, 128) == 1
    assert efficiency(MODEL, batch + more) < efficiency(MODEL, batch) <= 1
    with pytest.raises(Misuse):
        efficiency(MODEL, 127)


@given(st.integers(1, 16), st.integers(1, 300), st.integers(0, 3))
def test_a_larger_batch_has_more_throughput_on_the_same_gpus(replicas, local, accumulation):
    less = throughput(MODEL, 1, replicas, local, accumulation)
    assert throughput(MODEL, 1, replicas, local + 1, accumulation) > less


@settings(max_examples=20)
@given(st.integers(2, 12), st.integers(1, 300), st.integers(0, 2))
def test_the_best_batch_is_the_best_of_all(replicas, local_max, accumulation_max):
    found = best_batch(
        MODEL, 1, replicas, local_max=local_max, batch_max=2000, accumulation_max=accumulation_max
    )
    values = [
        goodput(MODEL, 1, replicas, local, steps)
        for local in range(1, local_max + 1)
        for steps in range(accumulation_max + 1)
        if 128 <= replicas * local * (steps + 1) <= 2000
    ]
    if found is None:
        assert values == []
    else:
        assert found.goodput == pytest.approx(max(values))
        value = goodput(MODEL, 1, replicas, found.local, found.accumulation)
        assert value == pytest.approx(found.goodput)


def test_more_replicas_on_a_node_do_no_harm_where_agreeing_costs_the_same():
    flat = replace(MODEL, beta_r=0.0)
    values = [best_batch(flat, 1, count, local_max=128).goodput for count in (2, 4, 8, 16)]
    assert values == sorted(values)


def test_replicas_cannot_be_on_more_nodes_than_they_are():
    with pytest.raises(Misuse):
        goodput(MODEL, 3, 2, 128, 0)


def test_a_restart_costs_what_it_takes_of_the_age():
    assert restart_factor(1000, 0, 0) == 1
    assert restart_factor(1000, 2, 100) == pytest.approx(800 / 1100)
    assert restart_factor(0, 0, 0) == 0


speedups = st.lists(
    st.lists(st.integers(1, 50).map(lambda n: n / 10), min_size=1, max_size=3),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40)
@given(speedups, st.integers(0, 6), st.sampled_from([-1.0, -0.5, 1.0]))
def test_replicas_are_the_best_of_all_divisions(rows, gpus, power):
    found = best_replicas(rows, gpus, power=power)
    assert sum(found) <= gpus

    def value(counts):
        return power_mean([row[n - 1] if n else 0.01 for row, n in zip(rows, counts, strict=True)],
                          power)  # fmt: skip

    every = product(*(range(len(row) + 1) for row in rows))
    best = max(value(counts) for counts in every if sum(counts) <= gpus)
    assert value(found) == pytest.approx(best)


CONFIGS = (Config("t4", 1), Config("t4", 2), Config("a100", 1), Config("a100", 2))
jobs = st.builds(
    lambda row, restart, current: Elastic(
        relative(row), restart, current if current is not None and row[current] else None
    ),
    st.lists(st.sampled_from([None, 1.0, 1.7, 2.5, 4.2]), min_size=4, max_size=4),
    st.sampled_from([0.3, 0.8, 1.0]),
    st.sampled_from([None, 0, 2]),
)


@settings(max_examples=30)
@given(st.lists(jobs, max_size=4), st.integers(0, 4), st.integers(0, 3), st.booleans())
def test_a_round_is_the_best_of_all_choices(rows, t4, a100, maximise):
    power, capacity = (0.5 if maximise else -0.5), {"t4": t4, "a100": a100}
    found = choose(rows, CONFIGS, capacity, power=power, left_out=0.0 if maximise else 1.1)
    assert found.status == "optimal"
    values = []
    for choice in product((None, 0, 1, 2, 3), repeat=len(rows)):
        used = {"t4": 0, "a100": 0}
        for at in choice:
            if at is not None:
                used[CONFIGS[at].type] += CONFIGS[at].gpus
        possible = all(
            at is None or row.goodput[at] is not None for row, at in zip(rows, choice, strict=True)
        )
        if possible and used["t4"] <= t4 and used["a100"] <= a100:
            values.append(value_of(rows, choice, power, 0.0 if maximise else 1.1))
    best = max(values) if maximise else min(values)
    assert found.objective == pytest.approx(best)
    assert value_of(rows, found.choice, power, 0.0 if maximise else 1.1) == found.objective


def test_everybody_gets_something_where_there_is_plenty_and_nobody_moves_for_little():
    rows = [Elastic((1.0, 1.5, 2.0, 3.0)) for _ in range(5)]
    plenty = choose(rows, CONFIGS, {"t4": 10, "a100": 10})
    assert None not in plenty.choice
    settled = [Elastic((1.0, 1.5, 1.1, 1.2), restart=0.1, current=1)]
    assert choose(settled, CONFIGS, {"t4": 2, "a100": 2}).choice == [1]


def test_a_job_that_may_not_be_moved_keeps_what_it_has():
    fixed = Elastic((1.0, None, 9.0, None), current=0, fixed=True)
    assert choose([fixed], CONFIGS, {"t4": 1, "a100": 2}).choice == [0]
    assert choose([fixed, fixed], CONFIGS, {"t4": 1, "a100": 2}).status == "infeasible"


def test_configurations_are_powers_of_two_on_a_node_and_then_whole_nodes():
    found = configs_of({"a": 8, "t": 6}, {"a": 3, "t": 1})
    assert [c.gpus for c in found if c.type == "a"] == [1, 2, 4, 8, 16, 24]
    assert [c.gpus for c in found if c.type == "t"] == [1, 2, 4, 6]


@pytest.mark.parametrize(
    "job",
    [
        Elastic((1.0,)),
        Elastic((0.0, 1.0, 1.0, 1.0)),
        Elastic((1.0, 1.0, 1.0, 1.0), restart=2.0),
        Elastic((1.0, 1.0, 1.0, 1.0), fixed=True),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(job):
    with pytest.raises(Misuse):
        choose([job], CONFIGS, {"t4": 1, "a100": 1})
