"""The service says when waiting jobs will start, and never stands still for it."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from fairlead.model.jobs import Exit
from fairlead.model.messages import MemberState, Report
from fairlead.service import etas


def run(desk, story) -> None:
    async def whole():
        try:
            await asyncio.wait_for(story, 60)
        finally:
            await desk.api.etas.close()

    asyncio.run(whole())


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


async def started(desk, job: int, at: int) -> None:
    state = MemberState(job=job, attempt=1, rank=0, state="running", started_ms=at)
    desk.shell.reported(Report(node="here", boot="1", seen=desk.shell.core.seq, members=(state,)))
    await asyncio.sleep(0.01)


async def finish(desk, job: int, begun: int, at: int) -> None:
    state = MemberState(
        **{"job": job, "attempt": 1, "rank": 0, "state": "ended"},
        exit=Exit(code=0),
        started_ms=begun,
        ended_ms=at,
    )
    desk.shell.reported(Report(node="here", boot="1", seen=desk.shell.core.seq, members=(state,)))
    assert await desk.shell.ended(job, 5)


async def waiting(desk, jobs: int, **more: object) -> list[dict]:
    """Submit jobs, of which one runs and the others wait."""
    await desk.start()
    body = {"jobs": [{"run": "x", "time_limit": "10m", "expected": "5m", **more}] * jobs}
    return (await desk.call("POST", "/api/v1/jobs", body)).json["jobs"]


def test_whoever_waits_is_told_when_it_starts_wherever_it_is_looked_at(desk_at):
    clock = Clock()
    desk = desk_at(clock)

    async def story():
        first, second, third = await waiting(desk, 3)
        assert first["eta"] is None and first["phase"] == "STARTING"
        assert second["position"] == 1 and third["position"] == 2
        now = clock.now
        assert second["eta"]["likely_ms"] == pytest.approx(now + 300_000, abs=2_000)
        assert third["eta"]["likely_ms"] == pytest.approx(now + 600_000, abs=4_000)
        assert third["eta"]["made_ms"] == now
        rows = (await desk.call("GET", "/api/v1/jobs?format=rows")).json
        at = rows["columns"].index("eta")
        assert [row[at] for row in rows["rows"]] == [None, second["eta"], third["eta"]]
        assert (await desk.call("GET", "/api/v1/jobs/3")).json["eta"] == third["eta"]
        explained = (await desk.call("GET", "/api/v1/jobs/3/explain")).json
        assert explained["eta"] == third["eta"]
        assert explained["eta_measured"]["compared"] == 0

    run(desk, story())


def test_an_estimate_is_compared_with_the_truth_when_its_job_starts(desk_at):
    clock = Clock()
    desk = desk_at(clock)

    async def story():
        await waiting(desk, 3)
        begun = clock.now
        await started(desk, 1, begun)
        clock.now += 300_000  # as expected
        await finish(desk, 1, begun, clock.now)
        measured = (await desk.call("GET", "/api/v1/status")).json["eta"]
        assert (measured["compared"], measured["inside"]) == (1, 1)
        begun = clock.now
        await started(desk, 2, begun)
        clock.now += 1_000  # far too early: the estimate of the third was wrong
        await finish(desk, 2, begun, clock.now)
        measured = (await desk.call("GET", "/api/v1/status")).json["eta"]
        assert (measured["compared"], measured["inside"]) == (2, 1)

    run(desk, story())


def test_an_estimate_gets_older_and_is_made_anew_in_time(desk_at, monkeypatch):
    clock = Clock()
    desk = desk_at(clock)
    monkeypatch.setattr(etas, "REST", 0)

    async def story():
        await waiting(desk, 2)
        made = clock.now
        clock.now += etas.FRESH_MS
        shown = (await desk.call("GET", "/api/v1/jobs/2")).json["eta"]
        assert shown["made_ms"] == made  # nothing has happened, and it is not that old
        clock.now += 1
        shown = (await desk.call("GET", "/api/v1/jobs/2")).json["eta"]
        assert shown["made_ms"] == clock.now

    run(desk, story())


def test_after_a_look_the_next_one_waits_so_that_most_time_is_left_for_work(desk, monkeypatch):
    monkeypatch.setattr(etas, "REST", 1_000_000)

    async def story():
        await waiting(desk, 2)
        known = desk.api.etas.etas.seq
        answer = await desk.call("POST", "/api/v1/jobs", {"run": "x"})
        assert answer.json["jobs"][0]["eta"] is None
        assert desk.api.etas.etas.seq == known < desk.shell.core.seq

    run(desk, story())


async def known(desk, job: int) -> dict:
    end = time.monotonic() + 30
    while (found := (await desk.call("GET", f"/api/v1/jobs/{job}")).json["eta"]) is None:
        assert time.monotonic() < end, desk.api.etas.problem
        await asyncio.sleep(0.02)
    return found


def test_with_many_jobs_a_child_looks_ahead_and_nobody_waits_for_it(desk):
    async def story():
        jobs = await waiting(desk, etas.INLINE_JOBS + 20)
        assert jobs[1]["eta"] is None  # not yet
        longest, last = 0.0, time.monotonic()
        look = asyncio.create_task(known(desk, 2))
        while not look.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert look.result()["likely_ms"] is not None
        assert desk.api.etas.child.pid is not None
        assert longest < 1  # generous: the machine may be busy; inline it takes longer

    run(desk, story())


def test_the_service_outlives_its_child_and_asks_another_one(desk, monkeypatch):
    monkeypatch.setattr(etas, "REST", 0)
    monkeypatch.setattr(etas, "FAILED_S", 0)

    async def story():
        await waiting(desk, etas.INLINE_JOBS + 2)
        await known(desk, 2)
        os.kill(desk.api.etas.child.pid, signal.SIGKILL)
        await asyncio.sleep(0.1)
        (fresh,) = (await desk.call("POST", "/api/v1/jobs", {"run": "x"})).json["ids"]
        assert (await known(desk, fresh))["likely_ms"] is not None

    run(desk, story())


def test_a_child_that_takes_too_long_is_killed_and_left_alone_for_a_while(desk, monkeypatch):
    monkeypatch.setattr(etas, "DEADLINE_S", 0.001)

    async def story():
        await waiting(desk, etas.INLINE_JOBS + 2)
        while not desk.api.etas.problem:
            await asyncio.sleep(0.01)
        assert desk.api.etas.child.pid is None
        assert (await desk.call("GET", "/api/v1/jobs/2")).json["eta"] is None
        status = (await desk.call("GET", "/api/v1/status")).json
        assert "more than" in status["eta"]["problem"]
        assert desk.api.etas.child.pid is None  # nobody was started

    run(desk, story())


def test_a_bug_in_looking_ahead_costs_the_estimates_and_nothing_else(desk, monkeypatch):
    from fairlead.service import etachild

    def broken(*_: object) -> None:
        raise AssertionError("a copy went wrong")

    monkeypatch.setattr(etachild, "look_ahead", broken)

    async def story():
        jobs = await waiting(desk, 2)
        assert jobs[1]["eta"] is None and jobs[1]["reason"]
        assert "went wrong" in (await desk.call("GET", "/api/v1/status")).json["eta"]["problem"]

    run(desk, story())
