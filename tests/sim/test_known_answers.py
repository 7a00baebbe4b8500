"""Schedules whose figures other programs agree on: ../shared/traces/README.md has the tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.sim import traces
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.metrics import summarise
from fairlead.sim.outcome import Outcome
from fairlead.sim.replay import gate, replay
from fairlead.sim.workload import fit
from traces import real


def replayed(path: Path, spec: str, policy: str) -> Outcome:
    cluster = parse_cluster(spec)
    return replay(fit(traces.read(path), cluster, gate(cluster)), cluster, policy)


@pytest.mark.parametrize(
    ("name", "completion"),
    [
        ("poisson-1000-96-load0.85", 2231.0),
        ("poisson-4000-96-load0.85", 2392.8),
        ("poisson-16000-96-load0.85", 2816.5),
        ("poisson-4000-96-load1.2", 15025.1),
    ],
)
def test_fifo_on_a_pool_gives_the_agreed_mean_completion(name, completion):
    summary = summarise(replayed(real(f"poisson/{name}.swf.gz"), "pool:96", "fifo"))
    assert not (summary.rejected or summary.dropped or summary.timeouts)
    assert summary.jobs == int(name.split("-")[1])
    assert round(summary.mean_completion_s, 1) == completion


@pytest.mark.parametrize(
    ("spec", "policy", "wait", "completion", "p99_wait", "makespan"),
    [
        ("pool:640", "fifo", 43_737.48, 57_295.42, 142_957, 6_896_394),
        ("pool:640", "sjf", 5_822.97, 19_380.91, 50_482, 7_128_702),
        ("pool:800", "fifo", 929.13, 14_487.07, 23_749, 6_852_656),
        ("pool:800", "sjf", 532.06, 14_090.00, 8_526, 6_852_656),
    ],
)
def test_philly_on_a_pool_gives_the_table(spec, policy, wait, completion, p99_wait, makespan):
    outcome = replayed(real("philly/philly-until-2017-11-12.csv.gz"), spec, policy)
    summary = summarise(outcome)
    assert summary.jobs == 62_194
    assert round(summary.mean_wait_s, 2) == wait
    assert round(summary.mean_completion_s, 2) == completion
    assert summary.p99_wait_s == p99_wait
    assert round(summary.makespan_s) == makespan
