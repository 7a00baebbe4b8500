"""The real scheduler in a hostile world: clean over many seeds, and the same for the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlead.model.jobs import JobSpec, Phase
from fairlead.model.resources import Device, Node, Shape
from fairlead.sim.faults.menu import KINDS, draw
from fairlead.sim.faults.plan import Fate, Incident, JobPlan, Plan, RequestPlan, Weather
from fairlead.sim.faults.run import Failure, run_plan, run_seed
from fairlead.sim.faults.truth import Load, can_ever_run
from fairlead.sim.faults.world import Outcome, World

SOURCE = Path(__file__).parents[2] / "src"
CLEAN_SEEDS = 60


def told(failure: Failure) -> str:
    lines = [f"seed {failure.plan.seed}: {failure.name}: {failure.message}", failure.where]
    return "\n".join([*lines, failure.plan.mix(), *failure.story[-40:]])


@pytest.mark.parametrize("first", range(0, CLEAN_SEEDS, 10))
def test_no_seed_fails(first: int) -> None:
    for seed in range(first, first + 10):
        outcome = run_seed(seed)
        assert isinstance(outcome, Outcome), told(outcome)


def test_together_the_seeds_draw_every_fault_of_the_menu() -> None:
    plans = [draw(seed) for seed in range(CLEAN_SEEDS)]
    assert {incident.kind for plan in plans for incident in plan.incidents} == set(KINDS)
    assert any(plan.weather.lost for plan in plans)
    assert any(not plan.weather.lost and plan.incidents for plan in plans)


def test_the_same_seeds_give_the_same_logs_whatever_the_hash_seed() -> None:
    program = (
        "from fairlead.sim.faults.run import run_seed\n"
        "print([(o.digest, o.end_ms, o.messages) for o in map(run_seed, range(100, 120))])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for hash_seed in ("1", "4242")
    }
    assert len(outputs) == 1


def small_plan(incidents: tuple[Incident, ...] = ()) -> Plan:
    """Return ten minutes of a few jobs of every kind on two machines."""
    devices = (Device(memory_mib=1000), Device(memory_mib=1000))
    shapes = {
        "one": Shape(cpu_milli=1000),
        "gang": Shape(cpu_milli=1000, members=2, spread="distinct-nodes"),
        "gpu": Shape(cpu_milli=500, gpus=1),
        "share": Shape(cpu_milli=500, gpu_milli=500, gpu_memory_mib=400),
        "fails": Shape(cpu_milli=1000),
        "limited": Shape(cpu_milli=1000),
        "cancelled": Shape(cpu_milli=2000),
    }
    jobs = {
        name: JobPlan(
            spec=JobSpec(
                shape=shape,
                name=name,
                limit_ms=20_000 if name == "limited" else None,
                retries=1,
                grace_ms=1000,
            ),
            fates=(
                *(Fate(run_ms=30_000, code=int(name == "fails")) for _ in range(shape.members)),
                *(Fate(run_ms=40_000) for _ in range(shape.members)),
            ),
            cancel_after_ms=10_000 if name == "cancelled" else None,
        )
        for name, shape in shapes.items()
    }
    return Plan(
        seed=1,
        until_ms=600_000,
        nodes=(
            Node(name="a", cpu_milli=2000),
            Node(name="b", cpu_milli=2000, devices=devices),
        ),
        jobs=jobs,
        requests=tuple(
            RequestPlan(at_ms=60_000 + 1000 * index, key=name, jobs=(name,), eager=True)
            for index, name in enumerate(jobs)
        ),
        incidents=incidents,
        weather=Weather(),
        policy=draw(0).policy,
        snapshot_events=10,
    )


def test_a_calm_world_ends_as_planned() -> None:
    world = World(small_plan())
    world.run()
    ended = {world.oracles.specs[job].name: phase for job, phase in world.oracles.final.items()}
    assert ended == {
        "one": Phase.SUCCEEDED,
        "gang": Phase.SUCCEEDED,
        "gpu": Phase.SUCCEEDED,
        "share": Phase.SUCCEEDED,
        "fails": Phase.SUCCEEDED,  # at the second attempt
        "limited": Phase.TIMEOUT,
        "cancelled": Phase.CANCELLED,
    }


@pytest.mark.parametrize("kind", ["write-fails", "crash-before-commit", "crash-after-commit"])
def test_any_write_may_fail(kind: str) -> None:
    """As SQLite does it: the first write fails, then the second, … until none is left to fail."""
    calm = World(small_plan())
    calm.run()
    for number in range(1, calm.disk.writes + 1):
        fault = Incident(at_ms=1, kind=kind, amount=number)  # type: ignore[arg-type]
        outcome = run_plan(small_plan((fault,)))
        assert isinstance(outcome, Outcome), f"write {number}: {told(outcome)}"
        assert outcome.jobs == len(calm.plan.jobs)


def test_a_disk_that_stays_full_loses_nothing_that_was_answered() -> None:
    full = Incident(at_ms=62_500, kind="disk-full", for_ms=120_000)
    outcome = run_plan(small_plan((full,)))
    assert isinstance(outcome, Outcome), told(outcome)
    assert outcome.jobs == 7


def test_longer_histories_are_clean_too() -> None:
    outcome = run_seed(7, hours=6)
    assert isinstance(outcome, Outcome), told(outcome)
    assert outcome.end_ms >= 6 * 3_600_000


def test_a_plan_without_faults_says_so() -> None:
    assert small_plan().mix() == "no faults"
    assert "reboot x1" in small_plan((Incident(at_ms=1, kind="reboot", node="a"),)).mix()


NODE = Node(
    name="n",
    cpu_milli=4000,
    memory_mib=1000,
    devices=(Device(model="A", memory_mib=100), Device(model="B", memory_mib=200)),
)


def test_the_truth_knows_when_a_machine_carries_too_much() -> None:
    load = Load()
    whole = Shape(cpu_milli=2000, gpus=1)
    load.add(whole, (0,), [100, 200], 1)
    load.add(whole, (1,), [100, 200], 1)
    assert load.excess(NODE, whole, (1,)) == ""
    assert "cpu" in load.excess(NODE, whole, (1,), foreign=(1, 0, 0, 0, 0))
    assert "others" in load.excess(NODE, whole, (1,), foreign_devices=frozenset({1}))
    share = Shape(cpu_milli=0, gpu_milli=1, gpu_memory_mib=1)
    load.add(share, (1,), [100, 200], 1)
    assert "device 1" in load.excess(NODE, share, (1,))
    assert not load.idle


@pytest.mark.parametrize(
    ("shape", "nodes", "fits"),
    [
        (Shape(cpu_milli=4000), 1, True),
        (Shape(cpu_milli=4001), 9, False),
        (Shape(cpu_milli=1000, members=4, spread="same-node"), 1, True),
        (Shape(cpu_milli=1000, members=5, spread="same-node"), 9, False),
        (Shape(cpu_milli=1000, members=5), 2, True),
        (Shape(cpu_milli=1000, members=2, spread="distinct-nodes"), 1, False),
        (Shape(cpu_milli=1, gpus=2), 1, True),
        (Shape(cpu_milli=1, gpus=2, gpu_memory_mib=150), 9, False),
        (Shape(cpu_milli=1, gpus=1, gpu_models=("C",)), 9, False),
        (Shape(cpu_milli=1, gpu_milli=300, gpu_memory_mib=90, members=3), 1, True),
        (Shape(cpu_milli=1, gpu_milli=300, gpu_memory_mib=90, members=4), 1, False),
    ],
)
def test_the_truth_knows_what_can_ever_run(shape: Shape, nodes: int, fits: bool) -> None:
    assert can_ever_run(shape, [replace(NODE, name=str(index)) for index in range(nodes)]) == fits
