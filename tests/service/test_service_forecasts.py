"""Forecasts are made at submission, become facts, and never stand in the service's way."""

from __future__ import annotations

import asyncio

import pytest
from service_harness import Desk

from fairlead.model.base import Misuse
from fairlead.model.events import Forecasted, Submitted
from fairlead.model.jobs import Exit, Forecast
from fairlead.model.messages import MemberState, Report
from fairlead.service.config import parse_config
from fairlead.service.forecasts import Forecasts

JOBS = "/api/v1/jobs"


def run(desk, story) -> None:
    async def whole():
        try:
            await asyncio.wait_for(story, 60)
        finally:
            await desk.api.etas.close()

    asyncio.run(whole())


class Fake:
    """Says what it was told last; notes what it is asked and taught."""

    name = "fake"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.taught: list[tuple[str, int, bool]] = []
        self.fails = ""

    def predict(self, now, job):
        if self.fails == "predict":
            raise RuntimeError("no idea")
        self.asked.append(job.name)
        times = (1, 2, 3, 4, 5, 6, 7)
        return Forecast(5_000, tuple(1_000 * each for each in times), self.name)

    def learn(self, now, job, ran_ms, completed):
        if self.fails == "learn":
            raise RuntimeError("too much")
        self.taught.append((job.name, ran_ms, completed))

    def why(self, now, job):
        return ("what was said",)


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def desk(tmp_path, fake):
    made = Desk(tmp_path, lambda: 1_000_000)
    made.shell.forecasts = Forecasts(fake)
    return made


async def finish(desk, job: int, begun: int, at: int, code: int = 0) -> None:
    state = MemberState(
        **{"job": job, "attempt": 1, "rank": 0, "state": "ended"},
        exit=Exit(code=code),
        started_ms=begun,
        ended_ms=at,
    )
    desk.shell.clock = lambda: max(at, 1_000_000)
    desk.shell.reported(Report(node="here", boot="1", seen=desk.shell.core.seq, members=(state,)))
    assert await desk.shell.ended(job, 5)


def test_each_submission_is_followed_by_its_forecast_and_an_array_is_asked_once(desk, fake):
    async def story():
        await desk.start()
        body = {"jobs": [{"run": "a", "name": "one"}, {"run": "b", "name": "x", "array": "0-2"}]}
        await desk.call("POST", JOBS, body)
        log = [event for _, _, event in desk.store.replay(0)]
        both = [(type(e), e.job) for e in log if isinstance(e, Submitted | Forecasted)]
        assert both == [(kind, job) for job in (1, 2, 3, 4) for kind in (Submitted, Forecasted)]
        assert fake.asked == ["one", "x"]
        assert desk.shell.core.jobs[4].forecast.expected_ms == 5_000

    run(desk, story())


def test_ends_teach_and_a_job_that_never_ran_does_not(desk, fake):
    async def story():
        await desk.start()
        await desk.call("POST", JOBS, {"jobs": [{"run": "a", "name": n} for n in "abc"]})
        await desk.call("POST", f"{JOBS}/3/cancel")
        await finish(desk, 1, 1_000_000, 1_004_000)
        await finish(desk, 2, 1_004_000, 1_005_000, code=1)
        assert fake.taught == [("a", 4_000, True), ("b", 1_000, True)]

    run(desk, story())


@pytest.mark.parametrize("where", ["predict", "learn"])
def test_a_predictor_that_fails_is_dropped_and_the_service_goes_on(desk, fake, where, caplog):
    async def story():
        await desk.start()
        fake.fails = where
        await desk.call("POST", JOBS, {"run": "a"})
        await finish(desk, 1, 1_000_000, 1_004_000)
        assert (await desk.call("POST", JOBS, {"run": "b"})).status == 201
        status = (await desk.call("GET", "/api/v1/status")).json["predictor"]
        assert status["name"] == "none" and "fake failed" in status["problem"]

    run(desk, story())
    assert "no more forecasts" in caplog.text


def test_at_the_start_it_learns_from_history_in_the_order_of_the_ends(desk, fake):
    async def story():
        await desk.start()
        desk.shell.forecasts = Forecasts()
        ranked = zip("abc", (50, 90, 10), strict=True)
        jobs = [{"run": "a", "name": name, "priority": first} for name, first in ranked]
        await desk.call("POST", JOBS, {"jobs": jobs})
        await finish(desk, 2, 1_000_000, 1_002_000)
        await finish(desk, 1, 1_002_000, 1_005_000)
        forecasts = desk.shell.forecasts = Forecasts(fake, learned=False)
        await finish(desk, 3, 1_005_000, 1_012_000)  # while it has not learned yet
        assert (
            forecasts.attach(0, desk.shell.core, [Submitted(job=9, spec=desk.store.spec_of(1))])[1:]
            == []
        )
        await forecasts.learn(desk.store)
        assert [name for name, _, _ in fake.taught][:2] == ["b", "a"]
        assert fake.taught[-1] == ("c", 7_000, True)
        assert (
            len(
                forecasts.attach(0, desk.shell.core, [Submitted(job=9, spec=desk.store.spec_of(1))])
            )
            == 2
        )

    run(desk, story())


def test_a_forecast_is_explained_while_it_runs_and_after_it_ended(desk, fake):
    async def story():
        await desk.start()
        await desk.call("POST", JOBS, {"run": "a", "time_limit": "1m"})
        found = (await desk.call("GET", f"{JOBS}/1/forecast")).json
        assert found["forecast"]["expected_ms"] == 5_000
        assert found["why"] == ["what was said"]
        await finish(desk, 1, 1_000_000, 1_006_500)
        found = (await desk.call("GET", f"{JOBS}/1/forecast")).json
        assert (found["forecast"]["model"], found["ran_ms"]) == ("fake", 6_500)
        (model,) = (await desk.call("GET", "/api/v1/forecasts")).json["models"].values()
        assert (model["jobs"], model["error_ms"]) == (1, 1_500)
        assert model["below"] == {"5": 0, "10": 0, "25": 0, "50": 0, "75": 0, "90": 0, "95": 1}

    run(desk, story())


def test_the_predictor_is_named_in_the_configuration_and_a_wrong_name_with_its_line():
    assert parse_config("").predictor == "online"
    assert parse_config('predictor = "none"').predictor == "none"
    assert parse_config('predictor = "last2"').predictor == "last2"
    with pytest.raises(Misuse) as wrong:
        parse_config('\npredictor = "onlin"')
    assert wrong.value.message.startswith("config.toml:2:")
    assert "online" in wrong.value.hint
