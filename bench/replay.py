"""Recovery: how fast the log is read, decoded and applied, and how long a restart takes.

The log is that of a real replay of the scheduler: jobs of a few shapes are submitted, placed,
started and ended on 200 nodes. The restart finds 60,000 pending and running jobs in a snapshot,
with 20,000 events after it.
"""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from fairlead.core.engine import Core
from fairlead.core.snapshot import digest
from fairlead.core.turn import Scheduler, recover
from fairlead.model.events import (
    AnyEvent,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    Placed,
    Submitted,
)
from fairlead.model.jobs import Exit, JobSpec
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.registry import build
from fairlead.store.sqlite import SqliteStore

REPEATS = 5
JOBS = 50_000
BATCH = 1_000  # jobs that come together
KNOWN = 60_000
TAIL = 20_000
OK = Exit(code=0)


def spec(rng: Random) -> JobSpec:
    shape = rng.choice(
        (
            Shape(cpu_milli=1000, memory_mib=2048),
            Shape(cpu_milli=4000, memory_mib=8192),
            Shape(cpu_milli=2000, memory_mib=4096, gpus=1),
        )
    )
    return JobSpec(
        shape=shape,
        name="train",
        user="ann",
        tenant=rng.choice(("vision", "speech", "search")),
        command=("/bin/sh", "-c", "python train.py --lr 0.1"),
        workdir="/home/ann/project",
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/ann", "LANG": "C.UTF-8"},
        limit_ms=3_600_000,
    )


class Life:
    """A scheduler that lives on a store; every member reports as soon as it is placed."""

    def __init__(self, store: SqliteStore) -> None:
        self.rng = Random(1)
        self.scheduler = Scheduler(Core(), build, store)
        self.now = 0
        devices = tuple(Device(memory_mib=81_920) for _ in range(4))
        nodes: list[AnyEvent] = [
            NodeJoined(
                node=n,
                spec=Node(name=f"n{n}", cpu_milli=64_000, memory_mib=262_144, devices=devices),
            )
            for n in range(200)
        ]
        self.events = self.scheduler.turn(0, nodes).events

    def turn(self, inbox: list[AnyEvent]) -> None:
        self.now += 1000
        self.events = self.scheduler.turn(self.now, inbox).events

    def submit(self, count: int) -> None:
        first = self.scheduler.core.next_job
        self.turn([Submitted(job=first + n, spec=spec(self.rng)) for n in range(count)])

    def go_on(self, until: int) -> None:
        """Start what was placed, end half of what runs, until the log is so long."""
        core = self.scheduler.core
        while core.seq < until:
            inbox: list[AnyEvent] = [
                MemberStarted(job=event.job, attempt=event.attempt)
                for event in self.events
                if isinstance(event, Placed)
            ]
            running = [job for job in core.jobs.values() if job.started]
            inbox += [
                MemberEnded(job=job.id, attempt=job.attempt, exit=OK)
                for job in running[: len(running) // 2 + 1]
            ]
            if not inbox and not core.pending:
                return
            self.turn(inbox)


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def replay(store: SqliteStore) -> None:
    """Recover from the log alone: this store has no snapshot."""
    assert recover(store).seq == store.seq


def say(what: str, unit: str, values: list[float], **more: object) -> None:
    line = {
        "what": what,
        "unit": unit,
        "value": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "repeats": len(values),
    }
    print(json.dumps(line | more), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        with SqliteStore(Path(folder) / "log.db") as store:
            life = Life(store)
            for _ in range(JOBS // BATCH):
                life.submit(BATCH)
                life.go_on(10**9)
            rates = [store.seq / seconds(lambda: replay(store)) for _ in range(REPEATS)]
            say("replay of the log", "events/s of CPU", rates, events=store.seq, target=200_000)
        with SqliteStore(Path(folder) / "known.db") as store:
            life = Life(store)
            life.submit(KNOWN)
            core = life.scheduler.core
            body = core.dump()
            store.save_snapshot(core.seq, digest(body), body)
            life.go_on(core.seq + TAIL)
            life.submit(KNOWN - len(core.jobs))
            known, tail = len(core.jobs), store.seq - KNOWN - 200
        times = []
        for _ in range(REPEATS):
            gc.collect()
            began = time.perf_counter()
            with SqliteStore(Path(folder) / "known.db") as store:
                Scheduler.recover(build, store)
            times.append(time.perf_counter() - began)
        say("restart", "s", times, jobs=known, events_after=tail, target=1, better="less")


if __name__ == "__main__":
    main()
