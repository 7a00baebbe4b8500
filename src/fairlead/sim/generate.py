"""Synthetic workloads: Poisson, diurnal and overloading arrivals with the sizes of GPU clusters.

The offered load is exact: run times are drawn first, the window is as long as makes their work the
asked share of the cluster, and arrivals are a Poisson process conditioned on that many jobs in it
(which makes them independent of each other: uniform, or bent by the time of day).
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Literal, TypeAlias

from fairlead.model.base import Misuse
from fairlead.sim.cluster import Cluster
from fairlead.sim.traces.jsonl import FORMAT, Header, Line

Pattern: TypeAlias = Literal["poisson", "diurnal", "overload"]

# Shares of job widths, log-normal run times (whole seconds) and limits as in ../shared/traces.
WIDTHS = ((1, 70), (2, 10), (4, 15), (8, 5))
RUN_MEDIAN_S = 900
RUN_SIGMA = 1.5
RUN_MIN_S, RUN_MAX_S = 60, 24 * 3600
LIMIT_FACTOR = 1.2
DAY_S = 24 * 3600
DAY_SWING = 0.8  # arrivals per second at the peak (15:00): 1.8 times the mean; at 03:00: 0.2 times
USERS_PER_TENANT = 10
JOBS_MAX = 10_000_000
SAMPLE = 100_000  # run times whose mean says how many jobs fill a time
OVERLOAD = 1.1  # what each tenant of an overload asks for, of the whole cluster


def generate(
    pattern: Pattern, *, jobs: int, load: float, cluster: Cluster, seed: int, tenants: int = 1
) -> tuple[Header, list[Line]]:
    """Return a trace of `jobs` jobs that offers `load` of the cluster's processors. Pure in seed.

    In an overload all tenants ask for equally much, and all together for more than there is.
    Raises Misuse for a load or a number that makes no sense.
    """
    if not 1 <= jobs <= JOBS_MAX:
        raise Misuse(f"cannot make {jobs} jobs", field="jobs", hint=f"from 1 to {JOBS_MAX:,}")
    if not 0 < load <= 1000:
        raise Misuse(f"a load of {load:g}", field="load", hint="1 is all of the cluster, always")
    if not 1 <= tenants <= 10_000:
        raise Misuse(f"cannot make {tenants} tenants", field="tenants", hint="from 1 to 10,000")
    overload = pattern == "overload"
    if overload and (tenants < 2 or load <= 1):
        raise Misuse(
            f"{tenants} tenants with a load of {load:g} are no overload",
            field="tenants" if tenants < 2 else "load",
            hint=f"name 2 tenants or more and a load above 1; {OVERLOAD * tenants:g} lets each ask "
            "for more than all there is",
        )
    rng = Random(seed)
    widths = [(width, share) for width, share in WIDTHS if width <= max(cluster.widest, 1)]
    chosen = rng.choices(*zip(*widths, strict=True), k=jobs)
    runs = [_run_s(rng) for _ in range(jobs)]
    work_s = sum(width * run for width, run in zip(chosen, runs, strict=True))
    window_s = work_s * 1000 / cluster.capacity_milli / load
    at = _diurnal(window_s) if pattern == "diurnal" else _uniform
    arrivals = sorted(at(rng.random()) * window_s for _ in range(jobs))
    # Tenants differ in size as 1, 1/2, 1/3 …: someone always has most of the work.
    sizes = (1.0 if overload else 1 / (rank + 1) for rank in range(tenants))
    shares = list(accumulate(sizes))
    lines = []
    for index in range(jobs):
        tenant = bisect(shares, rng.random() * shares[-1]) + 1
        user = rng.randrange(USERS_PER_TENANT) + 1
        width, run = chosen[index], runs[index]
        lines.append(
            Line(
                id=index + 1,
                submit_s=round(arrivals[index], 3),
                run_s=run,
                cpus=None if cluster.gpus else width,
                gpus=width if cluster.gpus else 0,
                tenant=f"tenant{tenant}",
                user=f"user{tenant}.{user}",
                limit_s=math.ceil(LIMIT_FACTOR * run),
            )
        )
    note = f"{pattern}, {jobs} jobs, load {load:g}, seed {seed}"
    return Header(format=FORMAT, cluster=cluster.spec, note=note), lines


def jobs_in(window_s: float, *, load: float, cluster: Cluster, seed: int) -> int:
    """Return how many jobs of these sizes offer the load for so long: on average, within a few."""
    rng = Random(seed)
    widths = [(width, share) for width, share in WIDTHS if width <= max(cluster.widest, 1)]
    mean_width = sum(width * share for width, share in widths) / sum(share for _, share in widths)
    mean_run_s = sum(_run_s(rng) for _ in range(SAMPLE)) / SAMPLE
    return max(1, round(window_s * load * cluster.capacity_milli / 1000 / mean_width / mean_run_s))


def _run_s(rng: Random) -> int:
    run = rng.lognormvariate(math.log(RUN_MEDIAN_S), RUN_SIGMA)
    return round(min(max(run, RUN_MIN_S), RUN_MAX_S))


def _uniform(chance: float) -> float:
    return chance


def _diurnal(window_s: float) -> Callable[[float], float]:
    """Return the inverse of the share of a window's arrivals that has come by a share of it."""
    steps = max(1000, min(200_000, int(window_s / 300)))

    def come(at_s: float) -> float:
        # Integral of 1 + DAY_SWING x cos(2 pi (t - 15 h) / day); the window starts at midnight.
        phase = 2 * math.pi * (at_s - 15 * 3600) / DAY_S
        return at_s + DAY_SWING * DAY_S / (2 * math.pi) * math.sin(phase)

    table = [come(window_s * step / steps) for step in range(steps + 1)]
    low, high = table[0], table[-1]

    def inverse(chance: float) -> float:
        wanted = low + chance * (high - low)
        step = min(max(bisect(table, wanted) - 1, 0), steps - 1)
        part = (wanted - table[step]) / (table[step + 1] - table[step])
        return (step + min(max(part, 0.0), 1.0)) / steps

    return inverse
