"""Which jobs a listing is about."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import NamedTuple

from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Misuse, Ms
from fairlead.model.jobs import FINAL, Phase
from fairlead.model.status import JobStatus
from fairlead.service.web import Query, parse_ids
from fairlead.store.codec import JobFilter
from fairlead.store.sqlite import SqliteStore

PAGE = 2_000  # rows looked at at once when not every condition is one of the store


class Selection(NamedTuple):
    """Conditions that must all hold; what is empty does not restrict. `history`: ended ones too."""

    ids: tuple[JobId, ...] | None = None
    phases: frozenset[Phase] = frozenset()
    tenants: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    since_ms: Ms = 0
    history: bool = False

    def takes_job(self, job: Job) -> bool:
        """Whether a pending or live job passes."""
        spec = job.spec
        return (
            (not self.phases or job.phase in self.phases)
            and (not self.tenants or spec.tenant in self.tenants)
            and (not self.queues or spec.queue in self.queues)
            and (not self.users or spec.user in self.users)
            and job.submitted_ms >= self.since_ms
        )

    def takes(self, status: JobStatus) -> bool:
        """Whether a job of the store's table passes what the store did not check."""
        return (
            (not self.tenants or status.tenant in self.tenants)
            and (not self.queues or status.queue in self.queues)
            and (not self.users or status.user in self.users)
            and status.submitted_ms >= self.since_ms
        )

    def page(self, store: SqliteStore, limit: int, before: JobId | None) -> list[JobStatus]:
        """Return at most `limit` jobs, newest first, with ids below `before`."""
        if self.ids is not None and not self.ids:
            return []
        which = JobFilter(
            ids=self.ids or (),
            phases=tuple(sorted(self.phases)),
            tenant=_only(self.tenants),
            queue=_only(self.queues),
            user=_only(self.users),
        )
        found: list[JobStatus] = []
        while len(found) < limit:
            size = max(PAGE, limit - len(found))
            looked_at = store.history(which, size, before)
            found += [status for status in looked_at if self.takes(status)]
            # Ids grow with the time of submission, so nothing older can pass either.
            if len(looked_at) < size or looked_at[-1].submitted_ms < self.since_ms:
                break
            before = looked_at[-1].id
        return found[:limit]


def _only(names: frozenset[str]) -> str:
    return next(iter(names)) if len(names) == 1 else ""


def select(query: Query, last: Callable[[], JobId | None]) -> Selection:
    """Return what a query string asks for; `last` finds the newest job of the asker."""
    ids: tuple[JobId, ...] | None = None
    text = query.text("ids")
    if text == "last":
        newest = last()
        ids = () if newest is None else (newest,)
    elif text:
        ids = tuple(parse_ids(text))
    phases = frozenset(_phase(word) for word in query.words("state"))
    history = query.flag("all") or ids is not None or any(phase in FINAL for phase in phases)
    return Selection(
        ids=ids,
        phases=phases,
        tenants=frozenset(query.words("tenant")),
        queues=frozenset(query.words("queue")),
        users=frozenset(query.words("user")),
        since_ms=query.count("since_ms", 0),
        history=history,
    )


def _phase(word: str) -> Phase:
    try:
        return Phase(word.upper())
    except ValueError:
        close = difflib.get_close_matches(word.upper(), [str(phase) for phase in Phase], 1)
        known = "the states are " + ", ".join(Phase)
        hint = f"did you mean {close[0]}? {known}" if close else known
        raise Misuse(f"there is no state '{word}'", field="state", hint=hint) from None
