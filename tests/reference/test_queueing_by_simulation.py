"""The simulator against queueing theory: same code as the service, known answers.

Small enough for every run; fixed seeds, so the verdict does not flicker.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from fairlead.model.base import Misuse
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.sim import oracles
from fairlead.sim.cluster import pool
from fairlead.sim.replay import replay
from fairlead.sim.workload import SimJob, Workload

SEEDS = range(6)
JOBS = 8_000
BATCHES = 30
SHAPE = Shape(cpu_milli=1000)
H2 = oracles.Hyperexponential((0.9, 0.1), (0.5, 5.5))

Draw = Callable[[Random], float]


def draw_exp(rng: Random) -> float:
    return rng.expovariate(1.0)


def draw_h2(rng: Random) -> float:
    return rng.expovariate(1 / (0.5 if rng.random() < 0.9 else 5.5))


def workload(seed: int, rate: float, draw: Draw, priorities: tuple[int, ...] = (50,)) -> Workload:
    """Poisson arrivals; each job's class is drawn from `priorities`, one entry per share."""
    rng = Random(seed)
    at, jobs = 0.0, []
    for number in range(JOBS):
        at += rng.expovariate(rate)
        run_ms = max(1, round(1000 * draw(rng)))
        spec = JobSpec(shape=SHAPE, expected_ms=run_ms, priority=rng.choice(priorities))
        jobs.append(SimJob(number, round(1000 * at), run_ms, spec))
    return Workload(tuple(jobs), {}, {})


def responses(work: Workload, servers: int, policy: str) -> list[float]:
    done = replay(work, pool(servers), policy)
    return [(end - job.submit_ms) / 1000 for job, end in zip(work.jobs, done.end_ms, strict=True)]


def batch_means(values: list[float]) -> list[float]:
    kept = values[len(values) // 10 :]
    size = len(kept) // BATCHES
    return [statistics.fmean(kept[n * size : (n + 1) * size]) for n in range(BATCHES)]


def assert_close(means: list[float], expected: float) -> None:
    mean = statistics.fmean(means)
    error = statistics.stdev(means) / len(means) ** 0.5
    assert abs(mean - expected) <= 3 * error, f"{mean:.4f} +- {error:.4f}, expected {expected:.4f}"
    assert error < 0.12 * expected, f"{error:.4f} says nothing about {expected:.4f}"


@pytest.mark.parametrize(
    ("policy", "servers", "rate", "draw", "expected"),
    [
        pytest.param("fifo", 4, 3.0, draw_exp, oracles.mmc_response(3, 1, 4), id="M/M/4"),
        pytest.param(
            "fifo",
            1,
            0.8,
            draw_exp,
            oracles.mean_response("fcfs", 0.8, oracles.exponential(1)),
            id="M/M/1-FCFS",
        ),
        pytest.param("fifo", 1, 0.7, draw_h2, oracles.mean_response("fcfs", 0.7, H2), id="H2-FCFS"),
        pytest.param("sjf", 1, 0.7, draw_h2, oracles.mean_response("sjf", 0.7, H2), id="H2-SJF"),
    ],
)
def test_mean_response_times_are_those_of_theory(policy, servers, rate, draw, expected):
    means: list[float] = []
    for seed in SEEDS:
        means += batch_means(responses(workload(seed, rate, draw), servers, policy))
    assert_close(means, expected)


def test_priority_classes_wait_as_cobham_says():
    # Ageing adds a point a minute and the classes are 50 points apart: no wait here is that long.
    levels = {100: 0.2, 50: 0.3, 0: 0.3}
    classes = [(rate, oracles.exponential(1)) for rate in levels.values()]
    expected = oracles.priority_responses(classes, preemptive=False)
    means: dict[int, list[float]] = {level: [] for level in levels}
    for seed in SEEDS:
        work = workload(seed, 0.8, draw_exp, priorities=(100, 100, 50, 50, 50, 0, 0, 0))
        took = responses(work, 1, "priority-strict")
        for level in levels:
            of_class = [t for t, job in zip(took, work.jobs, strict=True)
                        if job.spec.priority == level]  # fmt: skip
            means[level] += batch_means(of_class)
    for level, theory in zip(levels, expected, strict=True):
        assert_close(means[level], theory)


def test_the_time_integral_of_jobs_in_the_system_is_the_sum_of_their_response_times():
    work = workload(7, 0.8, draw_exp)
    done = replay(work, pool(1), "sjf")
    steps = sorted([(job.submit_ms, 1) for job in work.jobs] + [(end, -1) for end in done.end_ms])
    area = inside = last = 0
    for at, change in steps:
        area += inside * (at - last)
        inside, last = inside + change, at
    assert area == sum(e - j.submit_ms for e, j in zip(done.end_ms, work.jobs, strict=True))
    assert inside == 0


@pytest.mark.parametrize(
    ("size", "rate"),
    [
        (oracles.exponential(1), 0.8),
        (H2, 0.7),
        (oracles.Uniform(0.5, 1.5), 0.6),
        (oracles.BoundedPareto(1.5, 0.2, 50), 0.9),
    ],
)
def test_the_closed_forms_agree_with_each_other(size, rate):
    mean = {policy: oracles.mean_response(policy, rate, size) for policy in
            ("fcfs", "ps", "srpt", "fb", "sjf")}  # fmt: skip
    assert mean["srpt"] == min(mean.values())
    assert mean["sjf"] < mean["fcfs"]
    low, high = size.grid()
    grid = np.linspace(low, high, 400_001)
    tail = size.tail(grid)
    step = (high - low) / 400_000
    # P(S > x) integrates to the mean, and the parts up to the largest are the moments.
    assert low + np.sum(tail) * step == pytest.approx(size.mean(), rel=1e-3)
    assert size.part(np.array([high]), 1)[0] == pytest.approx(size.mean(), rel=1e-9)
    assert size.part(np.array([high]), 2)[0] == pytest.approx(size.square(), rel=1e-9)
    # The mean over quantiles of E[T(x)] is what the quadrature over densities says.
    sizes = np.interp((np.arange(1000) + 0.5) / 1000, 1 - tail, grid)
    for policy in mean:
        each = [oracles.conditional(policy, rate, size, float(x)) for x in sizes]
        assert statistics.fmean(each) == pytest.approx(mean[policy], rel=0.02), policy


def test_an_overloaded_server_has_no_mean():
    with pytest.raises(Misuse, match="a load of 1"):
        oracles.mean_response("fcfs", 1.2, oracles.exponential(1))
    with pytest.raises(Misuse, match="no closed form for 'lottery'"):
        oracles.mean_response("lottery", 0.5, oracles.exponential(1))
