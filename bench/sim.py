"""Jobs per second of CPU that a replay decides: the Poisson trace of 16,000 jobs.

Without ../shared/traces (or FAIRLEAD_TRACES) a generated workload of that size stands in for the
trace, and the lines say so. Repeats of the cases alternate, so that a slow spell hits all of them.
"""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path

from fairlead.sim import traces
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.generate import generate
from fairlead.sim.metrics import digest
from fairlead.sim.replay import gate, replay
from fairlead.sim.traces import jsonl
from fairlead.sim.workload import Trace, Workload, fit

REPEATS = 7
NAME = "poisson-16000-96-load0.85"
CASES = (  # cluster, policy, target in jobs/s of CPU or None
    ("pool:96", "fifo", 20_000),
    ("12x8gpu", "fifo", 10_000),
    ("12x8gpu", "sjf-skip", None),
    ("12x8gpu", "priority", None),
)


def load() -> tuple[str, Trace]:
    """Return the trace, and what to call it."""
    here = Path(__file__).resolve().parents[2] / "shared" / "traces"
    path = Path(os.environ.get("FAIRLEAD_TRACES", here)) / "poisson" / f"{NAME}.swf.gz"
    if path.exists():
        return NAME, traces.read(path)
    header, lines = generate(
        "poisson", jobs=16_000, load=0.85, cluster=parse_cluster("pool:96"), seed=1
    )
    wide = [
        jsonl.Line(id=x.id, submit_s=x.submit_s, run_s=x.run_s, processors=int(x.cpus or 1))
        for x in lines
    ]
    text = b"".join(jsonl.encode(header, wide)).splitlines()
    return "generated-16000", jsonl.parse("generated", list(enumerate(text, 1)))


def main() -> None:
    name, trace = load()
    worlds: dict[str, Workload] = {}
    for spec, _, _ in CASES:
        cluster = parse_cluster(spec)
        worlds[spec] = fit(trace, cluster, gate(cluster))
    rates: dict[tuple[str, str], list[float]] = {}
    digests: dict[tuple[str, str], set[str]] = {}
    for _ in range(REPEATS):
        for spec, policy, _ in CASES:
            outcome = replay(worlds[spec], parse_cluster(spec), policy)
            rates.setdefault((spec, policy), []).append(len(outcome.start_ms) / outcome.cpu_s)
            digests.setdefault((spec, policy), set()).add(digest(outcome))
    for spec, policy, target in CASES:
        seen = sorted(rates[spec, policy])
        assert len(digests[spec, policy]) == 1, "equal replays differ"
        line = {
            "bench": f"replay {name} {policy} {spec}",
            "unit": "jobs/s of CPU",
            "value": round(statistics.median(seen)),
            "min": round(seen[0]),
            "max": round(seen[-1]),
            "repeats": REPEATS,
            "better": "more",
        }
        print(json.dumps(line | ({"target": target} if target else {})), flush=True)


if __name__ == "__main__":
    main()
