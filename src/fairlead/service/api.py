"""The HTTP API: a table of endpoints, from which routes and the OpenAPI document both follow."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

import fairlead
from fairlead.backends.local.launch import agent_pid
from fairlead.model.base import JobId, Misuse, StoreFailed
from fairlead.model.jobs import FINAL, Phase
from fairlead.model.status import JobStatus
from fairlead.policy.explain import Explanation, explain
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.registry import describe
from fairlead.service import (
    checkpoints,
    counting,
    defrag,
    foresight,
    metrics,
    openapi,
    reservations_api,
    sharing_api,
    speeds,
    stream,
    views,
    web,
)
from fairlead.service.advice import AdviceDesk
from fairlead.service.agentlink import AgentLink
from fairlead.service.commands import Cancel, CancelAll, Submit
from fairlead.service.etas import EtaDesk
from fairlead.service.places import Places
from fairlead.service.planning import plan
from fairlead.service.selection import Selection, select
from fairlead.service.shell import Shell
from fairlead.service.spec import Defaults
from fairlead.service.watchdog import Watchdog
from fairlead.store.codec import JobFilter
from fairlead.store.sqlite import SqliteStore

WAIT_S_MAX = 60.0
LIST_DEFAULT = 1_000
LIST_MAX = 100_000
SHOWN_MAX = 100  # jobs in the answer to a submission
# Reasons cost a look at the whole queue; behind a long one a submission gets its answer at once.
REASONS_QUEUE_MAX = 2_000

log = logging.getLogger("fairlead.service")
Handler = Callable[["Api", Request], Awaitable[Response]]


class Endpoint(NamedTuple):
    """One operation of the API."""

    method: str
    path: str
    handler: Handler
    query: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the operation's name."""
        return self.handler.__name__


class Api:
    """Answers requests from the shell, the store and the files of jobs."""

    def __init__(self, shell: Shell, store: SqliteStore, places: Places, link: AgentLink) -> None:
        self.shell, self.store, self.places, self.link = shell, store, places, link
        self.started_ms = shell.now
        self.reasons = views.Reasons()
        self.etas, self.advice = EtaDesk(shell), AdviceDesk(shell)
        self.watchdog = Watchdog(shell)
        self.metrics = metrics.Metrics(shell)
        self.config_problem = ""  # why what config.toml says of sharing is not in force
        self._document = b""

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route(each.path, self._endpoint(each), methods=[each.method], name=each.name)
            for each in ENDPOINTS
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _no_route})

    def _endpoint(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        handler = endpoint.handler

        async def answer(request: Request) -> Response:
            found = await handled(request)
            self.metrics.answered(request.method, found.status_code)
            return found

        async def handled(request: Request) -> Response:
            try:
                return await handler(self, request)
            except (Misuse, StoreFailed) as error:
                return web.problem(error)
            except web.Vanished:
                return Response(status_code=400)  # nobody reads it
            except Exception:
                log.exception("%s %s failed", request.method, request.url.path)
                return web.internal_error()

        return answer

    # ---- jobs ---------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        """Submit one job, or several: all or none. The same key again submits nothing new."""
        body = await web.body_of(request)
        key = request.headers.get("idempotency-key", "")
        if not key and isinstance(body, dict):
            key = body.get("request", "")
        if not isinstance(key, str) or len(key) > 200:
            raise Misuse("the idempotency key is text of at most 200 characters", field="request")
        ids, fresh = await self.shell.ask(Submit(body, self.defaults(request), key))
        shown = ids[:SHOWN_MAX]
        short = len(self.shell.core.pending) <= REASONS_QUEUE_MAX
        waits = self._waits() if short else views.Waits()
        jobs = [
            {**self._view(status, waits), "position": self.reasons.position(status.id)}
            if status.id in waits.why
            else self._view(status, waits)
            for status in self._statuses(shown)
        ]
        body = {"ids": ids, "jobs": jobs, "waiting": len(self.shell.core.pending)}
        return web.respond({**body, "now_ms": self.shell.now}, 201 if fresh else 200)

    async def plan_jobs(self, request: Request) -> Response:
        """Say what would happen if these jobs were submitted now; nothing comes of it."""
        web.Query(request, ())
        command = Submit(await web.body_of(request), self.defaults(request))
        return web.respond(await plan(self.shell, self.etas, command))

    async def list_jobs(self, request: Request) -> Response:
        """List jobs: those that wait or run in order of submission; with `all`, `ids` or a final
        state also those that ended, newest first. `next` is the `after` of the next page."""
        query = web.Query(request, LIST_QUERY)
        chosen = select(query, self._last_of(request, query))
        rows = query.text("format") == "rows"
        limit = query.count("limit", LIST_DEFAULT, LIST_MAX)
        after = query.optional("after")
        if chosen.history:
            return self._history(chosen, rows, limit, after)
        jobs = self.shell.core.jobs.values()
        found = [job for job in jobs if (after is None or job.id > after) and chosen.takes_job(job)]
        page = found[:limit]
        more = page[-1].id if page and len(found) > limit else None
        waits = self._waits(any(job.phase is Phase.PENDING for job in page))
        items = views.page_of_jobs(self.shell.core, page, waits, rows=rows)
        return self._page(items, rows, more)

    async def history(self, request: Request) -> Response:
        """List jobs that ended, newest first."""
        query = web.Query(request, LIST_QUERY)
        chosen = select(query, self._last_of(request, query))
        if not chosen.phases:
            chosen = chosen._replace(phases=frozenset(FINAL))
        limit = query.count("limit", 100, LIST_MAX)
        return self._history(chosen, query.text("format") == "rows", limit, query.optional("after"))

    def _history(self, chosen: Selection, rows: bool, limit: int, before: JobId | None) -> Response:
        found = chosen.page(self.store, limit + 1, before)
        page = found[:limit]
        waits = self._waits(any(status.phase is Phase.PENDING for status in page))
        items = views.page_of_statuses(page, waits, rows=rows)
        return self._page(items, rows, page[-1].id if page and len(found) > limit else None)

    def _page(self, items: list[Any], rows: bool, more: JobId | None) -> Response:
        body: dict[str, Any] = {"columns": views.COLUMNS} if rows else {}
        body |= {"rows" if rows else "jobs": items, "next": more, "now_ms": self.shell.now}
        return web.respond(body)

    async def show_job(self, request: Request) -> Response:
        """Show one job with its spec and what happened to it; `wait` returns when it is final."""
        query = web.Query(request, ("wait",))
        job_id = self.job_id(request)
        wait_s = query.seconds("wait", WAIT_S_MAX)
        if wait_s:
            await self.shell.ended(job_id, wait_s)
        status = self.status(job_id)
        story = self.store.story(job_id, progress=False)
        spec = self.store.spec_of(job_id)
        body = self._view(status, self._waits(status.phase is Phase.PENDING))
        body["spec"] = None if spec is None else views.spec_of(spec)
        job = self.shell.core.jobs.get(job_id)
        body["progress"] = None if job is None else speeds.progress(self.shell, job)
        body["events"] = [stream.event_view(*each) for each in story]
        body["now_ms"] = self.shell.now
        return web.respond(body)

    async def explain_job(self, request: Request) -> Response:
        """Say why a job is where it is."""
        web.Query(request, ())
        job_id = self.job_id(request)
        found = explain(self.shell.core, self._pipeline(), job_id, self.shell.now)
        if found is None:
            status = self.status(job_id)
            found = Explanation(job=job_id, phase=status.phase, reason="", summary=status.because)
        body = views.spec_of(found)
        eta = views.shown(self.etas.of(job_id))
        job = self.shell.core.jobs.get(job_id)
        promised = job.promise.start_ms if job is not None and job.promise else None
        more = {"eta": eta, "eta_measured": self.etas.measured, "promised_ms": promised}
        return web.respond({"id": body.pop("job"), **body, **more, "now_ms": self.shell.now})

    async def list_job_events(self, request: Request) -> Response:
        """List what happened to a job, oldest first."""
        query = web.Query(request, ("after", "limit"))
        job_id = self.job_id(request)
        story = self.store.story(
            job_id, query.count("after", 0), query.count("limit", LIST_DEFAULT, LIST_MAX)
        )
        return web.respond({"events": [stream.event_view(*each) for each in story]})

    async def read_logs(self, request: Request) -> Response:
        """Read what a member printed, from a logical offset; `follow` goes on until the end."""
        query = web.Query(request, ("offset", "rank", "attempt", "follow", "tail"))
        job_id = self.job_id(request)
        status = self.status(job_id)
        rank = query.count("rank", 0)
        if rank >= status.members and not status.members_max:
            raise Misuse(f"job {job_id} has ranks 0 to {status.members - 1}", field="rank")
        tail = stream.Tail(
            self.shell, self.store, self.places.state, job_id, rank, query.count("attempt", 0)
        )
        first = b""
        tail.offset = query.count("offset", 0)
        if query.text("tail"):
            first = tail.last(query.count("tail", 0, 1_000_000))
        headers = {
            "x-fairlead-offset": str(tail.offset - len(first)),
            "x-fairlead-attempt": str(tail.attempt),
        }
        body = stream.chain(first, tail.read(follow=query.flag("follow")))
        return StreamingResponse(body, headers=headers, media_type="text/plain")

    async def cancel_job(self, request: Request) -> Response:
        """Cancel one job; what is final already stays as it is."""
        job_id = self.job_id(request)
        body = web.mapping(await web.body_of(request), ("reason", "now"))
        return await self._cancel([job_id], body)

    async def cancel_jobs(self, request: Request) -> Response:
        """Cancel several jobs in one turn: "ids" is "12-15,20", "last", "all" or a list."""
        body = web.mapping(await web.body_of(request), ("ids", "user", "reason", "now"))
        ids = body.get("ids", "")
        user = body.get("user") or web.user_of(request)
        if ids == "all":
            return await self._cancel(None, body)
        if ids == "last":
            last = self._last(user)
            ids = [] if last is None else [last]
        elif isinstance(ids, str):
            ids = web.parse_ids(ids)
        elif not isinstance(ids, list) or not all(type(each) is int for each in ids):
            raise Misuse("ids is text such as 12-15,20 or a list of numbers", field="ids")
        return await self._cancel(ids, body)

    async def _cancel(self, ids: Sequence[JobId] | None, body: Mapping[str, Any]) -> Response:
        now = body.get("now", False)
        if not isinstance(now, bool):
            raise Misuse("now is true or false", field="now")
        because = str(body.get("reason") or "")[:1000]
        because = f"cancelled: {because}" if because else "cancelled"
        command = CancelAll(because, now) if ids is None else Cancel(ids, because, now)
        await self.shell.ask(command)
        known = {status.id: status.phase for status in self._statuses(command.ids)}
        return web.respond(
            {
                "jobs": [{"id": each, "phase": phase} for each, phase in known.items()],
                "missing": [each for each in command.ids if each not in known],
            }
        )

    # ---- the rest -----------------------------------------------------------------------------

    async def stream_events(self, request: Request) -> Response:
        """Follow the log as server-sent events from `after` on (or the header Last-Event-ID)."""
        query = web.Query(request, ("after",))
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isdecimal() else query.count("after", 0)
        body = stream.events(self.shell, self.store, after)
        return StreamingResponse(body, media_type="text/event-stream")

    async def show_status(self, request: Request) -> Response:
        """Show the service itself: version, policy, counts, agent, store."""
        shell, core = self.shell, self.shell.core
        web.Query(request, ())
        body = {
            "version": fairlead.__version__,
            "pid": os.getpid(),
            "started_ms": self.started_ms,
            "now_ms": shell.now,
            "state": str(self.places.state),
            "socket": str(self.places.socket),
            "events": core.seq,
            "turns": shell.turns,
            "policy": core.policy,
            "policy_text": describe(core.policy),
            "plan": self.advice.status(),
            "queues": list(core.queues.values()),
            "users": list(core.users.values()),
            "tenants": list(core.tenants.values()),
            "config": {"ok": not self.config_problem, "problem": self.config_problem},
            "jobs": views.phases(core),
            "preemptions": self.watchdog.view(core),
            "nodes": len(core.nodes),
            "eta": self.etas.measured,
            "predictor": {"name": shell.forecasts.name, "problem": shell.forecasts.problem},
            "ready": not self._problem(),
            "store": {"ok": not shell.failing, "problem": shell.failing},
            "agent": {
                "connected": self.link.connected,
                "problem": self.link.problem,
                "pid": agent_pid(self.places.state),
            },
        }
        return web.respond(body)

    async def check_health(self, request: Request) -> Response:
        """Say that the process answers."""
        return web.respond({"ok": True})

    async def check_ready(self, request: Request) -> Response:
        """Say whether jobs can be accepted and started now; 503 with the reason if not."""
        problem = self._problem()
        return web.respond({"ok": not problem, "problem": problem}, 503 if problem else 200)

    async def show_openapi(self, request: Request) -> Response:
        """Describe this API (OpenAPI 3.1)."""
        self._document = self._document or openapi.document(ENDPOINTS)
        return Response(self._document, media_type="application/json")

    # ---- shared -------------------------------------------------------------------------------

    def defaults(self, request: Request) -> Defaults:
        """Return what a job of this user gets for what it does not say."""
        shell = self.shell
        return Defaults(user=web.user_of(request), queues=shell.core.queues, now_ms=shell.now)

    def _problem(self) -> str:
        return self.shell.failing or ("" if self.link.ready else self.link.problem or "starting")

    def _waits(self, any_waits: bool = True) -> views.Waits:
        """Return why jobs wait and until when; nothing where none of those shown does."""
        if not any_waits:
            return views.Waits()
        why = self.reasons.look(self.shell.core, self._pipeline(), self.shell.now)
        return views.Waits(why, self.etas.look())

    def _pipeline(self) -> Pipeline:
        policy = self.shell.scheduler.policy
        assert isinstance(policy, Pipeline)
        return policy

    def _view(self, status: JobStatus, waits: views.Waits) -> dict[str, Any]:
        return views.view(status, *waits.of(status.id))

    def _statuses(self, ids: Sequence[JobId]) -> list[JobStatus]:
        """Return the statuses of those that exist, in the order asked for."""
        core = self.shell.core
        known = {each: core.status(core.jobs[each]) for each in ids if each in core.jobs}
        ended = tuple(each for each in ids if each not in known and 0 < each < core.next_job)
        if ended:
            which = JobFilter(ids=ended)
            known |= {each.id: each for each in self.store.history(which, limit=len(ended))}
        return [known[each] for each in ids if each in known]

    def status(self, job_id: JobId) -> JobStatus:
        """Return a job's status; Misuse "not-found" when there is none."""
        found = self._statuses([job_id])
        if not found:
            raise Misuse(
                f"there is no job {job_id}",
                field="id",
                hint="fairlead ps and fairlead history list the jobs",
                code="not-found",
            )
        return found[0]

    def job_id(self, request: Request) -> JobId:
        """Return the job that the path names; Misuse "not-found" when there is none."""
        word = request.path_params["id"]
        if word == "last":
            last = self._last(web.user_of(request))
            if last is None:
                raise Misuse("you have no job yet", field="id", code="not-found")
            return last
        if not (word.isascii() and word.isdecimal()) or len(word) > 18:
            raise Misuse(f"'{word}' is no job id", field="id", hint="write 12 or last")
        job_id = int(word)
        if not 0 < job_id < self.shell.core.next_job:
            self.status(job_id)
        return job_id

    def _last(self, user: str) -> JobId | None:
        found = self.store.history(JobFilter(user=user), limit=1)
        return found[0].id if found else None

    def _last_of(self, request: Request, query: web.Query) -> Callable[[], JobId | None]:
        return lambda: self._last(query.text("user") or web.user_of(request))


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return web.no_route(405, f"{request.url.path} does not take {request.method}")
    return web.no_route(error.status_code, f"there is no {request.url.path}")


LIST_QUERY = (
    *("state", "tenant", "queue", "user", "ids", "all", "since_ms", "limit", "after", "format"),
)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("POST", "/api/v1/jobs", Api.submit),
    Endpoint("GET", "/api/v1/jobs", Api.list_jobs, LIST_QUERY),
    Endpoint("POST", "/api/v1/jobs:plan", Api.plan_jobs),
    Endpoint("POST", "/api/v1/jobs:cancel", Api.cancel_jobs),
    Endpoint("GET", "/api/v1/jobs/{id}", Api.show_job, ("wait",)),
    Endpoint("GET", "/api/v1/jobs/{id}/explain", Api.explain_job),
    Endpoint("GET", "/api/v1/jobs/{id}/forecast", foresight.show_forecast),
    Endpoint("GET", "/api/v1/forecasts", foresight.measure_forecasts),
    Endpoint("GET", "/api/v1/jobs/{id}/events", Api.list_job_events, ("after", "limit")),
    Endpoint(
        "GET",
        "/api/v1/jobs/{id}/logs",
        Api.read_logs,
        ("offset", "rank", "attempt", "follow", "tail"),
    ),
    Endpoint("POST", "/api/v1/jobs/{id}/cancel", Api.cancel_job),
    *(Endpoint(*each) for each in reservations_api.ROUTES),
    *(Endpoint(*each) for each in sharing_api.ROUTES),
    *(Endpoint(*each) for each in counting.ENDPOINTS),
    *(Endpoint(*each) for each in checkpoints.ROUTES),
    *(Endpoint(*each) for each in defrag.ROUTES),
    *(Endpoint(*each) for each in speeds.ROUTES),
    Endpoint("GET", "/api/v1/history", Api.history, LIST_QUERY),
    Endpoint("GET", "/api/v1/events", Api.stream_events, ("after",)),
    Endpoint("GET", "/api/v1/status", Api.show_status),
    Endpoint("GET", "/healthz", Api.check_health),
    Endpoint("GET", "/readyz", Api.check_ready),
    Endpoint("GET", "/metrics", metrics.show_metrics),
    Endpoint("GET", "/openapi.json", Api.show_openapi),
)
