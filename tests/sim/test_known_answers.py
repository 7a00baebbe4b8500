"""Schedules whose figures other programs agree on: ../shared/traces/README.md has the tables.

The traces are not ours to ship. FAIRLEAD_TRACES says where they are; with
FAIRLEAD_TRACES_REQUIRED=1 their absence is a failure instead of a skip.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from fairlead.sim import traces
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.metrics import summarise
from fairlead.sim.replay import Outcome, gate, replay
from fairlead.sim.workload import fit

TRACES = Path(
    os.environ.get("FAIRLEAD_TRACES", Path(__file__).parents[3] / "shared" / "traces")
).resolve()


def needed(name: str) -> Path:
    path = TRACES / name
    if not path.exists():
        story = f"{path} is not there; set FAIRLEAD_TRACES to the folder of the traces"
        if os.environ.get("FAIRLEAD_TRACES_REQUIRED") == "1":
            pytest.fail(story)
        pytest.skip(story)
    return path


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
    summary = summarise(replayed(needed(f"poisson/{name}.swf.gz"), "pool:96", "fifo"))
    assert not (summary.rejected or summary.dropped or summary.timeouts)
    assert summary.jobs == int(name.split("-")[1])
    assert round(summary.mean_completion_s, 1) == completion


@pytest.fixture(scope="module")
def philly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Philly jobs in our format; ids are positions, submissions count from the first."""
    with gzip.open(needed("philly/philly-until-2017-11-12.csv.gz"), "rt") as file:
        rows = list(csv.DictReader(file))
    at = [datetime.strptime(row["timestamp"], "%Y-%m-%d %H:%M:%S") for row in rows]
    first = min(at)
    path = tmp_path_factory.mktemp("philly") / "philly.jsonl"
    with path.open("w") as file:
        file.write('{"format": "fairlead-trace", "version": 1}\n')
        for index, row in enumerate(rows):
            line = {
                "id": index,
                "submit_s": (at[index] - first).total_seconds(),
                "run_s": float(row["duration"]),
                "processors": int(row["num_gpus"]),
            }
            file.write(json.dumps(line) + "\n")
    return path


@pytest.mark.parametrize(
    ("spec", "policy", "wait", "completion", "p99_wait", "makespan"),
    [
        ("pool:640", "fifo", 43_737.48, 57_295.42, 142_957, 6_896_394),
        ("pool:640", "sjf", 5_822.97, 19_380.91, 50_482, 7_128_702),
        ("pool:800", "fifo", 929.13, 14_487.07, 23_749, 6_852_656),
        ("pool:800", "sjf", 532.06, 14_090.00, 8_526, 6_852_656),
    ],
)
def test_philly_on_a_pool_gives_the_table(
    philly, spec, policy, wait, completion, p99_wait, makespan
):
    outcome = replayed(philly, spec, policy)
    summary = summarise(outcome)
    assert summary.jobs == 62_194
    assert round(summary.mean_wait_s, 2) == wait
    assert round(summary.mean_completion_s, 2) == completion
    assert summary.p99_wait_s == p99_wait
    assert round(summary.makespan_s) == makespan
