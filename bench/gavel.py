"""Gavel's allocations and Sia's round, cold, in CPU milliseconds. JSON lines.

`max_min` and others over classes of equal jobs: `different` gives every job its own class. With
--side, the same max-min program is also given to HiGHS (scipy), dual simplex and interior point.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from random import Random
from unittest.mock import patch

from fairlead.sim.cluster import parse_cluster
from fairlead.sim.replay import gate, replay
from fairlead.sim.workload import Trace, TraceJob, fit
from fairlead.solve.gavel import JobClass, makespan, max_min, sum_throughput
from fairlead.solve.gavel_time import ftf
from fairlead.solve.sia import Elastic, choose, configs_of, relative
from fairlead.solve.waterfill import water_filling

REPEATS = 5
SPEEDS = (("k80", 5), ("p100", 9), ("v100", 20))


def jobs(classes: int, types: int, count: int, seed: int) -> list[JobClass]:
    rng = Random(seed)
    return [
        JobClass(
            name=f"c{number}",
            rates=tuple(rng.uniform(1, 100) for _ in range(types)),
            count=count,
            scale=rng.choice((1, 1, 1, 2, 4, 8)),
            steps=rng.uniform(1e3, 1e5),
            elapsed_s=rng.uniform(0, 1000),
            ideal_s=rng.uniform(100, 10_000),
        )
        for number in range(classes)
    ]


def milliseconds(what) -> float:
    spent = []
    for seed in range(REPEATS):
        began = time.process_time()
        what(seed)
        spent.append(1000 * (time.process_time() - began))
    return round(statistics.median(spent), 1)


def allocations(side: bool) -> None:
    for classes, types, count in ((100, 3, 41), (1000, 5, 1), (4096, 3, 1)):
        devices = [classes * count // 6] * types
        inputs = [jobs(classes, types, count, seed) for seed in range(REPEATS)]
        policies = [max_min, makespan, sum_throughput, ftf]
        for policy in [*policies, water_filling] if classes == 100 else policies:
            found = {
                "bench": policy.__name__,
                "jobs": classes * count,
                "classes": classes,
                "types": types,
                "cpu_ms": milliseconds(lambda seed: policy(inputs[seed], devices)),  # noqa: B023
            }
            if side and policy is max_min:
                with patch("fairlead.solve.gavel.MANY", 10**9):
                    found["highs_cpu_ms"] = milliseconds(
                        lambda seed: max_min(inputs[seed], devices)  # noqa: B023
                    )
            print(json.dumps(found), flush=True)


def simulated() -> None:
    """Replay jobs of which 2,000 wait at first, on 36 devices of each of three models."""
    rng = Random(1)
    types = [
        (f"t{number}", tuple((model, (rng.randint(1, most) * 10**6,)) for model, most in SPEEDS))
        for number in range(26)
    ]
    jobs = []
    for number in range(3_000):
        kind, rates = rng.choice(types)
        fastest = max(rate for _, (rate,) in rates)
        run_ms = 1000 * rng.randint(60, 1800)
        submit_ms = 0 if number < 2_000 else (number - 2_000) * 4_000
        jobs.append(
            TraceJob(
                id=number + 1,
                submit_ms=submit_ms,
                run_ms=run_ms,
                processors=1,
                job_type=kind,
                total_steps=max(1, run_ms * fastest // 10**9),
                rates=rates,
            )
        )
    where = parse_cluster("+".join(f"36x1gpu:{model}" for model, _ in SPEEDS))
    workload = fit(Trace("x", "x", tuple(jobs)), where, gate(where))
    for policy in ("gavel-fifo", "gavel-maxmin", "gavel-las"):
        outcome = replay(workload, where, policy)
        found = {
            "bench": f"simulated {policy}",
            "jobs": len(jobs),
            "attempts": len(jobs) + sum(outcome.preempted),
            "jobs_per_s": round(len(jobs) / outcome.cpu_s),
        }
        print(json.dumps(found), flush=True)


def sia() -> None:
    rng = Random(1)
    configs = configs_of({"a": 8, "b": 4, "c": 8}, {"a": 4, "b": 4, "c": 4})
    speed = {"a": 3.0, "b": 1.0, "c": 2.0}
    rows = []
    for _ in range(500):
        power = rng.uniform(0.5, 1)
        row = [c.gpus**power * speed[c.type] * rng.uniform(0.8, 1.2) for c in configs]
        current = rng.choice((None, rng.randrange(len(configs))))
        rows.append(Elastic(relative(row), rng.uniform(0.5, 1), current))
    capacity = {"a": 256, "b": 128, "c": 256}
    found = choose(rows, configs, capacity)
    spent = milliseconds(lambda _: choose(rows, configs, capacity))
    print(
        json.dumps(
            {
                "bench": "sia",
                "jobs": 500,
                "configs": len(configs),
                "status": found.status,
                "cpu_ms": spent,
            }
        )
    )


def main() -> None:
    reading = argparse.ArgumentParser()
    reading.add_argument("--side", action="store_true")
    told = reading.parse_args()
    allocations(told.side)
    simulated()
    sia()


if __name__ == "__main__":
    main()
