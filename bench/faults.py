"""Simulated hours per second of CPU of the fault simulation, every check after every event."""

from __future__ import annotations

import json
import statistics
import time

from fairlead.sim.faults.run import Failure, run_seed

SEEDS = 100
BATCH = 20  # seeds per sample


def main() -> None:
    rates: list[float] = []
    events = messages = 0
    for first in range(0, SEEDS, BATCH):
        simulated_ms = 0
        started_s = time.process_time()
        for seed in range(first, first + BATCH):
            outcome = run_seed(seed)
            if isinstance(outcome, Failure):
                raise SystemExit(f"seed {seed} fails: {outcome.name}: {outcome.message}")
            simulated_ms += outcome.end_ms
            events += outcome.events
            messages += outcome.messages
        rates.append(simulated_ms / 3_600_000 / (time.process_time() - started_s))
    line = {
        "bench": "faults",
        "case": f"{SEEDS} seeds, full checks",
        "value": round(statistics.median(rates), 1),
        "unit": "simulated hours per CPU second",
        "target": 10,
        "samples": [round(rate, 1) for rate in rates],
        "events": events,
        "messages": messages,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
