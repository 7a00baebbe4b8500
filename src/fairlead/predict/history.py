"""What has ended, by who ran what: the levels at which "the same job again" is looked for."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Hashable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

from fairlead.model.base import Ms
from fairlead.model.jobs import JobSpec
from fairlead.predict.base import width

RECORDS_PER_KEY_MAX = 64
KEYS_MAX = 200_000  # of one level; then those unused for longest go

Field: TypeAlias = Callable[[JobSpec], Hashable]
FIELDS: dict[str, Field] = {
    "user": lambda job: job.user,
    "name": lambda job: job.name,
    "gpus": width,
}
Level: TypeAlias = tuple[str, ...]
LEVELS: tuple[Level, ...] = (
    ("user", "name", "gpus"),
    ("user", "name"),
    ("user", "gpus"),
    ("user",),
    (),
)


class Past(NamedTuple):
    """One job that ended. In order of their ends; of equal ends the later submitted is later."""

    end_ms: Ms
    submit_ms: Ms
    ran_ms: Ms
    completed: bool = True


class Found(NamedTuple):
    """What is known of jobs like one: the first level with any, and its newest, oldest first."""

    level: int
    records: tuple[Past, ...]


class History:
    """The newest records of every key of every level. Both directions cost one look-up a level."""

    def __init__(self, levels: Sequence[Level] = LEVELS, keep: int = RECORDS_PER_KEY_MAX) -> None:
        self.levels = tuple(levels)
        self.keep = keep
        self._fields = [tuple(FIELDS[name] for name in level) for level in self.levels]
        self._known: list[dict[Hashable, list[Past]]] = [{} for _ in self.levels]

    def add(self, job: JobSpec, past: Past) -> None:
        """Remember a job that has ended."""
        for known, key in zip(self._known, self._keys(job), strict=True):
            records = known.pop(key, None)
            if records is None:
                records = []
                if len(known) >= KEYS_MAX:
                    del known[next(iter(known))]
            known[key] = records  # at the end: a dict keeps the order in which keys came
            insort(records, past)
            del records[: -self.keep]

    def find(self, job: JobSpec, k: int) -> Found | None:
        """Return the last k of the first level that has any, None if nothing has ended."""
        for level, key in enumerate(self._keys(job)):
            if records := self._known[level].get(key):
                return Found(level, tuple(records[-k:]))
        return None

    def _keys(self, job: JobSpec) -> Iterator[Hashable]:
        for fields in self._fields:
            yield tuple(field(job) for field in fields)


def mean(records: Sequence[Past]) -> Fraction:
    """Return the exact mean of their run times."""
    return Fraction(sum(past.ran_ms for past in records), len(records))


def median(records: Sequence[Past]) -> Fraction:
    """Return the exact median of their run times."""
    times = sorted(past.ran_ms for past in records)
    half = len(times) // 2
    return Fraction(times[half] + times[~half], 2)


def words(level: Level) -> str:
    """Return a level for people: "user, name, gpus", or "everybody"."""
    return ", ".join(level) or "everybody"
