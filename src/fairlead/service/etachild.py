"""A process that looks ahead for the service, so that its event loop does not stand still.

Reads questions on stdin (a line of JSON, then the image of a core) and answers each with a line of
JSON on stdout. It knows nothing from one question to the next, and ends when stdin does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import IO, Any

import msgspec

from fairlead.core.engine import Core
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent
from fairlead.policy.ahead import starts_ahead
from fairlead.policy.eta import runs_for
from fairlead.policy.registry import build
from fairlead.policy.whatif import WhatIf, what_if

ASKED_MAX = 1000  # the first in the order; nobody waits for the estimate of the last of 100,000
NICE = 10


class Question(msgspec.Struct, frozen=True):
    """What follows is the image of a core, so many bytes long.

    `events`: what if these came to pass now; without: when does each waiting job start.
    """

    now_ms: Ms
    size: int
    events: tuple[AnyEvent, ...] = ()


class Starts(msgspec.Struct, frozen=True):
    """When each waiting job starts, one time per run; or what would happen."""

    starts: dict[JobId, list[Ms | None]] = {}
    what_if: WhatIf | None = None


def look_ahead(core: Core, now: Ms) -> Mapping[JobId, list[Ms | None]]:
    """Return when the first waiting jobs start, seen from now; the core is not touched."""
    asked = None
    if len(core.pending) > ASKED_MAX:
        pipeline = build(core.policy)
        pipeline.bind(core)
        asked = [job.id for job in pipeline.queue.in_order(core)[:ASKED_MAX]]
    return starts_ahead(at(core, now), runs=runs_for(core), asked=asked)


def at(core: Core, now: Ms) -> Core:
    """Return a copy of a core in which it is now."""
    copy = core.clone()
    copy.clock = max(now, core.now)
    return copy


def answer(question: Question, body: bytes) -> Starts:
    """Return the answer to one question."""
    core = Core.load(body)
    if question.events:
        return Starts(what_if=what_if(at(core, question.now_ms), question.events))
    return Starts(starts=dict(look_ahead(core, question.now_ms)))


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there is no more question."""
    while line := questions.readline():
        question = msgspec.json.decode(line, type=Question)
        body = questions.read(question.size)
        if len(body) < question.size:
            return  # the service is gone
        answers.write(msgspec.json.encode(answer(question, body)) + b"\n")
        answers.flush()


def main() -> Any:
    """Serve on stdin and stdout, behind everybody else."""
    os.nice(NICE)
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
