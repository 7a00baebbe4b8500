"""Solving in a child process with a deadline: it may hang, die or be killed, we go on.

The child reads a line of JSON and the matrices on stdin and writes lines to what was its stdout:
"found" with each better plan, then "answer" or "error". What solvers print goes nowhere.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import IO

import msgspec
import numpy as np

from fairlead.model.base import Misuse
from fairlead.solve.answer import Answer, Status, decode, encode
from fairlead.solve.check import check
from fairlead.solve.problem import Matrix, Problem
from fairlead.solve.solver import fitting, reading_of, solve_here

GRACE_S = 5.0  # to start, to read, and to end by itself after the limit
DEFAULT_S = 60.0


class Question(msgspec.Struct, frozen=True):
    """A problem without its matrices, which follow as raw 64-bit integers."""

    reading: str
    limit_s: float
    gap: float
    shape: tuple[int, int]
    sized: bool
    tasks: tuple[str, ...]
    resources: tuple[str, ...]
    capacity: tuple[int, ...] | None
    penalty: int | None
    scale: int
    size_scale: int


class Trouble(msgspec.Struct, frozen=True):
    """A Misuse on its way back."""

    message: str
    field: str = ""
    hint: str = ""
    code: str = "misuse"


def solve(
    problem: Problem,
    reading: str | None = None,
    *,
    limit_s: float = DEFAULT_S,
    gap: float = 0.0,
    command: list[str] | None = None,
) -> Answer:
    """Return what `solver.solve_here` would, computed in a child that is killed after the limit.

    A child that hangs or dies leaves the best plan it has told, as `feasible`, or `unknown`, with
    the reason. `command` starts another child than ours. Raises Misuse like `solve_here`.
    """
    reading = reading or reading_of(problem)
    seen = fitting(problem, reading)
    words = command or [sys.executable, "-m", "fairlead.solve.child"]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    lines: list[bytes] = []
    reader = threading.Thread(target=_listen, args=(child.stdout, lines), daemon=True)
    reader.start()
    writer = threading.Thread(
        target=_ask, args=(child.stdin, seen, reading, limit_s, gap), daemon=True
    )
    writer.start()
    reason = ""
    try:
        code = child.wait(limit_s + GRACE_S + problem.cost.size / 10**7)
        if code < 0:
            reason = f"the solver was killed by {signal.Signals(-code).name}"
        elif code:
            reason = f"the solver died with exit code {code}"
    except subprocess.TimeoutExpired:
        reason = "the time limit; the solver did not stop by itself and was killed"
    finally:
        child.kill()
        child.wait()
        reader.join(GRACE_S)
    return _outcome(seen, reading, lines, reason)


def _outcome(problem: Problem, reading: str, lines: list[bytes], reason: str) -> Answer:
    best: Answer | None = None
    for line in lines:
        kind, _, body = line.partition(b" ")
        if not line.endswith(b"\n"):
            continue  # it died while writing
        if kind == b"error":
            trouble = msgspec.json.decode(body, type=Trouble)
            raise Misuse(trouble.message, field=trouble.field, hint=trouble.hint, code=trouble.code)
        answer = decode(body)
        if kind == b"answer":
            check(problem, answer)  # it came from another process
            return answer
        best = answer
    if best is None:
        return Answer(Status.UNKNOWN, reading, reason=reason or "the solver said nothing")
    answer = msgspec.structs.replace(best, status=Status.FEASIBLE, reason=reason)
    check(problem, answer)
    return answer


def _listen(source: IO[bytes] | None, lines: list[bytes]) -> None:
    assert source is not None
    lines.extend(iter(source.readline, b""))


def _ask(
    target: IO[bytes] | None, problem: Problem, reading: str, limit_s: float, gap: float
) -> None:
    assert target is not None
    question = Question(
        *(reading, limit_s, gap, problem.shape, problem.size is not None),
        tasks=problem.tasks,
        resources=problem.resources,
        capacity=problem.capacity,
        penalty=problem.penalty,
        scale=problem.scale,
        size_scale=problem.size_scale,
    )
    try:
        target.write(msgspec.json.encode(question) + b"\n")
        target.write(np.ascontiguousarray(problem.cost).data)
        if problem.size is not None:
            target.write(np.ascontiguousarray(problem.size).data)
        target.close()
    except OSError:
        pass  # the child is gone; its exit code says so


def _matrix(source: IO[bytes], shape: tuple[int, int]) -> Matrix:
    data = source.read(8 * shape[0] * shape[1])
    return np.frombuffer(data, np.int64).reshape(shape)


def answer(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer one question."""
    question = msgspec.json.decode(source.readline(), type=Question)
    problem = Problem(
        cost=_matrix(source, question.shape),
        tasks=question.tasks,
        resources=question.resources,
        capacity=question.capacity,
        size=_matrix(source, question.shape) if question.sized else None,
        penalty=question.penalty,
        scale=question.scale,
        size_scale=question.size_scale,
    )

    def tell(kind: bytes, body: bytes) -> None:
        target.write(kind + b" " + body + b"\n")
        target.flush()

    try:
        found = solve_here(
            *(problem, question.reading),
            limit_s=question.limit_s,
            gap=question.gap,
            found=lambda better: tell(b"found", encode(better)),
        )
        tell(b"answer", encode(found))
    except Misuse as no:
        tell(b"error", msgspec.json.encode(Trouble(no.message, no.field, no.hint, no.code)))


def main() -> None:
    """Answer on what was stdout; what solvers print there goes nowhere."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    answer(sys.stdin.buffer, target)


if __name__ == "__main__":
    main()
