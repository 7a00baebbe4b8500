"""What would happen if jobs were submitted now: asked of a copy, so that nothing comes of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

from fairlead.model.base import JobId, Ms, Record, Refused
from fairlead.policy.eta import Eta
from fairlead.policy.whatif import Delay, PlannedJob
from fairlead.service.child import ChildFailed
from fairlead.service.commands import Command
from fairlead.service.etas import EtaDesk
from fairlead.service.shell import Shell
from fairlead.service.web import ErrorDetail

SOON_MS = 1_000
Outcome: TypeAlias = Literal["now", "waits", "never"]


class JobPlan(Record, frozen=True, omit_defaults=False):
    """What would become of one job."""

    outcome: Outcome
    nodes: tuple[str, ...]  # where it starts now; none: as soon as those in `preempts` are gone
    position: int | None  # among all that wait, from 1
    reason: str  # why it waits
    eta: Eta | None
    promised_ms: Ms | None  # it would be promised to start by then


class Planned(Record, frozen=True, omit_defaults=False):
    """What would happen; `outcome` is that of the job that is worst off."""

    outcome: Outcome
    now_ms: Ms
    waiting: int = 0  # jobs that wait already
    count: int = 0  # jobs that were asked about
    start_now: int = 0  # of these
    jobs: tuple[JobPlan, ...] = ()  # the first of them
    preempts: tuple[JobId, ...] = ()  # running jobs that would have to make room
    delays: tuple[Delay, ...] = ()  # waiting jobs that would start later, the worst first
    delayed: int = 0  # how many
    refusal: ErrorDetail | None = None


async def plan(shell: Shell, etas: EtaDesk, command: Command) -> Planned:
    """Return what would happen if this submission came now. Raises Misuse."""
    now, waiting = shell.now, len(shell.core.pending)
    try:
        events = shell.planned(command)
    except Refused as no:
        refusal = ErrorDetail(code=no.code, message=no.message, hint=no.hint, field=no.field)
        return Planned(outcome="never", now_ms=now, waiting=waiting, refusal=refusal)
    try:
        found = await etas.what_if(events)
    except ChildFailed as error:
        raise Refused(
            f"the future of {waiting} waiting jobs cannot be worked out: {error}",
            hint="ask again later, or about fewer jobs; submitting works all the same",
            code="too-slow",
        ) from None
    jobs = tuple(_job(each, bool(found.preempts), now, etas) for each in found.jobs)
    unseen = found.count - found.start_now > len(jobs)  # that wait
    return Planned(
        outcome="waits" if unseen or any(job.outcome == "waits" for job in jobs) else "now",
        now_ms=now,
        waiting=waiting,
        count=found.count,
        start_now=found.start_now,
        jobs=jobs,
        preempts=found.preempts,
        delays=found.delays,
        delayed=found.delayed,
    )


def _job(found: PlannedJob, preempts: bool, now: Ms, etas: EtaDesk) -> JobPlan:
    eta = etas.etas.band(now, found.starts_ms)[1] if found.starts_ms else None
    likely = None if eta is None else eta.likely_ms
    # In the runs whoever is stopped is gone at once; in truth after its grace.
    soon = preempts and likely is not None and likely - now < SOON_MS
    return JobPlan(
        outcome="now" if found.nodes or soon else "waits",
        nodes=found.nodes,
        position=found.position,
        reason=found.reason,
        eta=eta,
        promised_ms=found.promised_ms,
    )
