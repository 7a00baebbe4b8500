"""What was used in a window of time, from the log: exact, also of jobs that still run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from fairlead.core.metered import Kept, Metered
from fairlead.model.base import Misuse, Ms
from fairlead.model.events import AnyEvent
from fairlead.model.resources import CPU, GPU, GPU_MEMORY, MEMORY
from fairlead.service import web
from fairlead.store import schema
from fairlead.store.logfile import chunks, event_in

if TYPE_CHECKING:
    from fairlead.service.api import Api
    from fairlead.store.sqlite import SqliteStore

BY = ("queue", "user", "tenant")
Records: TypeAlias = Iterator[tuple[int, Ms, AnyEvent]]
_FIGURES = ("gpu_milli_ms", "gpu_memory_mib_ms", "cpu_milli_ms", "memory_mib_ms")
_ROWS = (GPU, GPU_MEMORY, CPU, MEMORY)


def usage(records: Records, since: Ms, until: Ms, by: str) -> dict[str, Any]:
    """Return what was used between two moments, per name and in all, in units times ms."""
    core = Metered(since, until)
    for _, at, event in records:
        if at >= until:
            break
        core.take(at, event)
    kept = core.finish()
    rows: dict[str, dict[str, Any]] = {}
    everything: dict[str, Any] = _nothing()
    for key, meter in core.meters.items():
        if not meter.jobs and not meter.preemptions:
            continue
        for row in (rows.setdefault(getattr(key, by), _nothing()), everything):
            for figure, at in zip(_FIGURES, _ROWS, strict=True):
                row[figure] += meter.used[at]
            row["jobs"] += len(meter.jobs)
            row["preemptions"] += meter.preemptions
    return {
        "by": by,
        "since_ms": since,
        "until_ms": until,
        "rows": [{by: name, **rows[name]} for name in sorted(rows)],
        "together": everything,
        "reserved": [_kept(each) for each in kept],
        "reserved_unused_gpu_milli_ms": sum(e.gpu_milli_ms for e in kept if e.reservation.tenants),
    }


def _nothing() -> dict[str, Any]:
    return dict.fromkeys((*_FIGURES, "jobs", "preemptions"), 0)


def _kept(kept: Kept) -> dict[str, Any]:
    its = kept.reservation
    return {"name": its.name, "tenants": its.tenants, "unused_gpu_milli_ms": kept.gpu_milli_ms}


async def show_usage(api: Api, request: Request) -> Response:
    """Show what was used since a moment, per queue, user or tenant: held by jobs, from the decision
    that placed each until it was gone, clipped to the window. In units times milliseconds."""
    query = web.Query(request, ("since_ms", "until_ms", "by"))
    by = query.text("by") or "queue"
    if by not in BY:
        raise Misuse(f"by is '{by}'", field="by", hint="queue, user or tenant")
    now = api.shell.now
    since, until = query.count("since_ms", 0), min(query.count("until_ms", now), now)
    if since >= until:
        raise Misuse("the window is empty", field="since_ms", hint="a moment before its end")
    if getattr(api.store, "path", None) is None:
        found = usage(api.store.replay(0), since, until, by)
    else:
        # A long log takes seconds: in a thread of its own the service goes on meanwhile.
        found = await asyncio.to_thread(_in_thread, api.store, since, until, by)
    return web.respond({**found, "now_ms": now})


def _in_thread(store: SqliteStore, since: Ms, until: Ms, by: str) -> dict[str, Any]:
    with closing(schema.connect_reader(store.path)) as db:
        db.execute("BEGIN")  # one moment of the log, however long this takes
        return usage(
            ((row[0], row[1], event_in(row)) for r in chunks(db) for row in r), since, until, by
        )
