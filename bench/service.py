"""How fast the real service is: one JSON line per number, with its target. Takes < 2 minutes.

    python bench/service.py [--state FOLDER]

A service of its own is started on a fresh state folder, with real processes and real commits.
`noise` is how much the same busy loop varied meanwhile (max/min): numbers of a noisy machine
are lower bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fairlead.cli.client import Client
from fairlead.core.turn import Scheduler
from fairlead.model.events import NodeJoined, Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Node, Shape
from fairlead.policy.registry import build
from fairlead.service.lifecycle import absolute_python_path
from fairlead.store.sqlite import SqliteStore

FAIRLEAD = [sys.executable, "-m", "fairlead"]


def report(bench: str, value: float, unit: str, target: str, **more: object) -> None:
    line = {"bench": bench, "value": round(value, 3), "unit": unit, "target": target, **more}
    print(json.dumps(line), flush=True)


def noise() -> float:
    """Return how much the time of the same work varies: longest by shortest."""
    took = []
    for _ in range(20):
        begin = time.perf_counter()
        sum(range(200_000))
        took.append(time.perf_counter() - begin)
    return round(max(took) / min(took), 2)


def fairlead(*words: str) -> str:
    return subprocess.run(
        [*FAIRLEAD, *words], check=True, capture_output=True, text=True, timeout=120
    ).stdout


def drained(client: Client, timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while client.get("/status")["jobs"]:
        assert time.monotonic() < until, "the jobs do not end"
        time.sleep(0.005)


def bench_request(client: Client) -> None:
    took = []
    for _ in range(200):
        begin = time.perf_counter()
        client.get("/nodes")
        took.append(1000 * (time.perf_counter() - begin))
    report("request", statistics.median(took), "ms", "none", p90=round(sorted(took)[180], 2))


def bench_start(client: Client) -> None:
    """The job prints when it started: what /bin/date needs to come up is counted too."""
    took, durable = [], []
    for _ in range(60):
        begin_ns = time.time_ns()
        job = client.post("/jobs", {"run": ["/bin/date", "+%s%N"]})["ids"][0]
        durable.append((time.time_ns() - begin_ns) / 1e6)
        client.get(f"/jobs/{job}", wait=10)
        text = b"".join(client.stream(f"/jobs/{job}/logs").pieces())
        took.append((int(text) - begin_ns) / 1e6)
    report(
        "submit to process start",
        statistics.median(took),
        "ms",
        "<= 15 median",
        p90=round(sorted(took)[54], 1),
        answered_ms=round(statistics.median(durable), 2),
        noise=noise(),
    )


def bench_true(client: Client, count: int, cpus: float) -> None:
    begin = time.perf_counter()
    job = {"run": ["true"], "array": f"0-{count - 1}", "resources": {"cpus": cpus}}
    client.post("/jobs", {"jobs": [job]})
    drained(client)
    rate = count / (time.perf_counter() - begin)
    report("true jobs", rate, "jobs/s", ">= 300", jobs=count, cpus_each=cpus, noise=noise())


def bench_batch(client: Client, jobs: int) -> None:
    """Jobs that must wait, each its own request with its own name, in one call."""
    requests = [{"run": ["true"], "name": f"t{n}", "priority": 10} for n in range(jobs)]
    begin = time.perf_counter()
    client.post("/jobs", {"jobs": requests})
    took = 1000 * (time.perf_counter() - begin)
    report(f"{jobs} jobs in one call", took, "ms", "<= 100" if jobs == 5000 else "none")


def bench_list(client: Client) -> None:
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        answer = client.get("/jobs", limit=20_000, format="rows")
        took.append(1000 * (time.perf_counter() - begin))
    report("list pending, decoded", min(took), "ms", "<= 60 server", jobs=len(answer["rows"]))
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        done = subprocess.run(
            [*FAIRLEAD, "ps"], check=True, stdout=subprocess.PIPE, timeout=60
        )
        took.append(1000 * (time.perf_counter() - begin))
    lines = done.stdout.count(b"\n")
    report("ps through a pipe", min(took), "ms", "<= 200", lines=lines, noise=noise())


def rss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def bench_memory(client: Client) -> None:
    """VmRSS, shared pages counted in full; a service that has just come up, one job running."""
    job = client.post("/jobs", {"run": ["sleep", "30"]})["ids"][0]
    time.sleep(0.5)
    status = client.get("/status")
    agent = status["agent"]["pid"]
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    report("service RSS", rss_mib(status["pid"]), "MiB", "<= 120")
    report("agent RSS", rss_mib(agent), "MiB", "<= 25")
    private = [_private_mib(int(pid)) for pid in children]
    if private:
        report("supervisor private memory", max(private), "MiB", "<= 10", rss=rss_mib(int(children[0])))
    client.post(f"/jobs/{job}/cancel", {})
    begin = _cpu_s(status["pid"])
    time.sleep(3)
    report("idle service CPU", 100 * (_cpu_s(status["pid"]) - begin) / 3, "%", "~0")


def _private_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    parts = [line.split() for line in text.splitlines() if line.startswith("Private_")]
    return sum(int(part[1]) for part in parts) / 1024


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bench_restart(state: Path, jobs: int) -> None:
    """A log of its own with this many jobs that wait, once without and once with a snapshot."""
    state.mkdir(mode=0o700)
    spec = JobSpec(shape=Shape(cpu_milli=1_000), command=("true",), workdir="/", user="bench")
    with SqliteStore(state / "fairlead.db") as store:
        scheduler = Scheduler.recover(build, store)
        # More than there is, on a node that is not this one: so that all of them wait.
        node = Node(name="elsewhere", cpu_milli=1_000)
        scheduler.turn(1, [NodeJoined(node=0, spec=node)])
        scheduler.turn(2, [Submitted(job=n, spec=spec) for n in range(1, jobs + 1)])
    for kind in ("log alone", "snapshot"):
        begin = time.perf_counter()
        with SqliteStore(state / "fairlead.db") as store:
            scheduler = Scheduler.recover(build, store)
            took = 1000 * (time.perf_counter() - begin)
            core = scheduler.core
            assert len(core.jobs) == jobs
            if kind == "log alone":
                store.save_snapshot(core.seq, core.digest(), core.dump())
        report(f"recover {jobs} jobs, {kind}", took, "ms", "<= 1000 restart")
    os.environ["FAIRLEAD_STATE"] = str(state)
    begin = time.perf_counter()
    fairlead("up", "--cpus", "0.001")
    took = 1000 * (time.perf_counter() - begin)
    report(f"fairlead up with {jobs} jobs, command included", took, "ms", "<= 1000 restart")
    fairlead("down", "--keep-jobs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", help="an empty folder on the disk to measure")
    root = Path(parser.parse_args().state or tempfile.mkdtemp(prefix="fl-bench-"))
    absolute_python_path()
    os.environ["FAIRLEAD_STATE"] = str(root / "s")
    try:
        begin = time.perf_counter()
        fairlead("up")
        report("first fairlead up", 1000 * (time.perf_counter() - begin), "ms", "none")
        client = Client(str(root / "s" / "api.sock"))
        bench_memory(client)
        bench_request(client)
        bench_start(client)
        bench_true(client, 1000, 1)
        bench_true(client, 1000, 0.1)
        client.post("/jobs", {"run": ["sleep", "60"], "array": f"0-{os.cpu_count()}"})
        bench_batch(client, 5_000)
        bench_batch(client, 5_000)
        bench_list(client)
        fairlead("down", "--cancel-jobs")
        bench_restart(root / "r", 60_000)
    finally:
        for state in (root / "s", root / "r"):
            os.environ["FAIRLEAD_STATE"] = str(state)
            subprocess.run([*FAIRLEAD, "down", "--cancel-jobs"], capture_output=True, timeout=60)
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
