"""What was said of jobs that have not ended yet, so that it can be compared with how they ended."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

from fairlead.model.jobs import JobSpec
from fairlead.predict.base import width

PER_KEY_MAX = 256
KEYS_MAX = 50_000

Said = TypeVar("Said")
_Key = tuple[str, str, tuple[str, int], int | None]


class Pending(Generic[Said]):
    """Finds what was said by what a job is, not by an id: a log that is learnt again has none.

    Of jobs that look alike the latest is taken first: what was said of one that never ran (it was
    cancelled while it waited) then sinks, and is forgotten at last.
    """

    def __init__(self) -> None:
        self._said: OrderedDict[_Key, deque[Said]] = OrderedDict()

    def push(self, job: JobSpec, said: Said) -> None:
        """Remember what was said of a job at its submission."""
        key = _key(job)
        stack = self._said.get(key)
        if stack is None:
            stack = self._said[key] = deque(maxlen=PER_KEY_MAX)
            if len(self._said) > KEYS_MAX:
                self._said.popitem(last=False)
        stack.append(said)

    def pop(self, job: JobSpec) -> Said | None:
        """Return what was last said of such a job, and forget it; None: nothing is remembered."""
        key = _key(job)
        stack = self._said.get(key)
        if not stack:
            return None
        said = stack.pop()
        if not stack:
            del self._said[key]
        return said


def _key(job: JobSpec) -> _Key:
    return job.user, job.name, width(job), job.limit_ms
