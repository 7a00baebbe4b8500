"""Named resources as clients make, see, acquire and release them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fairlead.core.engine import Core
from fairlead.core.named import GOING_ON, Ask, unknown_name
from fairlead.model import limits
from fairlead.model.base import JobId, Misuse, Record, Refused
from fairlead.model.events import (
    AnyEvent,
    Asked,
    Released,
    ResourceDeleted,
    ResourceSet,
    Withdrawn,
)
from fairlead.model.jobs import KINDS, Resource
from fairlead.policy.deadlock.settle import check_order, obstacle
from fairlead.service import web
from fairlead.service.commands import Batch

if TYPE_CHECKING:
    from fairlead.service.api import Api

WAIT_S_MAX = 86_400.0
LOOK_S = 1.0  # so often is looked whether the client is still there
RESOURCES_MAX = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ResourceRequest(Record, frozen=True):
    """A named resource as a client makes or changes it; what is not said stays as it is."""

    name: str = ""
    kind: str | None = None
    amount: int | None = None


class AcquireRequest(Record, frozen=True):
    """What a running job asks for. `wait_s`: how long it waits for it, in order.

    The same `key` again is the same request: for clients that were cut off. `attempt`: of the job,
    as its environment says; another one has nothing to say.
    """

    name: str
    amount: int = 1
    wait_s: float = 0
    key: str = ""
    attempt: int | None = None


class ReleaseRequest(Record, frozen=True):
    """What a running job gives back; without an amount all that it acquired of it."""

    name: str
    amount: int | None = None
    attempt: int | None = None


def _parse(body: Any, kind: type[Any]) -> Any:
    if not isinstance(body, dict):
        raise Misuse("the body is a JSON object", hint="see /openapi.json")
    for key in body:
        if key not in kind.__struct_fields__:
            known = ", ".join(kind.__struct_fields__)
            raise Misuse(f"unknown key '{key}'", field=key, hint=f"known: {known}")
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise Misuse(text, field=path.rstrip("`"), hint="see /openapi.json") from None


# ---- the table of resources -------------------------------------------------------------------


class SetResource:
    """Make a resource, or change one. Answers with it."""

    def __init__(self, asked: ResourceRequest, *, new: bool) -> None:
        self.asked, self.new = asked, new

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse a name that is taken, and amounts that cannot be."""
        asked, known = self.asked, batch.core.named.resources
        before = known.get(asked.name)
        if self.new:
            _check_name(asked.name, known)
        elif before is None:
            raise _not_found(batch.core, asked.name)
        base = before or Resource(name=asked.name)
        amount = base.amount if asked.amount is None else asked.amount
        if not 1 <= amount <= limits.AMOUNT_MAX:
            hint = f"to have none of it: fairlead resource delete {asked.name}" if before else ""
            raise Misuse(f"the amount is 1 or more, not {amount}", field="amount", hint=hint)
        kind = base.kind if asked.kind is None else asked.kind
        if kind not in KINDS:
            raise Misuse(f"there is no kind '{kind}'", field="kind", hint=f"one of {KINDS}")
        made = msgspec.convert({"name": asked.name, "kind": kind, "amount": amount}, Resource)
        return [] if made == before else [ResourceSet(resource=made)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return the resource, who holds it, and who can never start any more."""
        return view(core, self.asked.name)


class DeleteResource:
    """Delete a resource that nobody holds or waits for. Answers with what it was."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.was: dict[str, Any] = {}

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse it while jobs hold it, or while jobs that wait or run may ask for it."""
        core, name = batch.core, self.name
        if name not in core.named.resources:
            raise _not_found(core, name)
        holders = [job for job, _ in core.named.holders(name)]
        wanting = [
            job.id
            for job in core.jobs.values()
            if name in dict((*job.spec.counted, *job.spec.may_acquire))
        ]
        for jobs, what in ((holders, "hold some of it"), (wanting, "may ask for it")):
            if jobs:
                names = ", ".join(map(str, jobs[:8])) + (", …" if len(jobs) > 8 else "")
                raise Refused(
                    f"'{name}' is in use: {len(jobs)} jobs {what} ({names})",
                    field="name",
                    hint="wait until they have ended, or cancel them",
                    code="in-use",
                )
        self.was = view(core, name)
        return [ResourceDeleted(name=name)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return what it was."""
        return self.was


def _check_name(name: str, known: Mapping[str, Resource]) -> None:
    if not _NAME.fullmatch(name) or len(name) > limits.NAME_CHARS_MAX:
        hint = "letters, digits, dots, dashes, at most 200, such as matlab"
        raise Misuse(f"'{name[:60]}' is no name for a resource", field="name", hint=hint)
    if name in known:
        raise Refused(
            f"there is a resource '{name}' already: {known[name].amount} of it",
            field="name",
            hint=f"to change it: fairlead resource edit {name} --amount N",
            code="name-taken",
        )
    if len(known) >= RESOURCES_MAX:
        raise Refused(f"there are {len(known)} resources, the most there may be", field="name")


def _not_found(core: Core, name: str) -> Misuse:
    error = unknown_name(core, name, "name")
    error.code = "not-found"
    return error


def view(core: Core, name: str) -> dict[str, Any]:
    """Return a resource: how many there are, who holds and who waits for it."""
    return _view(core, name, _pending(core).get(name, {}))


def _pending(core: Core) -> dict[str, dict[JobId, int]]:
    """Return how much waiting jobs ask for, by resource."""
    found: dict[str, dict[JobId, int]] = {}
    for job in core.pending.values():
        for name, amount in job.spec.counted:
            found.setdefault(name, {})[job.id] = amount
    return found


def _view(core: Core, name: str, pending: dict[JobId, int]) -> dict[str, Any]:
    named = core.named
    resource = named.resources[name]
    return {
        **msgspec.structs.asdict(resource),
        "held": named.held.get(name, 0),
        "free": max(0, named.free(name)),
        "over": max(0, -named.free(name)),  # held beyond what there is, since it was lowered
        "holders": [{"job": job, "amount": n} for job, n in named.holders(name)],
        "asking": [
            {"job": ask.job, "amount": ask.amount, "since_ms": ask.at_ms}
            for ask in named.waiting()
            if ask.name == name
        ],
        "waiting": [{"job": job, "amount": amount} for job, amount in pending.items()],
        "never": [job for job, amount in pending.items() if amount > resource.amount],
    }


# ---- running jobs -----------------------------------------------------------------------------


class Acquire:
    """Ask for more of a resource for a running job. Answers with how it stands."""

    def __init__(self, job: JobId, asked: AcquireRequest) -> None:
        self.job, self.asked = job, asked

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse what was not declared, what can never be, and what breaks the global order."""
        core, asked = batch.core, self.asked
        attempt = _running(core, self.job, asked.attempt)
        _check_amount(asked.amount)
        if core.named.knows(self.job, asked.key):
            return ()
        holding = core.named.live.get(self.job)
        most = dict(holding.spec.may_acquire).get(asked.name, 0) if holding else 0
        if asked.name not in core.named.resources:
            raise unknown_name(core, asked.name, "name")
        if not most:
            raise Refused(
                f"job {self.job} did not say that it may acquire {asked.name}",
                field="name",
                hint=f"submit it with may_acquire: {{{asked.name}: {asked.amount}}}",
                code="not-declared",
            )
        assert holding is not None
        mine = batch.asked.setdefault(self.job, [])
        waiting = [ask for ask in core.named.waiting() if ask.job == self.job]
        names = [ask.name for ask in waiting] + [name for name, _ in mine]
        already = holding.acquired.get(asked.name, 0) + sum(
            n
            for name, n in (*mine, *((ask.name, ask.amount) for ask in waiting))
            if name == asked.name
        )
        if already + asked.amount > most:
            raise Refused(
                f"job {self.job} said that it may acquire {most} {asked.name}: it has or waits for "
                f"{already}, and asks for {asked.amount} more",
                field="amount",
                hint="submit it with a higher may_acquire, or release some first",
                code="over-declared",
            )
        total = core.named.amount(asked.name)
        if holding.held().get(asked.name, 0) + asked.amount > total:
            raise Refused(
                f"there are only {total} {asked.name} now",
                field="amount",
                hint="the amount was lowered while the job ran: fairlead resource list",
                code="never-fits",
            )
        check_order(core, core.policy, self.job, asked.name, names)
        mine.append((asked.name, asked.amount))
        return [
            Asked(
                job=self.job,
                attempt=attempt,
                name=asked.name,
                amount=asked.amount,
                key=asked.key,
            )
        ]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return whether it was granted, and why not."""
        return standing(core, self.job, self.asked)


class Withdraw:
    """Wait for a request no more. Answers with how it stands: it may have been granted."""

    def __init__(self, job: JobId, asked: AcquireRequest, because: str) -> None:
        self.job, self.asked, self.because = job, asked, because

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """What was granted meanwhile, or ended, stays as it is."""
        ask = batch.core.named.ask_of(self.job, self.asked.key)
        if ask is None:
            return ()
        where = {"job": ask.job, "attempt": ask.attempt, "ask": ask.number}
        return [Withdrawn(**where, because=self.because)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return how it stands."""
        return standing(core, self.job, self.asked)


class Release:
    """Give back what a running job acquired. Answers with how much, and what it still holds."""

    def __init__(self, job: JobId, asked: ReleaseRequest) -> None:
        self.job, self.asked, self.amount = job, asked, 0

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse more than it acquired: what it was placed with it keeps to its end."""
        core, asked = batch.core, self.asked
        attempt = _running(core, self.job, asked.attempt)
        if asked.name not in core.named.resources:
            raise unknown_name(core, asked.name, "name")
        holding = core.named.live.get(self.job)
        has = holding.acquired.get(asked.name, 0) if holding else 0
        has -= batch.released.get((self.job, asked.name), 0)
        self.amount = has if asked.amount is None else asked.amount
        _check_amount(1 if asked.amount is None else asked.amount)
        if self.amount > has or not has:
            kept = dict(holding.spec.counted).get(asked.name, 0) if holding else 0
            raise Refused(
                f"job {self.job} has acquired {has} {asked.name}, it cannot release "
                f"{self.amount or 'any'}",
                field="amount",
                hint=f"the {kept} that it was placed with it keeps to its end" if kept else "",
                code="not-held",
            )
        batch.released[self.job, asked.name] = (
            batch.released.get((self.job, asked.name), 0) + self.amount
        )
        return [Released(job=self.job, attempt=attempt, name=asked.name, amount=self.amount)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return what was given back, and what it still holds."""
        holding = core.named.live.get(self.job)
        held = holding.held().get(self.asked.name, 0) if holding else 0
        return {
            **{"id": self.job, "name": self.asked.name},
            **{"released": self.amount, "held": held},
        }


def _check_amount(amount: int) -> None:
    if not 1 <= amount <= limits.AMOUNT_MAX:
        raise Misuse(f"the amount is 1 or more, not {amount}", field="amount")


def _running(core: Core, job_id: JobId, attempt: int | None) -> int:
    """Return the attempt of a job that runs; Refused if it does not, or in another attempt."""
    job = core.jobs.get(job_id)
    phase = job.phase if job is not None else "over"
    if job is None or job.phase not in GOING_ON:
        raise Refused(
            f"job {job_id} does not run: it is {phase}",
            field="id",
            hint="only a running job can acquire or release",
            code="not-running",
        )
    if attempt is not None and attempt != job.attempt:
        raise Refused(
            f"job {job_id} is in attempt {job.attempt}, not in {attempt}",
            field="attempt",
            code="not-running",
        )
    return job.attempt


def standing(core: Core, job: JobId, asked: AcquireRequest) -> dict[str, Any]:
    """Return how a request stands: granted, waiting (and why), or neither."""
    named = core.named
    holding = named.live.get(job)
    granted = holding is not None and asked.key in holding.granted
    ask: Ask | None = None if granted else named.ask_of(job, asked.key)
    if ask is not None and named.current(job, ask.attempt) is None:
        ask = None
    because = ""
    if ask is not None:
        because = obstacle(core, core.policy, ask) or "requests before it have not been granted"
    elif not granted:
        because = f"job {job} is {core.jobs[job].phase if job in core.jobs else 'over'}"
    return {
        **{"id": job, "name": asked.name, "amount": asked.amount, "granted": granted},
        **{"waiting": ask is not None, "because": because},
        "held": holding.held().get(asked.name, 0) if holding else 0,
        "runs": job in core.jobs and core.jobs[job].phase in GOING_ON,
    }


# ---- endpoints --------------------------------------------------------------------------------


async def create_resource(api: Api, request: Request) -> Response:
    """Make a named resource: so many licences, volumes or locks."""
    asked = _parse(await web.body_of(request), ResourceRequest)
    return web.respond(await api.shell.ask(SetResource(asked, new=True)), 201)


async def list_resources(api: Api, request: Request) -> Response:
    """List named resources, who holds them and who waits for them, in the global order."""
    web.Query(request, ())
    core = api.shell.core
    order = sorted(core.named.resources.values(), key=lambda each: each.rank)
    pending = _pending(core)
    body = [_view(core, each.name, pending.get(each.name, {})) for each in order]
    return web.respond({"resources": body, "now_ms": api.shell.now})


async def edit_resource(api: Api, request: Request) -> Response:
    """Change a resource. A lower amount takes nothing away: what is held beyond it runs out."""
    asked = _parse(await web.body_of(request), ResourceRequest)
    name = request.path_params["name"]
    if asked.name not in ("", name):
        raise Misuse("a resource keeps its name", field="name", hint="make another one")
    asked = msgspec.structs.replace(asked, name=name)
    return web.respond(await api.shell.ask(SetResource(asked, new=False)))


async def delete_resource(api: Api, request: Request) -> Response:
    """Delete a resource that no job holds or may ask for. Answers with what it was."""
    return web.respond(await api.shell.ask(DeleteResource(request.path_params["name"])))


async def acquire(api: Api, request: Request) -> Response:
    """Acquire more of a resource for a running job, waiting at most `wait_s` for it.

    Answers when it is granted, when the job is stopped, or when the time is over: then it waits
    no more.
    """
    job_id = api.job_id(request)
    asked = _parse(await web.body_of(request), AcquireRequest)
    if not 0 <= asked.wait_s <= WAIT_S_MAX:
        hint = f"0 to {WAIT_S_MAX:.0f}"
        raise Misuse(f"wait_s: {asked.wait_s:g}", field="wait_s", hint=hint)
    asked = msgspec.structs.replace(asked, key=asked.key or os.urandom(16).hex())
    shell = api.shell
    stands = await shell.ask(Acquire(job_id, asked))
    clock, why = asyncio.get_running_loop().time, f"not granted within {asked.wait_s:.0f} s"
    until = clock() + asked.wait_s
    while stands["waiting"] and (left := until - clock()) > 0 and not shell.stopped:
        await shell.changed(shell.core.seq, min(left, LOOK_S))
        stands = standing(shell.core, job_id, asked)
        if stands["waiting"] and await request.is_disconnected():
            why = "nobody waits for it any more"
            break
    if stands["waiting"] and not shell.stopped:
        because = stands["because"]
        stands = await shell.ask(Withdraw(job_id, asked, why))
        if not stands["granted"]:
            stands["because"] = because
    return web.respond(stands)


async def release(api: Api, request: Request) -> Response:
    """Give back what a running job acquired; what it was placed with it keeps to its end."""
    job_id = api.job_id(request)
    asked = _parse(await web.body_of(request), ReleaseRequest)
    return web.respond(await api.shell.ask(Release(job_id, asked)))


ENDPOINTS = (
    ("POST", "/api/v1/resources", create_resource),
    ("GET", "/api/v1/resources", list_resources),
    ("POST", "/api/v1/resources/{name}", edit_resource),
    ("DELETE", "/api/v1/resources/{name}", delete_resource),
    ("POST", "/api/v1/jobs/{id}/acquire", acquire),
    ("POST", "/api/v1/jobs/{id}/release", release),
)
