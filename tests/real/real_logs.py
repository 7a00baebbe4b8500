"""What other programs made of published traces, and our replays beside it."""

from __future__ import annotations

import gzip
from pathlib import Path

from fairlead.sim import traces
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.outcome import DEFAULT_RULES, Outcome, Rules
from fairlead.sim.replay import Predictor, gate, replay
from fairlead.sim.workload import Estimates, cluster_for, fit
from traces import real

REFERENCE = Rules(event_order="reference")


def log(name: str, run: str) -> Path:
    """Return a log with the waits that a public simulator computed in one run."""
    return real(f"swf/easy-reference/{name}.{run}.swf.gz")


def replayed(
    path: Path,
    policy: str,
    *,
    spec: str = "",
    estimates: Estimates = "exact",
    rules: Rules = DEFAULT_RULES,
    limit_jobs: int | None = None,
    predictor: Predictor | None = None,
) -> Outcome:
    trace = traces.read(path)
    cluster = parse_cluster(spec) if spec else cluster_for(trace, None)
    workload = fit(trace, cluster, gate(cluster), estimates=estimates, limit_jobs=limit_jobs)
    assert not workload.rejected and not workload.dropped
    return replay(workload, cluster, policy, rules=rules, predictor=predictor)


def computed_waits(path: Path) -> dict[int, int]:
    """Return field 3 of every job of a log, in seconds."""
    waits = {}
    with gzip.open(path, "rt") as file:
        for line in file:
            if not line.startswith(";"):
                cells = line.split()
                waits[int(cells[0])] = int(cells[2])
    return waits


def different(outcome: Outcome, waits: dict[int, int]) -> list[tuple[int | str, float, int]]:
    """Return the jobs that waited for another time: (id, our wait, theirs)."""
    return [
        (job.id, (start - job.submit_ms) / 1000, waits[int(job.id)])
        for job, start in zip(outcome.workload.jobs, outcome.start_ms, strict=True)
        if start - job.submit_ms != 1000 * waits[int(job.id)]
    ]


def mean_wait_s(outcome: Outcome) -> float:
    jobs = outcome.workload.jobs
    waited = sum(s - job.submit_ms for job, s in zip(jobs, outcome.start_ms, strict=True))
    return waited / len(jobs) / 1000
