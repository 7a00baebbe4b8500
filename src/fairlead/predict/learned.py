"""Boosted quantiles, or the last two of the same where those are better: chosen by results.

Both speak at every submission; when the job ends both are judged by pinball loss, and whichever
has lost less on the latest jobs is believed. Neither is judged on what it has been trained on.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

from fairlead.model.base import Ms
from fairlead.model.jobs import Forecast, JobSpec
from fairlead.predict.base import DEFAULT_MS, forecast
from fairlead.predict.boosted import Boosted, need_sklearn
from fairlead.predict.calibration import LEVELS, Calibrator, log_ms
from fairlead.predict.features import Features
from fairlead.predict.history import History, Past, mean
from fairlead.predict.pending import Pending
from fairlead.predict.scores import pinball

FIRST_TRAINING = 300  # jobs ended
TRAIN_AFTER = 0.25  # again when so much more has ended, but
TRAIN_AFTER_MAX = 4_000  # at the latest after so many
ROWS_MAX = 8_000  # the latest
FORGET = 0.998  # weight that a loss keeps per later job
MIDDLE = LEVELS.index(0.5)
BOOSTED, LAST = "boosted", "last two"
CENSORED_SHARE = 4.0  # weight that a censored job gives to those that ran longer, at most


class _Said(NamedTuple):
    features: list[float]
    raw: dict[str, list[float]]
    moved: dict[str, list[float]]


class Learned:
    """Retrained by count, on what had ended by then."""

    name = "learned"

    def __init__(self) -> None:
        need_sklearn()
        self._features = Features()
        self._history = History(keep=2)
        self._pending: Pending[_Said] = Pending()
        self._rows: deque[tuple[list[float], float, bool]] = deque(maxlen=ROWS_MAX)
        self._ended = self._trained_at = self.trainings = 0
        self._model: Boosted | None = None
        self._calibrators = {BOOSTED: Calibrator(), LAST: Calibrator()}
        self.losses = {BOOSTED: 0.0, LAST: 0.0}  # decayed sums over the same jobs

    def predict(self, now: Ms, job: JobSpec) -> Forecast:
        """Return the forecast of whichever model is better of late."""
        said = self._say(now, job)
        self._features.submitted(now, job)
        self._pending.push(job, said)
        chosen = self._chosen(said)
        times = [math.exp(each) for each in sorted(said.moved[chosen])]
        return forecast(job, times[MIDDLE], times, f"{self.name}: {chosen}")

    def learn(self, now: Ms, job: JobSpec, ran_ms: Ms, completed: bool) -> None:
        """Judge what was said, remember the job, and retrain when enough more has ended."""
        said = self._pending.pop(job) or self._say(now, job)
        log, limit = log_ms(ran_ms), _log_limit(job)
        whole = completed or (job.limit_ms is not None and ran_ms >= job.limit_ms)
        if whole:
            both = len(said.raw) == len(self.losses)
            for name, raw in said.raw.items():
                moved = [min(each, limit) for each in said.moved[name]]
                self._calibrators[name].learn(raw, moved, log)
                if both:
                    pairs = zip(LEVELS, sorted(moved), strict=True)
                    loss = sum(pinball(level, log, each) for level, each in pairs)
                    self.losses[name] = self.losses[name] * FORGET + loss
        self._history.add(job, Past(now, now - ran_ms, ran_ms, completed))
        self._features.ended(now, job, log)
        self._rows.append((said.features, log, whole))
        self._ended += 1
        if self._due():
            self._train()

    def why(self, now: Ms, job: JobSpec) -> tuple[str, ...]:
        """Return who speaks, and why."""
        said = self._say(now, job)
        if self._model is None:
            return (f"the last two of the same; boosting begins after {FIRST_TRAINING} ends",)
        lost = ", ".join(f"{name} {loss:.1f}" for name, loss in self.losses.items())
        trained = f"trained {self.trainings} times, last when {self._trained_at:,} jobs had ended"
        return (f"{self._chosen(said)} has lost least of late: {lost}", f"boosted: {trained}")

    def _say(self, now: Ms, job: JobSpec) -> _Said:
        features = self._features.of(now, job)
        found = self._history.find(job, 2)
        point = _log_limit(job) if found is None else log_ms(float(mean(found.records)))
        raw = {LAST: [point] * len(LEVELS)}
        if self._model is not None:
            raw[BOOSTED] = self._model.raw(features)
        moved = {name: self._calibrators[name].moved(each) for name, each in raw.items()}
        return _Said(features, raw, moved)

    def _chosen(self, said: _Said) -> str:
        if BOOSTED not in said.raw or self.losses[BOOSTED] > self.losses[LAST]:
            return LAST
        return BOOSTED

    def _due(self) -> bool:
        if self._model is None:
            return self._ended >= FIRST_TRAINING
        more = self._ended - self._trained_at
        return more >= min(TRAIN_AFTER * self._trained_at, TRAIN_AFTER_MAX)

    def _train(self) -> None:
        rows = np.array([features for features, _, _ in self._rows])
        logs = np.array([log for _, log, _ in self._rows])
        whole = np.array([each for _, _, each in self._rows])
        kept = uncensored_weights(logs, whole)
        use = kept > 0
        if use.sum() >= FIRST_TRAINING // 2:
            self._model = Boosted(rows[use], logs[use], kept[use])
            self.trainings += 1
        self._trained_at = self._ended


def uncensored_weights(
    logs: np.ndarray[tuple[int], np.dtype[np.float64]],
    whole: np.ndarray[tuple[int], np.dtype[np.bool_]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return 0 for jobs that were killed, and more than 1 for those that ran as long or longer.

    Inverse probability of censoring (Kaplan and Meier): a killed job would have run longer, so
    its weight goes, evenly, to those that did. Leaving killed jobs out alone would teach that
    jobs are short, since long ones are killed more often.
    """
    if whole.all():
        return np.ones(len(logs))
    order = np.lexsort((~whole, logs))  # of equal times the ends come before the kills
    left = np.arange(len(logs), 0, -1)
    steps = np.where(whole[order], 1.0, (left - 1) / left)
    alive = np.concatenate(([1.0], np.cumprod(steps)[:-1]))
    weights = np.zeros(len(logs))
    most = 1 / CENSORED_SHARE
    weights[order] = np.where(whole[order], 1 / np.maximum(alive, most), 0.0)
    return weights


def _log_limit(job: JobSpec) -> float:
    return log_ms(DEFAULT_MS * 24 if job.limit_ms is None else job.limit_ms)
