"""A job's run times so far, as a weighted sample: the user's latest jobs, the more alike the more.

The weight of a record falls with how many of the user's jobs have ended since, with the time since
then, and with the ratios of limits and widths; another name or command counts less. Under it lies
a prior of little weight: what everybody's jobs with this limit and width ran, so that a user
without history has a forecast too. All run times are logarithms of ms.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fairlead.model.base import Ms
from fairlead.model.jobs import JobSpec
from fairlead.predict.base import DEFAULT_MS, width

Floats = NDArray[np.float64]
Key = TypeVar("Key")
Value = TypeVar("Value")

KEEP = 40  # records of a user that are looked at
USERS_MAX = 50_000
CLASSES_MAX = 50_000  # of limit and width
SHORTEST_MS = 10_000  # slowdown counts shorter jobs as if they ran so long; so does this


class Setting(NamedTuple):
    """How alike two jobs are. One setting for every cluster; docs/reference/prediction.md."""

    per_record: float = 0.89  # weight kept per later record of the user
    per_limit: float = 2.5  # exponents of the ratios of limits, widths, and hours since
    per_width: float = 0.29
    per_hour: float = 0.20
    follow_limit: float = 0.10  # how far a record's run time is scaled with the limit
    exact: float = 1.2  # gain of records with the same limit and width
    other_name: float = 0.3  # weight left to another name, or only another number in it
    other_number: float = 0.8
    prior: float = 0.04  # weight of the prior, in records
    forget: float = 0.99  # weight that the prior's records keep per later one of their class
    shrink: float = 1.1  # records at which a class of the prior counts as much as the wider one


class Sample(NamedTuple):
    """Weighted logarithms of run times; the last row is the prior, in seven parts of its spread."""

    logs: Floats
    weights: Floats
    prior_log: float  # mean logarithm, and logarithm of the mean, of the prior
    prior_mean_log: float
    prior_weight: float
    records: int


_SPREAD = np.array([-1.6, -0.8, -0.3, 0.0, 0.3, 0.8, 1.6]) * 1.3  # of a class, as a normal law's
_DIGITS = re.compile(r"[0-9]+")
_LOG, _LIMIT, _WIDTH, _END, _NAME, _STEM, _KILLED = range(7)


class _Class:
    __slots__ = ("log", "mean", "weight")

    def __init__(self) -> None:
        self.weight = self.log = self.mean = 0.0

    def add(self, log: float, forget: float) -> None:
        self.weight = self.weight * forget + 1
        self.log = self.log * forget + log
        self.mean = self.mean * forget + math.exp(log)


class _User:
    """The latest records, oldest first, in a buffer of twice their number."""

    def __init__(self) -> None:
        self.rows = np.zeros((7, 2 * KEEP))
        self.end = 0

    def add(self, row: tuple[float, ...]) -> None:
        if self.end == self.rows.shape[1]:
            self.rows[:, :KEEP] = self.rows[:, -KEEP:]
            self.end = KEEP
        self.rows[:, self.end] = row
        self.end += 1

    def latest(self) -> Floats:
        return self.rows[:, max(0, self.end - KEEP) : self.end]


class Neighbours:
    """Gives the sample of a job, and takes in those that ended."""

    def __init__(self, setting: Setting = Setting()) -> None:
        self.setting = setting
        self._ages = np.arange(KEEP - 1, -1, -1) * math.log(setting.per_record)
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._classes: OrderedDict[tuple[object, ...], _Class] = OrderedDict()

    def sample(self, now: Ms, job: JobSpec) -> Sample:
        """Return what the history says of a job that is submitted now."""
        setting, limit = self.setting, log_limit(job)
        log, mean_log = self._prior(job, limit)
        prior = np.minimum(log + _SPREAD, limit)
        spread = np.full(len(_SPREAD), setting.prior / len(_SPREAD))
        user = self._users.get(job.user)
        if user is None:
            return Sample(prior, spread, log, mean_log, setting.prior, 0)
        rows = user.latest()
        weights = np.exp(self._alike(rows, now, job, limit))
        logs = rows[_LOG] + setting.follow_limit * (limit - rows[_LIMIT])
        # Who was killed at the limit would have run on; with a longer one, perhaps up to it.
        longer = (rows[_KILLED] > 0) & (rows[_LIMIT] < limit)
        logs = np.minimum(np.where(longer, rows[_LOG] + limit - rows[_LIMIT], logs), limit)
        return Sample(
            np.concatenate((logs, prior)),
            np.concatenate((weights, spread)),
            log,
            mean_log,
            setting.prior,
            rows.shape[1],
        )

    def _alike(self, rows: Floats, now: Ms, job: JobSpec, limit: float) -> Floats:
        """Return the logarithms of the records' weights."""
        setting = self.setting
        limits = np.abs(rows[_LIMIT] - limit)
        widths = np.abs(rows[_WIDTH] - log_width(job))
        hours = np.log1p(np.maximum(now - rows[_END], 0) / 3_600_000)
        found: Floats = self._ages[-rows.shape[1] :] - (
            setting.per_limit * limits + setting.per_width * widths + setting.per_hour * hours
        )
        found += np.where(limits + widths == 0, math.log(setting.exact), 0.0)
        name, stem = _name_ids(job)
        other = np.where(rows[_STEM] != stem, math.log(setting.other_name), 0.0)
        numbered = (rows[_STEM] == stem) & (rows[_NAME] != name)
        return found + other + np.where(numbered, math.log(setting.other_number), 0.0)

    def _prior(self, job: JobSpec, limit: float) -> tuple[float, float]:
        log, mean_log = limit - 1.5, limit - 0.9  # before anything has ended: a part of the limit
        shrink = self.setting.shrink
        for key in _classes(job):
            known = self._classes.get(key)
            if known is None:
                continue
            scale = limit if not key else 0.0  # the widest class holds shares of the limit
            total = known.weight + shrink
            log = (known.log + known.weight * scale + shrink * log) / total
            mean = known.mean * math.exp(scale)
            mean_log = math.log((mean + shrink * math.exp(mean_log)) / total)
        return log, min(mean_log, limit)

    def learn(self, now: Ms, job: JobSpec, ran_ms: Ms, completed: bool) -> None:
        """Take in a job that has ended."""
        limit, log = log_limit(job), math.log(max(ran_ms, SHORTEST_MS))
        for key in _classes(job):
            known = _newest(self._classes, key, CLASSES_MAX, _Class)
            known.add(log - limit if not key else log, self.setting.forget)
        user = _newest(self._users, job.user, USERS_MAX, _User)
        killed = 0.0 if completed else 1.0
        name, stem = _name_ids(job)
        user.add((log, limit, log_width(job), float(now), name, stem, killed))


def _name_ids(job: JobSpec) -> tuple[int, int]:
    """Return numbers for a job's name, and for it without its own numbers: train-7, train-#."""
    text = job.name or (job.command[0] if job.command else "")
    return crc32(text.encode()), crc32(_DIGITS.sub("#", text).encode())


def log_limit(job: JobSpec) -> float:
    """Return the logarithm of a job's limit; a job without one is as others without one."""
    return math.log(max(job.limit_ms or 24 * DEFAULT_MS, SHORTEST_MS))


def log_width(job: JobSpec) -> float:
    """Return the logarithm of how wide a job is."""
    return math.log(max(width(job)[1], 1))


def _classes(job: JobSpec) -> tuple[tuple[object, ...], ...]:
    return (), (job.limit_ms,), (job.limit_ms, width(job))


def _newest(
    known: OrderedDict[Key, Value], key: Key, most: int, make: Callable[[], Value]
) -> Value:
    found = known.get(key)
    if found is None:
        found = known[key] = make()
        if len(known) > most:
            known.popitem(last=False)
    else:
        known.move_to_end(key)
    return found
