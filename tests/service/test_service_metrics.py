"""Metrics say what there is and what has happened, in the words that Prometheus reads."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from fairlead.model.events import Advised
from fairlead.service.metrics import CONTENT_TYPE


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


async def scraped(desk) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await desk.call("GET", "/metrics")
    assert answer.status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def of(found, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_jobs_queues_and_nodes_are_counted_as_they_are(desk):
    async def story():
        await desk.start(4000)
        quota = {"quota": {"cpus": 2}}
        await desk.call("PUT", "/api/v1/queues/nlp", quota)
        for cpus in (3, 3):
            job = {"run": "true", "queue": "nlp", "resources": {"cpus": cpus}}
            assert (await desk.call("POST", "/api/v1/jobs", job)).status == 201
        found = await scraped(desk)
        assert of(found, "fairlead_jobs", queue="nlp", state="starting") == 1
        assert of(found, "fairlead_jobs", queue="nlp", state="pending") == 1
        assert of(found, "fairlead_queue_quota", queue="nlp", resource="cpu_cores") == 2
        assert of(found, "fairlead_queue_usage", queue="nlp", resource="cpu_cores") == 3
        node = {"node": desk.shell.core.nodes[0].spec.name}
        assert of(found, "fairlead_node_up", **node) == 1
        amounts = {**node, "resource": "cpu_cores"}
        assert of(found, "fairlead_node_resource", kind="capacity", **amounts) == 4
        assert of(found, "fairlead_node_resource", kind="free", **amounts) == 1
        assert of(found, "fairlead_schedule_decisions_total", result="placed") == 1
        assert of(found, "fairlead_job_wait_seconds_count", queue="nlp") == 1

    run(story())


def test_what_a_plan_took_and_how_far_it_may_be_from_the_best_is_a_metric(desk):
    async def story():
        await desk.start(4000)
        core = desk.shell.core
        plan = Advised(adviser="assignment", plan=(), gap_ppm=12_500, took_us=250_000)
        for hear in desk.shell.listeners:
            hear(core, [plan])
        found = await scraped(desk)
        assert of(found, "fairlead_solver_gap_ratio", plan="assignment") == 0.0125
        assert of(found, "fairlead_solver_seconds_sum", plan="assignment") == 0.25

    run(story())


def test_requests_and_turns_are_counted(desk):
    async def story():
        await desk.start(4000)
        await desk.call("GET", "/api/v1/jobs/77")
        found = await scraped(desk)
        assert of(found, "fairlead_http_requests_total", method="GET", status="4xx") == 1
        assert of(found, "fairlead_schedule_cycle_seconds_count") >= 1

    run(story())


def test_the_format_is_named_in_the_answer(desk):
    async def story():
        await desk.start(4000)
        answer = await desk.call("GET", "/metrics")
        assert answer.headers["content-type"] == CONTENT_TYPE

    run(story())
