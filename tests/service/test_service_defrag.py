"""Making room through the API: shown first, then done, over a restart too; refused in words."""

from __future__ import annotations

import asyncio

import pytest
from service_harness import Desk

from fairlead.core.invariants import check
from fairlead.core.turn import recover
from fairlead.model.events import MemberEnded, MemberStarted
from fairlead.model.jobs import Exit, Phase
from fairlead.model.resources import Device, Node
from fairlead.service.commands import Configure

HOUR = 3_600_000


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


class Halls(Desk):
    """Three machines; jobs start when placed and go when they are told to."""

    async def start(self, gpus=(4, 4, 4)) -> None:
        nodes = [
            Node(
                name=f"n{index}",
                cpu_milli=32_000,
                memory_mib=4096,
                devices=tuple(Device(uuid=f"{index}-{each}") for each in range(count)),
                boot="1",
            )
            for index, count in enumerate(gpus)
        ]
        await self.shell.ask(Configure(nodes, [], [], None))

    async def submit(self, gpus: int, **more: object) -> int:
        body = {"run": "train", "resources": {"gpus": gpus}, "time_limit": "10h", **more}
        made = (await self.call("POST", "/api/v1/jobs", body)).json
        assert "ids" in made, made
        self.obey()
        return made["ids"][0]

    async def defrag(self, **body: object):
        answer = await self.call("POST", "/api/v1/defrag", body)
        return answer

    async def cancel(self, *jobs: int) -> None:
        await self.call("POST", "/api/v1/jobs:cancel", {"ids": list(jobs)})
        self.obey(gone=True)

    def obey(self, gone: bool = False) -> None:
        """Start whoever was placed; with `gone` let whoever stops be gone, again and again."""
        scheduler = self.shell.scheduler
        while True:
            events = []
            for job in scheduler.core.jobs.values():
                ranks = range(len(job.slots))
                if job.phase is Phase.STARTING:
                    events += [MemberStarted(job.id, job.attempt, rank) for rank in ranks]
                elif job.phase is Phase.STOPPING and gone:
                    events += [
                        MemberEnded(job.id, job.attempt, Exit(signal=15), rank) for rank in ranks
                    ]
            if not events:
                return
            scheduler.turn(self.shell.now, events)
            check(scheduler.core)

    def running(self) -> set[int]:
        jobs = self.shell.core.jobs.values()
        return {job.id for job in jobs if job.phase is Phase.RUNNING}


@pytest.fixture
def desk(tmp_path):
    return Halls(tmp_path)


async def crowded(desk: Halls) -> tuple[int, int, int]:
    """Fill two machines by half and one wholly; return who moves, who stays and who waits."""
    await desk.start()
    mover, filler = await desk.submit(2), await desk.submit(2)
    stayer = await desk.submit(2, preemptible=False)
    await desk.submit(2), await desk.submit(4)
    await desk.cancel(filler, stayer + 1)
    waiting = await desk.submit(4, time_limit="1h", name="wide")
    assert desk.shell.core.jobs[waiting].phase is Phase.PENDING
    return mover, stayer, waiting


def test_it_says_what_would_move_what_that_costs_and_what_it_saves_and_does_nothing(desk):
    async def story():
        mover, _, waiting = await crowded(desk)
        seq = desk.shell.core.seq
        found = (await desk.defrag(job=waiting)).json
        assert found["outcome"] == "moves" and not found["applied"] and found["sure"]
        (step,) = found["steps"]
        assert (step["kind"], step["job"]) == ("move", mover)
        assert step["source"] == [{"node": "n0", "devices": [0, 1]}]
        assert step["to"] == [{"node": "n1", "devices": [2, 3]}]
        assert found["room"] == [{"node": "n0", "devices": [0, 1, 2, 3]}]
        assert found["cost_gpu_ms"] < 60_000 and found["saves_gpu_ms"] > HOUR
        assert found["worth"] and found["serves"] == [waiting]
        assert desk.shell.core.seq == seq
        same = (await desk.defrag(gpus=4)).json
        assert same["steps"] == found["steps"] or same["steps"][0]["job"] == mover
        assert same["serves"] == [waiting] and same["job"] is None

    run(story())


def test_then_it_is_done_and_the_room_is_held_for_the_job(desk):
    async def story():
        mover, _, waiting = await crowded(desk)
        done = (await desk.defrag(job=waiting, dry_run=False, plan=[mover])).json
        assert done["applied"]
        assert desk.shell.core.jobs[mover].phase is Phase.STOPPING
        greedy = await desk.submit(2)
        why = (await desk.call("GET", f"/api/v1/jobs/{waiting}/explain")).json
        assert f"another job moves elsewhere to make room for it ({mover})" in why["summary"]
        again = await desk.defrag(job=waiting, dry_run=False)
        assert again.status == 409 and "already" in again.json["detail"]
        desk.obey(gone=True)
        assert {mover, waiting} <= desk.running() and greedy not in desk.running()
        told = (await desk.call("GET", f"/api/v1/jobs/{mover}/explain")).json
        assert f"preempted once, lately for job {waiting}" in str(told)

    run(story())


def test_a_service_that_was_killed_in_between_goes_on_with_it(desk):
    async def story():
        mover, _, waiting = await crowded(desk)
        await desk.defrag(job=waiting, dry_run=False)
        live = desk.shell.scheduler
        assert recover(desk.store).digest() == live.core.digest()
        desk.shell.snapshot()
        live.core = recover(desk.store)
        live._config = None  # the policy is built anew, as after a start
        desk.obey(gone=True)
        assert {mover, waiting} <= desk.running()

    run(story())


def test_room_for_nobody_yet_is_kept_until_the_jobs_have_moved(desk):
    async def story():
        mover, _, waiting = await crowded(desk)
        await desk.cancel(waiting)
        found = (await desk.defrag(gpus=4, dry_run=False)).json
        assert found["applied"] and not found["worth"] and found["serves"] == []
        listed = (await desk.call("GET", "/api/v1/reservations")).json["reservations"]
        assert [each["name"] for each in listed] == ["defrag:room"]
        again = await desk.defrag(gpus=4)
        assert again.status == 409 and "reservation delete defrag:room" in str(again.json)
        desk.obey(gone=True)
        assert mover in desk.running()
        assert not (await desk.call("GET", "/api/v1/reservations")).json["reservations"]
        assert (await desk.defrag(gpus=4)).json["outcome"] == "nothing"

    run(story())


def test_a_plan_that_is_another_one_by_now_is_refused(desk):
    async def story():
        mover, stayer, waiting = await crowded(desk)
        wrong = await desk.defrag(job=waiting, dry_run=False, plan=[stayer])
        assert (
            wrong.status == 409
            and f"other jobs would have to move: {mover}" in wrong.json["detail"]
        )
        assert desk.shell.core.jobs[mover].phase is Phase.RUNNING

    run(story())


def test_it_says_why_moving_does_not_help(desk):
    async def story():
        await desk.start((4, 4))
        for _ in range(2):
            await desk.submit(3, preemptible=False)
        few = (await desk.defrag(gpus=4)).json
        assert few["outcome"] == "impossible"
        assert few["reason"] == "free in all: 2 gpus, too few, and moving jobs frees no more"
        stuck = (await desk.defrag(gpus=2)).json
        assert "these stay: jobs 1, 2: it is not preemptible" in stuck["reason"]
        assert (await desk.defrag(gpus=1)).json["outcome"] == "nothing"
        await desk.call("PUT", "/api/v1/tenants/poor", {"quota": {"gpus": 2}})
        await desk.submit(1, tenant="poor")
        poor = await desk.submit(2, tenant="poor")
        kept = (await desk.defrag(job=poor)).json
        assert kept["outcome"] == "impossible"
        assert kept["reason"].startswith(f"it is not room that job {poor} lacks: tenant poor")

    run(story())


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "how many GPUs"),
        ({"gpus": 1, "job": 2}, 422, "how many GPUs"),
        ({"gpus": 0}, 422, "gpus is 0"),
        ({"gpus": "many"}, 422, "Expected `int"),
        ({"gpus": 5}, 422, "no machine has more than 4"),
        ({"gpus": 4, "nodes": 4}, 422, "only 3 machines have so many"),
        ({"gpus": 4, "nodes": 0}, 422, "nodes is 0"),
        ({"job": 99}, 404, "there is no job 99"),
        ({"job": 1}, 422, "job 1 does not wait: it is RUNNING"),
        ({"job": 2}, 422, "job 2 has ended"),
        ({"job": 1, "nodes": 2}, 422, "says on how many nodes"),
        ({"gpu": 4}, 422, "unknown key 'gpu'"),
        ([], 422, "a JSON object"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(desk, body, status, says):
    async def story():
        await crowded(desk)
        answer = await desk.call("POST", "/api/v1/defrag", body)
        assert (answer.status, says in str(answer.json)) == (status, True), answer.json

    run(story())
