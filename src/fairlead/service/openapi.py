"""The OpenAPI 3.1 document, built from the table of endpoints and the types that they speak."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

import fairlead
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import JobSpec, Phase, PolicyConfig
from fairlead.policy.explain import Explanation
from fairlead.service import openapi_sharing
from fairlead.service.counting import AcquireRequest, ReleaseRequest, ResourceRequest
from fairlead.service.defrag import Defragmentation, DefragRequest
from fairlead.service.planning import Planned
from fairlead.service.request import JobRequest
from fairlead.service.reservations import ReservationRequest
from fairlead.service.views import JobRow
from fairlead.service.web import Problem

if TYPE_CHECKING:
    from fairlead.service.api import Endpoint

_REF = "#/components/schemas/{name}"
_INTEGER = {"type": "integer"}
_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}

# What each query parameter means; the same name means the same everywhere.
_QUERY: dict[str, tuple[dict[str, Any], str]] = {
    "state": (_TEXT, "comma list of states, any case: " + ", ".join(Phase)),
    "tenant": (_TEXT, "comma list of tenants"),
    "queue": (_TEXT, "comma list of queues"),
    "user": (_TEXT, "comma list of users; with ids=last whose newest job"),
    "ids": (_TEXT, '"12,14-20", or "last"; unknown ids are left out'),
    "all": (_FLAG, "1: jobs that ended too"),
    "since_ms": (_INTEGER, "submitted at this time (ms since the epoch) or later"),
    "limit": (_INTEGER, "at most this many"),
    "after": (_INTEGER, "go on behind this: `next` of the page before, or a sequence number"),
    "format": (_TEXT, '"rows": {"columns": […], "rows": [[…], …]} instead of objects'),
    "wait": ({"type": "number"}, "seconds, at most 60: answer when the job is final, or then"),
    "offset": (_INTEGER, "logical offset of the first byte wanted"),
    "rank": (_INTEGER, "which member of a gang, from 0"),
    "attempt": (_INTEGER, "which attempt, from 1; without it: from the newest on"),
    "follow": (_FLAG, "1: go on until the job is final"),
    "tail": (_INTEGER, "only the last lines, this many"),
    "new": (_FLAG, "1: refused if there is another of that name"),
    "by": (_TEXT, "queue, user or tenant"),
    "until_ms": (_INTEGER, "up to this time (ms since the epoch); without it: now"),
}

_ANSWERS: dict[str, dict[str, Any]] = {
    "submit": {
        "type": "object",
        "properties": {
            "ids": {"type": "array", "items": _INTEGER},
            "jobs": {"type": "array", "items": {"$ref": _REF.format(name="JobRow")}},
        },
    },
    "show_job": {
        "allOf": [
            {"$ref": _REF.format(name="JobRow")},
            {
                "type": "object",
                "properties": {
                    "spec": {"$ref": _REF.format(name="JobSpec")},
                    "events": {"type": "array", "items": {"$ref": "#/components/schemas/LogEvent"}},
                    "now_ms": _INTEGER,
                },
            },
        ]
    },
    "plan_jobs": {"$ref": _REF.format(name="Planned")},
    "defragment": {"$ref": _REF.format(name="Defragmentation")},
    "explain_job": {"$ref": _REF.format(name="Explanation")},
    "list_job_events": {
        "type": "object",
        "properties": {
            "events": {"type": "array", "items": {"$ref": "#/components/schemas/LogEvent"}}
        },
    },
}
_JOBS = {
    "type": "object",
    "properties": {
        "jobs": {"type": "array", "items": {"$ref": _REF.format(name="JobRow")}},
        "columns": {"type": "array", "items": _TEXT},
        "rows": {"type": "array", "items": {"type": "array"}},
        "next": {"type": ["integer", "null"]},
        "now_ms": _INTEGER,
    },
}
_ANSWERS["list_jobs"] = _ANSWERS["history"] = _JOBS
_CANCELLED = {
    "type": "object",
    "properties": {
        "jobs": {
            "type": "array",
            "items": {"type": "object", "properties": {"id": _INTEGER, "phase": _TEXT}},
        },
        "missing": {"type": "array", "items": _INTEGER},
    },
}
_ANSWERS["cancel_job"] = _ANSWERS["cancel_jobs"] = _CANCELLED

_RESERVATION = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("name", "user", "reason"), _TEXT),
        **dict.fromkeys(("start_ms", "gpus", "cpu_milli", "memory_mib"), _INTEGER),
        "end_ms": {"type": ["integer", "null"], "description": "null: until it is deleted"},
        **{name: {"type": "array", "items": _TEXT} for name in ("tenants", "nodes", "gpu_type")},
        "slots": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"node": _TEXT, "devices": {"type": "array", "items": _INTEGER}},
            },
        },
        "drain": _FLAG,
        "active": _FLAG,
    },
}
_ANSWERS["create_reservation"] = _ANSWERS["delete_reservation"] = _RESERVATION
_ANSWERS["list_reservations"] = {
    "type": "object",
    "properties": {"reservations": {"type": "array", "items": _RESERVATION}, "now_ms": _INTEGER},
}

_ANSWERS["checkpoint_job"] = {
    "type": "object",
    "properties": {"id": _INTEGER, "checkpoint_ms": _INTEGER, "now_ms": _INTEGER},
}

_CANCEL = {"reason": _TEXT, "now": _FLAG}
_BODIES: dict[str, dict[str, Any]] = {
    "submit": {
        "oneOf": [
            {"$ref": _REF.format(name="JobRequest")},
            {
                "type": "object",
                "required": ["jobs"],
                "properties": {
                    "jobs": {"type": "array", "items": {"$ref": _REF.format(name="JobRequest")}},
                    "request": {"type": "string", "description": "idempotency key"},
                    "env": {"type": "object", "description": "for every job of the call"},
                    "workdir": {"type": "string", "description": "for jobs that name none"},
                },
            },
        ]
    },
    "cancel_job": {"type": "object", "properties": _CANCEL},
    "cancel_jobs": {
        "type": "object",
        "required": ["ids"],
        "properties": {
            "ids": {
                "oneOf": [_TEXT, {"type": "array", "items": _INTEGER}],
                "description": '"12-15,20", "last", "all", or a list',
            },
            "user": _TEXT,
            **_CANCEL,
        },
    },
    "create_reservation": {"$ref": _REF.format(name="ReservationRequest")},
    "drain_node": {"type": "object", "properties": {"reason": _TEXT}},
    "create_resource": {"$ref": _REF.format(name="ResourceRequest")},
    "edit_resource": {"$ref": _REF.format(name="ResourceRequest")},
    "defragment": {"$ref": _REF.format(name="DefragRequest")},
    "acquire": {"$ref": _REF.format(name="AcquireRequest")},
    "release": {"$ref": _REF.format(name="ReleaseRequest")},
    "checkpoint_job": {"type": "object", "properties": {"attempt": _INTEGER}},
}
_ANSWERS |= openapi_sharing.ANSWERS
_BODIES |= openapi_sharing.BODIES
_BODIES["plan_jobs"] = _BODIES["submit"]
_OPTIONAL = (
    "cancel_job",
    "checkpoint_job",
    "drain_node",
    "set_queue",
    "set_user",
    "set_tenant",
)  # whose body may be left out
_PATH = {"id": 'a job id, or "last"', "name": "of what the path says"}
_STREAMS = {"read_logs": "text/plain", "stream_events": "text/event-stream"}


def document(endpoints: Sequence[Endpoint]) -> bytes:
    """Return the document as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Fairlead",
                "version": fairlead.__version__,
                "summary": "Schedules AI work on shared CPUs and GPUs, and says why",
            },
            "servers": [{"url": "http://fairlead", "description": "over the unix socket"}],
            "paths": paths,
            "components": {"schemas": _schemas()},
        }
    )


def _schemas() -> dict[str, Any]:
    jobs = (JobRequest, JobRow, JobSpec, Explanation, Planned, ReservationRequest)
    named = (ResourceRequest, AcquireRequest, ReleaseRequest)
    moving = (DefragRequest, Defragmentation)
    types = (*jobs, *openapi_sharing.TYPES, *named, *moving, PolicyConfig, Problem)
    refs, components = msgspec.json.schema_components([*types, AnyEvent], ref_template=_REF)
    place = {"type": "object", "properties": {"seq": _INTEGER, "at_ms": _INTEGER}}
    return {**components, "LogEvent": {"allOf": [place, refs[-1]]}}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    name = endpoint.name
    text = " ".join((endpoint.handler.__doc__ or "").split())
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    media = _STREAMS.get(name, "application/json")
    schema = _TEXT if name in _STREAMS else _ANSWERS.get(name, {"type": "object"})
    status = "201" if name in ("submit", "create_reservation", "create_resource") else "200"
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": text.split(". ")[0].rstrip("."),
        "description": text,
        "parameters": _parameters(endpoint),
        "responses": {
            status: {"description": "done", "content": {media: {"schema": schema}}},
            "default": {"description": "what is wrong, and what to do", "content": problem},
        },
    }
    if name in _BODIES:
        operation["requestBody"] = {
            "required": name not in _OPTIONAL,
            "content": {"application/json": {"schema": _BODIES[name]}},
        }
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": each,
            "in": "path",
            "required": True,
            "schema": _TEXT,
            "description": _PATH[each],
        }
        for each in re.findall(r"{(\w+)}", endpoint.path)
    ]
    for each in endpoint.query:
        schema, description = _QUERY[each]
        found.append({"name": each, "in": "query", "schema": schema, "description": description})
    if endpoint.name == "submit":
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": _TEXT,
                "description": "the same key again submits nothing and answers with the same ids",
            }
        )
    return found
