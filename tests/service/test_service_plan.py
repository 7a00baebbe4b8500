"""`POST /jobs:plan` says what would happen, and nothing happens."""

from __future__ import annotations

import asyncio

import pytest

from fairlead.core.snapshot import digest
from fairlead.model.resources import Node
from fairlead.policy.registry import policy_config
from fairlead.service import etas
from fairlead.service.commands import Configure

PLAN, JOBS = "/api/v1/jobs:plan", "/api/v1/jobs"


def run(desk, story) -> None:
    async def whole():
        try:
            await asyncio.wait_for(story, 60)
        finally:
            await desk.api.etas.close()

    asyncio.run(whole())


async def start(desk, policy: str = "priority", cpus: int = 1) -> None:
    node = Node(name="here", cpu_milli=1000 * cpus, memory_mib=1024, boot="1")
    await desk.shell.ask(Configure([node], [], [], policy_config(policy)))


def state(desk) -> tuple[str, int, int]:
    core = desk.shell.core
    return digest(core.dump()), desk.store.seq, core.next_job


def test_a_plan_says_what_submitting_then_does_and_changes_nothing(desk):
    async def story():
        await start(desk, cpus=2)
        body = {"run": "x", "time_limit": "10m", "resources": {"cpus": 2}}
        before = state(desk)
        plan = (await desk.call("POST", PLAN, body)).json
        assert state(desk) == before
        assert (plan["outcome"], plan["jobs"][0]["nodes"]) == ("now", ["here"])
        assert (await desk.call("POST", JOBS, body)).json["jobs"][0]["phase"] == "STARTING"
        before = state(desk)
        plan = (await desk.call("POST", PLAN, body)).json
        assert state(desk) == before
        (job,) = plan["jobs"]
        assert (plan["outcome"], job["position"], plan["waiting"]) == ("waits", 1, 0)
        assert job["reason"].startswith("Resources")
        done = (await desk.call("POST", JOBS, body)).json["jobs"][0]
        assert done["phase"] == "PENDING" and done["reason"] == job["reason"]
        assert done["eta"]["likely_ms"] == pytest.approx(job["eta"]["likely_ms"], abs=5_000)

    run(desk, story())


def test_a_plan_names_whom_it_would_delay_and_by_how_much(desk):
    async def story():
        await start(desk)
        jobs = [{"run": "x", "time_limit": "10m", "expected": "10m"}] * 3
        await desk.call("POST", JOBS, {"jobs": jobs})
        urgent = {"run": "y", "expected": "5m", "time_limit": "5m", "priority": "high"}
        before = state(desk)
        plan = (await desk.call("POST", PLAN, urgent)).json
        assert state(desk) == before
        assert plan["jobs"][0]["position"] == 1
        assert plan["delayed"] == 2
        assert {each["job"] for each in plan["delays"]} == {2, 3}
        assert all(each["later_ms"] == pytest.approx(300_000, abs=5_000) for each in plan["delays"])
        patient = {**urgent, "priority": "low"}
        assert (await desk.call("POST", PLAN, patient)).json["delays"] == []

    run(desk, story())


def test_a_plan_names_the_running_jobs_that_would_have_to_make_room(desk):
    async def story():
        await start(desk, "priority-preempt")
        await desk.call("POST", JOBS, {"run": "x", "priority": 10, "time_limit": "10m"})
        before = state(desk)
        plan = (await desk.call("POST", PLAN, {"run": "y", "priority": 90})).json
        assert state(desk) == before
        assert (plan["outcome"], plan["preempts"]) == ("now", [1])
        assert plan["jobs"][0]["nodes"] == []  # not before the other is gone
        plan = (await desk.call("POST", PLAN, {"run": "y", "priority": 0})).json
        assert (plan["outcome"], plan["preempts"]) == ("waits", [])

    run(desk, story())


def test_what_can_never_run_is_an_outcome_and_what_makes_no_sense_an_error(desk):
    async def story():
        await start(desk)
        before = state(desk)
        answer = await desk.call("POST", PLAN, {"run": "x", "resources": {"cpus": 5}})
        assert (answer.status, answer.json["outcome"]) == (200, "never")
        assert "cpus: 1" in answer.json["refusal"]["hint"]
        answer = await desk.call("POST", PLAN, {"run": "x", "resources": {"cpu": "many"}})
        assert (answer.status, answer.json["error"]["field"]) == (422, "resources.cpus")
        assert state(desk) == before

    run(desk, story())


def test_behind_a_long_queue_the_child_plans(desk):
    async def story():
        await start(desk)
        count = etas.INLINE_JOBS + 5
        jobs = [{"run": "x", "time_limit": "10m"}] * count
        await desk.call("POST", JOBS, {"jobs": jobs})
        before = state(desk)
        plan = (await desk.call("POST", PLAN, {"run": "x", "array": "0-2"})).json
        assert state(desk) == before
        assert (plan["outcome"], plan["count"], plan["start_now"]) == ("waits", 3, 0)
        assert [job["position"] for job in plan["jobs"]] == [count, count + 1, count + 2]
        assert all(job["eta"]["likely_ms"] > plan["now_ms"] for job in plan["jobs"])
        assert desk.api.etas.child.pid is not None

    run(desk, story())


def test_a_plan_that_takes_too_long_is_refused_in_words(desk, monkeypatch):
    monkeypatch.setattr(etas, "DEADLINE_S", 0.001)

    async def story():
        await start(desk)
        await desk.call("POST", JOBS, {"jobs": [{"run": "x"}] * etas.INLINE_JOBS})
        answer = await desk.call("POST", PLAN, {"run": "x"})
        assert answer.status == 409
        assert "cannot be worked out" in answer.json["error"]["message"]

    run(desk, story())
