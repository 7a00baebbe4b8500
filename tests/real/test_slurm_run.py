"""A real Slurm's run of 500 jobs on ten nodes (../shared/traces, slurm-sim/micro_cluster).

Modelled: nodes with their cores, memory, GPUs and features (a feature is a kind of device of which
every node that has it has one, and of which a constrained job asks for as much as of its cores);
requests, limits and run times from the event file; the size factor of the multifactor priority,
200,000 points, as priority 0 to 100, which is what orders these jobs.

Not modelled: fair share (50,000 points); age is 1 point of 100 an hour, the slowest there is, where
Slurm's is 0.2; Slurm plans anew every 30 s and keeps no promise; the delay of its kills.

How many jobs are promised a start has no counterpart in Slurm, which plans for all that it tests
and forgets it 30 s later. It was varied after the real mean wait (12,301 s) was known:

    promised a start        1      2      4      8     16     32    all
    mean wait, s        9,113 11,003 10,245 10,579 11,143  8,474  4,650

So 2 to 16 are within a fifth of it, and 1, 32 and all are not: this model brackets the real run
from below, and does not predict it. Why all are too short was not found out.
"""

from __future__ import annotations

import csv
import re
from datetime import datetime

import pytest
from msgspec.structs import replace

from fairlead.model.resources import Device, Node
from fairlead.policy.registry import policy_config
from fairlead.sim.cluster import Cluster
from fairlead.sim.metrics import Summary, summarise
from fairlead.sim.replay import gate, replay
from fairlead.sim.traces import read
from fairlead.sim.workload import Trace, TraceJob, fit
from traces import real

FOLDER = "slurm-sim/micro_cluster"
CORES, NODES = 12, 10
MIB_PER_CORE = 2_800  # DefMemPerCPU


def node(name: str, *devices: str, memory_mib: int = 48_000) -> Node:
    return Node(
        name=name,
        cpu_milli=1000 * CORES,
        memory_mib=memory_mib,
        disk_mib=0,
        devices=tuple(Device(model=model, memory_mib=1) for model in devices),
    )


MICRO = Cluster(
    spec="micro",
    nodes=(
        *(node(f"n{i}", "CPU-N") for i in range(1, 5)),
        *(node(f"m{i}", "CPU-M") for i in range(1, 5)),
        node("g1", "gpu", "gpu"),
        node("b1", memory_mib=512_000),
    ),
)


def as_slurm_sees(job: TraceJob, constraint: str) -> TraceJob:
    shape = job.shape
    assert shape is not None
    cores = shape.cpu_milli // 1000
    # With PriorityFavorSmall=NO: the mean of its shares of the nodes and of the cores.
    size = (shape.members / NODES + shape.members * cores / (NODES * CORES)) / 2
    if constraint:
        share = 1000 * cores // CORES
        shape = replace(shape, gpu_milli=share, gpu_models=(constraint,))
    elif shape.gpus:
        shape = replace(shape, gpu_models=("gpu",))
    if not shape.memory_mib:
        shape = replace(shape, memory_mib=MIB_PER_CORE * cores)
    return replace(job, shape=shape, priority=round(100 * size))


def workload() -> Trace:
    path = real(f"{FOLDER}/workload/jobs500.events")
    trace = read(path)
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    wanted = [re.search(r"--constraint=(\S+)", line) for line in lines]
    jobs = [
        as_slurm_sees(job, found[1] if found else "")
        for job in trace.jobs
        for found in [wanted[int(job.id) - 1]]
    ]
    return replace(trace, jobs=tuple(jobs))


def real_waits() -> list[float]:
    with real(f"{FOLDER}/real_slurm_run/slurm_acct.out").open(newline="") as file:
        return [
            (
                datetime.fromisoformat(row["Start"]) - datetime.fromisoformat(row["Submit"])
            ).total_seconds()
            for row in csv.DictReader(file, delimiter="|")
            if "." not in row["JobID"]
        ]


def ours(policy: str) -> Summary:
    jobs = fit(workload(), MICRO, gate(MICRO), estimates="limit")
    assert not jobs.rejected and len(jobs.jobs) == 500
    # GPUs stand for constraints here; and Slurm keeps nobody off the nodes that have some.
    config = replace(policy_config(policy), ageing_per_hour=1, cpu_only="any")
    return summarise(replay(jobs, MICRO, config))


def test_the_real_run_is_the_one_that_is_documented():
    waits = real_waits()
    assert len(waits) == 500
    assert round(sum(waits) / 500) == 12_301 and max(waits) == 42_226


@pytest.mark.parametrize(
    "depth",
    [2, 4, *(pytest.param(deep, marks=pytest.mark.long) for deep in (8, 16))],
)
def test_at_depths_chosen_afterwards_the_mean_wait_is_within_a_fifth(depth):
    theirs = sum(real_waits()) / 500
    summary = ours(f"priority-backfill{depth}")
    assert summary.mean_wait_s == pytest.approx(theirs, rel=0.2)
    assert summary.makespan_s / 3600 == pytest.approx(14.3, rel=0.1)


@pytest.mark.long
@pytest.mark.parametrize(
    ("policy", "wait"), [("priority-easy", 9_113), ("priority-backfill32", 8_474)]
)
def test_at_other_depths_it_is_not(policy, wait):
    summary = ours(policy)
    assert round(summary.mean_wait_s) == wait  # whoever changes plans sees it here
    assert summary.mean_wait_s < 0.8 * sum(real_waits()) / 500
