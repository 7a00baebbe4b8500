"""HTTP in and out: bodies with a limit, query values, JSON answers, errors as problems."""

from __future__ import annotations

import pwd
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fairlead.model.base import Misuse, Record, Refused, StoreFailed

BODY_BYTES_MAX = 64 * 2**20
RANGE_IDS_MAX = 1_000_000  # job ids that one selector may name

_CODES = {"not-found": 404, "too-large": 413, "forbidden": 403, "too-many": 413}


class ErrorDetail(Record, frozen=True, omit_defaults=False):
    """What went wrong, and what to do."""

    code: str
    message: str
    hint: str = ""
    field: str = ""


class Problem(Record, frozen=True, omit_defaults=False):
    """An error: a problem of RFC 9457, and the same for the command line in `error`."""

    title: str
    status: int
    detail: str
    error: ErrorDetail
    type: str = "about:blank"


class Vanished(Exception):
    """The client went away before its request was complete: there is nobody to answer."""


def respond(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return the value as JSON."""
    return Response(
        msgspec.json.encode(value), status, headers=headers, media_type="application/json"
    )


def problem(error: Exception) -> Response:
    """Return the answer to a request that raised a Misuse, Refused or StoreFailed."""
    if isinstance(error, StoreFailed):
        return _problem(
            507,
            "the log cannot be written",
            ErrorDetail(
                code="store-failed",
                message=f"nothing was changed: the log cannot be written: {error}",
                hint="free space on the disk of the state folder (fairlead doctor), then try again",
            ),
        )
    assert isinstance(error, Misuse)
    default = 409 if isinstance(error, Refused) else 422
    status = _CODES.get(error.code, default)
    title = "refused" if isinstance(error, Refused) else "misuse"
    detail = ErrorDetail(code=error.code, message=error.message, hint=error.hint, field=error.field)
    return _problem(status, "not found" if status == 404 else title, detail)


def internal_error() -> Response:
    """Return the answer to a request that met a bug of ours; the log has the traceback."""
    detail = ErrorDetail(
        code="internal", message="internal error", hint="see service.log in the state folder"
    )
    return _problem(500, "internal error", detail)


def no_route(status: int, message: str) -> Response:
    """Return the answer to a path or method that does not exist."""
    code = "not-found" if status == 404 else "method-not-allowed"
    return _problem(
        status, message, ErrorDetail(code=code, message=message, hint="GET /openapi.json")
    )


def _problem(status: int, title: str, detail: ErrorDetail) -> Response:
    body = Problem(title=title, status=status, detail=detail.message, error=detail)
    return Response(msgspec.json.encode(body), status, media_type="application/problem+json")


async def body_of(request: Request) -> Any:
    """Return the decoded JSON body; None when empty. Raises Misuse or Vanished."""
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() else 0
    _check_size(size)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            _check_size(size)
            parts.append(part)
    except ClientDisconnect:
        raise Vanished from None
    text = b"".join(parts)
    if not text.strip():
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Misuse(f"the body is not JSON: {error}", hint="see /openapi.json") from None


def _check_size(size: int) -> None:
    if size > BODY_BYTES_MAX:
        raise Misuse(
            f"the request has more than {BODY_BYTES_MAX // 2**20} MiB",
            hint="submit in several calls; put large data into files",
            code="too-large",
        )


class Query:
    """The query string, each value checked when it is asked for; unknown names are an error."""

    def __init__(self, request: Request, known: Sequence[str]) -> None:
        self._values = dict(request.query_params)
        for name in self._values:
            if name not in known:
                allowed = ", ".join(known) or "none"
                raise Misuse(f"unknown parameter '{name}'", field=name, hint=f"known: {allowed}")

    def text(self, name: str) -> str:
        """Return a value, "" when absent."""
        return self._values.get(name, "")

    def words(self, name: str) -> tuple[str, ...]:
        """Return the parts of a comma list."""
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

    def flag(self, name: str) -> bool:
        """Return whether a flag is set."""
        return self.text(name).lower() in ("1", "true", "yes")

    def count(self, name: str, default: int, most: int = 2**53) -> int:
        """Return a number from 0 on; values above `most` mean `most`."""
        text = self.text(name)
        if not text:
            return default
        if not (text.isascii() and text.isdecimal()) or len(text) > 18:
            raise Misuse(f"{name} must be a number from 0 on, not '{text}'", field=name)
        return min(int(text), most)

    def optional(self, name: str) -> int | None:
        """Return a number from 0 on, None when absent."""
        return self.count(name, 0) if self.text(name) else None

    def seconds(self, name: str, most: float) -> float:
        """Return seconds from 0 on, 0 when absent; values above `most` mean `most`."""
        text = self.text(name)
        try:
            value = float(text or 0)
        except ValueError:
            value = -1.0
        if not value >= 0:
            raise Misuse(f"{name} must be seconds from 0 on, not '{text}'", field=name)
        return min(value, most)


def parse_ids(text: str) -> list[int]:
    """Return the job ids of "12,14-20", each once, in order. Raises Misuse."""
    ids: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and first.isascii()) or (dash and not last.isdecimal()):
            raise Misuse(f"'{part.strip()}' is no job id", field="ids", hint="write 12 or 12-20")
        low, high = int(first), int(last or first)
        if high - low + len(ids) >= RANGE_IDS_MAX:
            raise Misuse(f"'{part}' names more than {RANGE_IDS_MAX} jobs", field="ids")
        ids.update(dict.fromkeys(range(low, high + 1)))
    return list(ids)


@lru_cache(maxsize=256)
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def user_of(request: Request) -> str:
    """Return the name of the user at the other end of the socket, as the kernel says."""
    return _user_name(int(request.scope["client"][0]))


def mapping(body: Any, known: Sequence[str]) -> Mapping[str, Any]:
    """Return the keys of a body, {} for none; Misuse for keys that are not known."""
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise Misuse("the body is a JSON object", hint=f"keys: {', '.join(known)}")
    for key in body:
        if key not in known:
            raise Misuse(f"unknown key '{key}'", field=key, hint=f"known: {', '.join(known)}")
    return body
