"""A process that makes plans for the service: adviser and question in, a plan or an excuse out.

Reads lines of JSON on stdin and answers each with one on stdout, until stdin ends. What advisers
keep from one question to the next (compiled programs, loaded solvers) lives as long as it does.
"""

from __future__ import annotations

import os
import sys
from typing import IO

import msgspec

from fairlead.model.advice import Question
from fairlead.model.base import Misuse, Record
from fairlead.model.events import Advised
from fairlead.solve.advise import adviser

NICE = 10


class Asked(Record, frozen=True):
    """Who is asked what."""

    adviser: str
    question: Question


class Said(Record, frozen=True):
    """A plan, or why there is none."""

    plan: Advised | None = None
    problem: str = ""


def answer(line: bytes) -> Said:
    """Return the answer to one question. An adviser that fails says why, and goes on."""
    asked = msgspec.json.decode(line, type=Asked)
    try:
        return Said(plan=adviser(asked.adviser)(asked.question))
    except Misuse as no:
        return Said(problem=f"{no.message}; {no.hint}" if no.hint else no.message)
    except Exception as error:
        return Said(problem=f"{asked.adviser} fails: {error!r}")


def serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there is no more question."""
    while line := questions.readline():
        answers.write(msgspec.json.encode(answer(line)) + b"\n")
        answers.flush()


def main() -> None:
    """Answer on what was stdout, behind everybody else; what solvers print goes nowhere."""
    os.nice(NICE)
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    serve(sys.stdin.buffer, target)


if __name__ == "__main__":
    main()
