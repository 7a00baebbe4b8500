"""CPU seconds that plans take: backfilling on real logs, preemption, and a queue that only grows.

The logs lie in ../shared/traces (or FAIRLEAD_TRACES); where they are absent a line says so.
One run each: the long ones take a quarter of a minute. Times are CPU of the replay alone.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

from fairlead.sim import traces
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.outcome import Outcome, Rules
from fairlead.sim.replay import gate, replay
from fairlead.sim.workload import Estimates, cluster_for, fit

TRACES = Path(
    os.environ.get("FAIRLEAD_TRACES", Path(__file__).resolve().parents[2] / "shared" / "traces")
)
LOGS = ("KTH-SP2", "CTC-SP2", "SDSC-SP2", "SDSC-BLUE")
REFERENCE = Rules(event_order="reference")
REPEATS = 5


def say(name: str, **line: object) -> None:
    print(json.dumps({"bench": name} | line), flush=True)


def found(name: str, path: str) -> bool:
    """Whether a trace is there; a line says where it is not."""
    if (TRACES / path).exists():
        return True
    say(name, skipped=f"{path} is not there; set FAIRLEAD_TRACES to the folder of the traces")
    return False


def once(
    path: str, policy: str, *, spec: str = "", estimates: Estimates = "exact", rules: Rules
) -> Outcome:
    trace = traces.read(TRACES / path)
    cluster = parse_cluster(spec) if spec else cluster_for(trace, None)
    workload = fit(trace, cluster, gate(cluster), estimates=estimates)
    return replay(workload, cluster, policy, rules=rules)


def log(name: str) -> str:
    return f"swf/easy-reference/{name}.easy_backfill.swf.gz"


def easy_on_the_logs() -> None:
    """All four logs one after the other, as tests/real compares them with other programs."""
    title = "EASY, four logs, reference order"
    total, jobs = 0.0, 0
    for name in LOGS:
        if not found(title, log(name)):
            return
        outcome = once(log(name), "easy", estimates="limit", rules=REFERENCE)
        total, jobs = total + outcome.cpu_s, jobs + len(outcome.start_ms)
        say(f"EASY {name}", unit="s of CPU", value=round(outcome.cpu_s, 1), better="less")
    say(title, unit="s of CPU", value=round(total, 1), target=60, better="less", jobs=jobs)


def easy_overloaded() -> None:
    name, path = "EASY poisson-4000 load 1.2 pool:96", "poisson/poisson-4000-96-load1.2.swf.gz"
    if not found(name, path):
        return
    rates = []
    for _ in range(REPEATS):
        outcome = once(path, "easy", spec="pool:96", estimates="limit", rules=Rules())
        rates.append(len(outcome.start_ms) / outcome.cpu_s)
    say(
        name,
        unit="jobs/s of CPU",
        value=round(statistics.median(rates)),
        min=round(min(rates)),
        max=round(max(rates)),
        repeats=REPEATS,
        target=10_000,
        better="more",
    )


def conservative() -> None:
    name = "conservative KTH-SP2"
    if found(name, log("KTH-SP2")):
        outcome = once(log("KTH-SP2"), "conservative", estimates="limit", rules=Rules())
        say(name, unit="s of CPU", value=round(outcome.cpu_s, 1), target=60, better="less")


def preemptive() -> None:
    name, path = "SRTF muri trace3 pool:64", "muri/simulator/trace-data/trace3.csv"
    if not found(name, path):
        return
    times = [once(path, "srtf", spec="pool:64", rules=Rules()).cpu_s for _ in range(REPEATS)]
    say(
        name,
        unit="s of CPU",
        value=round(statistics.median(times), 2),
        min=round(min(times), 2),
        max=round(max(times), 2),
        repeats=REPEATS,
        better="less",
    )


if __name__ == "__main__":
    easy_overloaded()
    preemptive()
    conservative()
    easy_on_the_logs()
