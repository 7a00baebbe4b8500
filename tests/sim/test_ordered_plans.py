"""AlloX, Sia and Pollux at work: plans that say where a job runs, and with how many members."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from fairlead.core.invariants import check
from fairlead.model.events import Advised, Placed, StopDecided
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.registry import describe, policy_config
from fairlead.policy.settings import override
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.replay import World, gate
from fairlead.sim.traces import read
from fairlead.sim.workload import fit, told

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
LINEAR = [1, 2, 3, 4]
FLAT = [1, 1.1, 1.1, 1.1]


class Story:
    """A replay of a few jobs, and all that was decided in it."""

    def __init__(self, tmp_path: Path, cluster: str, policy: str | PolicyConfig, *jobs) -> None:
        path = tmp_path / "trace.jsonl"
        lines = [{"format": "fairlead-trace", "version": 1}]
        for number, job in enumerate(jobs, 1):
            lines.append({"id": number, "submit_s": 0, "run_s": 3600, "gpus": 1, **job})
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        there = parse_cluster(cluster)
        config = policy_config(policy) if isinstance(policy, str) else policy
        workload = fit(read(path), there, gate(there))
        self.world = World(workload, there, config, setup=told(workload))
        self.said: list[tuple[int, object]] = []
        core = self.world.core
        apply = core.apply

        def heard(now, event) -> None:
            apply(now, event)
            self.said.append((now, event))

        core.apply = heard  # type: ignore[method-assign]

    def run(self) -> Story:
        self.world.run(None, lambda now, core: check(core))
        self.world.check_conservation()
        return self

    def of(self, kind: type) -> list[tuple[int, object]]:
        return [(now, event) for now, event in self.said if isinstance(event, kind)]

    def sizes(self, job: int) -> list[tuple[int, int]]:
        """Return when a job had how many members, without moments in between."""
        found: dict[int, int] = {}
        for index, at, members in self.world.sizes:
            if index == job - 1:
                found[at] = members
        return list(found.items())

    @property
    def end_ms(self) -> list[int]:
        return self.world.end_ms


def elastic(rates: dict[str, list[float]], **more: object) -> dict[str, object]:
    count = len(next(iter(rates.values())))
    return {"rates": rates, "members": 1, "members_max": count, **more}


@pytest.mark.parametrize("policy", ["sia", "pollux"])
def test_an_elastic_job_alone_gets_all_that_it_makes_use_of(tmp_path, policy):
    story = Story(tmp_path, "4gpu:a", policy, elastic({"a": LINEAR})).run()
    assert story.sizes(1)[0] == (0, 4)
    assert story.end_ms == [HOUR // 4]


@pytest.mark.parametrize("policy", ["sia", "pollux"])
def test_a_job_shrinks_for_one_that_comes_and_grows_when_that_is_gone(tmp_path, policy):
    late = {"rates": {"a": 1}, "submit_s": 90, "run_s": 300, "job_type": "late"}
    story = Story(tmp_path, "4gpu:a", policy, elastic({"a": LINEAR}), late).run()
    began = 2 * MINUTE  # it waits for the round that begins then
    sizes = story.sizes(1)
    assert sizes[0] == (0, 4)
    assert sizes[1][0] == began and sizes[1][1] < 4
    assert story.world.start_ms[1] == began
    assert story.end_ms[1] == began + 300 * SECOND
    assert (7 * MINUTE, 4) in sizes  # the round in which it has ended
    assert not story.of(StopDecided)


def test_sia_gives_devices_to_the_job_that_makes_more_of_them(tmp_path):
    jobs = [elastic({"a": LINEAR}, job_type="linear"), elastic({"a": FLAT}, job_type="flat")]
    story = Story(tmp_path, "4gpu:a", "sia", *jobs).run()
    # Two of three GPUs that are left would be idle at powers of two: a node has sizes 1, 2 and 4.
    assert (story.sizes(1)[0], story.sizes(2)[0][1]) == ((0, 2), 2)
    assert Story(tmp_path, "4gpu:a", "pollux", *jobs).run().sizes(1)[0] == (0, 3)


def test_sia_moves_a_job_to_a_faster_model_when_one_is_free_and_pollux_does_not(tmp_path):
    first = {"rates": {"fast": 1, "slow": 0}, "run_s": 1800, "job_type": "first"}
    moves = elastic({"fast": [10, 20], "slow": [1, 2]}, submit_s=30, job_type="moves")
    story = Story(tmp_path, "2gpu:slow+1gpu:fast", "sia", first, moves).run()
    stops = story.of(StopDecided)
    assert [(now, stop.job) for now, stop in stops] == [(30 * MINUTE, 2)]
    assert stops[0][1].because == "sia plan: it goes to fast"
    assert story.sizes(2)[0] == (MINUTE, 2)
    assert not Story(tmp_path, "2gpu:slow+1gpu:fast", "pollux", first, moves).run().of(StopDecided)


def test_who_may_not_be_stopped_is_never_moved(tmp_path):
    first = {"rates": {"fast": 1, "slow": 0}, "run_s": 1800, "job_type": "first"}
    moves = {"rates": {"fast": 10, "slow": 1}, "submit_s": 30, "job_type": "moves"}
    story = Story(tmp_path, "2gpu:slow+1gpu:fast", "sia", first, moves)
    jobs = story.world.jobs
    story.world.jobs = (jobs[0], replace(jobs[1], spec=replace(jobs[1].spec, preemptible=False)))
    assert not story.run().of(StopDecided)


def test_a_job_that_comes_between_rounds_waits_for_the_next_plan(tmp_path):
    job = {"rates": {"a": 1}, "run_s": 60}
    for policy in ("allox", "sia", "pollux"):
        story = Story(tmp_path, "4gpu:a", policy, job, {**job, "submit_s": 1}).run()
        assert story.world.start_ms == [0, MINUTE]
        assert f"{policy} plan" in story.of(Placed)[0][1].because


def test_where_no_plan_comes_jobs_start_beside_it_after_a_round(tmp_path):
    job = {"rates": {"a": 1}, "run_s": 600}
    for policy in ("allox", "sia", "pollux"):
        story = Story(tmp_path, "1gpu:a", policy, {**job, "submit_s": 1}, {**job, "submit_s": 2})
        story.world.advising = None
        story.run()
        assert story.world.start_ms == [MINUTE, 11 * MINUTE]
        assert all("beside the plan" in placed.because for _, placed in story.of(Placed))
        assert not story.of(Advised)


def test_allox_lets_a_job_wait_for_the_fast_device_where_it_ends_sooner(tmp_path):
    """Both are a hundred times as fast on the one: in turns they end after 1 and 2 hours."""
    jobs = [{"rates": {"fast": 100, "slow": 1}}] * 2
    assert Story(tmp_path, "1gpu:fast+1gpu:slow", "allox", *jobs).run().end_ms == [HOUR, 2 * HOUR]
    fifo = Story(tmp_path, "1gpu:fast+1gpu:slow", "fifo", *jobs).run().end_ms
    assert max(fifo) == 100 * HOUR


def test_allox_puts_the_short_first_and_preempts_nobody(tmp_path):
    times = {1: 3000, 2: 2000, 3: 1000}
    jobs = [{"rates": {"a": 1}, "run_s": each} for each in times.values()]
    late = {"rates": {"a": 1}, "run_s": 1, "submit_s": 30}
    story = Story(tmp_path, "1gpu:a", "allox", *jobs, late).run()
    assert story.world.start_ms[:3] == [3001 * SECOND, 1001 * SECOND, 0]
    assert story.world.start_ms[3] == 1000 * SECOND
    assert not story.of(StopDecided)


def test_a_part_of_allox_goes_to_who_waits_longest(tmp_path):
    jobs = [{"rates": {"a": 1}, "run_s": 3000 - 100 * at, "submit_s": 0} for at in range(4)]
    config = override(policy_config("allox"), {"part": 25})
    starts = Story(tmp_path, "1gpu:a", config, *jobs).run().world.start_ms
    assert starts == sorted(starts)


def test_the_same_trace_makes_the_same_plans_and_sizes(tmp_path):
    jobs = [
        elastic({"a": LINEAR, "b": [x / 2 for x in FLAT]}, submit_s=70 * at, job_type=f"t{at}")
        for at in range(6)
    ]
    for policy in ("sia", "pollux", "allox"):
        one, two = (Story(tmp_path, "4gpu:a+2x2gpu:b", policy, *jobs).run() for _ in range(2))
        assert one.said == two.said


def test_what_these_policies_do_is_told_in_words():
    assert "places change hands every 1m" in describe(policy_config("sia"))
    assert "long jobs and wide jobs may wait" in describe(policy_config("allox"))
