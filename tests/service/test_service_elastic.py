"""The real thing, elastic: members that come and leave as processes, and what they are told."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest
from service_harness import until

# Writes what it knows of its peers whenever that is news, and when it is told to leave.
WORKER = """
import json, os, signal, time
path = os.path.join(os.environ["FAIRLEAD_TASK_DIR"], "members")
def leave(*_):
    say("told")
    os._exit(0)
def say(what):
    with open(path) as file:
        now = json.load(file)
    with open("log", "a") as log:
        body = {"what": what, "started": int(os.environ["FAIRLEAD_RANK"]), **now}
        log.write(json.dumps(body) + chr(10))
    return now["generation"]
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGUSR1, lambda *_: say("signal"))
assert os.environ["FAIRLEAD_MEMBERS_MIN"] == "1" and os.environ["FAIRLEAD_MEMBERS_MAX"] == "4"
last = say("start")
while True:
    time.sleep(0.02)
    with open(path) as file:
        if json.load(file)["generation"] != last:
            last = say("look")
"""


@pytest.fixture
def elastic(world):
    config = world.state / "config" / "fairlead"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('[policy]\nname = "priority"\nresize_every = "1s"\n')
    world.up("--cpus", "1")
    (world.state / "worker.py").write_text(WORKER)
    job = world.submit(
        [sys.executable, "worker.py"],
        members="1-4",
        resources={"cpus": 0.25},
        resize_signal="USR1",
        preempt={"grace": "10s"},
    )
    until(lambda: size(world, job) == 4 and len(said(world, "start")) == 4)
    return world, job


def said(world, *what):
    lines = [json.loads(line) for line in world.written("log").splitlines()]
    return [line for line in lines if line["what"] in what]


def size(world, job):
    return len(world.show(job)["nodes"])


def test_a_program_that_may_have_more_members_gets_them_and_gives_them_back(elastic):
    world, job = elastic
    assert {each["rank"] for each in said(world, "start")} == {0, 1, 2, 3}
    rigid = world.submit("true", resources={"cpus": 0.5})
    assert world.ended(rigid)["phase"] == "SUCCEEDED"
    told = said(world, "told")
    assert sorted(each["started"] for each in told) == [2, 3]
    assert all(each["rank"] is None and each["size"] == 2 for each in told)
    until(lambda: size(world, job) == 4)
    until(lambda: len(said(world, "start")) == 6)
    new = said(world, "start")[-1]
    assert (new["numbers"], new["size"], new["ranks"]) == ([0, 1, 4, 5], 4, [0, 1, 2, 3])
    assert {each["rank"] for each in said(world, "start")[-2:]} == {2, 3}
    assert any(each["started"] == 0 for each in said(world, "signal"))
    assert world.show(job)["phase"] == "RUNNING"


def test_ps_show_and_why_say_how_many_there_are(elastic):
    world, job = elastic
    assert "4 of 1-4" in world.fairlead("ps").out
    assert "4 of 1-4" in world.fairlead("show", str(job)).out
    why = world.fairlead("why", str(job)).out
    assert "has 4 members of 1 to 4" in why
    assert "as many members as it may" in why
    assert world.output(job, rank=3) == ""
    assert "ranks" not in world.fairlead("logs", str(job), "--rank", "9").err


def test_a_kill_of_service_and_agent_in_between_changes_nothing(elastic):
    world, job = elastic
    rigid = world.submit("sleep 1", resources={"cpus": 0.5})
    world.kill_agent()
    world.kill_service()
    world.up()
    assert world.ended(rigid)["phase"] == "SUCCEEDED"
    until(lambda: size(world, job) == 4)
    newest = world.client.get(f"/jobs/{job}")["events"]
    assert [each["kind"] for each in newest].count("shrunk") == 1
    until(lambda: {each["rank"] for each in said(world, "look", "start")[-12:]} >= {0, 1, 2, 3})


def test_a_member_that_is_killed_is_missed_by_none_while_there_are_enough(elastic):
    world, job = elastic
    (last,) = [line for line in said(world, "start") if line["started"] == 3]
    assert last["rank"] == 3
    supervisor = world.state / "agent" / "members" / f"{job}.1.3"
    pid = next(
        json.loads(line)["pid"]
        for line in supervisor.read_text().splitlines()
        if line and json.loads(line)["kind"] == "supervised"
    )
    os.kill(pid, signal.SIGKILL)
    until(lambda: any("lost" in each.get("because", "") for each in [world.show(job)]))
    found = world.show(job)
    assert (found["phase"], found["attempt"]) == ("RUNNING", 1)
    assert "it goes on with 3 members" in found["because"]
    until(lambda: size(world, job) == 4)
    assert world.fairlead("cancel", str(job), "--now").code == 0
    assert world.ended(job)["phase"] == "CANCELLED"
