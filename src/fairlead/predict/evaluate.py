"""Measures a predictor on jobs that have ended, in order of time: asked, then taught.

A job is forecast at its submission, when the predictor has seen what had ended by then and
nothing else. Run times in ms; shares from 0 to 1.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import msgspec

from fairlead.model.base import Ms
from fairlead.model.jobs import FORECAST_PERCENTS, Forecast, JobSpec
from fairlead.predict.base import Predictor
from fairlead.predict.scores import pinball

WINDOWS = 10
LOW_90, LOW_50, MEDIAN, HIGH_50, HIGH_90 = (
    FORECAST_PERCENTS.index(percent) for percent in (5, 25, 50, 75, 95)
)


class Ended(msgspec.Struct, frozen=True):
    """One job with its truth. `waited_ms` is unknown in most traces; then it is taken as 0."""

    id: int | str
    submit_ms: Ms
    ran_ms: Ms
    spec: JobSpec
    completed: bool = True
    waited_ms: Ms = 0


class Row(msgspec.Struct):
    """Figures of some of the jobs: all, one window of time, or one model."""

    name: str
    jobs: int = 0
    mae_ms: float = 0.0
    over: float = 0.0  # share that ran shorter than was expected
    under: float = 0.0
    exact: float = 0.0
    pinball_ms: dict[str, float] = {}  # percent -> mean loss; {}: no quantiles were given
    coverage: dict[str, float] = {}  # percent -> share at or below that quantile
    band_50: float | None = None  # share within the quantiles 25 and 75, both included
    band_90: float | None = None


class Evaluation(msgspec.Struct):
    """What `evaluate` returns; `forecasts` are in the order of the jobs."""

    predictor: str
    total: Row
    windows: list[Row]
    models: list[Row]
    forecasts: list[Forecast]


Watch = Callable[[Ended, Forecast], None]


def evaluate(jobs: Sequence[Ended], predictor: Predictor, *, windows: int = WINDOWS) -> Evaluation:
    """Return how good the forecasts are; `windows` parts of equally many jobs, by submission."""
    ordered = sorted(jobs, key=lambda job: job.submit_ms)  # stable: equal ones stay in order
    forecasts = said_of(ordered, predictor)
    pairs = list(zip(ordered, forecasts, strict=True))
    size = max(1, -(-len(pairs) // windows))
    parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    by_model: dict[str, list[tuple[Ended, Forecast]]] = {}
    for job, said in pairs:
        by_model.setdefault(said.model, []).append((job, said))
    return Evaluation(
        predictor=predictor.name,
        total=row("all", pairs),
        windows=[row(str(number), part) for number, part in enumerate(parts, 1)],
        models=[row(name, by_model[name]) for name in sorted(by_model)],
        forecasts=forecasts,
    )


def said_of(
    ordered: Sequence[Ended], predictor: Predictor, watch: Watch | None = None
) -> list[Forecast]:
    """Return the forecast of each of these jobs; ends of an instant come before submissions."""
    ends: list[tuple[Ms, int]] = []
    forecasts: list[Forecast] = []
    for index, job in enumerate(ordered):
        while ends and ends[0][0] <= job.submit_ms:
            _teach(ordered, ends, predictor)
        said = predictor.predict(job.submit_ms, job.spec)
        if watch is not None:
            watch(job, said)
        forecasts.append(said)
        heapq.heappush(ends, (job.submit_ms + job.waited_ms + job.ran_ms, index))
    return forecasts


def _teach(ordered: Sequence[Ended], ends: list[tuple[Ms, int]], predictor: Predictor) -> None:
    end_ms, index = heapq.heappop(ends)
    job = ordered[index]
    predictor.learn(end_ms, job.spec, job.ran_ms, job.completed)


def row(name: str, pairs: Sequence[tuple[Ended, Forecast]]) -> Row:
    """Return the figures of these jobs."""
    count = len(pairs)
    if not count:
        return Row(name)
    errors = [said.expected_ms - job.ran_ms for job, said in pairs]
    made = Row(
        name,
        jobs=count,
        mae_ms=sum(map(abs, errors)) / count,
        over=sum(error > 0 for error in errors) / count,
        under=sum(error < 0 for error in errors) / count,
        exact=sum(error == 0 for error in errors) / count,
    )
    full = [(job.ran_ms, said.quantiles_ms) for job, said in pairs if said.quantiles_ms]
    if full:
        for index, percent in enumerate(FORECAST_PERCENTS):
            losses = (pinball(percent / 100, float(truth), float(q[index])) for truth, q in full)
            made.pinball_ms[str(percent)] = sum(losses) / len(full)
            below = sum(truth <= said[index] for truth, said in full)
            made.coverage[str(percent)] = below / len(full)
        made.band_50 = _within(full, LOW_50, HIGH_50)
        made.band_90 = _within(full, LOW_90, HIGH_90)
    return made


def _within(full: Sequence[tuple[Ms, tuple[Ms, ...]]], low: int, high: int) -> float:
    return sum(said[low] <= truth <= said[high] for truth, said in full) / len(full)
