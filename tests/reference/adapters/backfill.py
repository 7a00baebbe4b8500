"""EASY and conservative backfilling on identical nodes, through the simulator.

One core of the pool is a node of the case, a millisecond is a second. Promises are read where the
policy keeps them: the head's shadow under EASY, the logged promises under conservative.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fairlead.model.events import Placed, Promised
from fairlead.policy import backfill
from fairlead.policy.registry import policy_config
from fairlead.sim.cluster import pool
from fairlead.sim.replay import World, gate
from fairlead.sim.workload import Trace, TraceJob, fit


class Watched(World):
    """A world that writes down what is promised first, and who starts before its turn."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.promised: dict[int, int] = {}
        self.backfilled: set[int] = set()

    def obey(self, now, decisions):
        started = [event.job for event in decisions if isinstance(event, Placed)]
        for event in decisions:
            if isinstance(event, Promised):
                self.promised.setdefault(event.job, event.start_ms)
        for place, job in enumerate(started):
            self.promised.setdefault(job, now)
            if any(other < job for other in [*self.core.pending, *started[place + 1 :]]):
                self.backfilled.add(job)
        return super().obey(now, decisions)


def answer(given: dict[str, Any]) -> dict[str, Any]:
    cluster = pool(given["nodes"])
    jobs = tuple(
        TraceJob(
            id=job["id"],
            submit_ms=job["arrival"],
            run_ms=min(job["runtime"], job["estimate"]),
            limit_ms=job["estimate"],
            processors=job["nodes"],
        )
        for job in sorted(given["jobs"], key=lambda job: (job["arrival"], job["id"]))
    )
    workload = fit(Trace(path="case", format="case", jobs=jobs), cluster, gate(cluster))
    names = {number: job.id for number, job in enumerate(workload.jobs, 1)}
    world = Watched(workload, cluster, policy_config(given["algorithm"]))
    heads = watch_heads(world, names)
    start = {job.id: at for job, at in zip(workload.jobs, world.start_ms, strict=True)}
    waits = [start[job.id] - job.submit_ms for job in workload.jobs]
    promised = {names[job]: at for job, at in world.promised.items()}
    return {
        "start": start,
        "backfilled": sorted(names[job] for job in world.backfilled),
        "first_reservation": heads if given["algorithm"] == "easy" else promised,
        "mean_wait": Fraction(sum(waits), len(waits)),
    }


def watch_heads(world: Watched, names: dict[int, Any]) -> dict[Any, list[int]]:
    """Run the world; return head -> [shadow time, extra nodes] when it is first computed."""
    heads: dict[Any, list[int]] = {}
    plain = backfill.Shadow

    class Shadow(plain):
        def __init__(self, plan, request, run_ms):
            super().__init__(plan, request, run_ms)
            head = world.scheduler.policy.backfill.head
            extra = self.spare[0].free[0] // 1000
            heads.setdefault(names[head[2]], [self.start_ms, extra])

    backfill.Shadow = Shadow
    try:
        world.run(None, None)
    finally:
        backfill.Shadow = plain
    return heads
