"""Why a job waits: from the same queue, ledger and rules that the decision was made with."""

from __future__ import annotations

from fairlead.core.admission import describe, describe_lack, lack_of_kinds
from fairlead.core.engine import Core
from fairlead.core.fits import lacking, members_that_fit
from fairlead.core.jobs import Job
from fairlead.core.ledger import Request
from fairlead.core.models import planned
from fairlead.model.base import JobId, Ms, Record
from fairlead.model.jobs import LIVE, Phase
from fairlead.policy import bounds, explain_tree, order
from fairlead.policy.deadlock.words import ACQUIRING, live_lines, pending_lines
from fairlead.policy.explain_claims import (
    HeldUp,
    beside_promise,
    closed,
    held_up,
    promised_in_words,
    shape_key,
)
from fairlead.policy.explain_preempted import held_in_words, preempted_in_words, preempted_lines
from fairlead.policy.explain_steps import ends_in_words, never_lines, steps_lines
from fairlead.policy.fair.why import standing_lines
from fairlead.policy.firm import is_held
from fairlead.policy.pipeline import Pipeline

# Reason codes, stable, in the words of Slurm and Kueue where they have one.
RESOURCES = "Resources"  # nothing free that fits now
PRIORITY = "Priority"  # it would fit, but a job before it must not be overtaken
RESERVED = "Reserved"  # there is room, but it is kept for others, now or before it could be gone
NODE_DOWN = "ReqNodeNotAvail"  # waits for nodes that are down or came back smaller
PREEMPTING = "WaitingForPreemptedWorkloads"  # for those that were told to make room for it
PENDING_EVALUATION = "PendingEvaluation"  # the scheduler has not looked since it came


HOLDERS_SHOWN = 8


class Explanation(Record, frozen=True):
    """Why a job is where it is."""

    job: JobId
    phase: Phase
    reason: str  # a code, "" for a job that does not wait
    summary: str  # one line
    lines: tuple[str, ...] = ()  # every test, in order
    ahead: int = 0  # pending jobs before it in the order
    behind_job: JobId | None = None  # the job that it must not overtake
    protected_after_ms: Ms | None = None  # no job that arrives later is ordered before it
    nodes: dict[str, int] = {}  # what nodes lack -> how many nodes


class _Look(Record, frozen=True):
    """Whether a job fits now, in words why not, and counts of nodes by what they lack."""

    fits: bool
    words: str = ""
    counts: dict[str, int] = {}
    held: HeldUp | None = None


class _Shapes:
    """What is known of each shape at this moment; asked once, used for every job of the shape.

    Beside reservations the tenant and the run time count too.
    """

    def __init__(self, core: Core, pipeline: Pipeline, now: Ms) -> None:
        self.core, self.pipeline, self.now = core, pipeline, now
        self.known: dict[tuple[object, ...], _Look] = {}

    def look(self, job: Job) -> _Look:
        """Return what is known of a job's shape."""
        names = (each.name for each in job.spec.workers)
        key = (*shape_key(self.core, self.pipeline, job), *names)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._look(job)
        return found

    def _look(self, job: Job) -> _Look:
        request = planned(self.core, job)
        if self.pipeline.fit.gang(request) is not None:
            held = held_up(self.core, self.pipeline, job, self.now)
            return _Look(fits=held is None, words=held.summary if held else "", held=held)
        if request.parts:
            return _Look(fits=False, words=self._kinds(job, request))
        counts = lacking(self.core.ledger, request)
        able = counts.pop("", 0)
        words = describe_lack(counts)
        if request.members > 1 and able:
            fitting = members_that_fit(self.core.ledger, request, empty=False)
            within = request.shape.within
            where = f" within one {within}" if within else ""
            some = f"{fitting} of {request.members} members fit{where} now"
            words = f"{some}; {words}" if counts else some
        return _Look(fits=False, words=words, counts=dict(counts))

    def _kinds(self, job: Job, request: Request) -> str:
        """Say why different workers do not fit now."""
        if not self.pipeline.fit.kinds(request).known:
            return "no place was found for all workers together, though not every way was tried"
        return lack_of_kinds(self.core.ledger, request, job.spec.kind_names(), empty=False)


def _first_stuck(core: Core, pipeline: Pipeline, shapes: _Shapes, jobs: list[Job]) -> Job | None:
    for job in jobs:
        gated = pipeline.over_quota(core, job) or not pipeline.possible(core, job)
        gated = gated or (not shapes.look(job).fits and pipeline.aside(core, job))
        if not gated and not shapes.look(job).fits:
            return job
    return None


def _reason(
    core: Core, pipeline: Pipeline, job: Job, shapes: _Shapes, stuck: Job | None, before: bool
) -> tuple[str, str, JobId | None]:
    if is_held(job):
        return PREEMPTING, held_in_words(core, job, shapes.now), None
    block = pipeline.block(core, job)
    if block is not None:
        return block.code, block.words, None
    look = shapes.look(job)
    if look.held is not None:
        return RESERVED, look.words, None
    if not look.fits:
        if not pipeline.possible(core, job):
            shut = closed(core, pipeline, job)
            if shut is not None:
                return RESERVED, shut.summary, None
            return NODE_DOWN, f"no nodes that are up could ever take it; {look.words}", None
        return RESOURCES, look.words, None
    claimed = beside_promise(core, pipeline, job, shapes.now)
    if claimed is not None:
        return PRIORITY, *claimed
    if stuck is not None and not before and pipeline.protected(core.now, stuck):
        return PRIORITY, f"job {stuck.id} is before it and must not be overtaken", stuck.id
    return PENDING_EVALUATION, "the scheduler has not looked at it yet", None


def reasons(core: Core, pipeline: Pipeline, now: Ms | None = None) -> dict[JobId, str]:
    """Return "code: words" for every pending job; one look per shape."""
    pipeline.bind(core)
    pipeline.queue.sync(core)
    shapes = _Shapes(core, pipeline, max(core.clock, now or 0))
    jobs = pipeline.queue.in_order(core)
    stuck = _first_stuck(core, pipeline, shapes, jobs)
    result: dict[JobId, str] = {}
    before = True
    for job in jobs:
        if job is stuck:
            before = False
        code, words, _ = _reason(core, pipeline, job, shapes, stuck, before)
        again = f"; {preempted_in_words(job)}" if job.preemptions else ""
        result[job.id] = f"{code}: {words}{again}"
    return result


def explain(
    core: Core, pipeline: Pipeline, job_id: JobId, now: Ms | None = None
) -> Explanation | None:
    """Return why a pending or live job is where it is; None if the core does not hold it.

    `now`: the time of the question, for how long something still takes; the last event's if None.
    """
    job = core.jobs.get(job_id)
    if job is None:
        return None
    if job.phase is not Phase.PENDING:
        return _of_live(core, pipeline, job, max(core.clock, now or 0))
    pipeline.bind(core)
    pipeline.queue.sync(core)
    shapes = _Shapes(core, pipeline, max(core.clock, now or 0))
    jobs = pipeline.queue.in_order(core)
    ahead = jobs.index(job)
    stuck = _first_stuck(core, pipeline, shapes, jobs)
    before = stuck is None or jobs.index(stuck) > ahead
    code, words, behind = _reason(core, pipeline, job, shapes, stuck, before)
    counts = shapes.look(job).counts
    protected = bounds.protected_after_ms(pipeline.config, job)
    return Explanation(
        job=job_id,
        phase=job.phase,
        reason=code,
        summary=words,
        lines=_lines(core, pipeline, job, shapes, stuck, ahead, max(core.now, now or 0)),
        ahead=ahead,
        behind_job=behind,
        protected_after_ms=protected,
        nodes=counts,
    )


def _of_live(core: Core, pipeline: Pipeline, job: Job, now: Ms) -> Explanation:
    """Say where a job was placed, what it holds of named resources, and what it waits for.

    Of an elastic one also why it does not grow.
    """
    lines = [*live_lines(core, pipeline.config, job, now), *_sizes(core, pipeline, job)]
    lines += preempted_lines(core, job, now)
    lines += steps_lines(core, job, now)
    waits = any(ask.job == job.id for ask in core.named.waiting())
    reason, summary = (ACQUIRING, lines[0]) if waits else ("", job.because)
    more = (job.because, *lines[1:]) if waits else lines
    return Explanation(
        job=job.id, phase=job.phase, reason=reason, summary=summary, lines=tuple(more)
    )


def _sizes(core: Core, pipeline: Pipeline, job: Job) -> list[str]:
    if job.team is None:
        return []
    pipeline.bind(core)
    pipeline.queue.sync(core)
    least, most = job.spec.shape.members, job.spec.members_max
    sizes = f"{job.team.size} member{'' if job.team.size == 1 else 's'} of {least} to {most}"
    if job.team.leaving:
        sizes += f"; {len(job.team.leaving)} more leave"
    return [f"has {sizes}", f"does not grow now: {pipeline.resize.why_not(core, job)}"]


def _lines(
    core: Core,
    pipeline: Pipeline,
    job: Job,
    shapes: _Shapes,
    stuck: Job | None,
    ahead: int,
    now: Ms,
) -> tuple[str, ...]:
    look = shapes.look(job)
    asked = describe(job.spec.shape, job.spec.kind_names())
    lines = [f"asks for {asked}", *pending_lines(core, job), *never_lines(core, job)]
    if job.attempt:
        times = "1 attempt" if job.attempt == 1 else f"{job.attempt} attempts"
        lines.append(f"ran before ({times}); waits again: {job.because}")
        lines += preempted_lines(core, job, now)
        lines += steps_lines(core, job, now)
    if core.tenants.get(job.spec.tenant) and core.tenants[job.spec.tenant].quota:
        over = pipeline.block_of_tenant(core, job, job.spec.shape) is not None
        lines.append(f"quota of tenant {job.spec.tenant}: {'would be exceeded' if over else 'ok'}")
    lines += explain_tree.chain(core, pipeline.config, job)
    if look.held is not None:
        lines.append("free now: enough, but not to be used:")
        lines += look.held.lines
    else:
        lines.append("free now: enough" if look.fits else f"free now: not enough ({look.words})")
    lines.append(f"order: {ahead} before it of {len(core.pending)} waiting")
    config = pipeline.config
    if config.order == "priority":
        base, waited = job.spec.priority, now - job.submitted_ms
        aged = order.effective_milli(base, config.ageing_per_hour, config.ageing_cap, waited)
        lines.append(f"priority: {base}, with its waiting {aged // 1000}.{aged % 1000 // 100}")
    if pipeline.turns is not None:
        lines += standing_lines(core, config, job)
    if stuck is not None and stuck is not job:
        may = "must not" if pipeline.protected(core.now, stuck) else "may"
        lines.append(f"job {stuck.id} is the first that does not fit; it {may} be overtaken")
    promised = promised_in_words(core, pipeline, job, now)
    if promised is not None:
        lines.append(promised)
    if pipeline.together is not None and not look.fits:
        lines += pipeline.together.why_not(core, job)
    lines += bounds.lines(config, job, now)
    if not look.fits and look.held is None:
        lines += _holders(core, now)
    return tuple(lines)


def _holders(core: Core, now: Ms) -> list[str]:
    """Say who holds what is missing, those that must end first in time before the others."""
    live = [job for job in core.jobs.values() if job.phase in LIVE]
    live.sort(key=lambda job: (_ends_by(job) is None, _ends_by(job) or 0, job.id))
    lines = []
    for job in live[:HOLDERS_SHOWN]:
        ends = _ends_by(job)
        if job.phase is Phase.STOPPING:
            until = "it is stopping"
        elif ends is None:
            until = ends_in_words(job, now)
        else:
            until = f"ends within {max(0, ends - now) // 1000} s by its time limit"
        queue = "" if job.spec.queue == "default" else f" in queue {job.spec.queue}"
        asked = describe(job.spec.shape)
        lines.append(f"in use by job {job.id} of {job.spec.tenant}{queue} ({asked}): {until}")
    if len(live) > HOLDERS_SHOWN:
        lines.append(f"in use by {len(live) - HOLDERS_SHOWN} more jobs")
    return lines


def _ends_by(job: Job) -> Ms | None:
    if job.spec.limit_ms is None or job.started_ms is None:
        return None
    return job.started_ms + job.spec.limit_ms
