"""Makes quantiles keep their promise: split conformal on the latest jobs, with an adaptive level.

Every quantile is moved by the conformal rank of how far the truth fell from it among the latest
held-back jobs (one-sided CQR), so it would hold whatever the model is, were jobs exchangeable.
They drift; so the level that is asked for follows the misses (Gibbs and Candès 2021), which makes
the long-run share right under any drift. All in logarithms of run times.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence

from fairlead.model.jobs import FORECAST_PERCENTS
from fairlead.predict.scores import conformal_rank

WINDOW = 500  # scores; older ones say nothing about today
ENOUGH = 20  # below that, quantiles stay as the model says
STEP = 0.01  # how far one miss moves the level
LEVELS = tuple(percent / 100 for percent in FORECAST_PERCENTS)


class Calibrator:
    """Moves the quantiles at FORECAST_PERCENTS of one model."""

    def __init__(self, window: int = WINDOW, step: float = STEP) -> None:
        self.step = step
        self.asked = list(LEVELS)  # the levels that would have kept the promise so far
        self._latest: list[deque[float]] = [deque(maxlen=window) for _ in LEVELS]
        self._sorted: list[list[float]] = [[] for _ in LEVELS]

    def moved(self, raw: Sequence[float]) -> list[float]:
        """Return the quantiles as the latest truths say they must lie.

        They may cross. Whoever shows them sorts them; `learn` wants them as they are here, since
        a miss of one level must not move the level whose place it took.
        """
        if len(self._latest[0]) < ENOUGH:
            return list(raw)
        shifts = (self._shift(index) for index in range(len(LEVELS)))
        return [each + shift for each, shift in zip(raw, shifts, strict=True)]

    def _shift(self, index: int) -> float:
        scores, level = self._sorted[index], self.asked[index]
        rank = conformal_rank(len(scores), 1 - level)
        if level < 0.5:
            rank -= 1  # a lower bound errs downwards, as an upper one does upwards
        # Beyond the last score there is no finite bound; the farthest that was seen is honest
        # where the job's own limit, or 1 ms, stands behind it.
        return scores[min(max(rank, 1), len(scores)) - 1]

    def learn(self, raw: Sequence[float], said: Sequence[float], truth: float) -> None:
        """Take in how a job ended of which the model said `raw`, and the forecast `said`."""
        for index, level in enumerate(LEVELS):
            latest, ordered = self._latest[index], self._sorted[index]
            if len(latest) == latest.maxlen:
                del ordered[bisect_left(ordered, latest[0])]
            score = truth - raw[index]
            latest.append(score)
            insort(ordered, score)
            # Truths are whole ms; what was said may differ from them by rounding.
            missed = truth > said[index] + 1e-9
            asked = self.asked[index] + self.step * (level - (not missed))
            self.asked[index] = min(max(asked, 0.001), 0.999)


def log_ms(run_ms: float) -> float:
    """Return the logarithm of a run time in ms, those below one second as one second."""
    return math.log(max(run_ms, 1000))
