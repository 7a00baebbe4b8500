"""How commands fail: one line what, one line what to do, an exit code. No traceback."""

from __future__ import annotations

import sys

MISUSE = 2  # the command line, or what it asked for, was wrong
FAILED = 1
SERVICE_FAILED = 125  # in `run` and `wait`, whose other codes are the job's
INTERRUPTED = 130


class Failure(Exception):
    """The command cannot do what was asked; shown without a traceback."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str = "failed",
        field: str = "",
        exit_code: int = FAILED,
    ) -> None:
        super().__init__(message)
        self.message, self.hint, self.code, self.field = message, hint, code, field
        self.exit_code = exit_code


def misuse(message: str, *, hint: str = "", field: str = "", code: str = "misuse") -> Failure:
    """Return a failure that is the caller's fault."""
    return Failure(message, hint=hint, code=code, field=field, exit_code=MISUSE)


def show(failure: Failure, *, as_json: bool) -> None:
    """Write the failure to stderr, for people or as one JSON object."""
    if as_json:
        import json

        names = ("code", "message", "hint", "field")
        error = {name: getattr(failure, name) for name in names}
        print(json.dumps({"error": error}), file=sys.stderr)
        return
    print(f"fairlead: {failure.message}", file=sys.stderr)
    for line in failure.hint.splitlines():
        print(f"  hint: {line}", file=sys.stderr)


def notice(text: str) -> None:
    """Write a remark to stderr, where it is in nobody's way."""
    print(f"fairlead: {text}", file=sys.stderr, flush=True)
