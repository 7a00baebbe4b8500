"""Reservations and drains through the API: made, refused in words, listed, deleted, restarted."""

from __future__ import annotations

import asyncio

import pytest
from service_harness import Desk

from fairlead.core.turn import recover
from fairlead.model import limits

HOUR = 3_600_000


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


async def make(desk, name: str, start_h: float | None, length: str | None, **what):
    body = {"name": name, **({"nodes": ["here"]} if not what else {}), **what}
    if start_h is not None:
        body["start_ms"] = desk.shell.now + int(start_h * HOUR)
    if length is not None:
        body["duration"] = length
    return await desk.call("POST", "/api/v1/reservations", body)


def test_a_window_is_made_seen_and_deleted_and_a_job_is_told_at_submission(desk):
    async def story():
        await desk.start()
        made = await make(desk, "kernel", 2, "3h", all_nodes=True, reason="new kernel")
        assert made.status == 201 and made.json["end_ms"] - made.json["start_ms"] == 3 * HOUR
        listed = (await desk.call("GET", "/api/v1/reservations")).json["reservations"]
        assert listed == [made.json]
        assert listed[0]["nodes"] == ["here"] and listed[0]["tenants"] == []
        (node,) = (await desk.call("GET", "/api/v1/nodes")).json["nodes"]
        assert [each["name"] for each in node["reserved"]] == ["kernel"]
        endless = await desk.call("POST", "/api/v1/jobs", {"run": "true"})
        reason = endless.json["jobs"][0]["reason"]
        assert reason.startswith("Reserved: it has no time limit and could still run when")
        assert "with a time_limit of 1h59m or less it could start now" in reason
        short = await desk.call("POST", "/api/v1/jobs", {"run": "true", "time_limit": "1h"})
        assert short.json["jobs"][0]["phase"] == "STARTING"
        gone = await desk.call("DELETE", "/api/v1/reservations/kernel")
        assert gone.status == 200 and gone.json["name"] == "kernel"
        again = await desk.call("DELETE", "/api/v1/reservations/kernel")
        assert again.status == 404

    run(story())


def test_it_survives_a_restart(desk):
    async def story():
        await desk.start()
        await make(desk, "kernel", 2, "3h")
        await desk.call("POST", "/api/v1/nodes/here/drain", {"reason": "fan"})
        known = desk.shell.core.reservations
        assert set(known) == {"kernel", "drain-here"}
        assert recover(desk.store).reservations == known
        desk.shell.snapshot()
        assert recover(desk.store).reservations == known

    run(story())


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"nodes": ["her"]}, 404, "did you mean 'here'?"),
        ({"nodes": []}, 422, "does not say what to reserve"),
        ({"gpus": 1}, 422, "whole nodes and amounts"),
        ({"start_ms": 5}, 422, "in the past"),
        ({"start_ms": 2**53}, 422, "is more than"),
        ({"duration": "0s"}, 422, "the end is not after the start"),
        ({"duration": "400d"}, 422, "longer than 366d"),
        ({"duration": "3"}, 422, "no unit"),
        ({"duration": "1h", "end_ms": 2**40}, 422, "an end and a duration"),
        ({"name": "two words"}, 422, "no name for a reservation"),
        ({"name": "drain-here"}, 422, "fairlead node drain here"),
        ({"name": 5}, 422, "Expected `str`"),
        ({"nmae": "x"}, 422, "unknown field"),
        ({"tenants": [""]}, 422, "a tenant's name"),
        ({"nodes": [], "gpus": 2}, 409, "could never give it: 1 node: GPUs"),
        ({"nodes": [], "gpus": -1}, 422, "a whole number"),
        ({"nodes": [], "cpus": 5}, 409, "asked: 5"),
        ({"nodes": [], "cpus": "many"}, 422, "cannot read the CPUs"),
        ({"nodes": [], "memory": "3T", "cpus": 1}, 409, "could never give it"),
        ({"nodes": [], "gpu_type": ["A"], "cpus": 1}, 422, "GPU type without GPUs"),
    ],
)
def test_what_cannot_be_is_refused_in_words(desk, changes, status, says):
    async def story():
        await desk.start()
        body = {"name": "x", "nodes": ["here"], "start_ms": desk.shell.now + HOUR, **changes}
        answer = await desk.call("POST", "/api/v1/reservations", body)
        error = answer.json["error"]
        assert answer.status == status, error
        assert says in f"{error['message']} {error['hint']}"
        assert error["field"] or "unknown field" in error["message"]
        assert desk.shell.core.reservations == {}

    run(story())


def test_names_are_taken_once_and_overlaps_say_with_what_and_until_when(desk):
    async def story():
        await desk.start(4000)
        await make(desk, "one", 1, "2h")
        taken = await make(desk, "one", 8, "1h")
        assert (taken.status, taken.json["error"]["code"]) == (409, "name-taken")
        error = (await make(desk, "two", 2, "2h")).json["error"]
        assert error["code"] == "overlaps" and "reservation 'one' (for nobody, " in error["message"]
        assert error["hint"].startswith("the earliest start that works: ")
        assert error["hint"].endswith("(in 3h)") or "(in 2h59m" in error["hint"]
        assert (await make(desk, "two", 3, "2h")).status == 201  # one after the other
        await make(desk, "half", 6, "1h", cpus=2, tenants=["nlp"])
        assert (await make(desk, "other", 6, "1h", cpus=2)).status == 201
        full = (await make(desk, "third", 6, "1h", cpus=1)).json["error"]
        assert (full["code"] == "in-use" and "(in 7h)" in full["hint"]) or "6h59m" in full["hint"]
        assert (await make(desk, "whole", 6.5, "1h")).json["error"]["code"] == "overlaps"

    run(story())


def test_jobs_that_could_still_run_are_named_with_the_earliest_start_that_works(desk):
    async def story():
        await desk.start(4000)
        await desk.call("POST", "/api/v1/jobs", {"run": "a", "time_limit": "2h"})
        error = (await make(desk, "now", None, "1h")).json["error"]
        assert error["code"] == "in-use" and "begins: 1 (until " in error["message"]
        assert "the earliest start that works" in error["hint"]
        assert (await make(desk, "later", 3, "1h")).status == 201
        assert (await make(desk, "beside", None, "1h", cpus=3)).status == 201
        await desk.call("DELETE", "/api/v1/reservations/later")
        await desk.call("DELETE", "/api/v1/reservations/beside")
        await desk.call("POST", "/api/v1/jobs", {"run": "b"})
        error = (await make(desk, "later", 3, "1h")).json["error"]
        assert "2 (no time limit)" in error["message"] and "drain the node" in error["hint"]

    run(story())


def test_a_drain_lets_run_and_starts_nothing_and_is_idempotent(desk):
    async def story():
        await desk.start(4000)
        await desk.call("POST", "/api/v1/jobs", {"run": "a"})
        first = await desk.call("POST", "/api/v1/nodes/here/drain", {"reason": "fan"})
        seq = desk.shell.core.seq
        assert (first.status, first.json["jobs"]) == (200, [1])
        assert (await desk.call("POST", "/api/v1/nodes/here/drain")).json == first.json
        assert desk.shell.core.seq == seq
        job = (await desk.call("POST", "/api/v1/jobs", {"run": "b", "time_limit": "1m"})).json
        assert job["jobs"][0]["reason"].startswith("Reserved: node here is drained")
        back = await desk.call("POST", "/api/v1/nodes/here/resume")
        assert (back.json["was_drained"], back.json["drained"]) == (True, False)
        assert (await desk.call("GET", "/api/v1/jobs/2")).json["phase"] == "STARTING"
        assert (await desk.call("POST", "/api/v1/nodes/here/resume")).json["was_drained"] is False
        gone = await desk.call("POST", "/api/v1/nodes/hree/drain")
        assert gone.status == 404 and "did you mean 'here'" in gone.json["error"]["hint"]

    run(story())


def test_there_are_only_so_many(desk, monkeypatch):
    monkeypatch.setattr(limits, "RESERVATIONS_MAX", 2)

    async def story():
        await desk.start()
        assert [(await make(desk, f"r{n}", n + 1, "1h")).status for n in range(2)] == [201, 201]
        assert (await make(desk, "r3", 9, "1h")).json["error"]["code"] == "too-many-reservations"

    run(story())


def test_two_at_once_cannot_both_have_it(desk):
    async def story():
        await desk.start()
        both = await asyncio.gather(make(desk, "a", 1, "1h"), make(desk, "b", 1.5, "1h"))
        assert sorted(each.status for each in both) == [201, 409]

    run(story())
