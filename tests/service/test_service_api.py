"""The HTTP API: every answer is JSON, every error says what, why and what to do."""

from __future__ import annotations

import asyncio
import re

import pytest

from fairlead.model.jobs import Exit
from fairlead.model.messages import MemberState, Report
from fairlead.service import shell as shell_module
from fairlead.service import web
from fairlead.service.api import ENDPOINTS


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(shell_module, "STORE_RETRY_S", 0.01)


async def finish(desk, job: int, code: int = 0) -> None:
    """Let the agent say that the job's only member ended."""
    state = MemberState(
        job=job, attempt=1, rank=0, state="ended", exit=Exit(code=code), started_ms=1, ended_ms=2
    )
    desk.shell.reported(Report(node="here", boot="1", seen=desk.shell.core.seq, members=(state,)))
    assert await desk.shell.ended(job, 5)


def test_submit_answers_with_ids_and_why_a_job_waits(desk):
    async def story():
        await desk.start()
        body = {"jobs": [{"run": "a", "name": "one"}, {"run": ["b"], "array": "0-1"}]}
        answer = await desk.call("POST", "/api/v1/jobs", body)
        assert answer.status == 201
        assert answer.json["ids"] == [1, 2, 3]
        first, second, third = answer.json["jobs"]
        assert (first["phase"], first["reason"]) == ("STARTING", "")
        assert second["phase"] == "PENDING" and second["reason"].startswith("Resources: 1 node")
        assert (third["array"], third["array_index"], third["user"]) == (2, 1, "root")

    run(story())


def test_one_bare_request_is_a_submission_too(desk):
    async def story():
        await desk.start()
        assert (await desk.call("POST", "/api/v1/jobs", {"run": "true"})).json["ids"] == [1]

    run(story())


@pytest.mark.parametrize("how", ["header", "body"])
def test_resubmitting_with_the_same_key_gives_the_same_ids(desk, how):
    async def story():
        await desk.start()
        body = {"jobs": [{"run": "true"}]}
        headers = {"Idempotency-Key": "k1"} if how == "header" else None
        if how == "body":
            body["request"] = "k1"
        first = await desk.call("POST", "/api/v1/jobs", body, headers)
        second = await desk.call("POST", "/api/v1/jobs", body, headers)
        assert (first.status, second.status) == (201, 200)
        assert first.json["ids"] == second.json["ids"] == [1]
        assert desk.shell.core.next_job == 2

    run(story())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/api/v1/jobs", b"{", 422, "not JSON"),
        ("POST", "/api/v1/jobs", b"[" * 100_000, 422, "not JSON"),
        ("POST", "/api/v1/jobs", b"", 422, "job"),
        ("POST", "/api/v1/jobs", {"jobs": []}, 422, "no job"),
        ("POST", "/api/v1/jobs", {"comand": "true"}, 422, "comand"),
        ("POST", "/api/v1/jobs", {"run": "true", "time_limit": "5"}, 422, "unit"),
        ("POST", "/api/v1/jobs", {"run": "true", "resources": {"cpus": -1}}, 422, "negative"),
        ("POST", "/api/v1/jobs", {"run": "true", "resources": {"cpus": 64}}, 409, "never run"),
        ("POST", "/api/v1/jobs", {"run": "true", "queue": "defalt"}, 422, "no queue"),
        ("GET", "/api/v1/jobs/99", None, 404, "no job 99"),
        ("GET", "/api/v1/jobs/x", None, 422, "no job id"),
        ("GET", "/api/v1/jobs/last", None, 404, "no job yet"),
        ("GET", "/api/v1/jobs/99/logs", None, 404, "no job 99"),
        ("GET", "/api/v1/jobs?limit=-1", None, 422, "limit"),
        ("GET", "/api/v1/jobs?limits=1", None, 422, "unknown parameter"),
        ("GET", "/api/v1/jobs?state=runing", None, 422, "no state"),
        ("GET", "/api/v1/jobs?ids=1-9999999999", None, 422, "more than"),
        ("GET", "/api/v1/jobs?ids=a", None, 422, "no job id"),
        ("POST", "/api/v1/jobs:cancel", {"id": 1}, 422, "unknown key"),
        ("POST", "/api/v1/jobs:cancel", {"ids": [1.5]}, 422, "list of numbers"),
        ("GET", "/api/v2/jobs", None, 404, "there is no /api/v2/jobs"),
        ("DELETE", "/api/v1/jobs", None, 405, "DELETE"),
    ],
)
def test_what_is_wrong_is_said_in_words(desk, method, path, body, status, says):
    async def story():
        await desk.start()
        answer = await desk.call(method, path, body)
        assert answer.status == status, answer.body
        assert answer.headers["content-type"] == "application/problem+json"
        error = answer.json["error"]
        assert says in error["message"]
        assert set(error) == {"code", "message", "hint", "field"}
        assert (answer.json["status"], answer.json["detail"]) == (status, error["message"])
        assert desk.shell.core.next_job == 1

    run(story())


def test_a_request_larger_than_the_machine_names_the_largest_that_fits(desk):
    async def story():
        await desk.start(cpu_milli=4000)
        answer = await desk.call("POST", "/api/v1/jobs", {"run": "x", "resources": {"cpus": 5}})
        assert "cpus: 4" in answer.json["error"]["hint"]

    run(story())


def test_a_body_over_the_limit_is_refused_before_it_is_read(desk, monkeypatch):
    async def story():
        await desk.start()
        size = {"Content-Length": str(web.BODY_BYTES_MAX + 1)}
        answer = await desk.call("POST", "/api/v1/jobs", b"{}", size)
        assert answer.status == 413 and "64 MiB" in answer.json["error"]["message"]
        monkeypatch.setattr(web, "BODY_BYTES_MAX", 100)
        answer = await desk.call("POST", "/api/v1/jobs", {"run": "x" * 200})
        assert answer.status == 413
        answer = await desk.call("POST", "/api/v1/jobs", {"run": "x"})
        assert answer.status == 201

    run(story())


def test_a_full_disk_is_answered_with_507_and_reading_goes_on(desk):
    async def story():
        await desk.start()
        desk.store.fail_next()
        answer = await desk.call("POST", "/api/v1/jobs", {"run": "true"})
        assert answer.status == 507
        assert "nothing was changed" in answer.json["error"]["message"]
        assert (await desk.call("GET", "/readyz")).status == 503
        assert (await desk.call("GET", "/api/v1/jobs")).json["jobs"] == []
        assert (await desk.call("POST", "/api/v1/jobs", {"run": "true"})).status == 201
        assert (await desk.call("GET", "/readyz")).status == 200

    run(story())


def test_listing_filters_and_pages(desk):
    async def story():
        await desk.start()
        jobs = [{"run": "x", "tenant": "a" if n % 2 else "b"} for n in range(6)]
        await desk.call("POST", "/api/v1/jobs", {"jobs": jobs})
        await finish(desk, 1)

        async def ids(query: str) -> list[int]:
            answer = await desk.call("GET", f"/api/v1/jobs?{query}")
            assert answer.status == 200, answer.body
            return [job["id"] for job in answer.json["jobs"]]

        assert await ids("") == [2, 3, 4, 5, 6]
        assert await ids("tenant=a") == [2, 4, 6]
        assert await ids("tenant=a,b&state=pending") == [3, 4, 5, 6]
        assert await ids("all=1") == [6, 5, 4, 3, 2, 1]
        assert await ids("ids=1,3-4,77") == [4, 3, 1]
        assert await ids("ids=last") == [6]
        assert await ids("ids=last&user=nobody") == []
        assert await ids("state=succeeded") == [1]
        assert await ids("user=nobody") == []
        page = (await desk.call("GET", "/api/v1/jobs?limit=2")).json
        assert ([job["id"] for job in page["jobs"]], page["next"]) == ([2, 3], 3)
        page = (await desk.call("GET", "/api/v1/jobs?limit=3&after=3")).json
        assert ([job["id"] for job in page["jobs"]], page["next"]) == ([4, 5, 6], None)
        page = (await desk.call("GET", "/api/v1/jobs?all=1&limit=4&tenant=a,b")).json
        assert page["next"] == 3
        assert await ids("all=1&after=3") == [2, 1]
        assert (await desk.call("GET", "/api/v1/history")).json["jobs"][0]["id"] == 1

    run(story())


@pytest.mark.parametrize("query", ["", "all=1&"])
def test_rows_and_objects_say_the_same(desk, query):
    async def story():
        await desk.start()
        await desk.call("POST", "/api/v1/jobs", {"jobs": [{"run": "x", "labels": {"a": "b"}}] * 3})
        objects = (await desk.call("GET", f"/api/v1/jobs?{query}")).json["jobs"]
        answer = (await desk.call("GET", f"/api/v1/jobs?{query}format=rows")).json
        rows = [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]
        assert rows == [{name: job[name] for name in answer["columns"]} for job in objects]

    run(story())


def test_a_long_poll_returns_when_the_job_is_final_or_the_time_is_over(desk):
    async def story():
        await desk.start()
        await desk.call("POST", "/api/v1/jobs", {"run": "true"})
        early = await desk.call("GET", "/api/v1/jobs/1?wait=0.05")
        assert early.json["phase"] == "STARTING"
        waiting = asyncio.ensure_future(desk.call("GET", "/api/v1/jobs/1?wait=20"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await finish(desk, 1, code=3)
        found = (await waiting).json
        assert (found["phase"], found["exit_code"]) == ("FAILED", 3)
        kinds = [event["kind"] for event in found["events"]]
        assert kinds == ["submitted", "placed", "started", "ended"]
        assert found["spec"]["command"] == ["/bin/sh", "-c", "true"]

    run(story())


def test_cancelling_answers_with_phases_and_what_is_missing(desk):
    async def story():
        await desk.start()
        await desk.call("POST", "/api/v1/jobs", {"jobs": [{"run": "x"}] * 4})
        await finish(desk, 1)
        body = {"ids": "1-3,9", "reason": "no need"}
        answer = (await desk.call("POST", "/api/v1/jobs:cancel", body)).json
        phases = {job["id"]: job["phase"] for job in answer["jobs"]}
        assert phases == {1: "SUCCEEDED", 2: "STOPPING", 3: "CANCELLED"}
        assert answer["missing"] == [9]
        show = (await desk.call("GET", "/api/v1/jobs/3")).json
        assert show["because"] == "cancelled: no need"
        answer = (await desk.call("POST", "/api/v1/jobs/4/cancel")).json
        assert answer["jobs"] == [{"id": 4, "phase": "CANCELLED"}]

    run(story())


def test_explain_answers_for_waiting_running_and_ended_jobs(desk):
    async def story():
        await desk.start()
        await desk.call("POST", "/api/v1/jobs", {"jobs": [{"run": "x"}] * 3})
        await finish(desk, 1)
        found = [(await desk.call("GET", f"/api/v1/jobs/{n}/explain")).json for n in (1, 2, 3)]
        assert [each["phase"] for each in found] == ["SUCCEEDED", "STARTING", "PENDING"]
        assert found[2]["reason"] == "Resources" and found[2]["lines"]

    run(story())


def test_nodes_show_what_is_used_and_by_whom(desk):
    async def story():
        await desk.start(cpu_milli=2000)
        job = {"run": "x", "resources": {"cpus": 1.5, "memory": "100M"}}
        await desk.call("POST", "/api/v1/jobs", job)
        (node,) = (await desk.call("GET", "/api/v1/nodes")).json["nodes"]
        assert node["capacity"]["cpu_milli"] == 2000
        assert (node["used"]["cpu_milli"], node["used"]["memory_mib"]) == (1500, 100)
        assert node["jobs"] == [1]

    run(story())


def test_the_openapi_document_covers_every_route_and_every_reference_resolves(desk):
    async def story():
        document = (await desk.call("GET", "/openapi.json")).json
        described = {
            (method.upper(), path)
            for path, operations in document["paths"].items()
            for method in operations
        }
        served = {
            (method, route.path)
            for route in desk.app.routes
            for method in route.methods
            if method != "HEAD"
        }
        assert described == served == {(each.method, each.path) for each in ENDPOINTS}
        names = re.findall(r'"#/components/schemas/(\w+)"', str(document).replace("'", '"'))
        assert names and set(names) <= set(document["components"]["schemas"])
        operations = [o for path in document["paths"].values() for o in path.values()]
        assert all(operation["summary"] for operation in operations)

    run(story())


def test_a_listing_shows_exactly_the_fields_that_openapi_promises(desk):
    async def story():
        await desk.start()
        await desk.call("POST", "/api/v1/jobs", {"run": "x"})
        job = (await desk.call("GET", "/api/v1/jobs")).json["jobs"][0]
        schemas = (await desk.call("GET", "/openapi.json")).json["components"]["schemas"]
        assert set(job) == set(schemas["JobRow"]["properties"])

    run(story())


def test_every_endpoint_refuses_parameters_that_it_does_not_know(desk):
    async def story():
        await desk.start()
        await desk.call("POST", "/api/v1/jobs", {"run": "x"})
        for endpoint in ENDPOINTS:
            if endpoint.method == "GET" and endpoint.path.startswith("/api/"):
                path = endpoint.path.replace("{id}", "1")
                answer = await desk.call("GET", f"{path}?nonsense=1")
                assert answer.status == 422, path

    run(story())
