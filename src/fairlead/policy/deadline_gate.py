"""The gate for jobs with deadlines: admitted with a promised start, or refused with what could be.

A job is admitted if it can start so that even its time limit ends by its deadline, beside all that
runs (by limits), reservations and promises. If it cannot as things are, the waiting jobs with
deadlines are planned anew, the earliest deadline first; their promises may move, as long as each
keeps its deadline. Whoever is admitted is done in time, whatever comes later, as long as machines
stay up and what runs ends at its limit (policy/firm.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from fairlead.core.admission import counted
from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.future import request_of
from fairlead.core.jobs import Job, in_time
from fairlead.core.ledger import Request
from fairlead.core.models import apart, planned
from fairlead.core.reserve import limit_of
from fairlead.model.base import JobId, Misuse, Ms, Refused
from fairlead.model.events import Promised
from fairlead.model.jobs import JobSpec
from fairlead.model.limits import DEADLINE_JOBS_MAX
from fairlead.model.resources import Slot
from fairlead.model.units import format_duration, format_moment
from fairlead.policy.deadline import give_way
from fairlead.policy.firm import PAD_MS, firm_jobs, window
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.plan import Plan

Start: TypeAlias = tuple[Ms, tuple[Slot, ...]]
MINUTE_MS = 60_000


def check(spec: JobSpec, now: Ms) -> None:
    """Raise Misuse for a deadline that makes no sense, whatever else there is."""
    if spec.deadline_ms is None:
        return
    if spec.limit_ms is None:
        raise Misuse(
            "a deadline needs a time limit: without one nobody knows whether it can be met",
            field="time_limit",
            hint="add time_limit: 2h, or however long the job may take at most",
        )
    if spec.deadline_ms <= now:
        raise Misuse(
            f"the deadline {format_moment(spec.deadline_ms)} is over",
            field="deadline",
            hint="write a later one, such as now+4h",
        )


def settled(spec: JobSpec) -> JobSpec:
    """Return the job as it is admitted: nobody takes its place once it runs."""
    return spec if spec.deadline_ms is None else msgspec.structs.replace(spec, preemptible=False)


class Gate:
    """The future of a copy of the core, by limits, with every promise on its place."""

    def __init__(self, core: Core, pipeline: Pipeline) -> None:
        pipeline.bind(core)
        self.core, self.fit = core, pipeline.fit
        self._plans: dict[str, Plan] = {}
        self._claims: dict[JobId, tuple[Request, tuple[Slot, ...], Ms, Ms]] = {}
        for job in core.promises.values():
            assert job.promise is not None
            start, end = window(job, job.promise)
            request = apart(core.shares, request_of(core, job))
            self._claims[job.id] = (request, job.promise.slots, start, end)

    def _plan(self, tenant: str) -> Plan:
        owns = any(tenant in each.tenants for each in self.core.reservations.values())
        key = tenant if owns else ""
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan(self.core, self.fit, key, by_limit=True)
            for node in range(self.core.ledger.count):
                plan.line(node)  # else it would go by what is believed there
            for request, slots, start, end in self._claims.values():
                plan.claim(request, slots, start, end, -1)
        return plan

    def claim(self, job: Job, start: Start) -> None:
        """Give a job this start."""
        at, slots = start
        claim = (planned(self.core, job), slots, at - PAD_MS, at + limit_of(job))
        self._claims[job.id] = claim
        for plan in self._plans.values():
            plan.claim(*claim, -1)

    def withdraw(self, job: JobId) -> None:
        """Take back what a job was given or promised."""
        if job in self._claims:
            claim = self._claims.pop(job)
            for plan in self._plans.values():
                plan.claim(*claim, 1)

    def find(self, job: Job) -> Start | None:
        """Return the earliest start of a job beside all claims, None: never."""
        plan, request = self._plan(job.spec.tenant), planned(self.core, job)
        run_ms, now = limit_of(job), self.core.clock
        found = plan.earliest(request, run_ms, now + 1)  # what is free now needs no pad before it
        if found is None:
            found = plan.earliest(request, run_ms + PAD_MS)
            found = None if found is None else (found[0] + PAD_MS, found[1])
        return None if found is None or found[0] >= FAR else found

    def in_time(self, job: Job) -> Start | None:
        """Return the earliest start if it keeps the job's deadline."""
        found = self.find(job)
        return found if found is not None and _in_time(job, found[0]) else None

    def lay(self, jobs: Sequence[Job]) -> dict[JobId, Start] | None:
        """Give each of these a start in time, the earliest deadline first; None, and none: not all.

        They must have none yet.
        """
        starts: dict[JobId, Start] = {}
        for job in sorted(jobs, key=lambda job: (job.spec.deadline_ms, job.id)):
            found = self.in_time(job)
            if found is None:
                for done in starts:
                    self.withdraw(done)
                return None
            starts[job.id] = found
            self.claim(job, found)
        return starts


def _in_time(job: Job, start: Ms) -> bool:
    assert job.spec.deadline_ms is not None
    return start + limit_of(job) <= job.spec.deadline_ms


def admit(core: Core, pipeline: Pipeline, ids: Sequence[JobId]) -> list[Promised]:
    """Return the promises with which these waiting jobs are admitted, all of them. Raises Refused.

    The core must be a copy in which they wait without a promise. Promises of others may be among
    those returned: they move.
    """
    gate = Gate(core, pipeline)
    waiting = [job for job in firm_jobs(core) if job.promise and in_time(job.spec, job.promise)]
    starts: dict[JobId, Start] = {
        job.id: (job.promise.start_ms, job.promise.slots) for job in waiting if job.promise
    }
    before = dict(starts)
    for number, job_id in enumerate(ids):
        job = core.pending[job_id]
        try:
            starts |= _admit(gate, waiting, job)
        except Refused as no:
            if len(ids) > 1:
                no.message = f"job {number + 1} of {len(ids)}: {no.message}"
            raise
        waiting.append(job)
    return [
        Promised(job=job, start_ms=at, slots=slots, because=_because(core.jobs[job], job in before))
        for job, (at, slots) in starts.items()
        if before.get(job) != (at, slots)
    ]


def _because(job: Job, known: bool) -> str:
    assert job.spec.deadline_ms is not None
    until = format_moment(job.spec.deadline_ms)
    return f"another deadline needed its place; done by {until} all the same" if known else until


def _admit(gate: Gate, waiting: Sequence[Job], job: Job) -> dict[JobId, Start]:
    if len(waiting) >= DEADLINE_JOBS_MAX:
        raise Refused(
            f"{len(waiting)} jobs with deadlines wait already, the most there may be",
            field="deadline",
            hint="submit it without a deadline, or again when some have started",
            code="too-many-deadlines",
        )
    _check_quota(gate.core, waiting, job)
    found = gate.in_time(job)
    if found is not None:
        gate.claim(job, found)
        return {job.id: found}
    alone = gate.find(job)
    for other in waiting:
        gate.withdraw(other.id)
    anew = gate.lay([*waiting, job])
    if anew is not None:
        return anew
    raise _refused(gate, waiting, job, alone)


def _check_quota(core: Core, waiting: Sequence[Job], job: Job) -> None:
    """Refuse what its tenant's quota could keep from starting: what runs may run on until then."""
    tenant = core.tenants.get(job.spec.tenant)
    if tenant is None or not tenant.quota:
        return
    mine = [job, *(other for other in waiting if other.spec.tenant == tenant.name)]
    usage = core.usage.get(tenant.name) or [0] * len(tenant.quota)
    asked = [counted(core, tenant, each.spec.shape) for each in mine]
    for row, most in enumerate(tenant.quota):
        if most is not None and usage[row] + sum(each[row] for each in asked) > most:
            raise Refused(
                f"tenant '{tenant.name}' uses too much of its quota for a deadline to be promised",
                field="deadline",
                hint="submit it without a deadline, or again when its other jobs have ended",
                code="over-quota",
            )


def _refused(gate: Gate, waiting: Sequence[Job], job: Job, alone: Start | None) -> Refused:
    """Say which deadline could be met, and who would have to give way for the one asked for."""
    assert job.spec.deadline_ms is not None
    limit = limit_of(job)

    def fits(jobs: list[Job]) -> bool:
        starts = gate.lay(jobs)
        for each in starts or ():
            gate.withdraw(each)
        return starts is not None

    ranked = sorted(waiting, key=lambda each: (each.spec.deadline_ms, each.id))
    way = give_way(job, ranked, fits)
    hints = []
    if alone is not None:
        end = -(-(alone[0] + limit) // MINUTE_MS) * MINUTE_MS
        hints.append(f"the earliest deadline that could be met is {format_moment(end)}")
    if way:
        *most, last = map(str, sorted(way, key=int))
        those = f"jobs {', '.join(most)} and {last}" if most else f"job {last}"
        hints.append(f"for this one {those} would have to give way")
    return Refused(
        f"it cannot be promised to be done by {format_moment(job.spec.deadline_ms)}, with its "
        f"limit of {format_duration(limit)}",
        field="deadline",
        hint="; ".join(hints) or "what runs there has no time limit, so that nobody knows its end",
        code="deadline",
    )
