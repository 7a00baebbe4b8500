"""What jobs report becomes speeds, and people see and tell them: by the API and with real jobs."""

from __future__ import annotations

import asyncio
import sys

import pytest
from service_harness import SOURCE, until

from fairlead.model.messages import MemberState, Progress, Report
from fairlead.model.resources import Device, Node
from fairlead.policy.registry import policy_config
from fairlead.policy.settings import override
from fairlead.service.commands import Configure
from fairlead.service.speeds import MICRO, parse_rate_micro

JOBS, SPEEDS = "/api/v1/jobs", "/api/v1/speeds"
START = 1_000_000


class Machine:
    """A machine with two types of GPU that reports what jobs say, at the times of a fake clock."""

    def __init__(self, desk, now):
        self.desk, self.now = desk, now
        self.said: dict[int, Progress] = {}

    async def start(self, models=("A100", "A100", "T4", "T4"), policy=None):
        devices = tuple(Device(model=model, memory_mib=16_000) for model in models)
        node = Node(name="here", cpu_milli=8000, memory_mib=9000, devices=devices, boot="1")
        await self.desk.shell.ask(Configure([node], [], [], policy))

    async def submit(self, **body):
        answer = await self.desk.call("POST", JOBS, {"run": "x", **body})
        assert answer.status == 201, answer.json
        self.said[answer.json["ids"][0]] = Progress()
        await self.report()
        return answer.json["ids"][0]

    async def report(self, after_ms=0, **steps):
        """Time goes on, and jobs (by name: j1) are so far by then."""
        self.now[0] += after_ms
        for name, count in steps.items():
            self.said[int(name[1:])] = Progress(steps=count, samples=32 * count, at_ms=self.now[0])
        core = self.desk.shell.core
        members = [
            MemberState(
                job=job.id,
                attempt=1,
                rank=0,
                state="running",
                progress=self.said[job.id],
                started_ms=START,
            )
            for job in core.jobs.values()
            if job.slots
        ]
        self.desk.shell.reported(
            Report(node="here", boot="1", seen=core.seq, members=tuple(members))
        )
        await asyncio.sleep(0.01)

    async def speeds(self):
        answer = await self.desk.call("GET", SPEEDS)
        return {(each["job_type"], each["on"]): each for each in answer.json["speeds"]}


def told(desk_at, story, **setup):
    now = [START]
    desk = desk_at(lambda: now[0])

    async def play():
        machine = Machine(desk, now)
        await machine.start(**setup)
        await story(desk, machine)
        await desk.api.etas.close()

    asyncio.run(asyncio.wait_for(play(), 60))


def test_two_jobs_report_and_what_is_not_measured_is_filled_or_said_to_be_unknown(desk_at):
    async def story(desk, machine):
        await machine.submit(job_type="bert", steps=1000, resources={"gpus": "A100:1"})
        await machine.submit(job_type="bert", resources={"gpus": "T4:1"})
        await machine.submit(job_type="gpt", resources={"gpus": "A100:1"})
        assert await machine.speeds() == {}
        await machine.report(j1=100, j2=10, j3=7)
        await machine.report(20_000, j1=300, j2=60, j3=17)
        found = await machine.speeds()
        rates = {key: (each["per_s"], each["source"]) for key, each in found.items()}
        assert rates == {
            ("bert", "A100"): (10.0, "measured"),
            ("bert", "T4"): (2.5, "measured"),
            ("gpt", "A100"): (0.5, "measured"),
            ("gpt", "T4"): (0.125, "filled"),
        }
        assert found["bert", "T4"]["runs"] == 1 and found["gpt", "T4"]["runs"] == 0
        assert "not measured" in found["gpt", "T4"]["words"]
        shown = (await desk.call("GET", f"{JOBS}/1")).json
        assert shown["steps"] == 300
        assert shown["progress"] == {
            "steps": 300,
            "of": 1000,
            "samples": 9600,
            "at_ms": START + 20_000,
            "per_s": 10.0,
            "left_ms": 70_000,
            "ignored": 0,
            "odd": "",
        }
        assert not [each for each in shown["events"] if each["kind"] == "progressed"]
        why = (await desk.call("GET", f"{JOBS}/1/explain")).json["lines"]
        assert (
            "has made 300 of 1000 steps, as it said 0s ago; at its speed it takes about 1m10s"
            in (why[-1])
        )

    told(desk_at, story)


def test_a_job_of_a_type_that_is_known_is_forecast_by_its_steps(desk_at):
    async def story(desk, machine):
        for model, rate in (("A100", 10), ("T4", 2.5)):
            await desk.call("POST", SPEEDS, {"job_type": "bert", "on": model, "rate": rate})
        wanted = [
            ({"gpus": "A100:1"}, 1000, None, 100_000),
            ({"gpus": 1}, 1000, None, 400_000),  # whichever it gets: the slower one
            ({"gpus": 1}, 1000, "1m", 60_000),
            ({"gpus": 2}, 1000, None, None),  # another width, another speed
            ({"gpus": 1}, None, None, None),
        ]
        for resources, steps, limit, expected in wanted:
            body = {"job_type": "bert", "resources": resources, "steps": steps, "time_limit": limit}
            job = await machine.submit(**{k: v for k, v in body.items() if v is not None})
            shown = (await desk.call("GET", f"{JOBS}/{job}/forecast")).json["forecast"]
            assert shown == (
                None if expected is None else {"expected_ms": expected, "model": "steps and speed"}
            )

    told(desk_at, story)


def test_a_lone_measurement_compares_with_nothing_and_says_so(desk_at):
    async def story(desk, machine):
        await machine.submit(job_type="bert", resources={"gpus": "T4:1"})
        await machine.report(j1=0)
        await machine.report(10_000, j1=10)
        found = await machine.speeds()
        assert found["bert", "A100"]["per_s"] is None and found["bert", "A100"]["source"] == ""
        assert found["bert", "A100"]["words"].startswith("not comparable")

    told(desk_at, story)


def test_people_tell_speeds_and_forget_them(desk_at):
    async def story(desk, machine):
        ask = {"job_type": "bert", "on": "A100", "rate": "900/h"}
        made = (await desk.call("POST", SPEEDS, ask)).json
        assert (made["per_s"], made["source"], made["width_milli"]) == (0.25, "told", 1000)
        await desk.call("POST", SPEEDS, {**ask, "gpus": 2, "rate": 0})
        await desk.call("POST", SPEEDS, {"job_type": "awk", "on": "cpu", "cpus": 2, "rate": 5})
        shown = (await desk.call("GET", SPEEDS)).json["speeds"]
        assert [
            (each["job_type"], each["width_milli"], each["on"], each["per_s"]) for each in shown
        ] == [
            ("awk", 2000, "cpu", 5.0),
            ("bert", 1000, "A100", 0.25),
            ("bert", 1000, "T4", None),
            ("bert", 2000, "A100", 0.0),
            ("bert", 2000, "T4", None),
        ]
        assert shown[3]["words"] == "does not run there, somebody told"
        gone = (await desk.call("POST", f"{SPEEDS}:forget", {"job_type": "bert", "gpus": 2})).json
        assert [each["width_milli"] for each in gone["forgotten"]] == [2000]
        gone = (await desk.call("POST", f"{SPEEDS}:forget", {"job_type": "bert"})).json
        assert len(gone["forgotten"]) == 1
        assert [key[0] for key in desk.shell.core.speeds.told] == ["awk"]

    told(desk_at, story)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"on": "A100", "rate": 1}, "job_type", "which type of jobs?"),
        ({"job_type": "x", "on": "A100"}, "rate", "a rate is a number"),
        ({"job_type": "x", "on": "A100", "rate": -1}, "rate", "not negative"),
        ({"job_type": "x", "on": "A100", "rate": "fast"}, "rate", "cannot read"),
        ({"job_type": "x", "on": "A100", "rate": "3/fortnight"}, "rate", "cannot read"),
        ({"job_type": "x", "on": "A100", "rate": "NaN"}, "rate", "cannot read"),
        ({"job_type": "x", "on": "A100", "rate": "1e400"}, "rate", "is more than"),
        ({"job_type": "x", "on": "A100", "rate": 1e-9}, "rate", "cannot be told from 0"),
        ({"job_type": "x", "on": "A10O", "rate": 1}, "on", "did you mean A100?"),
        ({"job_type": "x", "rate": 1}, "on", "on which device?"),
        ({"job_type": "x", "on": "cpu", "gpus": 1, "rate": 1}, "gpus", "have no GPUs"),
        ({"job_type": "x", "on": "T4", "cpus": 1, "rate": 1}, "cpus", "without GPUs"),
        ({"job_type": "x", "on": "T4", "gpus": 0, "rate": 1}, "gpus", "wider than 0"),
        ({"job_type": "x", "on": "T4", "gpus": "many", "rate": 1}, "gpus", "cannot read"),
        ({"job_tpe": "x", "on": "T4", "rate": 1}, "job_tpe", "did you mean job_type?"),
    ],
)
def test_wrong_speeds_are_refused_in_words(desk_at, body, field, words):
    async def story(desk, machine):
        answer = await desk.call("POST", SPEEDS, body)
        assert answer.status in (409, 422), answer.json
        error = answer.json["error"]
        assert error["field"] == field
        assert words in error["message"] + error.get("hint", "")

    told(desk_at, story)


def test_what_is_not_known_cannot_be_forgotten(desk_at):
    async def story(desk, machine):
        await desk.call("POST", SPEEDS, {"job_type": "bert", "on": "T4", "rate": 1})
        wrong = (await desk.call("POST", f"{SPEEDS}:forget", {"job_type": "brt"})).json["error"]
        assert "no speed of 'brt'" in wrong["message"] and "bert" in wrong["hint"]
        ask = {"job_type": "bert", "on": "A100"}
        wrong = (await desk.call("POST", f"{SPEEDS}:forget", ask)).json["error"]
        assert wrong["message"] == "no speed of 'bert' is known there"

    told(desk_at, story)


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("3.2", 3_200_000),
        (7, 7 * MICRO),
        ("40/min", 666_667),
        ("900/h", 250_000),
        (0, 0),
        ("1e-6", 1),
        (0.1, 100_000),
        (" 2 / s ", 2 * MICRO),
    ],
)
def test_rates_are_read_as_people_write_them(text, micro):
    assert parse_rate_micro(text) == micro


def test_a_pair_that_goes_badly_is_parted_and_everybody_can_see_why(desk_at):
    half = {"resources": {"gpus": 0.5}}

    async def story(desk, machine):
        for kind in ("bert", "gpt"):
            ask = {"job_type": kind, "on": "T4", "gpus": 0.5, "rate": 10}
            await desk.call("POST", SPEEDS, ask)
        await machine.submit(job_type="bert", **half)
        await machine.submit(job_type="gpt", **half)
        core = desk.shell.core
        assert "gpt beside bert is tried" in core.jobs[2].because
        await machine.report(j1=0, j2=0)
        for seconds in range(10, 61, 10):
            await machine.report(10_000, j1=6 * seconds, j2=3 * seconds)
        shown = (await desk.call("GET", f"{JOBS}/2")).json
        assert shown["phase"] == "STOPPING"
        words = "shared a GPU with job 1 (bert): 0.30 and 0.60 of their speeds alone"
        assert words in shown["because"]
        assert "parted" in [each["kind"] for each in shown["events"]]
        (pair,) = (await desk.call("GET", SPEEDS)).json["pairs"]
        assert (pair["types"], pair["of_alone"]) == (["bert", "gpt"], [0.6, 0.3])
        assert pair["parted"] and not pair["shares"] and "did not go well" in pair["words"]

    policy = override(policy_config("priority"), {"share": "trial"})
    told(desk_at, story, models=("T4",), policy=policy)


REPORTS = """import fairlead, time
for step in range(0, 120_001, 4000):
    fairlead.report(step=step)
    time.sleep(0.5)
"""


def test_real_jobs_report_and_their_steps_are_counted_exactly(world):
    """What is shown are the steps that they said; speeds are those of exactly so many."""
    world.up("--cpus", "2")
    env = {"PYTHONPATH": SOURCE}
    by_python = world.submit([sys.executable, "-c", REPORTS], job_type="py", steps=120_000, env=env)
    by_shell = world.submit(
        """n=0; while [ $n -le 30 ]; do
        echo "{\\"step\\": $n}" >&$FAIRLEAD_REPORT_FD; n=$((n + 1)); sleep 0.5; done; echo x >&3""",
        job_type="sh",
    )
    for job in (by_python, by_shell):
        until(lambda job=job: (world.show(job)["progress"] or {}).get("steps"), 30)
    assert "of 120,000 steps" in world.fairlead("show", str(by_python)).out
    assert world.ended(by_python, 60)["steps"] == 120_000
    assert world.ended(by_shell, 60)["steps"] == 30
    table = {each["job_type"]: each for each in world.client.get("/speeds")["speeds"]}
    assert set(table) == {"py", "sh"}
    ratio = table["py"]["per_s"] / table["sh"]["per_s"]
    assert 2_000 < ratio < 8_000, "4000 steps beside one, each half a second"
    assert "measured" in world.fairlead("speeds").out
    world.kill_service()
    world.up("--cpus", "2")
    assert world.client.get("/speeds")["speeds"] == list(table.values())
