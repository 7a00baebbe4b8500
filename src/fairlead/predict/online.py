"""The predictor for schedulers: a little, at once, from every job that ends. See neighbours.py.

What orders and plans go by lies between the mean of the logarithms and the logarithm of the mean
of the weighted sample. A shortest-first order wants short jobs recognised, which the first does:
one long run among many short ones hardly moves it. Plans want the second.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fairlead.model.base import Ms
from fairlead.model.jobs import Forecast, JobSpec
from fairlead.model.units import format_duration
from fairlead.predict.base import forecast
from fairlead.predict.calibration import LEVELS, Calibrator, log_ms
from fairlead.predict.neighbours import Neighbours, Sample, Setting, log_limit
from fairlead.predict.pending import Pending

WHY_RECORDS = 3
_LEVELS = np.array(LEVELS)


class Point(NamedTuple):
    """Where between the two means the expected run time lies, and how far towards the limit."""

    to_mean: float = 0.24
    to_limit: float = 0.07


class Online:
    """Weighted neighbours with calibrated quantiles; nothing is ever retrained."""

    name = "online"

    def __init__(self, setting: Setting = Setting(), point: Point = Point()) -> None:
        self._neighbours = Neighbours(setting)
        self._point = point
        self._calibrator = Calibrator()
        self._pending: Pending[tuple[list[float], list[float]]] = Pending()

    def predict(self, now: Ms, job: JobSpec) -> Forecast:
        """Return the forecast, and remember it for calibration."""
        sample = self._neighbours.sample(now, job)
        raw = quantiles(sample)
        said = self._calibrator.moved(raw)
        self._pending.push(job, (raw, said))
        times = [math.exp(each) for each in said]
        return forecast(job, expected_ms(sample, job, self._point), times, self.name)

    def learn(self, now: Ms, job: JobSpec, ran_ms: Ms, completed: bool) -> None:
        """Compare with what was said, then take the job in."""
        found = self._pending.pop(job)
        if found is None:
            raw = quantiles(self._neighbours.sample(now, job))
            found = raw, self._calibrator.moved(raw)
        # Of a killed job only a lower bound is known, unless its limit killed it: then it ran as
        # long as it may, and that is what was forecast.
        if completed or (job.limit_ms is not None and ran_ms >= job.limit_ms):
            said = [min(each, log_limit(job)) for each in found[1]]
            self._calibrator.learn(found[0], said, log_ms(ran_ms))
        self._neighbours.learn(now, job, ran_ms, completed)

    def why(self, now: Ms, job: JobSpec) -> tuple[str, ...]:
        """Return the records that weigh most."""
        sample = self._neighbours.sample(now, job)
        weights = sample.weights / sample.weights.sum()
        heaviest = np.argsort(-weights[: sample.records], kind="stable")[:WHY_RECORDS]
        lines = [
            f"{format_duration(round(math.exp(sample.logs[each])), exact=False)}, "
            f"weight {100 * weights[each]:.0f} %, "
            f"{sample.records - int(each)} of {sample.records} jobs of the user ago"
            for each in heaviest
        ]
        rest = 100 * float(weights[sample.records :].sum())
        typical = format_duration(round(math.exp(sample.prior_log)), exact=False)
        return (*lines, f"everybody's with this limit and width: {typical}, weight {rest:.0f} %")


def expected_ms(sample: Sample, job: JobSpec, point: Point) -> float:
    """Return the point between the mean of logarithms, the mean, and the limit."""
    records = slice(0, sample.records)
    weights, logs = sample.weights[records], sample.logs[records]
    total = float(weights.sum()) + sample.prior_weight
    log = (float(weights @ logs) + sample.prior_weight * sample.prior_log) / total
    prior_mean = sample.prior_weight * math.exp(sample.prior_mean_log)
    mean_log = math.log((float(weights @ np.exp(logs)) + prior_mean) / total)
    found = min(log + point.to_mean * (mean_log - log), log_limit(job))
    if job.limit_ms is None:
        return math.exp(found)
    return math.exp(found + point.to_limit * (log_limit(job) - found))


def quantiles(sample: Sample) -> list[float]:
    """Return the weighted quantiles of the sample's logarithms, between records interpolated."""
    order = np.argsort(sample.logs, kind="stable")
    weights = sample.weights[order]
    upto = np.cumsum(weights)
    middle = (upto - weights / 2) / upto[-1]
    found: list[float] = np.interp(_LEVELS, middle, sample.logs[order]).tolist()
    return found
