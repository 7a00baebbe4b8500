"""Make room by moving jobs: what it would take, and doing it (policy/defrag.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import Request
from fairlead.model.amounts import of
from fairlead.model.base import JobId, Misuse, Ms, Record, Refused
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import LIVE, Phase
from fairlead.model.resources import DIMENSIONS, WHOLE_GPU_MILLI, Shape, Slot
from fairlead.policy import defrag
from fairlead.policy.firm import is_held
from fairlead.policy.migrate import STEPS_MAX, Step, short
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.reclaim import lost_ms
from fairlead.policy.registry import build
from fairlead.service import web
from fairlead.service.commands import Batch

if TYPE_CHECKING:
    from fairlead.service.api import Api

STAYING_SHOWN = 5
Expected = Callable[[JobId], tuple[bool, Ms | None]]  # whether anything is known, and when


class DefragRequest(Record, frozen=True):
    """What room is wanted: whole GPUs on each of some nodes, or what a waiting job asks for."""

    gpus: int | None = None  # free on one node
    nodes: int = 1  # on each of so many nodes
    job: JobId | None = None  # instead of GPUs: the room is held for it
    dry_run: bool = True
    plan: tuple[JobId, ...] | None = None  # move these and no others, as was shown before


class Place(Record, frozen=True, omit_defaults=False):
    """Slots on one node, and the GPUs there, by index."""

    node: str
    devices: tuple[int, ...]


class MoveStep(Record, frozen=True, omit_defaults=False):
    """One step: `move`, or `suspend` (others wait for it) and later `resume`."""

    kind: Literal["move", "suspend", "resume"]
    job: JobId
    name: str
    source: tuple[Place, ...]
    to: tuple[Place, ...]
    lost_ms: Ms  # it has to do so much again, its restart included
    cost_gpu_ms: int  # times its GPUs, or its cores where it has no GPU


class Defragmentation(Record, frozen=True, omit_defaults=False):
    """What it takes to make room. Work is in ms of one GPU (of one core, for jobs without)."""

    outcome: Literal["moves", "nothing", "impossible"]
    reason: str  # why nothing has to move, or why moving does not help
    now_ms: Ms
    job: JobId | None
    gpus: int
    nodes: int
    room: tuple[Place, ...] = ()
    steps: tuple[MoveStep, ...] = ()
    cost_gpu_ms: int = 0
    saves_gpu_ms: int | None = 0  # waiting; null: without, nothing that is known lets it start
    serves: tuple[JobId, ...] = ()  # waiting jobs that fit then
    worth: bool = False
    sure: bool = True  # nothing is cheaper; false: the search was cut off
    ready_ms: Ms | None = None  # at the latest, if all who move use up their grace
    applied: bool = False


def parse(body: Any) -> DefragRequest:
    """Return the request of a body; Misuse names the field."""
    if not isinstance(body, dict):
        raise Misuse("the body is a JSON object", hint="see /openapi.json")
    web.mapping(body, DefragRequest.__struct_fields__)
    try:
        asked = msgspec.convert(body, DefragRequest)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise Misuse(text, field=path.rstrip("`"), hint="see /openapi.json") from None
    if (asked.gpus is None) == (asked.job is None):
        hint = "say one of them: --gpus 8, or --for JOB"
        raise Misuse("how many GPUs to make free, or for which job?", field="gpus", hint=hint)
    if asked.gpus is not None and asked.gpus < 1:
        raise Misuse(f"gpus is {asked.gpus}", field="gpus", hint="a whole number from 1 on")
    if asked.nodes < 1:
        raise Misuse(f"nodes is {asked.nodes}", field="nodes", hint="a whole number from 1 on")
    if asked.job is not None and asked.nodes != 1:
        hint = "leave one of them out"
        raise Misuse("the job says on how many nodes it runs", field="nodes", hint=hint)
    return asked


class Defrag:
    """Say what it takes to make room, and with `dry_run` false begin with it."""

    def __init__(self, asked: DefragRequest, expected: Expected) -> None:
        self.asked, self.expected = asked, expected
        self.found: Defragmentation | None = None

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse what makes no sense, and a plan that is another one than was shown."""
        core, asked = batch.latest(), self.asked
        pipeline = build(core.policy)
        assert isinstance(pipeline, Pipeline)
        pipeline.bind(core)
        job = _waiting(core, asked.job) if asked.job else _anybody(core, asked)
        found, plan = self._look(core, pipeline, job)
        self.found = found
        if plan is None or asked.dry_run:
            return ()
        moving = tuple(sorted(move.job for move in plan.way.moves))
        if asked.plan is not None and moving != tuple(sorted(asked.plan)):
            raise Refused(
                f"meanwhile other jobs would have to move: {', '.join(map(str, moving))}",
                field="plan",
                hint="look at it again: fairlead defrag --dry-run",
                code="changed",
            )
        self.found = msgspec.structs.replace(found, applied=True)
        return list(defrag.decided(core, plan, job))

    def answer(self, core: Core) -> Defragmentation:
        """Return what was found, and whether it is under way."""
        assert self.found is not None
        return self.found

    def _look(
        self, core: Core, pipeline: Pipeline, job: Job
    ) -> tuple[Defragmentation, defrag.Plan | None]:
        shape = job.spec.shape
        found = Defragmentation(
            outcome="impossible",
            reason=_kept_out(core, pipeline, job),
            now_ms=core.clock,
            job=job.id or None,
            gpus=max(kind.gpus for kind in shape.parts()),
            nodes=shape.members,
        )
        if found.reason:
            return found, None
        way, sure = defrag.search(core, pipeline, job, STEPS_MAX)
        if way is None:
            reason = _why_not(core, pipeline, job, sure)
            return msgspec.structs.replace(found, reason=reason, sure=sure), None
        found = msgspec.structs.replace(found, sure=sure, room=_places(core, way.slots))
        if not way.moves:
            where = ", ".join(place.node for place in found.room)
            reason = f"there is room as it is, on {where}: nothing has to move"
            return msgspec.structs.replace(found, outcome="nothing", reason=reason), None
        plan = defrag.plan_of(core, way)
        serves = [job] if job.id else defrag.served(core, pipeline, way, list(core.pending))
        starts = {each.id: self._start(core, pipeline, each) for each in serves}
        saved = defrag.saved(core, plan, starts)
        return msgspec.structs.replace(
            found,
            outcome="moves",
            steps=tuple(_step(core, step) for step in plan.steps),
            cost_gpu_ms=way.cost // WHOLE_GPU_MILLI,
            saves_gpu_ms=None if saved is None else saved // WHOLE_GPU_MILLI,
            serves=tuple(each.id for each in serves),
            worth=defrag.worth(plan, saved),
            ready_ms=plan.ready_ms,
        ), plan

    def _start(self, core: Core, pipeline: Pipeline, job: Job) -> Ms | None:
        known, start = self.expected(job.id)
        return start if known else defrag.expected_start(core, pipeline, job)


def _anybody(core: Core, asked: DefragRequest) -> Job:
    """Return somebody who takes these GPUs on these nodes; Misuse where there are too few."""
    assert asked.gpus is not None
    sizes = [len(node.spec.devices) for node in core.nodes if node.up]
    most = max(sizes, default=0)
    if asked.gpus > most:
        have = f"no machine has more than {most}" if most else "no machine has any"
        raise Misuse(
            f"{asked.gpus} GPUs on one machine: {have}", field="gpus", hint="see: fairlead nodes"
        )
    able = sum(size >= asked.gpus for size in sizes)
    if asked.nodes > able:
        those = f"{able} machine{'s have' if able > 1 else ' has'} so many GPUs"
        raise Misuse(
            f"{asked.nodes} machines: only {those}", field="nodes", hint="see: fairlead nodes"
        )
    if defrag.ROOM in core.reservations:
        hint = f"wait, or give it up: fairlead reservation delete {defrag.ROOM}"
        raise Refused("room is being made already", field="gpus", hint=hint, code="under-way")
    shape = Shape(cpu_milli=0, gpus=asked.gpus, members=asked.nodes, spread="distinct-nodes")
    return defrag.somebody(core, shape)


def _waiting(core: Core, job_id: JobId) -> Job:
    """Return a job that waits, and for which no room is made yet; Misuse or Refused else."""
    job = core.jobs.get(job_id)
    if job is None:
        known = 0 < job_id < core.next_job
        words = f"job {job_id} has ended" if known else f"there is no job {job_id}"
        code = "misuse" if known else "not-found"
        raise Misuse(words, field="job", hint="the jobs that wait: fairlead ps", code=code)
    if job.phase is not Phase.PENDING:
        hint = "the jobs that wait: fairlead ps"
        raise Misuse(f"job {job_id} does not wait: it is {job.phase}", field="job", hint=hint)
    if is_held(job):
        words = f"room is being made for job {job_id} already"
        raise Refused(words, field="job", hint=f"see: fairlead why {job_id}", code="under-way")
    return job


def _kept_out(core: Core, pipeline: Pipeline, job: Job) -> str:
    """Return what else than room keeps a job from starting, in words, "" for nothing."""
    if not job.id:
        return ""
    block = pipeline.block(core, job)
    if block is not None:
        return f"it is not room that job {job.id} lacks: {block.words}"
    if not pipeline.possible(core, job):
        return f"no machines that are up could ever take job {job.id}"
    return ""


def _why_not(core: Core, pipeline: Pipeline, job: Job, sure: bool) -> str:
    """Return why moving jobs does not make room."""
    lack = short(core, pipeline.fit, Request(job.spec.shape))
    if lack is not None:
        row = DIMENSIONS[lack[0]]
        return f"free in all: {of(row, lack[1])}, too few, and moving jobs frees no more"
    if not sure:
        return f"no way was found in {STEPS_MAX} steps of the search; there may be one"
    reasons: dict[str, list[JobId]] = {}
    for each in core.jobs.values():
        words = defrag.stays(core, pipeline.config, each) if each.phase in LIVE else ""
        if words:
            reasons.setdefault(words, []).append(each.id)
    if not reasons:
        return "whichever jobs move, what is free does not come together"
    counts = Counter({words: len(ids) for words, ids in reasons.items()})
    parts = []
    for words, count in counts.most_common():
        ids = ", ".join(map(str, reasons[words][:STAYING_SHOWN]))
        more = f" and {count - STAYING_SHOWN} more" if count > STAYING_SHOWN else ""
        parts.append(f"job{'s' if count > 1 else ''} {ids}{more}: {words}")
    return f"the jobs that may move do not make room; these stay: {'; '.join(parts)}"


def _places(core: Core, slots: Sequence[Slot]) -> tuple[Place, ...]:
    found: dict[int, tuple[int, ...]] = {}
    for slot in slots:
        found[slot.node] = found.get(slot.node, ()) + slot.devices
    return tuple(
        Place(node=core.nodes[node].spec.name, devices=tuple(sorted(devices)))
        for node, devices in found.items()
    )


def _step(core: Core, step: Step) -> MoveStep:
    move, job = step.move, core.jobs[step.move.job]
    return MoveStep(
        kind=step.kind,
        job=job.id,
        name=job.spec.name,
        source=() if step.kind == "resume" else _places(core, move.source),
        to=() if step.kind == "suspend" else _places(core, move.to),
        lost_ms=lost_ms(job, core.policy, core.clock),
        cost_gpu_ms=move.cost // WHOLE_GPU_MILLI,
    )


async def defragment(api: Api, request: HttpRequest) -> Response:
    """Say which jobs would have to move so that there is room, and what that costs and saves.

    With `dry_run` false they move, step by step; the room is held for the job if one is named.
    """
    asked = parse(await web.body_of(request))

    def expected(job: JobId) -> tuple[bool, Ms | None]:
        eta = api.etas.of(job)
        return eta is not None, None if eta is None else eta.likely_ms

    return web.respond(await api.shell.ask(Defrag(asked, expected)))


ROUTES = (("POST", "/api/v1/defrag", defragment),)
