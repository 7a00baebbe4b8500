"""What a tree of queues, users and tenants may be: what is wrong or idle is refused, in words.

Pure, and used by all that changes them: the API, a file that is applied, the configuration at the
start. Nothing here is asked when a log is replayed: what was logged was in order when it came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fairlead.core.capacity import MODEL, above, children, missing, promised, there_is, tree
from fairlead.core.cohort import Branch
from fairlead.core.engine import Core
from fairlead.model import limits
from fairlead.model.amounts import of, show, word
from fairlead.model.base import Misuse, Refused
from fairlead.model.events import (
    AnyEvent,
    PolicySet,
    QueueDeleted,
    QueueSet,
    TenantDeleted,
    TenantSet,
    UserDeleted,
    UserSet,
)
from fairlead.model.jobs import EVERYBODY, PolicyConfig, Queue, Tenant, User
from fairlead.model.resources import DIMENSIONS, GPU, Node

DEFAULT = "default"
_NOT_IN_NAMES = frozenset("/,=*\"'\\")  # they mean something in lists, paths or on a command line


class Sharing(NamedTuple):
    """All that says who may have how much, by name."""

    queues: Mapping[str, Queue]
    users: Mapping[str, User]
    tenants: Mapping[str, Tenant]
    policy: PolicyConfig


def current(core: Core) -> Sharing:
    """Return what holds now."""
    return Sharing(core.queues, core.users, core.tenants, core.policy)


def changes(core: Core, wanted: Sharing, nodes: Sequence[Node] = ()) -> list[AnyEvent]:
    """Return what has to happen so that `wanted` holds: parents first, deletions last.

    `nodes` are machines that join with it. All or nothing: Misuse or Refused says what is wrong
    with the first thing that is. What was in order before and did not change is not asked again.
    """
    changed = [name for name, queue in wanted.queues.items() if core.queues.get(name) != queue]
    gone = [name for name in core.queues if name not in wanted.queues]
    for name in changed:
        check_queue(wanted.queues[name])
    for name, user in wanted.users.items():
        if core.users.get(name) != user:
            check_user(user)
    for name, tenant in wanted.tenants.items():
        if core.tenants.get(name) != tenant:
            check_tenant(tenant)
    for name in gone:
        _check_deleted(core, name, wanted.queues)
    _check_models(core, wanted, nodes)
    if changed or gone:
        _check_parents(wanted.queues, changed)
        _check_leaves(core, wanted.queues, changed)
        _check_amounts(core, wanted, changed, nodes)
    ordered = sorted(changed, key=lambda name: len(above(wanted.queues, name)))
    leaves_first = sorted(gone, key=lambda name: -len(above(core.queues, name)))
    events: list[AnyEvent] = [QueueSet(queue=wanted.queues[name]) for name in ordered]
    events += [UserSet(user=u) for n, u in wanted.users.items() if core.users.get(n) != u]
    events += [TenantSet(tenant=t) for n, t in wanted.tenants.items() if core.tenants.get(n) != t]
    if wanted.policy != core.policy:
        events.append(PolicySet(policy=wanted.policy))
    events += [UserDeleted(name=name) for name in core.users if name not in wanted.users]
    events += [TenantDeleted(name=name) for name in core.tenants if name not in wanted.tenants]
    events += [QueueDeleted(name=name) for name in leaves_first]
    return events


def check_alone(queues: Sequence[Queue], users: Sequence[User]) -> None:
    """Raise Misuse for what is wrong whatever else there is: of a file that nothing is known of."""
    for queue in queues:
        check_queue(queue)
    for user in users:
        check_user(user)
    table = {queue.name: queue for queue in queues}
    for name in table:
        path = above(table, name)
        if table[path[-1]].parent in path:
            raise _cycle(path, table[path[-1]].parent, f"queues.{name}.parent")


def _cycle(path: Sequence[str], parent: str, field: str) -> Misuse:
    chain = " under ".join((*path, parent))
    return Misuse(f"a cycle of queues: {chain}", field=field, hint="name another parent")


# ---- one by one -------------------------------------------------------------------------------


def check_name(name: str, field: str) -> None:
    """Raise Misuse for what cannot be a name."""
    bad = sorted({char for char in name if char in _NOT_IN_NAMES or char.isspace()})
    if not name or len(name) > limits.NAME_CHARS_MAX or not name.isprintable() or bad:
        why = f": it has {' '.join(repr(char) for char in bad)}" if bad else ""
        raise Misuse(
            f"'{name[:40]}' cannot be a name{why}",
            field=field,
            hint=f"1 to {limits.NAME_CHARS_MAX} letters, digits, and signs such as - _ .",
        )
    if name == "none" or name.startswith("-"):
        raise Misuse(f"'{name}' cannot be a name", field=field, hint="choose another one")


def check_queue(queue: Queue) -> None:
    """Raise Misuse for what is wrong with a queue by itself."""
    at = f"queues.{queue.name}"
    check_name(queue.name, at)
    _check_weight(queue.weight, f"{at}.weight")
    _check_counts(queue.live_max, queue.pending_max, at)
    for key, amounts in (
        ("quota", queue.quota),
        ("borrow", queue.borrow),
        ("lend", queue.lend),
        ("limit", queue.most),
    ):
        _check_range(amounts, f"{at}.{key}", zero=key != "quota")
    _check_types(queue, f"{at}.quota")
    low, high = queue.priority_min, queue.priority_max
    least, most = limits.PRIORITY_MIN, limits.PRIORITY_MAX
    if not least <= low <= high <= most:
        raise Misuse(
            f"the priorities of queue '{queue.name}' are {low}-{high}",
            field=f"{at}.priorities",
            hint=f"write LOW-HIGH within {least}-{most}",
        )
    if not low <= queue.priority <= high:
        raise Misuse(
            f"queue '{queue.name}' takes priorities {low}-{high}, but gives {queue.priority} to "
            "jobs that name none",
            field=f"{at}.priority",
            hint=f"set its priority too, such as {min(max(queue.priority, low), high)}",
        )
    if queue.limit_ms is not None and not 1 <= queue.limit_ms <= limits.LIMIT_MS_MAX:
        raise Misuse("no job could run", field=f"{at}.time_limit", hint='such as "4h", or "none"')
    for user in queue.users:
        check_name(user, f"{at}.users")


def _check_types(queue: Queue, field: str) -> None:
    """Refuse more GPUs of single types than GPUs in all: they count as GPUs, too."""
    gpus = queue.quota.get(DIMENSIONS[GPU])
    typed = sum(amount for name, amount in queue.quota.items() if name.startswith(MODEL))
    if gpus is not None and typed > gpus:
        raise Misuse(
            f"queue '{queue.name}' is guaranteed {show(DIMENSIONS[GPU], typed)} GPUs of single "
            f"types, but {of(DIMENSIONS[GPU], gpus)} in all",
            field=f"{field}.gpus",
            hint="each GPU of a type counts as one of gpus, too",
        )


def check_user(user: User) -> None:
    """Raise Misuse for what is wrong with a user's settings. Users need not be known."""
    at = f"users.{user.name}"
    if user.name != EVERYBODY:
        check_name(user.name, at)
    _check_weight(user.weight, f"{at}.weight")
    _check_counts(user.live_max, user.pending_max, at)
    _check_range(user.most, f"{at}.limit", zero=True)


def check_tenant(tenant: Tenant) -> None:
    """Raise Misuse for what is wrong with a tenant's settings."""
    at = f"tenants.{tenant.name}"
    check_name(tenant.name, at)
    _check_weight(tenant.weight, f"{at}.weight")
    amounts = dict(zip(DIMENSIONS, tenant.quota, strict=False))
    given = {name: amount for name, amount in amounts.items() if amount is not None}
    _check_range(given, f"{at}.quota", zero=True)


def _check_weight(weight: int, field: str) -> None:
    if weight == 0:
        hint = "the least weight is 1; to let nothing in, see --users, --limit and --max-pending"
        raise Misuse("a weight of zero would be no share at all", field=field, hint=hint)
    if not 1 <= weight <= limits.WEIGHT_MAX:
        raise Misuse(f"the weight {weight}", field=field, hint=f"write 1 to {limits.WEIGHT_MAX}")


def _check_counts(live_max: int | None, pending_max: int | None, at: str) -> None:
    if live_max is not None and live_max < 1:
        hint = "1 or more; none: no limit. To stop it for a while, drain its machines"
        message = f"with max_running {live_max} nothing would ever start"
        raise Misuse(message, field=f"{at}.max_running", hint=hint)
    if pending_max is not None and pending_max < 1:
        hint = "1 or more; none: no limit. To close it, say for whom it is: users"
        message = f"with max_pending {pending_max} nobody could submit"
        raise Misuse(message, field=f"{at}.max_pending", hint=hint)


def _check_range(amounts: Mapping[str, int], field: str, *, zero: bool) -> None:
    for resource, amount in amounts.items():
        key = f"{field}.{word(resource)}"
        if amount < 0 or amount > limits.AMOUNT_MAX:
            raise Misuse(f"{key} is {show(resource, amount)}", field=key, hint="from 0 on")
        if not amount and not zero:
            hint = 'leave it out, or write "none"'
            raise Misuse(f"{key}: a guarantee of nothing has no effect", field=key, hint=hint)


# ---- the tree ---------------------------------------------------------------------------------


def _check_parents(queues: Mapping[str, Queue], changed: Sequence[str]) -> None:
    if len(queues) > limits.QUEUES_MAX:
        raise Refused(f"more than {limits.QUEUES_MAX} queues", field="queues", code="too-many")
    for name in changed:
        field = f"queues.{name}.parent"
        path = above(queues, name)
        parent = queues[path[-1]].parent
        if parent and parent not in queues:
            raise missing(parent, (each for each in queues if each != name), "queue", field)
        if parent:
            raise _cycle(path, parent, field)
        if len(path) > limits.QUEUE_DEPTH_MAX:
            raise Misuse(
                f"queue '{name}' lies {len(path)} deep, of at most {limits.QUEUE_DEPTH_MAX}",
                field=field,
                hint="name a parent further up",
            )
        if queues[name].parent == DEFAULT:
            raise Misuse(
                f"queue '{DEFAULT}' takes jobs that name no queue, so nothing can be below it",
                field=field,
                hint="make another queue for those that belong together",
            )


def own_jobs(core: Core, name: str) -> tuple[int, int]:
    """Return how many jobs of a queue itself wait, and how many hold resources."""
    waiting = live = 0
    for (queue, _), account in core.shares.accounts.items():
        if queue == name:
            waiting, live = waiting + account.waiting, live + account.live
    return waiting, live


def _jobs_in_words(waiting: int, live: int) -> str:
    """Return "3 jobs wait and 1 runs", "1 job runs"."""
    parts: list[str] = []
    for count, one, many in ((waiting, "waits", "wait"), (live, "runs", "run")):
        if count:
            jobs = "" if parts else f" job{'s' if count > 1 else ''}"
            parts.append(f"{count}{jobs} {many if count > 1 else one}")
    return " and ".join(parts)


def _check_leaves(core: Core, queues: Mapping[str, Queue], changed: Sequence[str]) -> None:
    """Refuse children below a queue that has jobs."""
    for name in changed:
        parent = queues[name].parent
        before = core.queues.get(name)
        if not parent or (before is not None and before.parent == parent):
            continue
        waiting, live = own_jobs(core, parent)
        if waiting or live:
            raise Refused(
                f"queue '{parent}' has jobs of its own ({_jobs_in_words(waiting, live)}), so "
                f"'{name}' cannot be below it: a queue with queues below it takes no jobs",
                field=f"queues.{name}.parent",
                hint=f"wait for them (fairlead ps --queue {parent}), or name another parent",
                code="has-jobs",
            )


def _check_deleted(core: Core, name: str, kept: Mapping[str, Queue]) -> None:
    if name == DEFAULT:
        raise Refused(
            f"queue '{DEFAULT}' takes jobs that name no queue, so it cannot be deleted",
            field=f"queues.{name}",
            hint="what is set for it can be cleared",
            code="needed",
        )
    below = children(kept, name)
    if below:
        raise Refused(
            f"queue '{name}' has queues below it: {', '.join(below[:10])}",
            field=f"queues.{name}",
            hint="delete those first, or move them: fairlead queue edit NAME --parent none",
            code="has-children",
        )
    waiting, live = own_jobs(core, name)
    if waiting or live:
        raise Refused(
            f"queue '{name}' has jobs: {_jobs_in_words(waiting, live)}",
            field=f"queues.{name}",
            hint=f"wait for them, or cancel them: fairlead ps --queue {name}",
            code="has-jobs",
        )


# ---- amounts ----------------------------------------------------------------------------------


def _check_amounts(
    core: Core, wanted: Sharing, changed: Sequence[str], nodes: Sequence[Node]
) -> None:
    there = there_is(core, nodes)
    if any(there.values()):
        _check_sums(core, wanted.queues, changed, there)
    rows, branches = tree(wanted.queues, there)
    for name in changed:
        for row, resource in enumerate(rows):
            _check_row(wanted.queues[name], branches[name], row, resource, any(there.values()))
        _check_above(wanted.queues, name)


def _check_sums(
    core: Core, queues: Mapping[str, Queue], changed: Sequence[str], there: Mapping[str, int]
) -> None:
    """Refuse guarantees that add up to more than there is, where they did not before."""
    rows = {row for name in changed for row in queues[name].quota}
    before, after = promised(core.queues, rows), promised(queues, rows)
    for row in sorted(rows):
        has = there.get(row, 0)
        if after[row] <= has or after[row] <= before[row]:
            continue
        last = next(name for name in changed if row in queues[name].quota)
        others = after[row] - queues[last].quota[row]
        left = show(row, max(0, has - others))
        message = f"the guarantees add up to {of(row, after[row])}, but there are {show(row, has)}"
        hint = f"others are guaranteed {show(row, others)}, so at most {left} is left for '{last}'"
        if not others:
            message = f"queue '{last}' is guaranteed {of(row, after[row])}, but there are {left}"
            hint = "lower the quota, or wait for the machines that have more"
        field = f"queues.{last}.quota.{word(row)}"
        raise Refused(message, field=field, hint=hint, code="over-capacity")


def _check_row(queue: Queue, branch: Branch, row: int, resource: str, known: bool) -> None:
    """Refuse what would have no effect for one resource of a queue."""
    at, name = f"queues.{queue.name}", word(resource)
    quota, lend, borrow = branch.subtree[row], queue.lend.get(resource), queue.borrow.get(resource)
    whole = _whole(branch, row)
    if lend is not None and lend > quota:
        what = f"of {show(resource, quota)}" if quota else "without a quota"
        raise _no_effect(
            f"queue '{queue.name}' would lend {of(resource, lend)} {what}",
            f"{at}.lend.{name}",
            "leave it out: all of a quota is lent" if quota else "give it a quota, or leave it out",
        )
    most = queue.most.get(resource)
    if most is not None and most < whole:
        raise Misuse(
            f"queue '{queue.name}' and those below it are guaranteed {of(resource, whole)}, but "
            f"may use at most {show(resource, most)}",
            field=f"{at}.limit.{name}",
            hint="raise the limit, or lower the quota",
        )
    if borrow is None:
        return
    root = branch.above()[-1]
    if all(not _whole(child, row) for child in root.children):
        raise _no_effect(
            f"nobody is guaranteed any {name}, so there is nothing to borrow",
            f"{at}.borrow.{name}",
            "a limit bounds what it may use; or give some queue a quota first",
        )
    assert branch.parent is not None
    most_lent = branch.local[row] + branch.parent.potential(row) - quota
    if known and borrow > most_lent:
        raise _no_effect(
            f"queue '{queue.name}' could never borrow {of(resource, borrow)}: the others have "
            f"{show(resource, most_lent)} to lend",
            f"{at}.borrow.{name}",
            f"leave it out (it may borrow what is free), or write at most "
            f"{show(resource, most_lent)}",
        )


def _whole(branch: Branch, row: int) -> int:
    """Return what a branch and all below it are guaranteed."""
    return branch.quota[row] + sum(_whole(child, row) for child in branch.children)


def _check_above(queues: Mapping[str, Queue], name: str) -> None:
    """Refuse limits that a queue further up makes idle."""
    queue = queues[name]
    for each in above(queues, name)[1:]:
        upper = queues[each]
        for resource, most in queue.most.items():
            bound = upper.most.get(resource)
            if bound is not None and most > bound:
                raise _no_effect(
                    f"queue '{name}' may use at most {of(resource, most)}, but '{each}' above it "
                    f"at most {show(resource, bound)}",
                    f"queues.{name}.limit.{word(resource)}",
                    "leave it out, or lower it",
                )
        if queue.live_max is not None and queue.live_max > (upper.live_max or queue.live_max):
            raise _no_effect(
                f"queue '{name}' may run {queue.live_max} jobs, but '{each}' above it at most "
                f"{upper.live_max}",
                f"queues.{name}.max_running",
                "leave it out, or lower it",
            )
        if not upper.priority_min <= queue.priority <= upper.priority_max:
            raise Misuse(
                f"queue '{name}' gives priority {queue.priority} to jobs that name none, but "
                f"'{each}' above it takes {upper.priority_min}-{upper.priority_max}",
                field=f"queues.{name}.priority",
                hint=f"such as {min(max(queue.priority, upper.priority_min), upper.priority_max)}",
            )


def _no_effect(message: str, field: str, hint: str) -> Misuse:
    return Misuse(message, field=field, hint=hint, code="no-effect")


def _check_models(core: Core, wanted: Sharing, nodes: Sequence[Node]) -> None:
    """Refuse GPU types that no machine has, where they are new."""
    there = there_is(core, nodes)
    models = sorted(name.removeprefix(MODEL) for name in there if name.startswith(MODEL))
    if not any(there.values()):
        return
    named = [
        (f"queues.{name}", key, amounts)
        for name, each in wanted.queues.items()
        if core.queues.get(name) != each
        for key, amounts in (
            *(("quota", each.quota), ("borrow", each.borrow)),
            *(("lend", each.lend), ("limit", each.most)),
        )
    ]
    named += [
        (f"users.{name}", "limit", each.most)
        for name, each in wanted.users.items()
        if core.users.get(name) != each
    ]
    for at, key, amounts in named:
        for resource in amounts:
            model = resource.removeprefix(MODEL)
            if not resource.startswith(MODEL) or model in models:
                continue
            field = f"{at}.{key}.{word(resource)}"
            if not models:
                hint = "leave it out, or wait for the machine that has one"
                raise Misuse("no machine here has a GPU", field=field, hint=hint)
            raise missing(model, models, "GPU type", field)
