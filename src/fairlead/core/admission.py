"""The gate at submission: what can never run is refused there, with the nearest that can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TypeAlias

from msgspec.structs import replace

from fairlead.core.capacity import above, effective, leaves, missing
from fairlead.core.engine import Core
from fairlead.core.fits import lacking, largest, members_that_fit
from fairlead.core.ledger import Ledger, Request
from fairlead.core.named import check_spec
from fairlead.core.nodes import device_memory_most
from fairlead.core.speeds import NOWHERE, shape_of
from fairlead.model import limits
from fairlead.model.amounts import of, show
from fairlead.model.base import Misuse, Refused
from fairlead.model.jobs import JobSpec, Queue, Tenant
from fairlead.model.resources import (
    DIMENSIONS,
    GPU_MEMORY,
    LEVELS,
    Shape,
    asked_in_all,
    within_level,
)
from fairlead.model.topology import format_topology
from fairlead.model.units import format_cpus, format_size


def admit(core: Core, spec: JobSpec) -> None:
    """Raise Misuse for a wrong and Refused for an impossible request; else return None."""
    queue = effective(core.queues, spec.queue)
    if queue is None:
        raise missing(spec.queue, core.queues, "queue", "queue")
    if _is_inner(core, queue.name):
        raise Refused(
            f"queue '{queue.name}' takes no jobs: it has queues below it",
            field="queue",
            hint="submit to one of: " + ", ".join(leaves(core.queues, queue.name)[:20]),
            code="inner-queue",
        )
    _check_rights(core, queue, spec)
    check_room(core, {(spec.queue, spec.user): 1})
    if queue.limit_ms is not None and (spec.limit_ms is None or spec.limit_ms > queue.limit_ms):
        asked = "no time limit" if spec.limit_ms is None else f"{spec.limit_ms // 1000} s"
        raise Refused(
            f"queue '{queue.name}' takes jobs of at most {queue.limit_ms // 1000} s, "
            f"asked: {asked}",
            field="time_limit",
            hint=f"ask for time_limit: {queue.limit_ms // 1000}s or less",
            code="never-fits",
        )
    _check_shape(spec.shape)
    shape = shape_of(core, spec)
    if shape.gpu_models == NOWHERE:
        raise Refused(
            f"jobs of type {spec.kind} run on no GPU that there is: somebody told so",
            field="job_type",
            hint="see: fairlead speeds",
            code="never-fits",
        )
    if core.nodes and shape not in core.fitting:
        check_fits(core, Request(shape), spec.kind_names())
    _check_quota(core, spec)
    if core.shares.limited:
        check_ever(core, spec)
    check_spec(core, spec)


def _check_rights(core: Core, queue: Queue, spec: JobSpec) -> None:
    if queue.users and spec.user not in queue.users:
        open_to = [each for each in sorted(core.queues) if _takes(core, each, spec)]
        names = ", ".join(queue.users[:20]) + (", …" if len(queue.users) > 20 else "")
        raise Refused(
            f"user {spec.user or '(nobody)'} may not submit to queue '{queue.name}'; it is for: "
            f"{names}",
            field="queue",
            hint=f"queues that take your jobs: {', '.join(open_to[:20])}"
            if open_to
            else f"ask for it: fairlead queue edit {queue.name} --users …",
            code="forbidden",
        )
    low, high = queue.priority_min, queue.priority_max
    if not low <= spec.priority <= high:
        raise Refused(
            f"queue '{queue.name}' takes priorities {low} to {high}, this job asks for "
            f"{spec.priority}",
            field="priority",
            hint=f"ask for {min(max(spec.priority, low), high)}, or leave it out to get "
            f"{queue.priority}",
            code="priority",
        )


def _is_inner(core: Core, name: str) -> bool:
    branch = core.shares.branches.get(name)
    return branch is not None and bool(branch.children)


def _takes(core: Core, name: str, spec: JobSpec) -> bool:
    """Whether a queue takes jobs, and of this user."""
    queue = effective(core.queues, name)
    if queue is None or _is_inner(core, name):
        return False
    return not queue.users or spec.user in queue.users


Counts: TypeAlias = Mapping[tuple[str, str], int]  # jobs by queue and user


def check_room(core: Core, coming: Counts, planned: Counts | None = None) -> None:
    """Raise Refused if so many more jobs may not wait: in a queue, in those above it, of a user.

    `planned` are jobs that come before these and that the core does not know yet.
    """
    below: dict[str, int] = {}
    users: dict[str, int] = {}
    more: dict[tuple[str, str], int] = {}
    for counts, new in ((planned or {}, False), (coming, True)):
        for (queue, user), count in counts.items():
            for each in above(core.queues, queue):
                below[each] = below.get(each, 0) + count
                more["queue", each] = more.get(("queue", each), 0) + count * new
            users[user] = users.get(user, 0) + count
            more["user", user] = more.get(("user", user), 0) + count * new
    for name, count in below.items():
        branch, most = core.shares.branches.get(name), core.queues[name].pending_max
        waiting = (branch.waiting if branch else 0) + count - more["queue", name]
        _room(f"queue '{name}'", waiting, more["queue", name], most, "of the queue")
    for name, count in users.items():
        limits_of, person = core.shares.user(name), core.shares.people.get(name)
        if limits_of is not None and limits_of.pending_max is not None:
            waiting = (person.waiting if person else 0) + count - more["user", name]
            _room(f"user {name}", waiting, more["user", name], limits_of.pending_max, "of the user")


def _room(who: str, waiting: int, new: int, most: int, whose: str) -> None:
    if not new or waiting + new <= most:
        return
    if waiting >= most:
        message = f"{who} is full: {waiting} jobs wait"
        message += " in it" if who.startswith("queue") else f", of at most {most}"
    else:
        message = f"{who} has room for {most - waiting} more jobs, not for {new}"
    raise Refused(
        message,
        field="queue",
        hint=f"submit again when some have started, or raise max_pending {whose}",
        code="queue-full",
    )


def check_ever(core: Core, spec: JobSpec) -> None:
    """Refuse what its user, its queue or a queue above it could never hold, whatever is free."""
    asked = [(core.shares.rows[row], amount) for row, amount in core.shares.ask(spec.shape)]
    user = core.shares.user(spec.user)
    for resource, amount in asked:
        if user is not None and amount > user.most.get(resource, amount):
            who, most = f"user {spec.user}", user.most[resource]
            raise _never(core, spec, who, resource, amount, most)
        for each in above(core.queues, spec.queue):
            most = core.queues[each].most.get(resource, amount)
            if amount > most:
                raise _never(core, spec, f"queue '{each}'", resource, amount, most)
        most = core.shares.ever(spec.queue).get(resource, amount)
        if core.nodes and amount > most:
            who = f"queue '{spec.queue}', with its quota and all that it may borrow,"
            raise _never(core, spec, who, resource, amount, most)


def _never(core: Core, spec: JobSpec, who: str, resource: str, amount: int, most: int) -> Refused:
    others = [
        each
        for each in sorted(core.queues)
        if _takes(core, each, spec) and amount <= _ever(core, each, resource, amount)
    ]
    hint = f"ask for at most {of(resource, most)}" if most else "ask for none"
    if who.startswith("user"):
        hint += ", or raise the limit of the user"
    elif others:
        hint += f", or submit to a queue that may: {', '.join(others[:10])}"
    return Refused(
        f"can never run: {who} may use at most {of(resource, most)} at once, this job asks for "
        f"{show(resource, amount)}",
        field="resources",
        hint=hint,
        code="over-quota",
    )


def _ever(core: Core, queue: str, resource: str, amount: int) -> int:
    bounds = [core.queues[each].most.get(resource, amount) for each in above(core.queues, queue)]
    return min(*bounds, core.shares.ever(queue).get(resource, amount))


def _check_shape(shape: Shape) -> None:
    if not 1 <= shape.members <= limits.MEMBERS_MAX:
        raise Misuse(f"members must be 1 to {limits.MEMBERS_MAX}", field="members")
    for number, kind in enumerate(shape.parts()):
        _check_kind(kind, f"workers[{number}].resources" if shape.kinds else "resources")


def _check_kind(shape: Shape, field: str) -> None:
    if shape.gpu_parts and sum(shape.gpu_parts) != shape.gpu_milli:
        raise Misuse("the parts of GPUs are not what is asked for", field=f"{field}.gpu_split")
    if shape.gpu_memory_mib and not (shape.gpus or shape.gpu_milli):
        raise Misuse(
            "gpu_memory without gpus",
            field=f"{field}.gpu_memory",
            hint="say how much of a GPU too, for example gpus: 1 or gpus: 0.5",
        )
    if not any((*shape.amounts(), shape.gpus, shape.gpu_milli)):
        raise Misuse("the job asks for nothing at all", field=field, hint="ask for some cpus")


def check_fits(core: Core, request: Request, names: Sequence[str] = ()) -> None:
    """Raise Refused if the request would not fit the empty cluster, even with every node up.

    `names` are those of different workers.
    """
    shape = request.shape
    fitting = members_that_fit(core.ledger, request, empty=True)
    if fitting >= shape.members:
        core.fitting.add(shape)
        return
    near = largest(core.ledger, request)
    if near is not None:
        hint = f"the nearest that can run: {describe(near, names)}"
    else:
        fewer = "ask for fewer workers, or for less for each"
        hint = fewer if shape.kinds else "no node has any of that"
    if shape.kinds:
        what = lack_of_kinds(core.ledger, request, names, empty=True)
        hint += _wider(core, shape)
    elif fitting:
        within = f" within one {shape.within}" if shape.within else ""
        what = f"only {fitting} of {shape.members} members fit at once{within}, with nobody else "
        what += "there"
        hint += _wider(core, shape)
    else:
        counts = lacking(core.ledger, request, empty=True)
        what = "no node is large enough: " + describe_lack(counts)
    raise Refused(f"can never run: {what}", field="resources", hint=hint, code="never-fits")


def _wider(core: Core, shape: Shape) -> str:
    """Return what else to ask for where members need not be so close together."""
    if not shape.within:
        return ""
    words = format_topology("", shape.within)
    for level in LEVELS[LEVELS.index(shape.within) + 1 :]:
        wider = Request(within_level(shape, level))
        if members_that_fit(core.ledger, wider, empty=True) >= shape.members:
            return f", or topology: {level}, or topology: {words}"
    apart = Request(within_level(shape, ""))
    if members_that_fit(core.ledger, apart, empty=True) < shape.members:
        return ""
    return f", or topology: {words}"


def _check_quota(core: Core, spec: JobSpec) -> None:
    tenant = core.tenants.get(spec.tenant)
    if tenant is None or not tenant.quota:
        return
    for row, (most, asked) in enumerate(
        zip(tenant.quota, counted(core, tenant, spec.shape), strict=True)
    ):
        if most is not None and asked > most:
            raise Refused(
                f"can never run: tenant '{tenant.name}' may use at most "
                f"{of(DIMENSIONS[row], most)} at once, this job asks for "
                f"{show(DIMENSIONS[row], asked)}",
                field="resources",
                hint="ask for less, or raise the quota of the tenant",
                code="over-quota",
            )


def counted(core: Core, tenant: Tenant, shape: Shape) -> tuple[int, ...]:
    """Return what a job counts against its tenant's quota, in the order of DIMENSIONS.

    Of whole GPUs the memory counts as that of the largest it may get: which they will be is not
    known before they are chosen, and a quota is never exceeded.
    """
    if shape.kinds:
        each = [counted(core, tenant, kind) for kind in shape.kinds]
        return tuple(map(sum, zip(*each, strict=True)))
    asked = asked_in_all(shape)
    if not shape.gpus or tenant.quota[GPU_MEMORY] is None:
        return asked
    most = device_memory_most(core.nodes, shape) * shape.gpus
    most += shape.gpu_memory_mib * len(shape.shares)
    return (*asked[:GPU_MEMORY], max(asked[GPU_MEMORY], most * shape.members))


def lack_of_kinds(
    ledger: Ledger, request: Request, names: Sequence[str] = (), *, empty: bool
) -> str:
    """Return in words why different workers have no room: kind by kind, or only together."""
    lacks = []
    for index, part in enumerate(request.parts):
        fitting = members_that_fit(ledger, part, empty=empty)
        if fitting == part.members:
            continue
        alone = f"workers with {describe(replace(part.shape, members=1))}"
        words = names[index] if index < len(names) and names[index] else alone
        words += f": {fitting} of {part.members} fit{'' if empty else ' now'}"
        counts = Counter[str]() if fitting else lacking(ledger, part, empty=empty)
        lacks.append(f"{words} ({describe_lack(counts)})" if counts else words)
    return "; ".join(lacks) or "each kind of workers fits alone, but not all of them together"


def describe_lack(counts: dict[str, int]) -> str:
    """Return counts of nodes by what they lack: "4 nodes: memory; 2 nodes: GPUs"."""
    parts = [
        f"{count} node{'s' if count > 1 else ''}: {lack}"
        for lack, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if lack
    ]
    return "; ".join(parts) or "no nodes"


def format_split(shape: Shape) -> str:
    """Return what it takes of each GPU: "1, 0.5, 0.25"."""
    return ", ".join(map(format_cpus, (*(1000 for _ in range(shape.gpus)), *shape.shares)))


def _describe_kind(kind: Shape) -> str:
    return f"{kind.members} x ({describe(replace(kind, members=1, within='', near=''))})"


def describe(shape: Shape, names: Sequence[str] = ()) -> str:
    """Return a request in words, for hints; `names` are those of different workers."""
    if shape.kinds:
        each = zip_longest(map(_describe_kind, shape.kinds), names[: len(shape.kinds)])
        words = " + ".join(f"{name} {kind}" if name else str(kind) for kind, name in each)
        topology = format_topology(shape.within, shape.near)
        return f"{words}, topology: {topology}" if topology else words
    parts = [f"cpus: {format_cpus(shape.cpu_milli)}"]
    if shape.memory_mib:
        parts.append(f"memory: {format_size(shape.memory_mib)}")
    if shape.disk_mib:
        parts.append(f"disk: {format_size(shape.disk_mib)}")
    if shape.gpu_parts:
        parts.append(f"gpu_split: [{format_split(shape)}]")
    elif shape.gpus or shape.gpu_milli:
        parts.append(f"gpus: {format_cpus(1000 * shape.gpus + shape.gpu_milli)}")
    if shape.gpu_memory_mib:
        parts.append(f"gpu_memory: {format_size(shape.gpu_memory_mib)}")
    if shape.members > 1:
        parts.append(f"members: {shape.members}")
    if topology := format_topology(shape.within, shape.near):
        parts.append(f"topology: {topology}")
    return ", ".join(parts)
