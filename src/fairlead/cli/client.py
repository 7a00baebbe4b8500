"""Talks to the service: HTTP/1.1 over its unix socket, one connection per call.

`http.client` would do, but importing it takes 20 ms of CPU (it brings the e-mail package), as
much as everything else that a command does. The service's answers are simple enough to read here.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from fairlead.cli.errors import MISUSE, Failure

API = "/api/v1"
TIMEOUT_S = 60.0  # of a call that should answer at once
HEADER_BYTES_MAX = 65_536
CHUNK_BYTES = 65_536


class NoService(Failure):
    """Nobody listens on the socket."""


class Disconnected(Failure):
    """The service went away in the middle of an answer."""


def socket_path(environ: Mapping[str, str]) -> str:
    """Return the path of the service's socket."""
    from fairlead.service.places import Places

    return str(Places.find(environ).socket)


class Reply:
    """An answer whose body is read piece by piece. Closes its connection at the end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        try:
            self.status, self.headers = self._head()
        except BaseException:
            self.close()
            raise

    def _line(self) -> bytes:
        line = self._file.readline(HEADER_BYTES_MAX)
        if not line.endswith(b"\n"):
            raise Disconnected("the service went away before it had answered")
        return line.strip()

    def _head(self) -> tuple[int, dict[str, str]]:
        words = self._line().split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise Failure("what answers on the socket is not Fairlead", code="not-fairlead")
        headers: dict[str, str] = {}
        while line := self._line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(words[1]), headers

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives; Disconnected if it ends before it is complete."""
        try:
            yield from self._pieces()
        except OSError as error:
            raise _broken(error) from None
        except ValueError:
            raise Failure("the service's answer is not HTTP", code="not-fairlead") from None
        finally:
            self.close()

    def _pieces(self) -> Iterator[bytes]:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self._line().split(b";")[0], 16):
                yield from self._exactly(size)
                self._line()
        elif "content-length" in self.headers:
            yield from self._exactly(int(self.headers["content-length"]))
        else:
            while piece := self._file.read1(CHUNK_BYTES):
                yield piece

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._file.read1(min(size, CHUNK_BYTES))
            if not piece:
                raise Disconnected("the service went away in the middle of its answer")
            size -= len(piece)
            yield piece

    def json(self) -> Any:
        """Return the whole body, decoded."""
        body = b"".join(self.pieces())
        try:
            return json.loads(body) if body.strip() else {}
        except ValueError:
            raise Failure("the service's answer is not JSON", code="not-fairlead") from None

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._connection.close()


class Client:
    """One service, by its socket. Every method raises Failure, with the service's own words."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(
        self, path: str, query: Mapping[str, object] | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> Any:
        """Return the decoded answer to a GET below /api/v1."""
        return self._open("GET", API + path + query_string(query), timeout_s=timeout_s).json()

    def post(self, path: str, body: object, *, key: str = "", timeout_s: float = TIMEOUT_S) -> Any:
        """Return the decoded answer to a POST below /api/v1.

        With an idempotency `key` a broken connection is tried once more: the service knows by
        the key whether it did the thing already.
        """
        data = json.dumps(body, separators=(",", ":")).encode()

        def call() -> Any:
            return self._open("POST", API + path, data, key=key, timeout_s=timeout_s).json()

        return once_more(call) if key else call()

    def put(self, path: str, body: object, query: Mapping[str, object] | None = None) -> Any:
        """Return the decoded answer to a PUT below /api/v1."""
        return self._send("PUT", path + query_string(query), body)

    def patch(self, path: str, body: object) -> Any:
        """Return the decoded answer to a PATCH below /api/v1."""
        return self._send("PATCH", path, body)

    def _send(self, method: str, path: str, body: object) -> Any:
        """Both mean the same when they come twice, so a broken connection is tried once more."""
        data = json.dumps(body, separators=(",", ":")).encode()
        return once_more(lambda: self._open(method, API + path, data, timeout_s=TIMEOUT_S).json())

    def delete(self, path: str, *, timeout_s: float = TIMEOUT_S) -> Any:
        """Return the decoded answer to a DELETE below /api/v1."""
        return self._open("DELETE", API + path, timeout_s=timeout_s).json()

    def stream(self, path: str, query: Mapping[str, object]) -> Reply:
        """Return the answer to a GET below /api/v1 whose body may take for ever."""
        return self._open("GET", API + path + query_string(query), timeout_s=None)

    def plain(self, target: str) -> bytes:
        """Return the whole body of the answer to a GET, as it is."""
        return b"".join(self._open("GET", target, timeout_s=TIMEOUT_S).pieces())

    def _open(
        self,
        method: str,
        target: str,
        data: bytes = b"",
        *,
        key: str = "",
        timeout_s: float | None,
    ) -> Reply:
        head = f"{method} {target} HTTP/1.1\r\nHost: fairlead\r\nConnection: close\r\n"
        if data:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        if key:
            head += f"Idempotency-Key: {key}\r\n"
        connection = self._connect(timeout_s)
        try:
            # An early refusal (body too large) closes the connection while we still write; it is
            # there to be read all the same.
            with suppress(BrokenPipeError):
                connection.sendall(head.encode("ascii") + b"\r\n" + data)
            reply = Reply(connection)
        except OSError as error:
            connection.close()
            raise _broken(error) from None
        if reply.status >= 400:
            raise _refusal(reply)
        return reply

    def _connect(self, timeout_s: float | None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(self.path)
        except OSError as error:
            connection.close()
            raise _unreachable(self.path, error) from None
        return connection


def once_more(call: Callable[[], Any]) -> Any:
    """Call, and once more if the connection breaks."""
    try:
        return call()
    except Disconnected:
        return call()


def query_string(query: Mapping[str, object] | None) -> str:
    """Return "?a=1&b=2", percent-encoded, without the values that are None or ""."""
    given = {name: str(each) for name, each in (query or {}).items() if each not in (None, "")}
    parts = [f"{name}={quoted(each)}" for name, each in given.items()]
    return "?" + "&".join(parts) if parts else ""


_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~,")


def quoted(text: str) -> str:
    """Return a text as it can stand in a path or a query, percent-encoded."""
    data = text.encode("utf-8", "replace")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in data)


def _unreachable(path: str, error: OSError) -> Failure:
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return NoService(
            "no service is running here",
            hint=f"start it with: fairlead up   (looked for it at {path})",
            code="no-service",
        )
    if isinstance(error, PermissionError):
        return NoService(
            f"the service at {path} belongs to another user",
            hint="start your own with: fairlead up",
            code="no-service",
        )
    return NoService(
        f"cannot reach the service at {path}: {error.strerror or error}",
        hint="choose a shorter state folder with FAIRLEAD_STATE" if len(path) > 100 else "",
        code="no-service",
    )


def _broken(error: OSError) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(
            f"the service did not answer within {TIMEOUT_S:.0f} s",
            hint="see what it does with: fairlead doctor",
            code="timeout",
        )
    return Disconnected(
        f"the connection to the service broke: {error.strerror or error}", code="disconnected"
    )


def _refusal(reply: Reply) -> Failure:
    """Return the service's error as ours."""
    body = reply.json()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return Failure(f"the service answered {reply.status}", code="failed")
    return Failure(
        str(error.get("message", "")),
        hint=str(error.get("hint", "")),
        code=str(error.get("code", "failed")),
        field=str(error.get("field", "")),
        exit_code=MISUSE if reply.status in (400, 413, 422) else 1,
    )


def connect() -> Client:
    """Return the client of this user's service."""
    return Client(socket_path(os.environ))


def me() -> str:
    """Return the name of this user, as the service will know it."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
