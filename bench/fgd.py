"""Packing the openb cluster: 1,213 nodes, 8,000 pods, by the published protocol. JSON lines.

    PYTHONPATH=src python bench/fgd.py [WORKLOAD ...] [--seeds N] [--rule fgd|pack|..] [--live]

The traces lie in ../shared/traces (or FAIRLEAD_TRACES); where they are absent a line says so. The
protocol is that of `fairlead sim pack` (src/fairlead/sim/packing.py). `allocated_percent` is what
of all GPUs is given away when what has come asks for 100 %; the time is that of 8,000 pods.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

from fairlead.sim.cluster import parse_cluster
from fairlead.sim.packing import compare, read_tasks

TRACES = Path(
    os.environ.get("FAIRLEAD_TRACES", Path(__file__).resolve().parents[2] / "shared" / "traces")
)
PODS = 8_000
TARGET_S = {"pack": 20}  # others: 5


def main() -> None:
    reading = argparse.ArgumentParser()
    reading.add_argument("workloads", nargs="*", default=["default"])
    reading.add_argument("--seeds", type=int, default=1)
    reading.add_argument("--rule", default="fgd")
    reading.add_argument("--live", action="store_true")
    told = reading.parse_args()
    folder = TRACES / "alibaba-gpu-v2023-openb"
    if not folder.exists():
        print(json.dumps({"bench": "fgd", "skipped": f"{folder} is not there"}))
        return
    cluster = parse_cluster(str(folder / "openb_node_list_gpu_node.csv"))
    for workload in told.workloads:
        trace = read_tasks(str(folder / f"openb_pod_list_{workload}.csv.gz"))
        (packed,) = compare(cluster, trace, [told.rule], seeds=told.seeds, live=told.live)
        found = {
            "bench": f"{told.rule} on openb {workload}",
            "unit": f"s of CPU for {PODS:,} pods",
            "value": round(
                statistics.median(PODS * run.cpu_s / run.tasks for run in packed.runs), 2
            ),
            "target": TARGET_S.get(told.rule, 5),
            "better": "less",
            "nodes": len(cluster.nodes),
            "pods": packed.runs[0].tasks,
            "seeds": told.seeds,
            "allocated_percent": round(packed.mean_percent, 2),
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
