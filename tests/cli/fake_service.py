"""A service for tests of the command line: answers from a table, on a real unix socket."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fairlead.model.base import Misuse, Refused
from fairlead.service.spec import Defaults, parse_body

COLUMNS = [
    *("id", "name", "user", "tenant", "queue", "phase", "priority", "submitted_ms", "started_ms"),
    *("ended_ms", "nodes", "exit_code", "exit_signal", "because", "cpu_milli", "memory_mib"),
    *("gpus_milli", "members", "limit_ms", "attempt", "array", "array_index", "reason", "eta"),
]
NOW = 1_800_000_000_000


def job(number: int, phase: str = "PENDING", **fields: Any) -> dict[str, Any]:
    """A row of the API with every field."""
    plain: dict[str, Any] = dict.fromkeys(COLUMNS)
    plain |= {"id": number, "name": "train", "user": "ann", "tenant": "nlp", "queue": "default"}
    plain |= {"phase": phase, "priority": 50, "submitted_ms": NOW - 3_600_000, "nodes": []}
    plain |= {"because": "", "cpu_milli": 2000, "memory_mib": 4096, "gpus_milli": 0, "members": 1}
    plain |= {"attempt": 0, "array_index": 0, "reason": "", "devices": []}
    if phase != "PENDING":
        plain |= {"started_ms": NOW - 600_000, "attempt": 1, "nodes": ["vm"]}
    if phase in ("SUCCEEDED", "FAILED", "TIMEOUT", "CANCELLED"):
        plain |= {"ended_ms": NOW - 60_000, "exit_code": 0 if phase == "SUCCEEDED" else 1}
    return plain | fields


def rows(*jobs: dict[str, Any], following: int | None = None) -> dict[str, Any]:
    """A page of a listing."""
    table = [[each[name] for name in COLUMNS] for each in jobs]
    return {"columns": COLUMNS, "rows": table, "next": following, "now_ms": NOW}


class Problem(Exception):
    """Answer with this error."""

    def __init__(self, status: int, message: str, **fields: str) -> None:
        super().__init__(message)
        self.status, self.fields = status, {"message": message, **fields}


class Hangup(Exception):
    """Close the connection without an answer."""


class Request:
    """What the client sent."""

    def __init__(self, method: str, target: str, headers: Any, data: bytes) -> None:
        parts = urlsplit(target)
        self.method, self.path, self.headers = method, parts.path, headers
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.body = json.loads(data) if data else None


Answer = Callable[[Request], Any]


class FakeService:
    """Set `answers["GET /api/v1/jobs"] = function`; look at `requests`."""

    def __init__(self, path: str) -> None:
        self.requests: list[Request] = []
        self.answers: dict[str, Answer] = {}
        self.submitted: list[Any] = []
        self.answers["POST /api/v1/jobs"] = self.submit
        handler = type("Handler", (_Handler,), {"fake": self})
        self.server = socketserver.ThreadingUnixStreamServer(path, handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def submit(self, request: Request) -> Any:
        """Parse as the service does; every job waits."""
        defaults = Defaults("ann")
        specs = parse_body(request.body, defaults, 12).jobs
        self.submitted += specs
        ids = list(range(12, 12 + len(specs)))
        jobs = [job(each, reason="Resources: 1 node: CPU") for each in ids[:100]]
        return {"ids": ids, "jobs": jobs}

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeService
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_DELETE(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def do_PATCH(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        return None

    def address_string(self) -> str:
        return "unix"

    def answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = Request(self.command, self.path, self.headers, data)
        self.fake.requests.append(request)
        function = self.fake.answers.get(f"{request.method} {request.path}")
        self.close_connection = True
        try:
            if function is None:
                raise Problem(404, f"there is no {request.path}", code="not-found")
            body = function(request)
        except Hangup:
            return
        except Misuse as wrong:
            fields = {"message": wrong.message, "hint": wrong.hint, "field": wrong.field}
            status = 409 if isinstance(wrong, Refused) else 422
            self.send(status, json.dumps({"error": {"code": wrong.code, **fields}}).encode())
        except Problem as problem:
            self.send(problem.status, json.dumps({"error": problem.fields}).encode())
        else:
            if isinstance(body, Iterator):
                self.send_chunks(body)
            else:
                self.send(200, json.dumps(body).encode())

    def send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_chunks(self, pieces: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Fairlead-Attempt", "1")
        self.send_header("X-Fairlead-Offset", "0")
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        except Hangup:
            return
        self.wfile.write(b"0\r\n\r\n")
