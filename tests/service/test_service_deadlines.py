"""Deadlines through the API: admitted with a promise in the same turn, or refused in words."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from fairlead.model.base import Misuse
from fairlead.model.events import Promised, Submitted
from fairlead.service.moments import parse_moment_ms

JOBS = "/api/v1/jobs"
MIN = 60_000


def run(desk, story) -> None:
    async def whole():
        try:
            await asyncio.wait_for(story, 60)
        finally:
            await desk.api.etas.close()

    asyncio.run(whole())


async def submit(desk, limit: str, deadline: str | None = None, **more: object):
    body = {"run": "x", "time_limit": limit, **more}
    return await desk.call("POST", JOBS, body | ({"deadline": deadline} if deadline else {}))


def test_a_deadline_is_promised_a_start_in_the_turn_of_its_submission(desk_at):
    desk = desk_at(lambda: 1_000 * MIN)

    async def story():
        await desk.start()
        await submit(desk, "60m")
        (job,) = (await submit(desk, "10m", "now+90m")).json["jobs"]
        assert job["deadline_ms"] == 1_090 * MIN
        kinds = [type(event) for _, _, event in desk.store.replay(0)]
        at = len(kinds) - 2
        assert kinds[at:] == [Submitted, Promised]
        explained = (await desk.call("GET", f"{JOBS}/2/explain")).json
        assert 1_060 * MIN < explained["promised_ms"] <= 1_080 * MIN
        shown = (await desk.call("GET", f"{JOBS}/2")).json
        assert shown["spec"]["preemptible"] is False

    run(desk, story())


def test_a_refused_deadline_leaves_nothing_behind_and_says_what_could_be(desk_at):
    desk = desk_at(lambda: 1_000 * MIN)

    async def story():
        await desk.start()
        await submit(desk, "60m")
        before = desk.store.seq
        answer = await submit(desk, "10m", "now+30m")
        assert (answer.status, answer.json["error"]["code"]) == (409, "deadline")
        assert answer.json["error"]["field"] == "deadline"
        assert "earliest deadline that could be met" in answer.json["error"]["hint"]
        plan = (await desk.call("POST", f"{JOBS}:plan", {"run": "x", "deadline": "now+9m"})).status
        assert plan == 422  # no time limit
        assert desk.store.seq == before

    run(desk, story())


def test_submissions_of_one_turn_know_of_each_others_promises(desk_at):
    desk = desk_at(lambda: 1_000 * MIN)

    async def story():
        await desk.start()
        await submit(desk, "60m")
        answers = await asyncio.gather(*(submit(desk, "10m", "now+75m") for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [201, 409, 409]
        assert len(desk.shell.core.promises) == 1
        both = {"jobs": [{"run": "x", "time_limit": "10m", "deadline": "now+200m"}] * 2}
        assert (await desk.call("POST", JOBS, both)).status == 201
        starts = sorted(job.promise.start_ms for job in desk.shell.core.promises.values())
        assert all(b - a >= 10 * MIN for a, b in pairwise(starts))

    run(desk, story())


NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now+4h", NOW + 4 * 60 * MIN),
        ("+90s", NOW + 90_000),
        ("2027-01-15T08:00Z", NOW),
        ("2027-01-15 09:00:00+01:00", NOW),
    ],
)
def test_moments_are_read_as_people_write_them(text, ms):
    assert parse_moment_ms(text, NOW, "deadline") == ms


@pytest.mark.parametrize("text", ["4h", "tomorrow", "20270115", 1_800_000_000, "now+4", "9" * 99])
def test_a_moment_that_is_not_clear_is_refused_with_an_example(text):
    with pytest.raises(Misuse) as wrong:
        parse_moment_ms(text, NOW, "deadline")
    assert wrong.value.field == "deadline" and wrong.value.hint
