"""Queues, users and tenants as clients see and change them: one by one, or all with a file.

A change is worked out inside the turn that makes it, from what holds there: two that come at the
same time are made one after the other, and each is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from fairlead.core import queues
from fairlead.core.capacity import missing
from fairlead.core.engine import Core
from fairlead.core.queues import Sharing
from fairlead.model.amounts import of, show
from fairlead.model.base import Misuse, Refused
from fairlead.model.document import Level, convert
from fairlead.model.events import AnyEvent
from fairlead.policy import sharing_file
from fairlead.policy.sharing_words import (
    Table,
    differences,
    policy_table,
    queue_table,
    summary,
    tenant_table,
    user_table,
)
from fairlead.service.commands import Batch

Wish: TypeAlias = Callable[[Sharing], Sharing]
CHANGED = "changed-meanwhile"


class Kind(NamedTuple):
    """Queues, users or tenants: how they are read, written and called."""

    word: str
    key: str  # in a file, in an error's field, in `Sharing`
    level: Level[Any]
    of: Callable[[str, Any], Any]  # a table -> the record
    table: Callable[[Any], Table]  # and back


QUEUES = Kind("queue", "queues", sharing_file.QUEUE, sharing_file.queue_of, queue_table)
USERS = Kind("user", "users", sharing_file.USER, sharing_file.user_of, user_table)
TENANTS = Kind("tenant", "tenants", sharing_file.TENANT, sharing_file.tenant_of, tenant_table)
KINDS = (QUEUES, USERS, TENANTS)


class Share:
    """Bring about another `Sharing`, in one turn or not at all. Answers with what changed.

    `wish` makes what is wanted of what holds. `expected` are the changes that the client saw
    before: Refused if they are no longer what would happen.
    """

    def __init__(self, wish: Wish, expected: Sequence[str] | None = None) -> None:
        self.wish, self.expected = wish, expected
        self.lines: list[str] = []
        self.cut: list[tuple[str, str]] = []  # queue and resource of which it is guaranteed less
        self.policy_set = False

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse what is wrong or would have no effect."""
        core = batch.latest()
        before = queues.current(core)
        wanted = self.wish(before)
        events = queues.changes(core, wanted)
        self.lines = told(before, wanted, events)
        if self.expected is not None and list(self.expected) != self.lines:
            raise Refused(
                "something else was changed meanwhile, so other things would happen now",
                hint="look at the new plan, and apply again",
                code=CHANGED,
            )
        self.cut = [
            (name, resource)
            for name, queue in before.queues.items()
            for resource, amount in queue.quota.items()
            if name in wanted.queues and wanted.queues[name].quota.get(resource, 0) < amount
        ]
        self.policy_set = wanted.policy != before.policy
        batch.settled = batch.settled and not events
        return events

    def answer(self, core: Core) -> list[str]:
        """Return what is to be known about it, beside what changed (`lines`)."""
        core.shares.sync()
        notes = [
            f"queue {name} uses {of(resource, branch.held[row])}, {show(resource, more)} more than "
            "its quota now: nothing is stopped for that; it borrows them until who is guaranteed "
            "them asks, or its jobs end"
            for name, resource in self.cut
            if resource in core.shares.rows and (branch := core.shares.branches.get(name))
            for row in (core.shares.rows.index(resource),)
            if (more := branch.borrowed(row)) and branch.available(row) >= 0
        ]
        if self.policy_set:
            notes.append(
                "when the service starts again, the policy will be that of config.toml, or the "
                "default: write it there, too"
            )
        return notes


# ---- wishes -----------------------------------------------------------------------------------


def put(kind: Kind, name: str, body: Any, *, new: bool) -> Wish:
    """Return the wish for a table to be as said; `new`: not if there is another of that name."""
    record = _record(kind, name, _body(body))

    def wish(now: Sharing) -> Sharing:
        known = getattr(now, kind.key)
        if new and name in known and known[name] != record:
            raise Refused(
                f"there is a {kind.word} '{name}' already{_settings(kind, known[name])}",
                field="name",
                hint=f"fairlead {kind.word} edit {name} … changes it",
                code="exists",
            )
        return _with(now, kind, {**known, name: record})

    return wish


def patch(kind: Kind, name: str, body: Any) -> Wish:
    """Return the wish for some keys of a table to change: null or "none" clears one.

    In tables of amounts the resources that are not named stay as they are.
    """
    changes = _body(body)

    def wish(now: Sharing) -> Sharing:
        known = getattr(now, kind.key)
        if name not in known:
            raise unknown(kind, name, known)
        table = _merged(kind.table(known[name]), changes)
        return _with(now, kind, {**known, name: _record(kind, name, table)})

    return wish


def delete(kind: Kind, name: str) -> Wish:
    """Return the wish for one of a name to be no more; Misuse "not-found" when there is none."""

    def wish(now: Sharing) -> Sharing:
        known = getattr(now, kind.key)
        if name not in known:
            raise unknown(kind, name, known)
        return _with(now, kind, {key: known[key] for key in known if key != name})

    return wish


def apply(document: Any, *, prune: bool) -> Wish:
    """Return the wish of a cluster file. `prune`: what it does not name, of the parts that it has,
    is to go; the queue "default" stays."""
    said = sharing_file.read_tables(document)

    def wish(now: Sharing) -> Sharing:
        wanted: dict[str, Any] = {} if said.policy is None else {"policy": said.policy}
        for kind in KINDS:
            named = getattr(said, kind.key)
            if named is None:
                continue
            known = getattr(now, kind.key)
            needed = (queues.DEFAULT,) if kind is QUEUES else ()
            kept = {name: known[name] for name in known if not prune or name in needed}
            wanted[kind.key] = {**kept, **{each.name: each for each in named}}
        return now._replace(**wanted)

    return wish


def _with(now: Sharing, kind: Kind, records: Mapping[str, Any]) -> Sharing:
    changed: dict[str, Any] = {kind.key: records}
    return now._replace(**changed)


def _record(kind: Kind, name: str, table: Mapping[str, Any]) -> Any:
    return kind.of(name, convert(_plain(table), kind.level))


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table without what was cleared; users may be one text."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            value = {name: each for name, each in value.items() if not _cleared(each)}
        if key == "users" and isinstance(value, str) and not _cleared(value):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not _cleared(value):
            found[key] = value
    return found


def _cleared(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() == "none")


def _merged(table: Table, changes: Mapping[str, Any]) -> Table:
    merged = dict(table)
    for key, value in changes.items():
        before = table.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = {**before, **value} if both and before is not None else value
    return merged


def _body(body: Any) -> Mapping[str, Any]:
    if body is not None and not isinstance(body, dict):
        raise Misuse("the body is a JSON object", hint='such as {"weight": 2}')
    return body or {}


def unknown(kind: Kind, name: str, known: Iterable[str]) -> Misuse:
    """Return the error for a name that there is not."""
    return missing(name, known, kind.word, "name", "not-found")


# ---- words ------------------------------------------------------------------------------------


def _settings(kind: Kind, record: Any) -> str:
    said = summary(kind.table(record))
    return f" ({said})" if said else ""


def told(before: Sharing, after: Sharing, events: Sequence[AnyEvent]) -> list[str]:
    """Return the changes in words, in the order in which they happen."""
    kinds = {"QueueSet": QUEUES, "UserSet": USERS, "TenantSet": TENANTS}
    kinds |= {"QueueDeleted": QUEUES, "UserDeleted": USERS, "TenantDeleted": TENANTS}
    lines = []
    for event in events:
        kind = kinds.get(type(event).__name__)
        if kind is None:
            lines += [
                f"~ policy: {change}"
                for change in differences(policy_table(before.policy), policy_table(after.policy))
            ]
            continue
        old, new = getattr(before, kind.key), getattr(after, kind.key)
        name = getattr(event, "name", None) or getattr(event, kind.word).name
        if name not in new:
            lines.append(f"- {kind.word} {name}{_settings(kind, old[name])}")
        elif name not in old:
            lines.append(f"+ {kind.word} {name}{_settings(kind, new[name])}")
        else:
            what = ", ".join(differences(kind.table(old[name]), kind.table(new[name])))
            lines.append(f"~ {kind.word} {name}: {what}")
    return lines
