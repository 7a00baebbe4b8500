"""What the claims of others have to do with it that a job waits: reservations and promises."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.ends import FAR, believed_run_ms
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.reserve import end_of, in_words, is_drain, limit_of
from fairlead.model.base import JobId, Ms, NodeId, Record
from fairlead.model.jobs import Reservation
from fairlead.model.units import format_duration, format_moment
from fairlead.policy.backfill import promised_start
from fairlead.policy.beside import find
from fairlead.policy.firm import firm_jobs, is_held
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.place.trial import Trial
from fairlead.policy.plan import Plan, Walled
from fairlead.policy.reserved import of_others

LIMITS_TRIED = 32


class HeldUp(Record, frozen=True):
    """Room that a job may not use, and why."""

    summary: str
    lines: tuple[str, ...]


def shape_key(core: Core, pipeline: Pipeline, job: Job) -> tuple[object, ...]:
    """Return all of a job that matters to whether it fits now."""
    if not core.reservations:
        return (job.shape_id,)
    run_ms = believed_run_ms(job, pipeline.config)
    return (job.shape_id, job.spec.tenant, run_ms, job.spec.limit_ms)


def held_up(core: Core, pipeline: Pipeline, job: Job, now: Ms) -> HeldUp | None:
    """Return what keeps a job from room that is free now; None: no reservation does."""
    others = of_others(core, job.spec.tenant)
    if not others:
        return None
    walls = Plan(core, pipeline.fit, job.spec.tenant, by_limit=True)
    request, limit = core.shapes[job.shape_id], limit_of(job)
    if find(pipeline.fit, request, walls, min(core.clock + limit, FAR)) is not None:
        return None
    roomy = _roomy(core, pipeline, job)
    reach = [each for each in others if each.start_ms < now + limit and end_of(each) > now]
    near = [each for each in reach if _nodes(each) & roomy] or reach
    if not near:
        return None
    near.sort(key=lambda each: (max(each.start_ms, now), each.name))
    first = near[0]
    what = _drained(core, first) or f"reservation '{first.name}' ({in_words(first)}) keeps it out"
    if first.start_ms > now:
        runs = "it has no time limit and" if limit >= FAR else "it"
        what = f"{runs} could still run when reservation '{first.name}' ({in_words(first)}) begins"
    summary = "; ".join([what, *_help(core, pipeline, job, walls, near, now)])
    return HeldUp(summary=summary, lines=_lines(near))


def closed(core: Core, pipeline: Pipeline, job: Job) -> HeldUp | None:
    """Return the reservations without an end but for which the job could run some time."""
    if not core.reservations or not pipeline.fits_up(core, job, frozenset()):
        return None
    those = [
        each
        for each in of_others(core, job.spec.tenant)
        if each.end_ms is None and each.start_ms <= core.clock
    ]
    words = "; ".join(
        _drained(core, each) or f"reservation '{each.name}' ({in_words(each)}) keeps it out"
        for each in those
    )
    return HeldUp(summary=words, lines=_lines(those))


def _lines(those: Sequence[Reservation]) -> tuple[str, ...]:
    return tuple(
        f"reserved: '{each.name}', {in_words(each)}"
        + (f" ({each.because})" if each.because else "")
        for each in those
    )


def _nodes(each: Reservation) -> set[NodeId]:
    return {*each.nodes, *(slot.node for slot in each.slots)}


def _drained(core: Core, each: Reservation) -> str:
    """Return what a drain has done and how it ends, "" for a reservation that is none."""
    if not is_drain(each):
        return ""
    name = core.nodes[each.nodes[0]].spec.name
    return f"node {name} is drained, until: fairlead node resume {name}"


def _roomy(core: Core, pipeline: Pipeline, job: Job) -> set[NodeId]:
    """Return the nodes on which a member would fit now, but for reservations."""
    request = core.shapes[job.shape_id]
    return {
        node
        for kind in request.parts or (request,)
        for node in pipeline.fit.in_order(kind)
        if Trial.now(core.ledger, node).copies(kind, 1)
    }


def _help(
    core: Core, pipeline: Pipeline, job: Job, walls: Plan, near: list[Reservation], now: Ms
) -> list[str]:
    """Say what would let it start: a shorter time limit now, or the end of what is reserved."""
    request = core.shapes[job.shape_id]
    starts = {at for line in walls.lines.values() for at in line.times if at > now}
    for start in sorted(starts, reverse=True)[:LIMITS_TRIED]:
        if start - now >= limit_of(job):
            continue
        if find(pipeline.fit, request, walls, start) is not None:
            fits = format_duration(start - now, exact=False)
            before = [each for each in near if each.start_ms == start]
            name = f" before '{before[0].name}'" if before else ""
            return [f"with a time_limit of {fits} or less it could start now{name}"]
    run_ms = believed_run_ms(job, pipeline.config)
    found = Walled(walls, walls, limit_of(job)).earliest(request, run_ms)
    if found is None:
        return []
    return [f"beside what runs and is reserved it can start at {format_moment(found[0])}"]


def beside_promise(
    core: Core, pipeline: Pipeline, job: Job, now: Ms
) -> tuple[str, JobId | None] | None:
    """Return in words which promise a job that would fit now could delay, and to whom it was made.

    None: nothing is promised to anybody, or the job is the one that has the promise.
    """
    backfill = pipeline.backfill
    if job.promise is not None:
        wait = format_duration(max(0, job.promise.start_ms - now), exact=False)
        return f"it is promised a start in {wait}; now it would delay jobs before it", None
    held = [each for each in firm_jobs(core) if is_held(each)]
    if held:
        return f"what is free is held for job {held[0].id}, which others made room for", held[0].id
    if backfill is None or backfill.head is None or backfill.shadow is None:
        return None
    head, start = backfill.head[2], backfill.shadow.start_ms
    if head == job.id or head not in core.pending or start >= FAR:
        return None
    wait = format_duration(max(0, start - now), exact=False)
    return (
        f"it could still run when job {head}, which is before it, is to start (in {wait}), and "
        f"would leave it no room",
        head,
    )


def promised_in_words(core: Core, pipeline: Pipeline, job: Job, now: Ms) -> str | None:
    """Return by when a waiting job starts as far as what is believed of others holds."""
    start = promised_start(core, pipeline, job.id)
    if start is None:
        return None
    wait = format_duration(max(0, start - now), exact=False)
    by = "time limits" if pipeline.config.estimate == "limit" else "predictions"
    return f"promised a start within {wait}, if what runs ends by its {by}"
