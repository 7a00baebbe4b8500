"""Jobs that are as fast as the devices on which they run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fairlead.model.base import Misuse
from fairlead.model.resources import Device, Node
from fairlead.sim.cluster import Cluster
from fairlead.sim.outcome import Outcome
from fairlead.sim.replay import gate, replay
from fairlead.sim.traces import read
from fairlead.sim.workload import fit

HOUR = 3_600_000


def cluster(*models: str) -> Cluster:
    nodes = tuple(
        Node(name=f"{model}-{at}", cpu_milli=64_000, devices=(Device(model=model),))
        for at, model in enumerate(models)
    )
    return Cluster(spec="test", nodes=nodes)


def trace(tmp_path: Path, *jobs: dict[str, object]) -> Path:
    path = tmp_path / "trace.jsonl"
    lines = [{"format": "fairlead-trace", "version": 1}]
    for number, job in enumerate(jobs, 1):
        lines.append({"id": number, "submit_s": 0, "run_s": 3600, "gpus": 1, **job})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(tmp_path: Path, there: Cluster, policy: str, *jobs: dict[str, object]) -> Outcome:
    found = read(trace(tmp_path, *jobs))
    return replay(fit(found, there, gate(there)), there, policy)


def test_a_job_takes_as_long_as_the_device_on_which_it_runs_needs(tmp_path):
    job = {"rates": {"fast": 4, "slow": 1}}
    assert run(tmp_path, cluster("fast"), "fifo", job).end_ms == [HOUR]
    assert run(tmp_path, cluster("slow"), "fifo", job).end_ms == [4 * HOUR]


def test_a_gang_goes_as_its_slowest_member(tmp_path):
    job = {"rates": {"fast": 4, "slow": 1}, "members": 2}
    assert run(tmp_path, cluster("fast", "slow"), "fifo", job).end_ms == [4 * HOUR]


def test_a_job_never_starts_on_a_model_on_which_it_does_not_run(tmp_path):
    job = {"rates": {"fast": 4, "slow": 0}}
    there = cluster("slow", "fast")
    assert run(tmp_path, there, "fifo", job, job).end_ms == [HOUR, 2 * HOUR]


def test_max_min_gives_each_job_the_devices_that_suit_it(tmp_path):
    """One is four times as fast on the one model, the other as fast on both: no need to share."""
    picky = {"rates": {"fast": 4, "slow": 1}, "job_type": "picky"}
    easy = {"rates": {"fast": 1, "slow": 1}, "job_type": "easy"}
    found = run(tmp_path, cluster("slow", "fast"), "gavel-maxmin", picky, easy)
    assert found.end_ms == [HOUR, HOUR]
    assert found.nodes == [(1,), (0,)]


def test_an_elastic_job_is_as_fast_as_its_members_and_their_devices(tmp_path):
    job = {"rates": {"fast": [2, 3]}, "members": 1, "members_max": 2}
    assert run(tmp_path, cluster("fast", "fast"), "fifo", job).end_ms == [HOUR * 2 // 3]


@pytest.mark.parametrize(
    ("job", "field"),
    [
        ({"rates": {"fast": 0}}, "rates"),
        ({"rates": {"fast": [1, 2]}}, "rates"),
        ({"total_steps": 3}, "total_steps"),
        ({"rates": {"fast": -1}}, "rates"),
    ],
)
def test_rates_that_make_no_sense_are_refused_by_name(tmp_path, job, field):
    with pytest.raises(Misuse) as wrong:
        read(trace(tmp_path, job))
    assert wrong.value.field == field
