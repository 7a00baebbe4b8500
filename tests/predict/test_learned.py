from __future__ import annotations

import sys
from random import Random

import numpy as np
import pytest

from fairlead.model.base import Misuse
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.predict.boosted import Boosted, repeats
from fairlead.predict.evaluate import Ended, evaluate
from fairlead.predict.features import FEATURES, Features
from fairlead.predict.registry import build

pytest.importorskip("sklearn", reason="the extra learn is not installed")
HOUR = 3_600_000


@pytest.fixture(scope="module")
def jobs() -> list[Ended]:
    """Names decide run times, with noise; users mean nothing, so the last two are misled."""
    random, made = Random(1), []
    for number in range(1000):
        size = random.choice((1, 2, 4))
        name = random.choice(("train", "eval"))
        ran = int(random.lognormvariate(0, 0.3) * size * (600_000 if name == "train" else 30_000))
        job = JobSpec(
            shape=Shape(gpus=random.choice((1, 2))),
            user=f"u{random.randrange(200)}",
            name=f"{name}-{size}-{number}",
            limit_ms=10 * HOUR,
        )
        made.append(Ended(number, number * 60_000, ran, job))
    return made


@pytest.fixture(scope="module")
def learned(jobs):
    return evaluate(jobs, build("learned"))


def test_boosting_learns_from_names_what_the_last_two_cannot_know(jobs, learned):
    by_model = {row.name: row for row in learned.models}
    assert by_model["learned: boosted"].jobs > 500
    last = evaluate(jobs, build("last2")).total
    assert by_model["learned: boosted"].mae_ms < 0.7 * last.mae_ms


def test_boosted_quantiles_ascend_and_keep_their_promise(learned):
    boosted = next(row for row in learned.models if row.name == "learned: boosted")
    assert 0.85 <= boosted.band_90 <= 0.95
    assert 0.43 <= boosted.band_50 <= 0.57
    for said in learned.forecasts:
        assert list(said.quantiles_ms) == sorted(said.quantiles_ms)


def test_learning_twice_gives_the_same_forecasts(jobs):
    first, second = (evaluate(jobs[:500], build("learned")) for _ in range(2))
    assert first.forecasts == second.forecasts


def test_what_ends_later_changes_no_boosted_forecast(jobs):
    cut = 450
    now = jobs[cut].submit_ms
    changed = [
        job if job.submit_ms + job.ran_ms <= now else Ended(job.id, job.submit_ms, now, job.spec)
        for job in jobs[: cut + 1]
    ]
    said = evaluate(jobs[: cut + 1], build("learned")).forecasts[: cut + 1]
    assert evaluate(changed, build("learned")).forecasts == said


def test_the_trees_walked_here_say_what_scikit_learn_says():
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 5))
    model = Boosted(rows, rows[:, 0] + random.normal(size=400), np.ones(400))
    assert model._forest is not None
    for row in rows[:50]:
        assert model.raw(row) == pytest.approx(model.slow(row), abs=1e-9)


def test_rows_are_repeated_as_their_weights_say():
    assert repeats(np.array([1.0, 0.5, 0.5, 2.0, 1.5])).sum() == 6
    assert repeats(np.ones(9)).tolist() == [1] * 9


def test_every_feature_has_a_name_and_a_value():
    job = JobSpec(shape=Shape(gpus=1), name="train-7", command=("python", "train.py"))
    features = Features()
    before = features.of(0, job)
    assert len(before) == len(FEATURES)
    assert features.of(0, job) == before
    features.ended(10, job, 12.5)
    after = dict(zip(FEATURES, features.of(20, job), strict=True))
    assert after["user, name: last"] == after["command: mean of the last two"] == 12.5


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(Misuse) as wrong:
        build("learned")
    assert "fairlead[learn]" in wrong.value.hint
