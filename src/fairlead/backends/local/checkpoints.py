"""How a job says that its work is saved: a file that it touches, or a line on a descriptor.

`$FAIRLEAD_TASK_DIR/checkpoint`, or the path that the job declared (`checkpoint: {path: …}`): the
time of its last change counts, and for a folder that of what lies in it. Or a line of JSON with
{"checkpoint": true} on the descriptor (reports.py): the supervisor then touches the file.
The agent looks at each heartbeat; so nothing is lost when it is away.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from fairlead.backends.local import files
from fairlead.backends.local.agent import MemberRecord
from fairlead.model.base import Ms
from fairlead.model.messages import Launch, MemberKey

ENTRIES_MAX = 1000  # of a folder that are looked at
_NAME = "checkpoint"


class Watch:
    """Looks when the running members of a machine saved their work last."""

    def __init__(self, state: str) -> None:
        self.state = state
        self._marks: dict[MemberKey, tuple[str, ...]] = {}

    def look(self, members: Iterable[MemberRecord]) -> Iterator[tuple[MemberKey, Ms]]:
        """Yield the time of each that has saved any. A time to come says nothing."""
        before, self._marks = self._marks, {}
        now = time.time_ns() // 1_000_000
        for state in [record.state for record in members]:
            if state.state not in ("running", "stopping"):
                continue
            paths = before.get(state.key)
            if paths is None:
                work = files.journal(self.state, state.key).assigned
                paths = () if work is None else marks(self.state, work.launch)
            self._marks[state.key] = paths
            at_ms = saved_ms(paths)
            if at_ms is not None and at_ms <= now:
                yield state.key, at_ms


def touch(task: str) -> None:
    """Note that the work is saved now."""
    with contextlib.suppress(OSError):  # a full disk must not end the job
        files.write_text(os.path.join(task, _NAME), b"")


def marks(state: str, launch: Launch) -> tuple[str, ...]:
    """Return the paths that tell when a member's work was saved last."""
    path = launch.spec.checkpoint_path
    own = os.path.join(files.task_folder(state, launch.key), _NAME)
    return (own, os.path.join(launch.spec.workdir or "/", path)) if path else (own,)


def saved_ms(paths: Iterable[str]) -> Ms | None:
    """Return when the newest of these, or of what lies in them, was changed; None: no such file."""
    times = [at for path in paths for at in _times(path)]
    return max(times, default=None)


def _times(path: str) -> list[Ms]:
    found: list[Ms] = []
    with contextlib.suppress(OSError):
        found.append(os.stat(path).st_mtime_ns // 1_000_000)
        if os.path.isdir(path):
            # An empty folder saves nothing; a folder's own time changes when files come and go.
            with os.scandir(path) as entries:
                inside = [each.stat().st_mtime_ns for each in islice(entries, ENTRIES_MAX)]
            return [at // 1_000_000 for at in inside]
    return found
