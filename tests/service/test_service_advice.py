"""Plans in the service come from a child process: late, dead or absent, nothing is lost by it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest
from service_harness import until

from fairlead.model.advice import Share
from fairlead.model.base import Misuse
from fairlead.model.events import Advised, PolicySet
from fairlead.policy.registry import policy_config
from fairlead.service import advice
from fairlead.service.child import Child

LEASE = 360_000
LONG_S = 300  # for what comes at once on an idle machine: only what never comes is a failure


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 10 * LEASE

    def __call__(self) -> int:
        return self.now


def run(desk, story) -> None:
    async def whole():
        try:
            await asyncio.wait_for(story, LONG_S)
        finally:
            await desk.api.advice.close()

    asyncio.run(whole())


class Told:
    """A command of one event."""

    def __init__(self, event) -> None:
        self.event = event

    def plan(self, batch):
        return [self.event]

    def answer(self, core) -> None:
        return None


async def with_jobs(desk, jobs: int, policy: str = "gavel-maxmin") -> None:
    await desk.start()
    await desk.shell.ask(Told(PolicySet(policy=policy_config(policy))))
    body = {"jobs": [{"run": "x", "time_limit": "10m"}] * jobs}
    assert (await desk.call("POST", "/api/v1/jobs", body)).status == 201


async def plan(desk):
    return (await desk.call("GET", "/api/v1/status")).json["plan"]


def test_a_plan_is_asked_for_ahead_of_the_next_round_when_something_has_changed(desk_at):
    clock = Clock()
    desk = desk_at(clock)

    async def story():
        await with_jobs(desk, 3)
        assert (await plan(desk))["age_ms"] is None
        clock.now += 1_000
        ahead = LEASE // advice.AHEAD
        assert desk.api.advice.ask_at() == 11 * LEASE - ahead
        clock.now = 11 * LEASE - ahead
        await desk.api.advice.ask()
        clock.now += 2_000
        found = await plan(desk)
        assert (found["adviser"], found["age_ms"], found["jobs"]) == ("gavel-maxmin", 2_000, 3)
        assert found["problem"] == "" and found["because"]
        assert desk.api.advice.ask_at() is None  # nothing has changed since

    run(desk, story())


def test_no_plan_is_asked_for_by_a_policy_that_wants_none(desk_at):
    desk = desk_at(Clock())

    async def story():
        await with_jobs(desk, 2, "fifo")
        assert desk.api.advice.ask_at() is None and await plan(desk) is None

    run(desk, story())


def test_a_child_that_is_killed_costs_one_plan_and_the_old_one_holds(desk_at, caplog):
    desk = desk_at(Clock())

    async def story():
        await with_jobs(desk, 2)
        await desk.api.advice.ask()
        old = desk.shell.core.advice.event
        await desk.call("POST", "/api/v1/jobs", {"run": "x", "time_limit": "10m"})
        os.kill(desk.api.advice.child.pid, signal.SIGKILL)
        await desk.api.advice.ask()
        assert "it died" in (await plan(desk))["problem"]
        assert desk.shell.core.advice.event == old
        await desk.api.advice.ask()
        found = await plan(desk)
        assert (found["problem"], found["jobs"]) == ("", 3)

    run(desk, story())


def test_a_problem_is_said_once_in_the_log_not_every_round(desk_at, caplog):
    desk = desk_at(Clock())

    async def story():
        await with_jobs(desk, 2)
        desk.api.advice.child = Child("no.such.module")
        await desk.api.advice.ask()
        await desk.api.advice.ask()
        said = [each for each in caplog.records if "no plan by gavel-maxmin" in each.message]
        assert len(said) == 1
        assert "it died" in (await plan(desk))["problem"]
        rows = (await desk.call("GET", "/api/v1/jobs?format=rows")).json
        at = rows["columns"].index("phase")
        assert rows["rows"][0][at] == "STARTING"  # jobs start without any plan

    run(desk, story())


def test_an_adviser_that_hangs_is_killed_at_its_deadline(desk_at, monkeypatch, tmp_path):
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    monkeypatch.setattr(advice, "DEADLINE_MIN_S", 0.2)
    monkeypatch.setattr(advice, "AHEAD", 10**9)
    desk = desk_at(Clock())

    async def story():
        await with_jobs(desk, 2)
        desk.api.advice.child = Child("hangs")
        await desk.api.advice.ask()
        assert "it took more than" in (await plan(desk))["problem"]
        assert desk.api.advice.child.pid is None

    run(desk, story())


def test_a_plan_that_comes_after_its_policy_has_changed_is_dropped(desk_at):
    desk = desk_at(Clock())

    async def story():
        await with_jobs(desk, 2, "fifo")
        late = Advised(adviser="gavel-maxmin", plan=(Share(jobs=(1,), on=(("", 1),)),))
        await desk.shell.ask(advice.Advise(late))
        assert desk.shell.core.advice.of == {}

    run(desk, story())


@pytest.mark.parametrize(
    "plan",
    [
        (Share(jobs=(1,), on=(("a", 700_000), ("b", 400_000))),),
        (Share(jobs=(1,), on=(("a", -1),)),),
        (Share(jobs=(1, 1), on=(("a", 1),)),),
        (Share(jobs=(1,), on=(("a", 1),)), Share(jobs=(1,), on=(("b", 1),))),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(plan):
    with pytest.raises(Misuse):
        advice.check(Advised(adviser="x", plan=plan))


def test_a_real_service_makes_plans_and_one_that_is_killed_goes_on_with_its_last(world):
    world.environ["XDG_CONFIG_HOME"] = str(world.state / "config")
    folder = world.state / "config" / "fairlead"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('[policy]\nname = "gavel-maxmin"\nlease = "2s"\n')
    world.up("--cpus", "1")
    jobs = [world.submit("sleep 600") for _ in range(2)]

    def planned():
        return world.client.get("/status")["plan"]

    until(lambda: planned()["jobs"] == 2, LONG_S)

    def has_run(job):  # by its history: a round may be over before anybody has looked
        return "started" in [event["kind"] for event in world.show(job)["events"]]

    until(lambda: all(has_run(job) for job in jobs), LONG_S)  # they take turns on the one core
    world.kill_service()
    world.up("--cpus", "1")
    found = json.loads(world.fairlead("status", "--json").out)["plan"]
    assert found["jobs"] == 2 and found["age_ms"] is not None
    assert "by gavel-maxmin, " in world.fairlead("status").out


def test_a_real_service_grows_an_elastic_job_to_what_sia_plans_and_shrinks_it_for_another(world):
    world.environ["XDG_CONFIG_HOME"] = str(world.state / "config")
    folder = world.state / "config" / "fairlead"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('[policy]\nname = "sia"\nlease = "2s"\n')
    world.up("--cpus", "1")
    wide = world.submit("sleep 600", members="1-4", resources={"cpus": 0.25})

    def size(job):
        return len(world.show(job)["nodes"])

    until(lambda: size(wide) == 4, LONG_S)
    other = world.submit("sleep 600", resources={"cpus": 0.25})
    until(lambda: world.show(other)["phase"] == "RUNNING", LONG_S)
    assert world.show(wide)["phase"] == "RUNNING" and size(wide) < 4
    assert "by sia, " in world.fairlead("status").out
    world.fairlead("cancel", str(other))
    until(lambda: size(wide) == 4, LONG_S)
