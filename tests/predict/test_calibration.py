from __future__ import annotations

from fractions import Fraction
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.jobs import FORECAST_PERCENTS
from fairlead.predict.calibration import LEVELS, Calibrator
from fairlead.predict.learned import uncensored_weights
from fairlead.predict.scores import (
    conformal_bound,
    conformal_rank,
    outside,
    pinball,
    quantile,
    widened,
)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.fractions(0, 1))
def test_the_conformal_bound_is_the_score_of_its_rank_or_nothing(scores, alpha):
    rank = conformal_rank(len(scores), alpha)
    assert rank - 1 < (len(scores) + 1) * (1 - alpha) <= rank
    bound = conformal_bound(scores, alpha)
    if rank > len(scores):
        assert bound is None
    else:
        assert sum(score <= bound for score in scores) >= rank
        assert sum(score < bound for score in scores) <= max(rank - 1, 0)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.fractions(0, 1))
def test_no_constant_has_less_pinball_loss_than_the_quantile(values, level):
    def loss(said):
        return sum(pinball(level, Fraction(truth), Fraction(said)) for truth in values)

    best = loss(quantile(values, level))
    assert all(best <= loss(each) for each in values)


def test_the_conformal_interval_covers_exchangeable_truths_as_often_as_promised():
    random, alpha, covered = Random(3), Fraction(1, 5), 0
    for _ in range(1000):
        truths = [random.lognormvariate(0, 1) for _ in range(20)]
        scores = [outside(truth, (0.5, 2.0)) for truth in truths[:-1]]
        low, high = widened((0.5, 2.0), conformal_bound(scores, alpha))
        covered += low <= truths[-1] <= high
    assert 770 <= covered <= 840  # 800 promised; three standard deviations


def coverage(truths, raw):
    """Return the shares at or below each quantile that a calibrator gives in turn."""
    calibrator, below = Calibrator(), [0] * len(LEVELS)
    for truth in truths:
        said = calibrator.moved(raw)
        below = [count + (truth <= each) for count, each in zip(below, said, strict=True)]
        calibrator.learn(raw, said, truth)
    return [count / len(truths) for count in below]


def test_calibration_makes_a_wrong_model_keep_its_promise():
    random = Random(5)
    found = coverage([random.gauss(3, 2) for _ in range(3000)], [0.0] * len(LEVELS))
    for percent, share in zip(FORECAST_PERCENTS, found, strict=True):
        assert abs(share - percent / 100) < 0.02


def test_calibration_keeps_its_promise_while_run_times_drift():
    random = Random(7)
    drifting = [random.gauss(n / 300, 1) for n in range(6000)]
    for percent, share in zip(
        FORECAST_PERCENTS, coverage(drifting, [0.0] * len(LEVELS)), strict=True
    ):
        assert abs(share - percent / 100) < 0.02


def test_levels_that_cross_do_not_take_each_others_misses():
    random = Random(9)
    raw = [3.0, 1.0, 2.0, 0.0, -1.0, -2.0, -3.0]  # the wrong way round
    for percent, share in zip(
        FORECAST_PERCENTS, coverage([random.gauss(0, 1) for _ in range(3000)], raw), strict=True
    ):
        assert abs(share - percent / 100) < 0.02


def test_without_calibration_the_same_model_would_have_failed():
    random = Random(5)
    truths = [random.gauss(3, 2) for _ in range(3000)]
    assert sum(truth <= 0.0 for truth in truths) / len(truths) < 0.1


def test_killed_jobs_give_their_weight_to_those_that_ran_longer():
    logs = np.array([1.0, 2.0, 3.0, 4.0])
    whole = np.array([True, False, True, True])
    weights = uncensored_weights(logs, whole)
    assert weights.tolist() == [1.0, 0.0, 1.5, 1.5]
    assert uncensored_weights(logs, np.ones(4, dtype=bool)).tolist() == [1.0] * 4
