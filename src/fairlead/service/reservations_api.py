"""The endpoints of nodes, drains and reservations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from fairlead.service import reservations, web
from fairlead.service.reservations import Drain, Reserve, Resume, Unreserve
from fairlead.service.views import nodes
from fairlead.service.web import mapping, user_of

if TYPE_CHECKING:
    from fairlead.service.api import Api


async def list_nodes(api: Api, request: Request) -> Response:
    """List nodes: capacity, what is used, and by which jobs."""
    web.Query(request, ())
    return web.respond({"nodes": nodes(api.shell.core), "now_ms": api.shell.now})


async def drain_node(api: Api, request: Request) -> Response:
    """Start nothing new on a node; what runs there may end. Draining it again changes nothing.

    Lasts until the node is resumed, over restarts too.
    """
    body = mapping(await web.body_of(request), ("reason",))
    reason = str(body.get("reason") or "")
    name, user = request.path_params["name"], user_of(request)
    return web.respond(await api.shell.ask(Drain(name, reason, user, api.shell.now)))


async def resume_node(api: Api, request: Request) -> Response:
    """Start jobs on a node again. Resuming one that is not drained changes nothing."""
    mapping(await web.body_of(request), ())
    return web.respond(await api.shell.ask(Resume(request.path_params["name"])))


async def create_reservation(api: Api, request: Request) -> Response:
    """Keep nodes, GPUs or cores for tenants, or for nobody, during a time.

    Refused where it cannot be kept, with the earliest start that works.
    """
    body = await web.body_of(request)
    made = await api.shell.ask(Reserve(body, user_of(request), api.shell.now))
    return web.respond(made, 201)


async def list_reservations(api: Api, request: Request) -> Response:
    """List the reservations that are in force or to come, drains too, earliest first."""
    web.Query(request, ())
    core = api.shell.core
    those = sorted(core.reservations.values(), key=lambda each: (each.start_ms, each.name))
    body = [reservations.view(core, each) for each in those]
    return web.respond({"reservations": body, "now_ms": api.shell.now})


async def delete_reservation(api: Api, request: Request) -> Response:
    """Delete a reservation; what it kept is free at once. Answers with what it was."""
    return web.respond(await api.shell.ask(Unreserve(request.path_params["name"])))


ROUTES = (
    ("GET", "/api/v1/nodes", list_nodes),
    ("POST", "/api/v1/nodes/{name}/drain", drain_node),
    ("POST", "/api/v1/nodes/{name}/resume", resume_node),
    ("POST", "/api/v1/reservations", create_reservation),
    ("GET", "/api/v1/reservations", list_reservations),
    ("DELETE", "/api/v1/reservations/{name}", delete_reservation),
)
