"""Named resources through the service: who may have how many, and running jobs that ask."""

from __future__ import annotations

import asyncio

import pytest
from service_harness import until

from fairlead.model.jobs import Exit
from fairlead.model.messages import MemberState, Report

A, R = "/api/v1/jobs", "/api/v1/resources"


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


async def member(desk, job: int, state: str) -> None:
    """Let the agent say how the job's only member is; a report says it of all."""
    ended = {"exit": Exit(code=0), "ended_ms": 2} if state == "ended" else {}
    said = MemberState(job=job, attempt=1, rank=0, state=state, started_ms=1, **ended)
    members = desk.__dict__.setdefault("members", {})
    members[job] = said
    core = desk.shell.core
    there = tuple(each for number, each in members.items() if number in core.jobs)
    desk.shell.reported(Report(node="here", boot="1", seen=core.seq, members=there))
    await asyncio.sleep(0.01)


async def start(desk, *jobs: dict, **amounts: int) -> None:
    """A node of eight cores, resources, and jobs that run."""
    await desk.start(8000)
    for name, amount in amounts.items():
        made = await desk.call("POST", R, {"name": name, "kind": "lock", "amount": amount})
        assert made.status == 201
    for number, job in enumerate(jobs, 1):
        assert (await desk.call("POST", A, {"run": "x", **job})).status == 201
        if desk.shell.core.jobs[number].attempt:
            await member(desk, number, "running")


def test_a_resource_is_made_shown_changed_and_deleted(desk):
    async def story():
        await start(desk, {"licenses": {"matlab": 2}}, {"licenses": {"matlab": 3}}, matlab=4)
        (shown,) = (await desk.call("GET", R)).json["resources"]
        assert (shown["amount"], shown["held"], shown["free"]) == (4, 2, 2)
        assert shown["holders"] == [{"job": 1, "amount": 2}]
        assert shown["waiting"] == [{"job": 2, "amount": 3}]
        why = (await desk.call("GET", f"{A}/2/explain")).json
        assert why["reason"] == "Licenses" and why["summary"].startswith("2 of 4 matlab free")
        edited = (await desk.call("POST", f"{R}/matlab", {"amount": 1})).json
        assert (edited["over"], edited["never"], edited["free"]) == (1, [2], 0)
        gone = await desk.call("DELETE", f"{R}/matlab")
        assert gone.status == 409 and "1 jobs hold some of it (1)" in gone.json["detail"]
        await member(desk, 1, "ended")
        gone = await desk.call("DELETE", f"{R}/matlab")
        assert gone.status == 409 and "1 jobs may ask for it (2)" in gone.json["detail"]
        await desk.call("POST", f"{A}/2/cancel", {})
        assert (await desk.call("DELETE", f"{R}/matlab")).json["amount"] == 1
        assert (await desk.call("GET", R)).json["resources"] == []

    run(story())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", R, {"name": "x", "amount": 0}, 422, "1 or more, not 0"),
        ("POST", R, {"name": "x", "amount": -2}, 422, "1 or more, not -2"),
        ("POST", R, {"name": "x", "amount": "many"}, 422, "Expected `int"),
        ("POST", R, {"name": "x", "kind": "licens"}, 422, "no kind 'licens'"),
        ("POST", R, {"name": "a b"}, 422, "no name for a resource"),
        ("POST", R, {"name": "db"}, 409, "there is a resource 'db' already"),
        ("POST", R, {"name": "x", "amounts": 1}, 422, "unknown key 'amounts'"),
        ("POST", f"{R}/bd", {"amount": 3}, 404, "there is no resource 'bd'"),
        ("POST", f"{R}/db", {"name": "other"}, 422, "keeps its name"),
        ("DELETE", f"{R}/nix", None, 404, "there is no resource 'nix'"),
        ("POST", A, {"run": "x", "licenses": {"bd": 1}}, 422, "there is no resource 'bd'"),
        ("POST", A, {"run": "x", "licenses": {"db": 5}}, 409, "there are 2 db"),
        ("POST", A, {"run": "x", "licenses": {"db": 0}}, 422, "nobody can ask for that"),
        ("POST", A, {"run": "x", "may_acquire": {"db": 3}}, 409, "there are 2 db"),
        ("POST", f"{A}/1/acquire", {"name": "bd"}, 422, "there is no resource 'bd'"),
        ("POST", f"{A}/1/acquire", {"name": "db", "amount": 0}, 422, "1 or more"),
        ("POST", f"{A}/1/acquire", {"name": "db", "amount": 3}, 409, "may acquire 2 db"),
        ("POST", f"{A}/1/acquire", {"name": "x2"}, 409, "did not say that it may acquire x2"),
        ("POST", f"{A}/1/acquire", {"name": "db", "attempt": 2}, 409, "in attempt 1, not in 2"),
        ("POST", f"{A}/1/acquire", {"name": "db", "wait_s": -1}, 422, "wait_s: -1"),
        ("POST", f"{A}/1/acquire", {}, 422, "missing required field `name`"),
        ("POST", f"{A}/2/acquire", {"name": "db"}, 409, "did not say that it may acquire db"),
        ("POST", f"{A}/9/acquire", {"name": "db"}, 404, "there is no job 9"),
        ("POST", f"{A}/1/release", {"name": "db"}, 409, "has acquired 0 db"),
        ("POST", f"{A}/1/release", {"name": "db", "amount": -1}, 422, "1 or more"),
        ("POST", f"{A}/2/release", {"name": "x2"}, 409, "has acquired 0 x2"),
    ],
)
def test_wrong_input_gets_one_clear_error(desk, method, path, body, status, words):
    async def story():
        await start(desk, {"may_acquire": {"db": 2}}, {"licenses": {"x2": 1}}, db=2, x2=1)
        answer = await desk.call(method, path, body)
        assert (answer.status, words in answer.json["detail"]) == (status, True), answer.json

    run(story())


def test_a_job_acquires_waits_in_line_and_is_granted_what_another_releases(desk):
    async def story():
        await start(desk, {"may_acquire": {"db": 2}}, {"may_acquire": {"db": 1}}, db=2)
        first = (await desk.call("POST", f"{A}/1/acquire", {"name": "db", "amount": 2})).json
        assert (first["granted"], first["held"]) == (True, 2)
        no = (await desk.call("POST", f"{A}/2/acquire", {"name": "db"})).json
        assert not no["granted"] and not no["waiting"] and no["runs"]
        assert no["because"] == "0 of 2 db free, asks for 1; held by job 1 (2)"
        body = {"name": "db", "wait_s": 20}
        waits = asyncio.create_task(desk.call("POST", f"{A}/2/acquire", body))
        await asyncio.sleep(0.05)
        why = (await desk.call("GET", f"{A}/2/explain")).json
        assert why["reason"] == "Acquiring" and "waits for 1 db since 0 s" in why["summary"]
        (shown,) = (await desk.call("GET", R)).json["resources"]
        assert [each["job"] for each in shown["asking"]] == [2]
        given = await desk.call("POST", f"{A}/1/release", {"name": "db", "amount": 1})
        assert given.json == {"id": 1, "name": "db", "released": 1, "held": 1}
        assert (await waits).json["granted"]
        too_much = await desk.call("POST", f"{A}/1/release", {"name": "db", "amount": 2})
        assert too_much.status == 409 and "has acquired 1 db" in too_much.json["detail"]
        await member(desk, 2, "ended")
        assert desk.shell.core.named.holders("db") == [(1, 1)], "what was not released goes back"

    run(story())


def test_the_same_key_is_one_request_also_after_it_was_granted(desk):
    async def story():
        await start(desk, {"may_acquire": {"db": 2}}, db=2)
        body = {"name": "db", "key": "k"}
        for _ in range(3):
            answer = (await desk.call("POST", f"{A}/1/acquire", body)).json
            assert answer["granted"] and answer["held"] == 1

    run(story())


def test_two_requests_of_one_turn_count_together_and_so_do_two_releases(desk):
    async def story():
        await start(desk, {"may_acquire": {"db": 2}}, db=2)
        ask = {"name": "db", "amount": 2}
        both = [desk.call("POST", f"{A}/1/acquire", ask) for _ in range(2)]
        assert sorted(each.status for each in await asyncio.gather(*both)) == [200, 409]
        both = [desk.call("POST", f"{A}/1/release", {"name": "db"}) for _ in range(2)]
        assert sorted(each.status for each in await asyncio.gather(*both)) == [200, 409]
        assert desk.shell.core.named.free("db") == 2

    run(story())


def test_who_waits_is_answered_when_the_job_is_cancelled(desk):
    async def story():
        may = {"may_acquire": {"db": 1}}
        await start(desk, may, may, db=1)
        await desk.call("POST", f"{A}/1/acquire", {"name": "db"})
        body = {"name": "db", "wait_s": 20}
        waits = asyncio.create_task(desk.call("POST", f"{A}/2/acquire", body))
        await asyncio.sleep(0.05)
        await desk.call("POST", f"{A}/2/cancel", {})
        answer = (await waits).json
        assert not answer["granted"] and answer["because"] == "job 2 is STOPPING"

    run(story())


def test_a_deadline_and_licences_are_refused_together(desk):
    async def story():
        await start(desk, db=1)
        body = {"run": "x", "licenses": {"db": 1}, "deadline": "now+1h", "time_limit": "1m"}
        answer = await desk.call("POST", A, body)
        assert answer.status == 409 and "a start cannot be promised" in answer.json["detail"]

    run(story())


def test_a_real_job_waits_in_an_acquire_through_a_restart_of_the_service(world):
    """The request is in the log; its client comes back with the same key, and is granted once."""
    world.up()
    world.client.post("/resources", {"name": "db", "kind": "lock"})
    may = {"may_acquire": {"db": 1}, "resources": {"cpus": 0.1}}
    fairlead = "python -m fairlead"
    holder = world.submit(
        f"{fairlead} acquire db && touch held && while test ! -e go; do sleep "
        f"0.05; done; {fairlead} release db; echo gave",
        env=_env(),
        **may,
    )
    until(lambda: (world.state / "held").exists())
    waiter = world.submit(f"{fairlead} acquire db && echo got it", env=_env(), **may)

    def asks():
        (shown,) = world.client.get("/resources")["resources"]
        return [each["job"] for each in shown["asking"]]

    until(lambda: asks() == [waiter])
    world.kill_service()
    world.up()
    assert asks() == [waiter]
    (world.state / "go").touch()
    assert world.ended(holder)["phase"] == world.ended(waiter)["phase"] == "SUCCEEDED"
    assert "gave" in world.output(holder) and "got it" in world.output(waiter)
    kinds = [event["kind"] for event in world.show(waiter)["events"]]
    assert kinds.count("asked") == kinds.count("granted") == 1
    (shown,) = world.client.get("/resources")["resources"]
    assert shown["held"] == 0
    done = world.fairlead("acquire", "db")
    assert done.code == 2 and "does not run in a job" in done.err


def _env() -> dict[str, str]:
    import os
    import sys

    from service_harness import SOURCE

    folder = os.path.dirname(sys.executable)
    return {"PYTHONPATH": SOURCE, "PATH": f"{folder}:{os.environ['PATH']}"}
