"""Elastic jobs in the simulator: progress is the integral of speed, and no GPU-second is lost."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.invariants import check
from fairlead.model.base import Misuse
from fairlead.model.jobs import JobSpec, PolicyConfig
from fairlead.model.resources import Shape
from fairlead.policy.registry import policy_config
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.metrics import busy_milli, columns, summarise
from fairlead.sim.outcome import Rules
from fairlead.sim.replay import replay
from fairlead.sim.traces import read
from fairlead.sim.workload import SimJob, Workload

GPUS = parse_cluster("2x4gpu")
POLICIES = ("fifo", "priority", "easy", "conservative", "srtf", "las", "priority-preempt")


def job(number, submit_s, run_s, members, most=0, speedups=(), **more):
    shape = Shape(cpu_milli=1000, gpus=1, members=members)
    spec = JobSpec(shape=shape, members_max=most, expected_ms=1000 * run_s, **more)
    return SimJob(number, 1000 * submit_s, 1000 * run_s, spec, speedups)


def world(*jobs, policy="priority", rules=Rules(), cluster=GPUS, **settings):
    config = policy_config(policy) if isinstance(policy, str) else policy
    config = msgspec.structs.replace(config, **settings)
    workload = Workload(tuple(jobs), {}, {})
    return replay(
        workload, cluster, config, rules=rules, observe=lambda _, core: check(core), name="it"
    )


def seconds(outcome):
    return [ms / 1000 for ms in outcome.end_ms]


def area_s(outcome, index):
    """Return the member-seconds of a job, by its sizes over time."""
    total, since, members = 0, 0, 0
    for each, at, now in outcome.sizes:
        if each == index:
            total += members * (at - since)
            since, members = at, now
    assert members == 0, "it holds nothing when it has ended"
    return total / 1000


def test_a_job_that_has_the_cluster_for_itself_runs_at_its_most():
    outcome = world(job(1, 0, 800, 2, 8))
    assert seconds(outcome) == [200]
    assert area_s(outcome, 0) == 1600
    summary = summarise(outcome)
    assert (summary.resizes, summary.mean_members, summary.mean_members_least) == (1, 8, 2)
    assert summary.utilisation_ratio == 1
    assert "resizes" not in summarise(world(job(1, 0, 800, 2))).as_json()


def test_a_rigid_job_gets_its_room_at_once_and_the_elastic_one_takes_it_back():
    """50 s at 8, 100 s at 4, and the rest of 1600 GPU-s at 8: it ends at 250 s."""
    outcome = world(job(1, 0, 800, 2, 8), job(2, 50, 100, 4))
    assert outcome.start_ms == [0, 50_000]
    assert seconds(outcome) == [250, 150]
    assert area_s(outcome, 0) == 1600
    assert summarise(outcome).utilisation_ratio == 1
    assert summarise(outcome).resizes == 3


def test_nothing_grows_back_before_its_time():
    """After the rigid job has gone at 60 s it has to wait until a minute after it shrank."""
    outcome = world(job(1, 0, 800, 2, 8), job(2, 50, 10, 4))
    assert [(at, size) for _, at, size in outcome.sizes][2:4] == [(50_000, 4), (110_000, 8)]
    assert seconds(outcome) == [50 + 60 + (1600 - 400 - 240) / 8, 60]


def test_with_less_than_linear_speedups_the_end_follows_the_table():
    outcome = world(job(1, 0, 100, 1, 3, (1000, 1500, 1600)))
    assert seconds(outcome) == [100 / 1.6]
    outcome = world(job(1, 0, 100, 1, 3, (1000, 1500, 1600)), job(2, 10, 50, 7))
    # 10 s at 3 are 16 s of work; 50 s at 1; then a minute after it shrank (70 s) at 3 again
    assert seconds(outcome) == [70 + (100 - 16 - 60) / 1.6, 60]


def test_a_preempted_elastic_job_keeps_what_it_has_saved():
    rules = Rules(restart_ms=5000, checkpoint_ms=10_000)
    first = job(1, 0, 100, 4, 6, priority=10)
    outcome = world(
        first,
        job(2, 17, 50, 8, priority=90),
        policy="priority-preempt",
        rules=rules,
        elastic="never",
    )
    # 17 s done, 10 s saved; from 67 s on a restart of 5 s and the 90 s that are left
    assert seconds(outcome) == [67 + 5 + 90, 67]
    assert outcome.lost_ms == 12_000
    assert outcome.preempted == [1, 0]


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 400), st.integers(1, 4), st.integers(0, 6)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from(POLICIES),
    st.sampled_from(["never", "idle", "beside"]),
)
def test_gpu_seconds_are_conserved_whatever_happens(asked, policy, elastic):
    """Linear speedups, nothing lost: every job uses its run time x its least size, to a ms."""
    jobs = [
        job(number, submit, run, members, members + more if more else 0)
        for number, (submit, run, members, more) in enumerate(sorted(asked), 1)
    ]
    outcome = world(*jobs, policy=policy, elastic=elastic)
    for index, each in enumerate(jobs):
        if each.spec.members_max:
            work = each.run_ms * each.spec.shape.members / 1000
            over = area_s(outcome, index) - work
            # Each stop and each end falls on a whole ms: at most one of all its members is over.
            assert -1e-9 <= over <= each.spec.members_max * (1 + outcome.preempted[index]) / 1000
    instants, busy = busy_milli(columns(outcome))
    assert max(busy) <= GPUS.capacity_milli
    assert busy[-1] == 0
    area = sum(
        int(level) * int(later - now)
        for level, now, later in zip(busy, instants, instants[1:], strict=False)
    )
    summary = summarise(outcome)
    whole = GPUS.capacity_milli * summary.makespan_s * 1000
    assert summary.utilisation_ratio == pytest.approx(area / whole)


def test_elastic_jobs_finish_sooner_than_the_same_jobs_that_are_rigid():
    """And the rigid ones beside them start no later: excess is never in their way."""
    rigid = [job(2 * n, 40 * n, 60, 1 + n % 4) for n in range(1, 8)]
    elastic = [job(2 * n + 1, 40 * n + 5, 200, 1, 6) for n in range(1, 8)]
    mixed = sorted([*rigid, *elastic], key=lambda each: each.submit_ms)
    still = world(*mixed, elastic="never")
    moving = world(*mixed)
    assert sum(moving.end_ms) < sum(still.end_ms)
    assert max(moving.end_ms) <= max(still.end_ms)


def trace(tmp_path, **line):
    path = tmp_path / "t.jsonl"
    header = {"format": "fairlead-trace", "version": 1, "cluster": "2x4gpu"}
    whole = {"id": 1, "submit_s": 0, "run_s": 10, "gpus": 1, "members": 2, **line}
    path.write_text(json.dumps(header) + "\n" + json.dumps(whole) + "\n")
    return str(path)


def test_a_trace_says_how_elastic_a_job_is(tmp_path):
    (found,) = read(trace(tmp_path, members_max=4, speedups=[1, 1.5, 1.75])).jobs
    assert (found.members_max, found.speedups) == (4, (1000, 1500, 1750))


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ({"members_max": 2}, "members_max", "more than members, 2"),
        ({"speedups": [1, 2]}, "speedups", "without members_max"),
        ({"members_max": 4, "speedups": [1, 2]}, "speedups", "found 2, expected 3"),
        ({"members_max": 3, "speedups": [1, 0.5]}, "speedups", "never to fall"),
        ({"members_max": 3, "speedups": [2, 3]}, "speedups", "begin with 1"),
        ({"members_max": 100_001}, "members_max", ""),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(tmp_path, line, field, words):
    with pytest.raises(Misuse) as wrong:
        read(trace(tmp_path, **line))
    assert wrong.value.field == field
    assert words in wrong.value.message


def test_the_policy_of_a_replay_has_the_defaults_of_the_service():
    assert (PolicyConfig().elastic, PolicyConfig().resize_every_ms) == ("idle", 60_000)
