"""The endpoints of queues, users and tenants, and of the files that set them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from fairlead.core.admission import check_ever
from fairlead.core.capacity import above, children, effective, missing
from fairlead.core.cohort import Branch
from fairlead.core.engine import Core
from fairlead.model.amounts import of, show
from fairlead.model.base import Misuse, Refused
from fairlead.model.jobs import JobSpec
from fairlead.model.limits import AMOUNT_MAX
from fairlead.model.resources import DIMENSIONS
from fairlead.policy.fair.standing import standing
from fairlead.service import sharing, web
from fairlead.service.sharing import KINDS, QUEUES, TENANTS, Kind, Share
from fairlead.service.usage import show_usage

if TYPE_CHECKING:
    from fairlead.service.api import Api

View: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[["Api", Request], Awaitable[Response]]
Route: TypeAlias = tuple[str, str, Handler, tuple[str, ...]]


# ---- what is shown ----------------------------------------------------------------------------


def queue_view(core: Core, name: str) -> View:
    """Return a queue: its settings as they are written, and what it uses, in units."""
    queue, shares = core.queues[name], core.shares
    shares.sync()
    branch = shares.branches.get(name)
    held = branch.held if branch else [0] * len(shares.rows)
    more: View = {"guaranteed": {}, "borrowed": {}, "available": {}}
    for row in shares.governed if branch else ():
        assert branch is not None
        resource = shares.rows[row]
        more["guaranteed"][resource] = branch.subtree[row]
        more["available"][resource] = min(branch.available(row), _below_limits(branch, row))
        if branch.borrowed(row):
            more["borrowed"][resource] = branch.borrowed(row)
    holds = effective(core.queues, name)
    assert holds is not None
    return {
        "name": name,
        "settings": QUEUES.table(queue),
        "parent": queue.parent,
        "depth": len(above(core.queues, name)) - 1,
        "children": children(core.queues, name),
        "users": holds.users,
        "priority": queue.priority,
        "priority_min": holds.priority_min,
        "priority_max": holds.priority_max,
        "limit_ms": holds.limit_ms,
        "using": _named(shares.rows, held),
        **more,
        "running": branch.live if branch else 0,
        "waiting": branch.waiting if branch else 0,
        "notes": list(_notes(core, name)),
    }


def _below_limits(branch: Branch, row: int) -> int:
    """Return what the limits of a queue and of all above it leave of a resource."""
    limits = [(each.most[row], each.held[row]) for each in branch.above()]
    return min((most - held for most, held in limits if most is not None), default=AMOUNT_MAX)


def _notes(core: Core, name: str) -> Iterator[str]:
    """Say what of a queue is beyond what it may have, for example after a cut."""
    queue, shares = core.queues[name], core.shares
    branch = shares.branches.get(name)
    for row, resource in enumerate(shares.rows if branch else ()):
        assert branch is not None
        held, most = branch.held[row], queue.most.get(resource)
        over = max(0, -branch.available(row)) if row in shares.governed else 0
        if most is not None and held > most:
            yield (
                f"{name} uses {of(resource, held)}, of at most {show(resource, most)} now: nothing "
                "is stopped for that, and nothing starts there before enough has ended"
            )
        elif over:
            yield (
                f"{name} uses {of(resource, held)}, {show(resource, over)} more than its quota and "
                "what it may borrow: nothing is stopped for that, and nothing starts there before "
                "enough has ended"
            )
    if not shares.limited:
        return
    stuck = [job.id for job in core.pending.values() if _could_never(core, name, job.spec)]
    if stuck:
        those = ", ".join(map(str, stuck[:10])) + (", …" if len(stuck) > 10 else "")
        yield f"job {those} in {name} asks for more than the queue could ever have"


def _could_never(core: Core, name: str, spec: JobSpec) -> bool:
    if name not in above(core.queues, spec.queue):
        return False
    try:
        check_ever(core, spec)
    except Refused:
        return True
    return False


def user_view(core: Core, name: str) -> View:
    """Return a user: its settings (null: none of its own), and what it uses."""
    user = core.users.get(name)
    account = core.shares.people.get(name)
    return {
        "name": name,
        "settings": None if user is None else sharing.USERS.table(user),
        "using": _named(core.shares.rows, account.held if account else ()),
        "running": account.live if account else 0,
        "waiting": account.waiting if account else 0,
    }


def tenant_view(core: Core, name: str) -> View:
    """Return a tenant: its settings (null: none), and what it uses."""
    tenant = core.tenants.get(name)
    return {
        "name": name,
        "settings": None if tenant is None else TENANTS.table(tenant),
        "using": _named(DIMENSIONS, core.usage.get(name, ())),
        "running": sum(job.spec.tenant == name and bool(job.slots) for job in core.jobs.values()),
        "waiting": sum(job.spec.tenant == name for job in core.pending.values()),
    }


def _named(rows: tuple[str, ...], amounts: Sequence[int]) -> dict[str, int]:
    return {name: amount for name, amount in zip(rows, amounts, strict=False) if amount}


def names(core: Core, kind: Kind) -> list[str]:
    """Return all of a kind that are set, or that have jobs now; queues so that a tree shows."""
    if kind is QUEUES:
        return list(_tree(core, ""))
    if kind is TENANTS:
        return sorted({*core.tenants, *(job.spec.tenant for job in core.jobs.values())})
    busy = {name for name, each in core.shares.people.items() if each.live or each.waiting}
    return sorted({*core.users, *busy})


def _tree(core: Core, name: str) -> Iterator[str]:
    for each in children(core.queues, name):
        yield each
        yield from _tree(core, each)


VIEWS: Mapping[str, Callable[[Core, str], View]] = {
    "queue": queue_view,
    "user": user_view,
    "tenant": tenant_view,
}


# ---- endpoints --------------------------------------------------------------------------------


def _routes(kind: Kind) -> Iterator[Route]:
    """Yield the endpoints of a kind; each has a name and a text of its own for OpenAPI."""
    word, view = kind.word, VIEWS[kind.word]
    path = f"/api/v1/{kind.key}"

    async def show_all(api: Api, request: Request) -> Response:
        web.Query(request, ())
        core = api.shell.core
        body = {kind.key: [view(core, name) for name in names(core, kind)]}
        return web.respond({**body, "now_ms": api.shell.now})

    async def show_one(api: Api, request: Request) -> Response:
        web.Query(request, ())
        core, name = api.shell.core, request.path_params["name"]
        if name not in names(core, kind):
            raise sharing.unknown(kind, name, names(core, kind))
        return web.respond({**view(core, name), "now_ms": api.shell.now})

    async def put(api: Api, request: Request) -> Response:
        query = web.Query(request, ("new",))
        name = request.path_params["name"]
        body = await web.body_of(request)
        new = query.flag("new")
        return await _change(api, kind, name, lambda: sharing.put(kind, name, body, new=new))

    async def patch(api: Api, request: Request) -> Response:
        web.Query(request, ())
        name, body = request.path_params["name"], await web.body_of(request)
        return await _change(api, kind, name, lambda: sharing.patch(kind, name, body))

    async def delete(api: Api, request: Request) -> Response:
        web.Query(request, ())
        name = request.path_params["name"]
        return await _change(api, kind, name, lambda: sharing.delete(kind, name))

    texts: tuple[tuple[str, Handler, str, str, str, tuple[str, ...]], ...] = (
        ("list", show_all, "GET", "", f"List {kind.key}, with what they use now.", ()),
        ("show", show_one, "GET", "/{name}", f"Show one {word}, with what it uses now.", ()),
        (
            *("set", put, "PUT", "/{name}"),
            f"Create or replace a {word}; the same again changes nothing. With `new` another of "
            "that name is not replaced.",
            ("new",),
        ),
        (
            *("edit", patch, "PATCH", "/{name}"),
            f'Change some settings of a {word}: null or "none" clears one.',
            (),
        ),
        ("delete", delete, "DELETE", "/{name}", f"Delete a {word}; refused while it has jobs.", ()),
    )
    for verb, handler, method, tail, text, query in texts:
        handler.__name__ = f"{verb}_{word}s" if verb == "list" else f"{verb}_{word}"
        handler.__doc__ = text
        yield method, path + tail, handler, query


async def _change(api: Api, kind: Kind, name: str, wish: Callable[[], sharing.Wish]) -> Response:
    """Bring a wish about; answer with what changed and what is there now."""
    try:
        command = Share(wish())
        notes = await api.shell.ask(command)
    except Misuse as wrong:
        path = f"{kind.key}.{name}."  # there is no doubt about which is meant
        wrong.field, wrong.message = wrong.field.removeprefix(path), wrong.message.replace(path, "")
        raise
    core = api.shell.core
    there = name in getattr(core, kind.key)
    shown = VIEWS[kind.word](core, name) if there else None
    notes += [] if shown is None else shown.get("notes", [])
    body = {"changes": command.lines, "notes": notes, kind.word: shown}
    return web.respond({**body, "now_ms": api.shell.now})


async def apply_file(api: Api, request: Request) -> Response:
    """Bring about what a cluster file says, all or nothing; with `dry_run` say what would change.

    `prune`: what the file does not name, of the parts that it has, is deleted. `plan`: the changes
    that were seen before; refused if they are no longer what would happen.
    """
    body = await web.body_of(request)
    web.Query(request, ())
    if not isinstance(body, dict) or "document" not in body:
        raise Misuse("the body names a document", field="document", hint="see /openapi.json")
    for key in body:
        if key not in ("document", "dry_run", "prune", "plan"):
            raise Misuse(f"unknown key '{key}'", field=key, hint="document, dry_run, prune, plan")
    dry, prune, plan = body.get("dry_run", False), body.get("prune", False), body.get("plan")
    if not isinstance(dry, bool) or not isinstance(prune, bool):
        raise Misuse("dry_run and prune are true or false", field="dry_run")
    if plan is not None and not isinstance(plan, list):
        raise Misuse("plan is the list of changes that a dry run gave", field="plan")
    command = Share(sharing.apply(body["document"], prune=prune), plan)
    notes: list[str] = []
    if dry:
        api.shell.planned(command)
    else:
        notes += await api.shell.ask(command)
        core = api.shell.core
        notes += [note for name in sorted(core.queues) for note in _notes(core, name)]
    answer = {"changes": command.lines, "applied": not dry, "notes": notes}
    return web.respond({**answer, "now_ms": api.shell.now})


async def show_shares(api: Api, request: Request) -> Response:
    """Show where queues and users stand: entitled, using, decayed average, who borrows from whom.

    With `queue` only that queue, those above it and what is in it; with `user` only that user.
    """
    query = web.Query(request, ("queue", "user"))
    core, queue, user = api.shell.core, query.text("queue"), query.text("user")
    core.shares.sync()
    if queue and queue not in core.queues:
        raise missing(queue, core.queues, "queue", "queue", "not-found")
    found = standing(core, core.policy)
    if queue:
        path = above(core.queues, queue)
        found = [
            each
            for each in found
            if (not each.user and each.queue in path) or queue in above(core.queues, each.queue)
        ]
    if user:
        theirs = {
            each for one in found if one.user == user for each in above(core.queues, one.queue)
        }
        found = [e for e in found if e.user == user or (not e.user and e.queue in theirs)]
    capacity = dict(zip(core.shares.rows, core.shares.capacity(), strict=True))
    body = {"shares": found, "capacity": capacity, "half_life_ms": core.policy.half_life_ms}
    return web.respond({**body, "now_ms": api.shell.now})


ROUTES: tuple[Route, ...] = (
    ("GET", "/api/v1/usage", show_usage, ("since_ms", "until_ms", "by")),
    *(route for kind in KINDS for route in _routes(kind)),
    ("POST", "/api/v1/apply", apply_file, ()),
    ("GET", "/api/v1/shares", show_shares, ("queue", "user")),
)
