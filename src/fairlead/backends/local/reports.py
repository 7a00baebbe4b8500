"""What a job says on its descriptor $FAIRLEAD_REPORT_FD: lines of JSON, read by its supervisor.

{"step": 120, "samples": 3840} says how far it is, counted from the beginning of the job;
{"checkpoint": true} that its work is saved. The supervisor keeps the latest of it in a file of the
member's folder, written at most once in EVERY_S however much the job says; the agent looks at it
at each heartbeat, so nothing is lost when it is away. A line that makes no sense is counted, and
the first one quoted; it harms nobody.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from fairlead.backends.local import checkpoints, files
from fairlead.backends.local.agent import MemberRecord
from fairlead.model.base import Ms
from fairlead.model.limits import STEPS_MAX
from fairlead.model.messages import MemberKey, Progress

REPORT_FD = 3  # in the job; 0 to 2 are its standard streams
LINE_BYTES_MAX = 65536
EVERY_S = 1.0
_QUOTED_BYTES_MAX = 60
_NAME = "progress"


class Line(msgspec.Struct):
    """What a job may say; other keys are ignored."""

    checkpoint: bool = False
    step: int | float | None = None
    samples: int | float | None = None


_decode = msgspec.json.Decoder(Line).decode
_progress = msgspec.json.Decoder(Progress)


class Reports:
    """What came on the descriptor of one member, and the file that tells the agent of it."""

    def __init__(self, task: str) -> None:
        self.task = task
        self.progress = Progress()
        self._rest = b""
        self._written = self.progress
        self._next_at = 0.0  # monotonic seconds; no file before then

    def hear(self, data: bytes, now_ms: Ms) -> None:
        """Take in what was read; `now_ms` is the wall clock."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LINE_BYTES_MAX:]
        saved = False
        said = self.progress
        steps, samples, odd, wrong, back = said.steps, said.samples, said.odd, 0, 0
        for text in lines:
            try:
                line = _decode(text)
                step, count = _whole(line.step), _whole(line.samples)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                if text.strip():
                    wrong += 1
                    odd = odd or f"not understood: {text[:_QUOTED_BYTES_MAX]!r}"
                continue
            saved = saved or line.checkpoint
            if (step is not None and step < steps) or (count is not None and count < samples):
                back += 1
                odd = odd or f"goes backwards: {text[:_QUOTED_BYTES_MAX]!r} after step {steps}"
                continue
            steps = steps if step is None else step
            samples = samples if count is None else count
        if saved:
            checkpoints.touch(self.task)
        if (steps, samples) != (said.steps, said.samples):
            said = replace(said, steps=steps, samples=samples, at_ms=now_ms)
        if wrong or back:
            said = replace(
                said, malformed=said.malformed + wrong, backwards=said.backwards + back, odd=odd
            )
        self.progress = said

    def wait_s(self, now: float) -> float | None:
        """Return in how many seconds there is something to write, None for never."""
        return None if self.progress is self._written else max(0.0, self._next_at - now)

    def write(self, now: float, *, last: bool = False) -> None:
        """Write what is new, if that is due; a full disk must not end the job."""
        if self.wait_s(now) == 0.0 or (last and self.progress is not self._written):
            self._written, self._next_at = self.progress, now + EVERY_S
            with contextlib.suppress(OSError):
                files.write_text(_file(self.task), msgspec.json.encode(self.progress))


def _whole(number: float | None) -> int | None:
    """Return a number of steps or samples; raises ValueError for what is none."""
    if number is None:
        return None
    if not 0 <= number <= STEPS_MAX or number != int(number):
        raise ValueError(number)
    return int(number)


class Watch:
    """Looks what the running members of a machine have said of their progress."""

    def __init__(self, state: str) -> None:
        self.state = state
        self._read: dict[MemberKey, int] = {}  # when the file was written that was read last

    def look(self, members: Iterable[MemberRecord]) -> Iterator[tuple[MemberKey, Progress]]:
        """Yield what is new, with its key."""
        before, self._read = self._read, {}
        for state in [record.state for record in members]:
            if state.state not in ("running", "stopping"):
                continue
            with contextlib.suppress(OSError):
                path = _file(files.task_folder(self.state, state.key))
                written = self._read[state.key] = os.stat(path).st_mtime_ns
                if before.get(state.key) != written:
                    yield from self.last(state.key)

    def last(self, key: MemberKey) -> Iterator[tuple[MemberKey, Progress]]:
        """Yield what a member has said, if anything."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            body = files.read_text(_file(files.task_folder(self.state, key)))
            if body is not None:
                yield key, _progress.decode(body)


def _file(task: str) -> str:
    return os.path.join(task, _NAME)
