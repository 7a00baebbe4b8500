"""How fast the real service is: one JSON line per number, with its target. Takes < 2 minutes.

    python bench/service.py [--state FOLDER]

A service of its own is started on a fresh state folder, with real processes and real commits.
Times are medians or, where said, the least of a few: other users of the machine only add to them.
"""

from __future__ import annotations

import argparse
import gc
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


def report(bench: str, value: float, unit: str, target: float | None, **more: object) -> None:
    """Print one number; `target` None: none was set. More is better for rates alone."""
    better = "more" if unit.endswith("/s") else "less"
    goal = {} if target is None else {"target": target, "better": better}
    print(json.dumps({"bench": bench, "value": round(value, 3), "unit": unit} | goal | more))
    sys.stdout.flush()


def fairlead(*words: str) -> str:
    return subprocess.run(
        [*FAIRLEAD, *words], check=True, capture_output=True, text=True, timeout=120
    ).stdout


def drained(client: Client, timeout_s: float = 60) -> None:
    until = time.monotonic() + timeout_s
    while client.get("/status")["jobs"]:
        assert time.monotonic() < until, "the jobs do not end"
        time.sleep(0.02)


def bench_request(client: Client) -> None:
    took = []
    for _ in range(200):
        begin = time.perf_counter()
        client.get("/nodes")
        took.append(1000 * (time.perf_counter() - begin))
    report("request", statistics.median(took), "ms", None, p90=round(sorted(took)[180], 2))


def bench_start(client: Client) -> None:
    """The job prints when it started: what /bin/date needs to come up is counted too."""
    took, durable = [], []
    for _ in range(60):
        begin_ns = time.time_ns()
        job = client.post("/jobs", {"run": ["/bin/date", "+%s%N"]})["ids"][0]
        durable.append((time.time_ns() - begin_ns) / 1e6)
        client.get(f"/jobs/{job}", {"wait": 10})
        text = b"".join(client.stream(f"/jobs/{job}/logs", {}).pieces())
        took.append((int(text) - begin_ns) / 1e6)
    report(
        "submit to process start",
        statistics.median(took),
        "ms",
        15,
        p90=round(sorted(took)[54], 1),
        answered_ms=round(statistics.median(durable), 2),
    )


def bench_true(client: Client, count: int, cpus: float) -> None:
    status = client.get("/status")
    service, agent = status["pid"], status["agent"]["pid"]
    before = cpu_ms(service), cpu_ms(agent)
    begin = time.perf_counter()
    job = {"run": ["true"], "array": f"0-{count - 1}", "resources": {"cpus": cpus}}
    client.post("/jobs", {"jobs": [job]})
    drained(client)
    report(
        "true jobs",
        count / (time.perf_counter() - begin),
        "jobs/s",
        300,
        jobs=count,
        cpus_each=cpus,
        service_cpu_ms_per_job=round((cpu_ms(service) - before[0]) / count, 2),
        agent_and_jobs_cpu_ms_per_job=round((cpu_ms(agent) - before[1]) / count, 2),
    )


def bench_batch(client: Client, jobs: int) -> None:
    """Jobs that must wait, each its own request with its own name, in one call."""
    pid = client.get("/status")["pid"]
    requests = [{"run": ["true"], "name": f"t{n}", "priority": 10} for n in range(jobs)]
    cpu, begin = cpu_ms(pid), time.perf_counter()
    client.post("/jobs", {"jobs": requests})
    took = 1000 * (time.perf_counter() - begin)
    report(f"{jobs} jobs in one call", took, "ms", 100, service_cpu_ms=cpu_ms(pid) - cpu)


def bench_list(client: Client) -> None:
    pid = client.get("/status")["pid"]
    took = []
    cpu = cpu_ms(pid)
    for _ in range(5):
        client.post("/jobs", {"run": "true", "priority": 1})  # so that nothing is remembered
        begin = time.perf_counter()
        answer = client.get("/jobs", {"limit": 20_000, "format": "rows"})
        took.append(1000 * (time.perf_counter() - begin))
    each = (cpu_ms(pid) - cpu) / 5
    count = len(answer["rows"])
    report("list pending, decoded", min(took), "ms", None, jobs=count, service_cpu_ms=each)
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        done = subprocess.run([*FAIRLEAD, "ps"], check=True, stdout=subprocess.PIPE, timeout=60)
        took.append(1000 * (time.perf_counter() - begin))
    report("ps through a pipe", min(took), "ms", 200, lines=done.stdout.count(b"\n"))


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
    report("service RSS", rss_mib(status["pid"]), "MiB", 120)
    report("agent RSS", rss_mib(agent), "MiB", 25)
    private = [_private_mib(int(pid)) for pid in children]
    if private:
        report("supervisor private memory", max(private), "MiB", 10, rss=rss_mib(int(children[0])))
    client.post(f"/jobs/{job}/cancel", {})
    begin = cpu_ms(status["pid"])
    time.sleep(3)
    report("idle service CPU", (cpu_ms(status["pid"]) - begin) / 30, "%", 1)


def _private_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    parts = [line.split() for line in text.splitlines() if line.startswith("Private_")]
    return sum(int(part[1]) for part in parts) / 1024


def cpu_ms(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return 1000 * sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def bench_restart(state: Path, jobs: int) -> None:
    """A log of its own with this many jobs that wait; first without, then with a snapshot."""
    state.mkdir(mode=0o700)
    spec = JobSpec(shape=Shape(cpu_milli=1_000), command=("true",), workdir="/", user="bench")
    with SqliteStore(state / "fairlead.db") as store:
        scheduler = Scheduler.recover(build, store)
        # On no node is room for any of them, so all of them wait.
        node = Node(name="elsewhere", cpu_milli=500)
        scheduler.turn(1, [NodeJoined(node=0, spec=node)])
        scheduler.turn(2, [Submitted(job=n, spec=spec) for n in range(1, jobs + 1)])
    gc.disable()  # as the service does
    for kind in ("log alone", "snapshot"):
        begin = time.perf_counter()
        with SqliteStore(state / "fairlead.db") as store:
            scheduler = Scheduler.recover(build, store)
            took = 1000 * (time.perf_counter() - begin)
            core = scheduler.core
            assert len(core.jobs) == jobs
            if kind == "log alone":
                store.save_snapshot(core.seq, core.digest(), core.dump())
        report(f"recover {jobs} jobs, {kind}", took, "ms", 1000)
    os.environ["FAIRLEAD_STATE"] = str(state)
    begin = time.perf_counter()
    fairlead("up", "--cpus", "0.001")
    took = 1000 * (time.perf_counter() - begin)
    report(f"fairlead up with {jobs} jobs, command included", took, "ms", 1000)
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
        report("first fairlead up", 1000 * (time.perf_counter() - begin), "ms", None)
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
