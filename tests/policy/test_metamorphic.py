"""What must not matter does not matter: names, scales, useless nodes, the order of a trace."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Device, Node, Shape
from fairlead.sim.cluster import Cluster
from fairlead.sim.replay import replay
from fairlead.sim.workload import SimJob, Trace, TraceJob, Workload, fit

POLICIES = ("fifo", "fifo-skip+worst-fit", "sjf-skip+l2", "priority", "priority-skip+dot-product")
SEEDS = range(3)


def nodes(rng: Random) -> list[Node]:
    return [
        Node(
            name=f"n{index}",
            cpu_milli=rng.choice([8000, 16_000]),
            memory_mib=rng.choice([16_000, 64_000]),
            devices=tuple(Device(memory_mib=40_000) for _ in range(rng.choice([0, 2, 4]))),
        )
        for index in range(4)
    ]


def jobs(rng: Random, count: int = 150) -> list[SimJob]:
    at, made = 0, []
    for number in range(count):
        at += rng.randint(0, 60_000)
        gpu = rng.choice([{}, {}, {"gpus": 1}, {"gpu_milli": 500, "gpu_memory_mib": 9000}])
        shape = Shape(
            cpu_milli=rng.choice([1000, 2000, 7000]),
            memory_mib=rng.choice([0, 1000, 12_000]),
            members=rng.choice([1, 1, 1, 2]),
            **gpu,
        )
        run_ms = rng.randint(1, 600_000)
        wanted = JobSpec(
            shape=shape,
            tenant=rng.choice("tuv"),
            user=rng.choice("ab"),
            priority=rng.choice([10, 50, 90]),
            expected_ms=run_ms,
        )
        made.append(SimJob(number, at, run_ms, wanted))
    return made


def run(made: list[SimJob], machines: list[Node], policy: str):
    done = replay(
        Workload(tuple(made), {}, {}), Cluster(spec="test", nodes=tuple(machines)), policy
    )
    return done.start_ms, done.end_ms, done.nodes


@pytest.fixture(params=[(policy, seed) for policy in POLICIES for seed in SEEDS], ids=str)
def world(request):
    policy, seed = request.param
    rng = Random(seed)
    machines = nodes(rng)
    machines[0] = msgspec.structs.replace(
        machines[0], cpu_milli=16_000, memory_mib=64_000, devices=(Device(memory_mib=40_000),) * 4
    )
    return policy, jobs(rng), machines


def respec(job: SimJob, **changes) -> SimJob:
    return msgspec.structs.replace(job, spec=msgspec.structs.replace(job.spec, **changes))


def test_the_same_input_gives_the_same_schedule(world):
    policy, made, machines = world
    assert run(made, machines, policy) == run(made, machines, policy)


def test_names_of_tenants_users_and_nodes_do_not_matter(world):
    policy, made, machines = world
    renamed = [respec(j, tenant=f"x{j.spec.tenant}", user="z", name=f"j{j.id}") for j in made]
    others = [
        msgspec.structs.replace(node, name=f"z{9 - index}") for index, node in enumerate(machines)
    ]
    assert run(renamed, others, policy) == run(made, machines, policy)


def test_the_unit_of_an_amount_does_not_matter(world):
    policy, made, machines = world
    scaled = [
        respec(
            job,
            shape=msgspec.structs.replace(
                job.spec.shape,
                cpu_milli=job.spec.shape.cpu_milli * 4,
                memory_mib=job.spec.shape.memory_mib * 2,
            ),
        )
        for job in made
    ]
    larger = [
        msgspec.structs.replace(n, cpu_milli=n.cpu_milli * 4, memory_mib=n.memory_mib * 2)
        for n in machines
    ]
    assert run(scaled, larger, policy) == run(made, machines, policy)


def test_a_node_on_which_nothing_fits_does_not_matter(world):
    policy, made, machines = world
    useless = Node(name="useless", cpu_milli=999, memory_mib=64_000)
    assert run(made, [*machines, useless], policy) == run(made, machines, policy)


def test_the_order_of_the_lines_of_a_trace_does_not_matter(world):
    policy, made, machines = world
    lines = [
        TraceJob(id=j.id, submit_ms=j.submit_ms // 600_000 * 600_000, run_ms=j.run_ms,
                 shape=j.spec.shape, priority=j.spec.priority)
        for j in made
    ]  # fmt: skip
    shuffled = lines.copy()
    Random(1).shuffle(shuffled)
    place = Cluster(spec="test", nodes=tuple(machines))
    results = []
    for each in (lines, shuffled):
        ordered = tuple(sorted(each, key=TraceJob.place_in_order))
        trace = Trace(path="t", format="t", jobs=ordered)
        work = fit(trace, place, lambda spec: None)
        results.append(run(list(work.jobs), machines, policy))
    assert results[0] == results[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_one_more_node_that_stays_idle_helps_work_that_needs_no_more_than_one_cpu(seed):
    # Not so in general (list schedules have anomalies); for equal unit jobs it is.
    rng = Random(seed)
    at, made = 0, []
    for number in range(200):
        at += rng.randint(0, 3000)
        made.append(SimJob(number, at, 10_000, JobSpec(shape=Shape(), expected_ms=10_000)))
    machines = [Node(name=f"n{n}", cpu_milli=1000) for n in range(3)]
    more = [*machines, Node(name="n3", cpu_milli=1000)]
    before, after = run(made, machines, "fifo")[0], run(made, more, "fifo")[0]
    assert all(new <= old for new, old in zip(after, before, strict=True))
    assert sum(after) < sum(before)
