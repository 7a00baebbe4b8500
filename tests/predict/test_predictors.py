from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.model.jobs import FORECAST_PERCENTS, JobSpec
from fairlead.model.resources import Shape
from fairlead.predict.evaluate import Ended, evaluate, said_of
from fairlead.predict.explain import explain
from fairlead.predict.qssf import Rolling, priority
from fairlead.predict.registry import PREDICTORS, build

QUICK = ("limit", "tsafrir", "last2", "last3-median", "online")
HOUR = 3_600_000


def spec(user="u", name="", gpus=1, limit_ms=HOUR, **more) -> JobSpec:
    return JobSpec(shape=Shape(gpus=gpus), user=user, name=name, limit_ms=limit_ms, **more)


def ended(number, submit_ms, ran_ms, job=None, completed=True) -> Ended:
    return Ended(number, submit_ms, ran_ms, job or spec(), completed)


@st.composite
def histories(draw):
    """Some jobs of few users, names, widths and limits, killed at their limits."""
    jobs = []
    for number in range(draw(st.integers(1, 40))):
        limit = draw(st.sampled_from([None, 60_000, HOUR, 24 * HOUR]))
        ran = draw(st.integers(0, 2 * HOUR))
        job = spec(
            user=draw(st.sampled_from("ab")),
            name=draw(st.sampled_from(["", "train-1", "train-2", "eval"])),
            gpus=draw(st.integers(0, 2)),
            limit_ms=limit,
        )
        done = limit is None or ran < limit
        submit = draw(st.integers(0, 10 * HOUR))
        jobs.append(Ended(number, submit, ran if done else limit, job, done))
    return sorted(jobs, key=lambda each: each.submit_ms)


@pytest.mark.parametrize("name", QUICK)
@given(jobs=histories(), seed=st.integers(0, 99))
def test_no_forecast_depends_on_what_ends_or_comes_later(name, jobs, seed):
    cut = len(jobs) // 2
    now = jobs[cut].submit_ms
    random = Random(seed)
    # Whoever has not ended by then may as well have run for ever, and the others never come.
    changed = [
        job
        if job.submit_ms + job.ran_ms <= now
        else Ended(job.id, job.submit_ms, now + random.randrange(HOUR), job.spec, job.completed)
        for job in jobs[: cut + 1]
    ]
    assert said_of(changed, build(name)) == said_of(jobs, build(name))[: cut + 1]


@pytest.mark.parametrize("name", QUICK)
@given(jobs=histories())
def test_quantiles_ascend_and_everything_lies_between_1_ms_and_the_limit(name, jobs):
    for job, said in zip(jobs, said_of(jobs, build(name)), strict=True):
        times = (said.expected_ms, *said.quantiles_ms)
        assert all(type(time) is int and time >= 1 for time in times)
        assert job.spec.limit_ms is None or max(times) <= job.spec.limit_ms
        assert list(said.quantiles_ms) == sorted(said.quantiles_ms)
        assert len(said.quantiles_ms) in (0, len(FORECAST_PERCENTS))


@pytest.mark.parametrize("name", QUICK)
@given(jobs=histories())
def test_the_same_history_gives_the_same_forecasts(name, jobs):
    assert said_of(jobs, build(name)) == said_of(jobs, build(name))


@pytest.mark.parametrize("name", QUICK)
def test_asking_for_reasons_changes_no_forecast(name):
    jobs = [ended(n, n * HOUR, 1000 * (n + 1)) for n in range(30)]
    asked, silent = build(name), build(name)
    said = said_of(jobs, asked, lambda job, _: asked.why(job.submit_ms, job.spec))
    assert said == said_of(jobs, silent)


def test_tsafrir_is_the_mean_of_the_users_last_two_and_the_limit_before():
    tsafrir = build("tsafrir")
    assert tsafrir.predict(0, spec()).expected_ms == HOUR
    tsafrir.learn(10, spec(), 1000, True)
    assert tsafrir.predict(10, spec()).expected_ms == HOUR
    tsafrir.learn(20, spec(gpus=4), 4000, True)
    assert tsafrir.predict(20, spec(name="other")).expected_ms == 2500
    assert tsafrir.predict(20, spec(limit_ms=2000)).expected_ms == 2000
    assert tsafrir.predict(20, spec(user="v")).expected_ms == HOUR


def test_the_last_k_are_those_of_the_first_level_that_has_any():
    last2 = build("last-2")
    last2.learn(10, spec(name="train"), 1000, True)
    last2.learn(20, spec(name="eval"), 9000, True)
    assert last2.predict(30, spec(name="train")).expected_ms == 1000
    assert last2.predict(30, spec(name="new")).expected_ms == 5000
    assert last2.predict(30, spec(user="v", name="train")).expected_ms == 5000
    assert "user, gpus" in last2.predict(30, spec(name="new")).model
    assert "everybody" in last2.predict(30, spec(user="v")).model


def test_one_long_run_among_short_ones_hardly_moves_what_online_expects():
    online = build("online")
    for n in range(20):
        online.learn(n * 60_000, spec(), HOUR if n == 10 else 20_000, True)
    assert online.predict(20 * 60_000, spec()).expected_ms < 60_000


def test_online_minds_a_jobs_limit_and_name():
    online = build("online")
    for n in range(20):
        short = n % 2 == 0
        job = spec(name="eval" if short else "train")
        online.learn(n * 60_000, job, 20_000 if short else 1_800_000, True)
    now = 20 * 60_000
    short, long = (online.predict(now, spec(name=name)) for name in ("eval-2", "train"))
    assert 3 * online.predict(now, spec(name="eval")).expected_ms < long.expected_ms
    assert short.expected_ms < long.expected_ms


def test_a_job_killed_at_a_short_limit_says_that_a_longer_one_will_be_used():
    online = build("online")
    for n in range(10):
        online.learn(n * 60_000, spec(limit_ms=60_000), 60_000, False)
    assert online.predict(HOUR, spec(limit_ms=HOUR)).expected_ms > 10 * 60_000


def test_an_unknown_predictor_is_answered_with_the_nearest():
    with pytest.raises(Misuse) as wrong:
        build("onlin")
    assert "online" in wrong.value.hint
    with pytest.raises(Misuse):
        build("last99")
    assert set(PREDICTORS) >= {"limit", "tsafrir", "last2", "online", "learned"}
    assert build("last_k").name == "last2"


def test_evaluation_counts_misses_losses_and_coverage():
    class Fixed:
        name = "fixed"

        def predict(self, now, job):
            from fairlead.predict.base import forecast

            return forecast(job, 100, [10, 20, 30, 100, 200, 300, 400], "fixed")

        def learn(self, now, job, ran_ms, completed):
            pass

    jobs = [ended(0, 0, 100), ended(1, 1, 250), ended(2, 2, 5), ended(3, 3, 1000)]
    total = evaluate(jobs, Fixed()).total
    assert (total.over, total.under, total.exact) == (0.25, 0.5, 0.25)
    assert total.mae_ms == (0 + 150 + 95 + 900) / 4
    assert total.coverage == {
        **{"5": 0.25, "10": 0.25, "25": 0.25, "50": 0.5, "75": 0.5, "90": 0.75, "95": 0.75}
    }
    assert (total.band_50, total.band_90) == (0.25, 0.5)
    assert total.pinball_ms["50"] == pytest.approx(total.mae_ms / 2)


def test_an_explanation_says_what_is_expected_how_sure_and_why():
    online = build("online")
    for n in range(30):
        online.learn(n * 60_000, spec(), 20_000 + 1000 * n, True)
    said = online.predict(HOUR, spec())
    lines = explain(said, limit_ms=HOUR, why=online.why(HOUR, spec()), ran_ms=HOUR)
    text = "\n".join(lines)
    assert "90 % between" in text and "weight" in text and "online" in text
    assert lines[-1].endswith("above the quantile 95 %")


def test_qssf_takes_the_users_closest_names_of_the_same_width_first():
    rolling = Rolling()
    rolling.add(spec(name="train-bert-1", gpus=4), 1000)
    rolling.add(spec(name="train-bert-2", gpus=8), 5000)
    assert rolling.estimate(spec(name="train-bert-3", gpus=8)) == 5000
    assert rolling.estimate(spec(name="train-bert-3", gpus=2)) == 3000
    assert rolling.estimate(spec(name="zzz", gpus=8)) is None
    assert rolling.estimate(spec(user="v", name="train-bert-1", gpus=4)) is None
    assert priority(2, 3000, 1000, Fraction(1, 2)) == 4000
