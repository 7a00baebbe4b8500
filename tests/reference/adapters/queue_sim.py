"""Queue orders on identical GPUs, through the simulator: fairlead.sim.replay.

The simulator counts in whole ticks; here a second has as many as make all times whole.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import msgspec
from harness import NotOffered

from fairlead.policy.registry import policy_config
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.replay import gate, replay
from fairlead.sim.workload import Trace, TraceJob, fit

POLICIES = {
    "fifo_strict": "fifo",
    "fifo_skip": "fifo-skip",
    "sjf_strict": "sjf",
    "srtf": "srtf",
    "srsf": "srsf",
    "las2d": "las",
}


def answer(given: dict[str, Any]) -> dict[str, Any]:
    if given["policy"] not in POLICIES:
        raise NotOffered(f"there is no policy {given['policy']}")
    cluster = parse_cluster(f"{given['gpus']}gpu")
    times = [_exact(job[name]) for job in given["jobs"] for name in ("arrival", "duration")]
    second = math.lcm(*(time.denominator for time in times))
    jobs = [
        TraceJob(
            id=job["id"],
            submit_ms=int(_exact(job["arrival"]) * second),
            run_ms=int(_exact(job["duration"]) * second),
            processors=job["gpus"],
        )
        for job in given["jobs"]
    ]
    trace = Trace(path="case", format="case", jobs=tuple(sorted(jobs, key=TraceJob.place_in_order)))
    workload = fit(trace, cluster, gate(cluster))
    assert not workload.rejected, workload.rejected
    config = policy_config(POLICIES[given["policy"]])
    if "thresholds_gpu_s" in given:
        levels = tuple(int(_exact(limit) * second) for limit in given["thresholds_gpu_s"])
        config = msgspec.structs.replace(config, levels_gpu_ms=levels, promote_percent=None)
    done = replay(workload, cluster, config)
    start = {
        job.id: Fraction(at, second) for job, at in zip(workload.jobs, done.start_ms, strict=True)
    }
    finish = {
        job.id: Fraction(at, second) for job, at in zip(workload.jobs, done.end_ms, strict=True)
    }
    waits = [finish[job["id"]] - _exact(job["arrival"]) for job in given["jobs"]]
    return {
        "start": start,
        "finish": finish,
        "mean_jct": sum(waits, Fraction(0)) / len(waits),
        "makespan": max(finish.values()),
        "preemptions": sum(done.preempted),
    }


def _exact(seconds: Any) -> Fraction:
    return Fraction(str(seconds))
