"""The classic predictors: the limit, Tsafrir's last two of the user, the last k of the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from fairlead.model.base import Ms
from fairlead.model.jobs import Forecast, JobSpec
from fairlead.model.units import format_duration
from fairlead.predict.base import DEFAULT_MS, forecast
from fairlead.predict.history import LEVELS, Found, History, Level, Past, mean, median, words

TSAFRIR_LAST = 2


class Limit:
    """Believes the user: a job runs as long as it may."""

    name = "limit"

    def predict(self, now: Ms, job: JobSpec) -> Forecast:
        """Return the job's own limit."""
        return forecast(job, _unknown(job), (), self.name)

    def learn(self, now: Ms, job: JobSpec, ran_ms: Ms, completed: bool) -> None:
        """Nothing: users do not change what they ask for either."""

    def why(self, now: Ms, job: JobSpec) -> tuple[str, ...]:
        """Return that it is the limit."""
        return ("its time limit, as the user set it",)


class LastK:
    """The mean or median of the last k jobs of the same, then of ever less alike ones."""

    def __init__(
        self,
        name: str,
        k: int,
        average: Callable[[Sequence[Past]], Fraction] = mean,
        levels: Sequence[Level] = LEVELS,
        enough: int = 1,
    ) -> None:
        self.name, self.k, self.enough = name, k, enough
        self._average = average
        self._history = History(levels, keep=k)

    def predict(self, now: Ms, job: JobSpec) -> Forecast:
        """Return the average of the last k, or the limit where nothing has ended yet."""
        found = self._history.find(job, self.k)
        if found is None or len(found.records) < self.enough:
            return forecast(job, _unknown(job), (), self._said(None))
        return forecast(job, float(self._average(found.records)), (), self._said(found))

    def learn(self, now: Ms, job: JobSpec, ran_ms: Ms, completed: bool) -> None:
        """Remember a job that has ended, killed or not: it held its place that long."""
        self._history.add(job, Past(now, now - ran_ms, ran_ms, completed))

    def why(self, now: Ms, job: JobSpec) -> tuple[str, ...]:
        """Return which jobs are averaged, newest first."""
        found = self._history.find(job, self.k)
        if found is None or len(found.records) < self.enough:
            return ("too little like it has ended: its time limit",)
        same = words(self._history.levels[found.level])
        times = ", ".join(format_duration(past.ran_ms, exact=False) for past in found.records[::-1])
        return (f"the last {len(found.records)} of the same {same}, newest first: {times}",)

    def _said(self, found: Found | None) -> str:
        """Return the model's name with its level, so that evaluation can tell them apart."""
        if found is None:
            return f"{self.name}: limit"
        return f"{self.name}: {words(self._history.levels[found.level])}"


def last_k(name: str) -> LastK:
    """Return `last3`, or `last3-median`; the registry has checked the name."""
    count, _, kind = name.removeprefix("last").partition("-")
    return LastK(name, int(count), median if kind == "median" else mean)


def tsafrir() -> LastK:
    """Return the mean of the user's last two; the request until there are two."""
    return LastK("tsafrir", TSAFRIR_LAST, mean, levels=(("user",),), enough=TSAFRIR_LAST)


def _unknown(job: JobSpec) -> Ms:
    return DEFAULT_MS if job.limit_ms is None else job.limit_ms
