"""Gavel's published tables: mean completion on 36 V100, 36 P100 and 36 K80, jobs 4000 to 4999.

A table's cell is a mean over three traces, of which two are here. With few jobs nobody waits: each
is always on the model of its policy, so the mean is that of the jobs alone, which differs between
traces. Where it does, cells are compared in units of it: the cell of the least load is the table's.
"""

from __future__ import annotations

import csv
import json
from functools import cache
from itertools import islice

import pytest
from msgspec.structs import replace

from fairlead.policy.registry import policy_config
from fairlead.policy.settings import override
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.metrics import summarise
from fairlead.sim.outcome import Rules
from fairlead.sim.replay import gate, replay
from fairlead.sim.traces import read
from fairlead.sim.traces.lines import read_lines
from fairlead.sim.workload import Trace, fit, in_order
from traces import real

MIXED = "36x1gpu:v100+36x1gpu:p100+36x1gpu:k80"
SPEEDS = "gavel/simulation_throughputs.json.gz"
HOUR = 3600
BEFORE, FIRST, LAST = 3_000, 4_000, 5_000  # the cluster is as full as it will be after 1,000 jobs
# As in the published simulator: whoever is left may have what is left, model by model.
OURS = {
    "fifo": ("gavel-fifo-blind", {}),
    "fifo_perf": ("gavel-fifo", {}),
    "max_min_fairness": ("gavel-las", {}),
    "max_min_fairness_perf": ("gavel-maxmin", {"rounds": "by-model"}),
}


def batch(jobs: int) -> Trace:
    """The first jobs, all there from the start."""
    path = real("gavel/continuous/continuous_multi_seed0_rate1.trace.gz")
    found = read(path, throughputs=real(SPEEDS)).jobs[:jobs]
    at_once = [replace(job, submit_ms=0) for job in found]
    return Trace(path="x", format="gavel", jobs=in_order("x", at_once))


@cache
def published() -> dict[tuple[str, str, str], float]:
    with real("gavel/expected_avg_jct_hours.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        (row["trace_kind"], row["policy"], row["input_jobs_per_hour"]): float(row["avg_jct_hours"])
        for row in rows
    }


def jobs_of(kind: str, rate: float) -> Trace:
    path = real(f"gavel/continuous/continuous_{kind}_seed0_rate1.trace.gz")
    whole = read(path, throughputs=real(SPEEDS), speed_up=rate)
    return Trace(path="x", format="gavel", jobs=in_order("x", whole.jobs[BEFORE:7_000]))


def hours(kind: str, rate: float, policy: str, jobs: int = LAST - FIRST) -> float:
    name, settings = OURS[policy]
    config, cluster = override(policy_config(name), settings), parse_cluster(MIXED)
    workload = fit(jobs_of(kind, rate), cluster, gate(cluster))
    window = (FIRST - BEFORE, FIRST - BEFORE + jobs)
    outcome = replay(workload, cluster, config, rules=Rules(measure=window))
    return summarise(outcome).mean_completion_s / HOUR


def alone(kind: str, policy: str, jobs: int = LAST - FIRST) -> float:
    """The mean of the jobs alone: on the best model, on the V100, or a third of it on each."""
    table = json.loads(b"\n".join(line for _, line in read_lines(real(SPEEDS))))
    path = real(f"gavel/continuous/continuous_{kind}_seed0_rate1.trace.gz")
    total = 0.0
    for _, line in islice(read_lines(path), FIRST, FIRST + jobs):
        row = line.decode().split("\t")
        speeds = [table[gpu][f"('{row[0]}', {row[6]})"]["null"] for gpu in ("v100", "p100", "k80")]
        rate = {"fifo_perf": max(speeds), "max_min_fairness": sum(speeds) / 3}
        total += float(row[5]) / rate.get(policy, speeds[0])
    return total / jobs / HOUR


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("policy", ["fifo", "fifo_perf", "max_min_fairness_perf"])
def test_single_gpu_jobs_take_as_long_as_in_the_table(policy):
    found = hours("single", 2.0, policy)
    assert found == pytest.approx(published()["single", policy, "2.0"], rel=0.04)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("policy", ["fifo", "fifo_perf", "max_min_fairness_perf"])
def test_gangs_take_as_much_longer_than_alone_as_in_the_table(policy):
    table = published()
    slower = table["multi", policy, "1.0"] / table["multi", policy, "0.2"]
    assert hours("multi", 1.0, policy) / alone("multi", policy) == pytest.approx(slower, rel=0.04)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_equal_time_on_all_models_takes_as_much_longer_than_alone_as_in_the_table():
    table, jobs = published(), 100
    slower = table["single", "max_min_fairness", "2.0"] / table["single", "max_min_fairness", "0.4"]
    found = hours("single", 2.0, "max_min_fairness", jobs)
    assert found / alone("single", "max_min_fairness", jobs) == pytest.approx(slower, rel=0.04)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_batch_is_done_as_soon_as_in_the_table():
    with real("gavel/expected_makespan_hours.csv").open() as file:
        table = {(row["policy"], row["num_jobs"]): row for row in csv.DictReader(file)}
    cluster = parse_cluster(MIXED)
    outcome = replay(fit(batch(500), cluster, gate(cluster)), cluster, "gavel-makespan")
    expected = float(table["Gavel", "500"]["makespan_hours"])
    assert summarise(outcome).makespan_s / HOUR == pytest.approx(expected, rel=0.05)
