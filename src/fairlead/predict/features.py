"""What the boosted model is told of a job: only what is known when it is submitted.

Run times are logarithms; what is not known is far below everything that can be known, so that a
tree tells it apart with one split. Names matter by their history and by hashed tokens.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable
from zlib import crc32

from fairlead.model.base import Ms
from fairlead.model.jobs import JobSpec
from fairlead.predict.base import width
from fairlead.predict.calibration import log_ms

UNKNOWN = -30.0
TOKEN_BUCKETS = 16
KEYS_MAX = 50_000  # of one kind of history
DAY_MS, WEEK_MS = 86_400_000, 604_800_000
FORGET = 0.9  # weight that a record keeps per later one of its kind

_TOKEN = re.compile(r"[a-z]+|[0-9]+")
_KINDS: tuple[tuple[str, Callable[[JobSpec], Hashable]], ...] = (
    ("user, name, width", lambda job: (job.user, job.name, width(job))),
    ("user, name", lambda job: (job.user, job.name)),
    ("user, width", lambda job: (job.user, width(job))),
    ("user, limit", lambda job: (job.user, job.limit_ms)),
    ("user, width, limit", lambda job: (job.user, width(job), job.limit_ms)),
    ("user", lambda job: job.user),
    ("tenant", lambda job: job.tenant),
    ("queue", lambda job: job.queue),
    ("command", lambda job: _hash(" ".join(job.command))),
    ("limit, width", lambda job: (job.limit_ms, width(job))),
    ("everybody", lambda job: ()),
)
PER_KIND = ("last", "mean of the last two", "decayed mean", "count")
_NAMES = (
    *("limit", "width", "gpu", "members", "hour sin", "hour cos", "weekday", "priority"),
    *("before", "since end", "since submit", "in flight", "spread"),
)
FEATURES = (
    *_NAMES,
    *(f"{kind}: {figure}" for kind, _ in _KINDS for figure in PER_KIND),
    *(f"token {bucket}" for bucket in range(TOKEN_BUCKETS)),
)


class _Known:
    __slots__ = ("count", "flight", "last", "mean", "second", "square", "submit", "third", "time")

    def __init__(self) -> None:
        self.last = self.second = self.third = self.mean = UNKNOWN
        self.square = 0.0
        self.count = self.flight = 0
        self.time: Ms | None = None
        self.submit: Ms | None = None

    def add(self, now: Ms, log: float) -> None:
        self.third, self.second, self.last, self.time = self.second, self.last, log, now
        if not self.count:
            self.mean, self.square = log, log * log
        self.mean += (1 - FORGET) * (log - self.mean)
        self.square += (1 - FORGET) * (log * log - self.square)
        self.count += 1


class Features:
    """The histories from which the features of the next job come."""

    def __init__(self) -> None:
        self._kinds: list[OrderedDict[Hashable, _Known]] = [OrderedDict() for _ in _KINDS]

    def of(self, now: Ms, job: JobSpec) -> list[float]:
        """Return the features of a job that is submitted now; changes nothing."""
        kind, wide = width(job)
        day = 2 * math.pi * (now % DAY_MS) / DAY_MS
        user = self._kinds[5].get(job.user) or _Known()
        spread = math.sqrt(max(0.0, user.square - user.mean**2)) if user.count else UNKNOWN
        found = [
            UNKNOWN if job.limit_ms is None else log_ms(job.limit_ms),
            math.log(max(wide, 1)),
            float(kind == "gpu"),
            float(job.shape.members),
            math.sin(day),
            math.cos(day),
            float(now % WEEK_MS // DAY_MS),
            float(job.priority),
            user.third,
            UNKNOWN if user.time is None else math.log1p(max(0, now - user.time)),
            UNKNOWN if user.submit is None else math.log1p(max(0, now - user.submit)),
            float(user.flight),
            spread,
        ]
        for (_, key), known in zip(_KINDS, self._kinds, strict=True):
            each = known.get(key(job))
            if each is None or not each.count:
                found += (UNKNOWN, UNKNOWN, UNKNOWN, 0.0)
            else:
                two = each.last if each.count == 1 else (each.last + each.second) / 2
                found += (each.last, two, each.mean, math.log1p(each.count))
        tokens = [0.0] * TOKEN_BUCKETS
        for token in _TOKEN.findall(job.name.lower()):
            tokens[crc32(token.encode()) % TOKEN_BUCKETS] += 1.0
        return found + tokens

    def submitted(self, now: Ms, job: JobSpec) -> None:
        """Count a job as on its way."""
        user = self._touch(5, job)
        user.submit = now
        user.flight += 1

    def ended(self, now: Ms, job: JobSpec, log: float) -> None:
        """Take in a job's run time."""
        for index in range(len(_KINDS)):
            self._touch(index, job).add(now, log)
        user = self._touch(5, job)
        user.flight = max(0, user.flight - 1)

    def _touch(self, index: int, job: JobSpec) -> _Known:
        known, key = self._kinds[index], _KINDS[index][1](job)
        found = known.get(key)
        if found is None:
            found = known[key] = _Known()
            if len(known) > KEYS_MAX:
                known.popitem(last=False)
        else:
            known.move_to_end(key)
        return found


def _hash(text: str) -> int:
    return crc32(text.encode())
