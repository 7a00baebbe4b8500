"""Assignment in the service: plans are asked for at once, and nobody waits long for a late one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from test_service_advice import Told, plan

from fairlead.model.events import NodeJoined, PolicySet, SpeedSet, Submitted
from fairlead.model.jobs import JobSpec, Speed
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.registry import policy_config
from fairlead.service import advice
from fairlead.service.child import Child

# Steps per million seconds: "picky" is ten times as slow on the slow one, "easy" half as fast.
SPEEDS = {("picky", "fast"): 10, ("picky", "slow"): 1, ("easy", "fast"): 10, ("easy", "slow"): 5}


def told(desk, story) -> None:
    """Run a story with two nodes of one GPU each, until it is told."""

    async def whole():
        try:
            for at, model in enumerate(("fast", "slow")):
                node = Node(name=model, cpu_milli=8000, devices=(Device(model=model),))
                await desk.shell.ask(Told(NodeJoined(at, node)))
            for (kind, model), speed in SPEEDS.items():
                each = Speed(kind, 1000, model, speed * 10**6)
                await desk.shell.ask(Told(SpeedSet(speed=each)))
            await desk.shell.ask(Told(PolicySet(policy=policy_config("assignment"))))
            desk.api.advice.wake()
            await asyncio.wait_for(story, 60)
        finally:
            await desk.api.advice.close()

    asyncio.run(whole())


class Submit:
    """Jobs of a type each, all in one turn."""

    def __init__(self, *types: str) -> None:
        self.types = types

    def plan(self, batch):
        return [
            Submitted(batch.core.next_job + at, JobSpec(Shape(gpus=1), name=kind, job_type=kind))
            for at, kind in enumerate(self.types)
        ]

    def answer(self, core) -> None:
        return None


async def where(desk, count: int) -> dict[str, str]:
    """Return which job is on which node, once so many are on some."""
    core = desk.shell.core
    while True:
        found = {
            job.spec.name: core.nodes[job.slots[0].node].spec.name
            for job in core.jobs.values()
            if job.slots
        }
        if len(found) == count:
            return found
        await asyncio.sleep(0.01)


def test_jobs_that_come_together_are_matched_before_any_of_them_starts(desk_at):
    desk = desk_at(None)

    async def story():
        await desk.shell.ask(Submit("easy", "picky"))
        assert await where(desk, 2) == {"easy": "slow", "picky": "fast"}
        found = await plan(desk)
        assert (found["adviser"], found["gap_ppm"], found["problem"]) == ("assignment", 0, "")
        assert "2 of 2 waiting jobs" in found["because"]
        text = (await desk.call("GET", "/metrics")).body.decode()
        assert 'fairlead_solver_gap_ratio{plan="assignment"} 0.0' in text
        assert 'fairlead_solver_seconds_count{plan="assignment"} 1.0' in text

    told(desk, story())


def test_a_child_that_is_killed_while_it_thinks_costs_the_plan_only(desk_at, monkeypatch, tmp_path):
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    desk = desk_at(None)

    async def story():
        desk.api.advice.child = Child("hangs")
        await desk.shell.ask(Submit("easy", "picky"))
        while desk.api.advice.child.pid is None:
            await asyncio.sleep(0.01)
        os.kill(desk.api.advice.child.pid, signal.SIGKILL)
        assert await where(desk, 2) == {"easy": "fast", "picky": "slow"}  # each in its turn
        assert "it died" in (await plan(desk))["problem"]

    told(desk, story())


def test_nobody_waits_longer_for_a_late_answer_than_it_is_worth(desk_at, monkeypatch, tmp_path):
    (tmp_path / "hangs.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    monkeypatch.setattr(advice, "LATE_S", 0.1)
    desk = desk_at(None)

    async def story():
        desk.api.advice.child = Child("hangs")
        await desk.shell.ask(Submit("easy", "picky"))
        assert await where(desk, 2) == {"easy": "fast", "picky": "slow"}
        assert desk.api.advice.child.pid is not None  # it may still answer
        assert "within 0.1 s" in (await plan(desk))["problem"]

    told(desk, story())


def test_after_a_while_an_adviser_that_was_late_is_trusted_again(desk_at, monkeypatch):
    monkeypatch.setattr(advice, "RETRY_S", 0.2)
    desk = desk_at(None)

    async def story():
        desk.api.advice.child = Child("no.such.module")
        await desk.shell.ask(Submit("easy"))
        assert await where(desk, 1) == {"easy": "fast"}
        assert "it died" in (await plan(desk))["problem"]
        desk.api.advice.child = Child("fairlead.solve.advise.child")
        await asyncio.sleep(0.3)
        await desk.shell.ask(Submit("picky"))
        await where(desk, 2)
        while (await plan(desk))["problem"]:
            await asyncio.sleep(0.01)
        assert "assignment plan" in desk.shell.core.jobs[2].because

    told(desk, story())
