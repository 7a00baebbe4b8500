"""Fragmentation gradient descent on the openb cluster: 1,213 nodes, 8,000 pods. JSON lines.

    PYTHONPATH=src python bench/fgd.py [WORKLOAD ...] [--seeds N] [--rule fgd|fgd-live|..]

The traces lie in ../shared/traces (or FAIRLEAD_TRACES); where they are absent a line says so.

The protocol of the published experiments (traces/README.md, fgd-expected): GPU nodes only, the pods
of a workload shuffled by a seed and drawn from again until they ask for 130 % of all GPUs; they
come one by one, none leaves, what does not fit is dropped. `allocated` is the percentage of all
GPUs given away when what has come asks for 100 %. Classes and popularity: those of the whole
workload (`fgd`), or of the pods that have come so far (`fgd-live`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from pathlib import Path
from random import Random

from fairlead.core.ledger import Ledger, Request
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.place.fgd import Task, task_of
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.least_fragments import LeastFragments
from fairlead.policy.place.score import build
from fairlead.sim.clusterfiles import groups
from fairlead.sim.traces.lines import read_lines
from fairlead.sim.traces.openb import parse_packing

TRACES = Path(
    os.environ.get("FAIRLEAD_TRACES", Path(__file__).resolve().parents[2] / "shared" / "traces")
)
PODS = 8_000


def cluster(folder: Path) -> Ledger:
    ledger = Ledger()
    for index, (_, group) in enumerate(groups(folder / "openb_node_list_gpu_node.csv")):
        devices = (Device(model=group["model"]),) * group["gpus"]
        ledger.join(
            index,
            Node(
                name=group["name"],
                cpu_milli=group["cpu_milli"],
                memory_mib=group["memory_mib"],
                devices=devices,
            ),
        )
    return ledger


def pods(folder: Path, workload: str) -> list[Shape]:
    path = folder / f"openb_pod_list_{workload}.csv.gz"
    return [job.shape for job in parse_packing(str(path), read_lines(path)).jobs]


def asked(shape: Shape) -> int:
    return 1000 * shape.gpus + shape.gpu_milli


def stream(shapes: list[Shape], gpus: int, seed: int) -> list[Shape]:
    """Return the pods in random order, then drawn with replacement, until 130 % are asked for."""
    rng = Random(seed)
    order = rng.sample(shapes, len(shapes))
    total = sum(map(asked, order))
    while total < 1300 * gpus:
        order.append(rng.choice(shapes))
        total += asked(order[-1])
    return order


def fit_of(rule: str, ledger: Ledger, order: list[Shape], come: Counter[Task]) -> Fit:
    if not rule.startswith("fgd"):
        return Fit(ledger, build(rule))
    whole = Counter(map(task_of, order))

    def popular() -> tuple[int, Counter[Task]]:
        if rule != "fgd-live":
            return 1, whole
        seen = come.total()
        return seen.bit_length() * 8 + (seen >> max(seen.bit_length() - 4, 0)) % 8, Counter(come)

    return LeastFragments(ledger, popular, floored=rule == "fgd-floored")


def pack(folder: Path, shapes: list[Shape], rule: str, seed: int) -> dict[str, float]:
    ledger = cluster(folder)
    gpus = sum(len(devices.size) for devices in ledger.devices)
    order = stream(shapes, gpus, seed)
    come: Counter[Task] = Counter()
    requests = {shape: Request(shape) for shape in order}
    fit = fit_of(rule, ledger, order, come)
    arrived = given = 0
    at_full = at_pods = 0.0
    began = time.process_time()
    for number, shape in enumerate(order):
        arrived += asked(shape)
        if arrived > 1000 * gpus and not at_full:
            at_full = given / (10 * gpus)
        if number == PODS:
            at_pods = time.process_time() - began
        come[task_of(shape)] += 1
        request = requests[shape]
        slot = fit.one(request)
        if slot is not None:
            ledger.take(slot.node, request, slot.devices)
            given += asked(shape)
    spent = time.process_time() - began
    return {"allocated": at_full, "cpu_s": at_pods or spent, "pods": min(PODS, len(order))}


def main() -> None:
    reading = argparse.ArgumentParser()
    reading.add_argument("workloads", nargs="*", default=["default"])
    reading.add_argument("--seeds", type=int, default=1)
    reading.add_argument("--rule", default="fgd")
    told = reading.parse_args()
    folder = TRACES / "alibaba-gpu-v2023-openb"
    if not folder.exists():
        print(json.dumps({"bench": "fgd", "skipped": f"{folder} is not there"}))
        return
    for workload in told.workloads:
        shapes = pods(folder, workload)
        runs = [pack(folder, shapes, told.rule, 42 + seed) for seed in range(told.seeds)]
        found = {
            "bench": f"{told.rule} on openb {workload}",
            "unit": "s of CPU",
            "value": round(statistics.median(run["cpu_s"] for run in runs), 2),
            "target": 5,
            "better": "less",
            "nodes": 1213,
            "pods": runs[0]["pods"],
            "seeds": told.seeds,
            "allocated_percent": round(statistics.mean(run["allocated"] for run in runs), 2),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
