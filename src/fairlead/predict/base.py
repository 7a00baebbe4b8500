"""What every predictor is: asked when a job is submitted, taught when one has ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from fairlead.model.base import Ms
from fairlead.model.jobs import FORECAST_PERCENTS, Forecast, JobSpec
from fairlead.model.limits import LIMIT_MS_MAX
from fairlead.model.resources import CPU, GPU, asked_in_all

DEFAULT_MS: Ms = 3_600_000  # said of a job without limit when nothing has ended yet


class Predictor(Protocol):
    """Believes something of run times. `predict` changes nothing that a later answer depends on,
    apart from what it remembers of this job until it ends; only `learn` teaches.
    """

    name: str

    def predict(self, now: Ms, job: JobSpec) -> Forecast:
        """Return what is believed at submission, from what is known then."""
        ...

    def learn(self, now: Ms, job: JobSpec, ran_ms: Ms, completed: bool) -> None:
        """Take in a job that has ended; completed=False: it was killed, and would have run on."""
        ...

    def why(self, now: Ms, job: JobSpec) -> tuple[str, ...]:
        """Return in sentences from which history a forecast made now would come."""
        ...


def width(job: JobSpec) -> tuple[str, int]:
    """Return how wide a job is, members together: thousandths of GPUs, of cores without any."""
    asked = asked_in_all(job.shape)
    return ("gpu", asked[GPU]) if asked[GPU] else ("cpu", asked[CPU])


def bounded(value: float, job: JobSpec) -> Ms:
    """Return a run time as a forecast may name it: whole ms, from 1 to the job's own limit."""
    most = LIMIT_MS_MAX if job.limit_ms is None else job.limit_ms
    if not math.isfinite(value):
        return max(1, most)
    return max(1, min(round(value), most))


def forecast(job: JobSpec, expected: float, quantiles: Sequence[float], model: str) -> Forecast:
    """Return the forecast with these run times, in order and within what the job may run."""
    assert len(quantiles) in (0, len(FORECAST_PERCENTS))
    return Forecast(
        expected_ms=bounded(expected, job),
        quantiles_ms=tuple(sorted(bounded(each, job) for each in quantiles)),
        model=model,
    )
