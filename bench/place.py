"""Placement on 10,000 nodes, exact best fit over CPU, memory, disk and GPUs. JSON lines.

`until full` is workload A of the design: 100,000 tasks of 60 shapes, Zipf-distributed, one by one
on an empty cluster that they overfill; refusals count as decisions. `with releases` takes what it
decides, and gives the oldest back when it holds enough: the cluster stays 70 % full and every
decision changes it twice. `mixed shapes` draws evenly from as many request shapes. A run asks once
for many equal requests: `slots` makes one slot object per member, `counts` says how many members go
to which node.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Callable
from random import Random

from fairlead.core.ledger import Ledger, Request
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.score import build

NODES = 10_000
REPEATS = 5
KINDS = ((64, 512, 0), (96, 768, 4), (128, 1024, 8), (32, 256, 0), (48, 384, 1))


def cluster(rng: Random) -> Ledger:
    ledger = Ledger()
    for index in range(NODES):
        cpus, gib, gpus = rng.choice(KINDS)
        devices = tuple(Device(memory_mib=80 * 1024) for _ in range(gpus))
        spec = Node(
            name=f"n{index:05}",
            cpu_milli=1000 * cpus,
            memory_mib=1024 * gib,
            disk_mib=2**20,
            devices=devices,
        )
        ledger.join(index, spec)
    return ledger


def shapes(count: int, rng: Random) -> list[Request]:
    found: set[Shape] = set()
    while len(found) < count:
        found.add(
            Shape(
                cpu_milli=1000 * rng.randint(1, 16),
                memory_mib=1024 * rng.randint(1, 64),
                disk_mib=1024 * rng.randint(0, 20),
                gpus=rng.choice((0, 0, 0, 0, 1)),
            )
        )
    return [Request(shape) for shape in sorted(found, key=repr)]


def one_by_one(count: int, decisions: int = 20_000) -> float:
    """Return decisions per second of CPU, each with its change of the ledger."""
    rng = Random(1)
    ledger, requests = cluster(rng), shapes(count, rng)
    fit = Fit(ledger, build("best-fit"))
    held: deque = deque()
    for _ in range(30_000):
        request = rng.choice(requests)
        slot = fit.one(request)
        if slot is not None:
            ledger.take(slot.node, request, slot.devices)
            held.append((slot, request))
    order = [rng.choice(requests) for _ in range(decisions)]
    began = time.process_time()
    for request in order:
        slot = fit.one(request)
        if slot is None or len(held) > 30_000:
            old, its = held.popleft()
            ledger.give(old.node, its, old.devices)
        if slot is not None:
            ledger.take(slot.node, request, slot.devices)
            held.append((slot, request))
    return decisions / (time.process_time() - began)


def until_full(tasks: int = 100_000) -> float:
    """Return decisions per second of CPU; nothing is given back."""
    rng = Random(3)
    ledger, requests = cluster(rng), shapes(60, rng)
    fit = Fit(ledger, build("best-fit"))
    weights = [1 / (rank + 1) for rank in range(len(requests))]
    order = rng.choices(requests, weights, k=tasks)
    began = time.process_time()
    for request in order:
        slot = fit.one(request)
        if slot is not None:
            ledger.take(slot.node, request, slot.devices)
    return tasks / (time.process_time() - began)


def run_slots() -> float:
    ledger = cluster(Random(2))
    fit = Fit(ledger, build("best-fit"))
    request = Request(Shape(cpu_milli=1000, memory_mib=2048))
    fit.one(request)
    began = time.process_time()
    slots = fit.run(request, 500_000)
    return len(slots) / (time.process_time() - began)


def run_counts() -> float:
    ledger = cluster(Random(2))
    fit = Fit(ledger, build("best-fit"))
    request = Request(Shape(cpu_milli=100, memory_mib=128))
    fit.one(request)
    began = time.process_time()
    members = 0
    for _ in range(20):
        members += int(fit.fill(request, 5_000_000)[1].sum())
    return members / (time.process_time() - began)


def say(what: str, measure: Callable[[], float], target: float | None = None) -> None:
    rates = sorted(measure() for _ in range(REPEATS))
    line: dict[str, object] = {
        "what": what,
        "unit": "decisions/s of CPU",
        "value": round(statistics.median(rates)),
        "min": round(rates[0]),
        "max": round(rates[-1]),
        "repeats": REPEATS,
    }
    print(json.dumps(line | ({"target": target} if target else {})), flush=True)


if __name__ == "__main__":
    say("one by one until full, 60 Zipf-distributed shapes", until_full, 50_000)
    say("one by one with releases, 1 shape", lambda: one_by_one(1), 50_000)
    say("one by one with releases, 8 mixed shapes", lambda: one_by_one(8), 50_000)
    say("one by one with releases, 64 mixed shapes", lambda: one_by_one(64))
    say("a run of equal requests, slots", run_slots, 10_000_000)
    say("a run of equal requests, counts", run_counts, 10_000_000)
