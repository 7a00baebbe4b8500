"""The simulator against queueing theory, at length: `make verify` (deselected elsewhere).

Six seeds of 300,000 jobs each, the first tenth dropped, 30 batch means per seed, and the mean of
all within three standard errors of theory. Fixed seeds, so that the verdict does not flicker.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.sim import oracles
from fairlead.sim.cluster import pool
from fairlead.sim.fluid import fluid
from fairlead.sim.replay import replay
from fairlead.sim.workload import SimJob, Workload

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

SEEDS = range(6)
JOBS = 300_000
BATCHES = 30
SHAPE = Shape(cpu_milli=1000)
EXP = oracles.exponential(1)
H2 = oracles.Hyperexponential((0.9, 0.1), (0.5, 5.5))
LEVELS = {100: 0.2, 50: 0.3, 0: 0.3}  # priority -> jobs per second


@dataclass(frozen=True)
class Drawn:
    """One sample path of Poisson arrivals; seconds."""

    arrivals: Any
    sizes: Any
    priorities: Any


def draw(seed: int, rate: float, size: oracles.Hyperexponential) -> Drawn:
    """Return the path of a seed; each job's class is drawn by the shares of LEVELS."""
    rng = np.random.default_rng(seed)
    means = rng.choice(size.means, JOBS, p=size.weights)
    shares = np.array(list(LEVELS.values()))
    return Drawn(
        arrivals=np.cumsum(rng.exponential(1 / rate, JOBS)),
        sizes=rng.exponential(means),
        priorities=rng.choice(list(LEVELS), JOBS, p=shares / shares.sum()),
    )


def replayed(policy: str, servers: int, drawn: Drawn) -> Any:
    """Return the response times (s) under the real scheduler, and check Little's law in ms."""
    submit = np.rint(1000 * drawn.arrivals).astype(np.int64)
    run = np.maximum(1, np.rint(1000 * drawn.sizes)).astype(np.int64)
    rows = zip(submit.tolist(), run.tolist(), drawn.priorities.tolist(), strict=True)
    jobs = tuple(
        SimJob(number, at, took, JobSpec(shape=SHAPE, expected_ms=took, priority=level))
        for number, (at, took, level) in enumerate(rows)
    )
    area = inside = last = 0

    def observe(now, core):
        nonlocal area, inside, last
        area += inside * (now - last)
        inside, last = len(core.jobs), now

    done = replay(Workload(jobs, {}, {}), pool(servers), policy, observe=observe)
    responses = np.array(done.end_ms, np.int64) - submit
    assert inside == 0
    assert area == int(responses.sum()), "the integral of jobs inside is not the sum of responses"
    return responses / 1000


def shared(policy: str, servers: int, drawn: Drawn) -> Any:
    """Return the response times (s) on one fluid server; Little's law as far as floats go."""
    assert servers == 1
    done = fluid(policy, drawn.arrivals.tolist(), drawn.sizes.tolist())
    responses = np.array(done.finish) - drawn.arrivals
    assert done.area == pytest.approx(responses.sum(), rel=1e-9)
    assert done.busy == pytest.approx(drawn.sizes.sum(), rel=1e-9)
    return responses


def batch_means(values: Any) -> list[float]:
    kept = values[len(values) // 10 :]
    size = len(kept) // BATCHES
    return kept[: BATCHES * size].reshape(BATCHES, size).mean(axis=1).tolist()


def assert_close(means: list[float], expected: float) -> None:
    mean = statistics.fmean(means)
    error = statistics.stdev(means) / len(means) ** 0.5
    print(f"{mean:.5f} +- {error:.5f}, theory {expected:.5f}, {(mean - expected) / error:+.2f} se")
    assert abs(mean - expected) <= 3 * error, f"{mean:.4f} +- {error:.4f}, expected {expected:.4f}"
    assert error < 0.02 * expected, f"{error:.4f} says nothing about {expected:.4f}"


Server = Callable[[str, int, Drawn], Any]


@pytest.mark.parametrize(
    ("serve", "policy", "servers", "rate", "size", "expected"),
    [
        pytest.param(replayed, "fifo", 4, 3.0, EXP, oracles.mmc_response(3, 1, 4), id="M/M/4"),
        *(
            pytest.param(
                serve,
                policy,
                1,
                rate,
                size,
                oracles.mean_response(theory, rate, size),
                id=f"{theory}-{name}",
            )
            for serve, policy, theory in (
                (replayed, "fifo", "fcfs"),
                (replayed, "sjf", "sjf"),
                (replayed, "srtf", "srpt"),
                (shared, "ps", "ps"),
                (shared, "fb", "fb"),
            )
            for name, rate, size in (("exponential", 0.8, EXP), ("H2", 0.7, H2))
        ),
    ],
)
def test_mean_response_times_are_those_of_theory(serve, policy, servers, rate, size, expected):
    means: list[float] = []
    for seed in SEEDS:
        means += batch_means(serve(policy, servers, draw(seed, rate, size)))
    assert_close(means, expected)


def test_priority_classes_wait_as_cobham_says():
    # Ageing adds a point a minute and the classes are 50 points apart: no wait here is that long.
    classes = [(rate, EXP) for rate in LEVELS.values()]
    expected = oracles.priority_responses(classes, preemptive=False)
    means: dict[int, list[float]] = {level: [] for level in LEVELS}
    for seed in SEEDS:
        drawn = draw(seed, 0.8, EXP)
        took = replayed("priority-strict", 1, drawn)
        for level in LEVELS:
            means[level] += batch_means(took[drawn.priorities == level])
    for level, theory in zip(LEVELS, expected, strict=True):
        assert_close(means[level], theory)


def test_preemptive_priority_classes_wait_as_theory_says():
    classes = [(rate, EXP) for rate in LEVELS.values()]
    expected = oracles.priority_responses(classes, preemptive=True)
    means: dict[int, list[float]] = {level: [] for level in LEVELS}
    for seed in SEEDS:
        drawn = draw(seed, 0.8, EXP)
        took = replayed("priority-preempt", 1, drawn)
        for level in LEVELS:
            means[level] += batch_means(took[drawn.priorities == level])
    for level, theory in zip(LEVELS, expected, strict=True):
        assert_close(means[level], theory)
