"""How a simulated world behaves, and what became of a workload in it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from fairlead.model.base import Ms
from fairlead.model.jobs import PolicyConfig
from fairlead.sim.cluster import Cluster
from fairlead.sim.workload import Workload

Speeds: TypeAlias = Literal["told", "measured"]
EventOrder: TypeAlias = Literal["instant", "reference"]


class Rules(msgspec.Struct, frozen=True):
    """How the world behaves. Times in ms.

    event_order: "instant" (all events of an instant, then one pass) or "reference" (submissions in
    the order of their ids, then ends in the order of starts, and a pass after each: what the
    simulators do that others compare with). restart_ms: what an attempt after a preemption needs
    before it goes on with its work. checkpoint_ms: a job saves its work so often, and loses what
    it did since when it is preempted; 0: it loses nothing. measure: the world ends with the jobs
    from the first up to, but without, the second of these, and tells of them alone. speeds: the
    scheduler is told how fast jobs with rates are, or has to find out from what they report.
    """

    event_order: EventOrder = "instant"
    restart_ms: Ms = 0
    checkpoint_ms: Ms = 0
    measure: tuple[int, int] | None = None
    speeds: Speeds = "told"


class Outcome(msgspec.Struct, frozen=True):
    """What became of each job of a workload, in the workload's order. Times in ms.

    `start_ms` is the first start; `nodes` are indices into the cluster's nodes, one per member, of
    the last attempt; `preempted` says how often each job was preempted, `lost_ms` how long all of
    them ran for nothing: work done again, and restarts. `wall_s` and `cpu_s` are what the replay
    took, without reading the trace and without computing metrics; `cpu_s` is that of the
    replaying thread: numpy's idle BLAS workers, which nothing here uses, spin on for a while.
    """

    workload: Workload
    cluster: Cluster
    policy: str
    start_ms: list[Ms]
    end_ms: list[Ms]
    nodes: list[tuple[int, ...]]
    timeouts: int
    wall_s: float
    cpu_s: float
    preempted: list[int] = []
    lost_ms: Ms = 0
    pauses: list[tuple[int, Ms, Ms]] = []  # (index of a preempted job, stopped, started again)
    config: PolicyConfig = PolicyConfig()
    deadlocks: int = 0  # jobs that were stopped to break one
    refused: int = 0  # jobs that failed since they acquired out of order
    acquiring_ms: Ms = 0  # that running jobs waited for named resources, all of them
    sizes: list[tuple[int, Ms, int]] = []  # (index of an elastic job, from when, members)


DEFAULT_RULES = Rules()


def of_jobs(outcome: Outcome, first: int, last: int) -> Outcome:
    """Return the outcome of the jobs from the first up to, but without, the last alone."""
    part, inside = slice(first, last), range(first, last)
    workload = outcome.workload
    return msgspec.structs.replace(
        outcome,
        workload=msgspec.structs.replace(workload, jobs=workload.jobs[part]),
        start_ms=outcome.start_ms[part],
        end_ms=outcome.end_ms[part],
        nodes=outcome.nodes[part],
        preempted=outcome.preempted[part],
        pauses=[(at - first, *rest) for at, *rest in outcome.pauses if at in inside],
        sizes=[(at - first, *rest) for at, *rest in outcome.sizes if at in inside],
    )
