"""Our own history as a workload: the log of a service, to be played again under another policy.

The log is read as it was written, through the core itself; what became of each job is its run
time, and what the machines were is the cluster. Nothing is written, so a service may be running.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import Misuse, Ms
from fairlead.model.events import AnyEvent, ReservationSet, ResourceSet, Submitted, TenantSet
from fairlead.model.jobs import FINAL, Phase, PolicyConfig
from fairlead.sim.cluster import Cluster
from fairlead.sim.outcome import Outcome
from fairlead.sim.workload import Trace, TraceJob, Workload, in_order
from fairlead.store import schema
from fairlead.store.logfile import BadRow, chunks, event_in

DATABASE = "fairlead.db"
AS_IT_WAS = "as it was"


class History(NamedTuple):
    """A log as something to simulate. `starts` and `ends` are the truth, by job id, in ms."""

    trace: Trace
    cluster: Cluster
    setup: tuple[AnyEvent, ...]  # tenants with their quotas, reservations
    policy: PolicyConfig  # the last that was in force
    starts: dict[int, Ms]
    ends: dict[int, Ms]
    sizes: dict[int, list[tuple[Ms, int]]] = {}  # of elastic jobs: from when, how many members


def read_history(path: Path) -> History:
    """Return the history in a state folder or database. Misuse says what is wrong with it."""
    database = path / DATABASE if path.is_dir() else path
    core, jobs, sizes = Core(), dict[int, Job](), Sizes()
    setup: dict[str, AnyEvent] = {}
    for at_ms, event in _events(database):
        core.apply(at_ms, event)
        sizes.note(at_ms, core)
        if isinstance(event, Submitted):
            jobs[event.job] = core.jobs[event.job]
        elif isinstance(event, TenantSet):
            setup[f"tenant {event.tenant.name}"] = event
        elif isinstance(event, ResourceSet):
            setup[f"resource {event.resource.name}"] = event
        elif isinstance(event, ReservationSet):
            setup[f"reservation {event.reservation.name}"] = event
        core.forget_changes()
    nodes = tuple(node.spec for node in core.nodes if node.up) or tuple(
        node.spec for node in core.nodes
    )
    if not nodes:
        raise Misuse(f"{database} knows no node, so nothing ran", field="from-log")
    dropped: Counter[str] = Counter()
    kept: dict[int, Job] = {}
    for job in jobs.values():
        if (why := _unusable(job)) is not None:
            dropped[why] += 1
        else:
            kept[job.id] = job
    trace = Trace(
        path=str(path),
        format="fairlead-log",
        jobs=in_order(str(path), [_trace_job(job, sizes) for job in kept.values()]),
        dropped=dict(sorted(dropped.items())),
    )
    return History(
        trace=trace,
        cluster=Cluster(spec=str(path), nodes=nodes),
        setup=tuple(setup.values()),
        policy=core.policy,
        starts={job.id: job.first_started_ms or 0 for job in kept.values()},
        ends={job.id: job.ended_ms or 0 for job in kept.values()},
        sizes=sizes.steps,
    )


def _events(database: Path) -> Iterator[tuple[Ms, AnyEvent]]:
    schema.require_file(database)
    try:
        with closing(schema.connect_reader(database)) as db:
            if not schema.require_ours(db, database):
                return
            for rows in chunks(db):
                for row in rows:
                    yield row[1], event_in(row)
    except BadRow as error:
        raise Misuse(
            f"{database} can be trusted only up to event {error.seq - 1}: {error}",
            field="from-log",
            hint="fairlead store check says more",
            code="damaged-store",
        ) from error
    except sqlite3.Error as error:
        raise schema.unusable(error, database) from error


def _unusable(job: Job) -> str | None:
    """Return why a job cannot be played again, None if it can."""
    if job.phase not in FINAL:
        return "not ended when the log was read"
    if job.first_started_ms is None:
        return "never started"
    return None


class Sizes:
    """How many members elastic jobs had, and since when."""

    def __init__(self) -> None:
        self.steps: dict[int, list[tuple[Ms, int]]] = {}
        self._now: dict[int, int] = {}

    def note(self, at_ms: Ms, core: Core) -> None:
        """Take in what is there after an event."""
        for job_id, job in core.elastic.items():
            runs = job.phase is not Phase.STARTING and job.team is not None
            if job.team is not None and runs and self._now.get(job_id) != job.team.size:
                self._now[job_id] = job.team.size
                self.steps.setdefault(job_id, []).append((at_ms, job.team.size))
        for job_id in [each for each in self._now if each not in core.elastic]:
            del self._now[job_id]
            self.steps[job_id].append((at_ms, 0))

    def member_ms(self, job_id: int) -> int:
        """Return the members of a job times how long it had them."""
        steps = self.steps.get(job_id, [])
        return sum(size * (later - at) for (at, size), (later, _) in pairwise(steps))


def _trace_job(job: Job, sizes: Sizes) -> TraceJob:
    spec, run_ms = job.spec, job.served_ms
    if spec.members_max:  # as long as it would have run with its least members
        run_ms = max(1, sizes.member_ms(job.id) // spec.shape.members)
    elif job.phase is Phase.TIMEOUT and spec.limit_ms is not None:
        run_ms = max(run_ms, spec.limit_ms)
    return TraceJob(
        id=job.id,
        submit_ms=job.submitted_ms,
        run_ms=run_ms,
        shape=spec.shape,
        name=spec.name,
        user=spec.user,
        tenant=spec.tenant,
        queue=spec.queue,
        priority=spec.priority,
        limit_ms=spec.limit_ms,
        deadline_ms=spec.deadline_ms,
        members_max=spec.members_max,
        counted=spec.counted,
        expected_ms=spec.expected_ms if job.forecast is None else job.forecast.expected_ms,
    )


def as_it_was(history: History, workload: Workload) -> Outcome:
    """Return what really happened to the jobs of a workload made of this history."""
    ids = [int(job.id) for job in workload.jobs]
    return Outcome(
        workload=workload,
        cluster=history.cluster,
        policy=AS_IT_WAS,
        start_ms=[history.starts[job] for job in ids],
        end_ms=[history.ends[job] for job in ids],
        nodes=[()] * len(ids),
        timeouts=0,
        wall_s=0,
        cpu_s=0,
        preempted=[0] * len(ids),
        sizes=[
            (index, at, members)
            for index, job in enumerate(ids)
            for at, members in history.sizes.get(job, ())
        ],
    )


def first_difference(was: Outcome, now: Outcome, tolerance_ms: Ms) -> tuple[int, Ms, Ms] | None:
    """Return (job, start as it was, start now) where two schedules part first; None: nowhere."""
    apart = [
        (min(before, after), int(job.id), before, after)
        for job, before, after in zip(was.workload.jobs, was.start_ms, now.start_ms, strict=True)
        if abs(before - after) > tolerance_ms
    ]
    return min(apart)[1:] if apart else None
