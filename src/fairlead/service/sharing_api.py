"""The endpoints of queues, users and tenants, and of the files that set them all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from fairlead.core.admission import admit
from fairlead.core.capacity import above, children, effective
from fairlead.core.engine import Core
from fairlead.core.shares import Account
from fairlead.model.amounts import of, show
from fairlead.model.base import Misuse, Refused
from fairlead.model.resources import DIMENSIONS
from fairlead.service import sharing, web
from fairlead.service.sharing import KINDS, QUEUES, TENANTS, Kind, Share

if TYPE_CHECKING:
    from fairlead.service.api import Api

View: TypeAlias = dict[str, Any]
Handler: TypeAlias = "Callable[[Api, Request], Awaitable[Response]]"
Route: TypeAlias = "tuple[str, str, Handler, tuple[str, ...]]"


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
        more["available"][resource] = branch.available(row)
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


def _could_never(core: Core, name: str, spec: Any) -> bool:
    if name not in above(core.queues, spec.queue):
        return False
    try:
        admit_size(core, spec)
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
