"""Jobs that acquire and release named resources while they run, in the simulator."""

from __future__ import annotations

import json
from random import Random

import pytest
from msgspec.structs import replace

from fairlead.core.invariants import check
from fairlead.model.base import Misuse
from fairlead.model.events import ResourceSet
from fairlead.policy.registry import POLICIES, policy_config
from fairlead.sim.metrics import summarise
from fairlead.sim.outcome import Rules
from fairlead.sim.replay import gate, replay
from fairlead.sim.steps import Step, most_acquired
from fairlead.sim.traces import read
from fairlead.sim.workload import cluster_for, fit

LOCKS = {"db": {"kind": "lock"}, "index": {"kind": "lock"}, "matlab": 2}
LOAD = {
    **{"id": "load", "submit_s": 0, "run_s": 60},
    "steps": [[5, "acquire", "db", 1], [20, "acquire", "index", 1], [50, "release", "index", 1]],
}
TIDY = {
    **{"id": "tidy", "submit_s": 1, "run_s": 40},
    "steps": [[5, "acquire", "index", 1], [25, "acquire", "db", 1]],
}


def trace_of(path, lines, resources=LOCKS, cluster="1x8cpu"):
    header = {"format": "fairlead-trace", "version": 1, "cluster": cluster, "resources": resources}
    path = path / "trace.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in (header, *lines)))
    return read(str(path))


def outcome_of(trace, policy="fifo", mode="avoid", rules=None):
    where = cluster_for(trace, None)
    setup = [ResourceSet(resource=each) for each in trace.resources]
    work = fit(trace, where, gate(where, setup))
    config = replace(policy_config(policy), deadlock=mode)
    held = []

    def observe(now, core):
        check(core)
        held.append(dict(core.named.held))

    more = {} if rules is None else {"rules": rules}
    found = replay(work, where, config, setup=setup, observe=observe, **more)
    assert not any(held[-1].values()), "all is given back in the end"
    return found


def ends(found) -> dict:
    return {job.id: end for job, end in zip(found.workload.jobs, found.end_ms, strict=True)}


def test_under_avoid_the_second_waits_for_a_lock_that_is_free_and_nobody_is_stopped(tmp_path):
    """tidy asks at 6 s, gets index when load has gone at 60 s, and has 35 s of its run to go."""
    found = outcome_of(trace_of(tmp_path, [LOAD, TIDY]))
    assert ends(found) == {"load": 60_000, "tidy": 95_000}
    assert (found.deadlocks, found.refused, found.acquiring_ms) == (0, 0, 54_000)


def test_under_detect_the_ring_is_found_and_one_begins_anew(tmp_path):
    """At 26 s both are stuck. load begins anew, and waits for index from 46 s: tidy ends at 41."""
    found = outcome_of(trace_of(tmp_path, [LOAD, TIDY]), mode="detect")
    assert (found.deadlocks, found.preempted) == (1, [1, 0])
    assert ends(found)["tidy"] == 41_000 and ends(found)["load"] == 26_000 + 60_000 + 10_000
    assert summarise(found).as_json()["deadlocks"] == 1


def test_under_ordered_who_asks_out_of_order_fails_at_once(tmp_path):
    found = outcome_of(trace_of(tmp_path, [LOAD, TIDY]), mode="ordered")
    assert found.refused == 1 and ends(found) == {"load": 66_000, "tidy": 26_000}


def test_who_waits_in_an_acquire_does_not_run_and_a_time_limit_stops_it_all_the_same(tmp_path):
    first = {"id": 1, "submit_s": 0, "run_s": 50, "steps": [[0, "acquire", "db", 1]]}
    second = {"id": 2, "submit_s": 0, "run_s": 10, "steps": [[1, "acquire", "db", 1]]}
    found = outcome_of(trace_of(tmp_path, [first, second]))
    assert ends(found) == {1: 50_000, 2: 59_000}
    found = outcome_of(trace_of(tmp_path, [first, {**second, "limit_s": 20}]))
    assert ends(found) == {1: 50_000, 2: 20_000} and found.timeouts == 1


def test_steps_that_are_due_at_once_are_done_one_after_the_other(tmp_path):
    steps = [[3, "acquire", "db", 1], [3, "release", "db", 1], [3, "acquire", "index", 1]]
    job = {"id": 1, "submit_s": 0, "run_s": 3, "steps": steps}
    found = outcome_of(trace_of(tmp_path, [job]), mode="ordered")
    assert ends(found) == {1: 3_000} and not found.refused


def test_licences_bound_how_many_run_at_once_and_what_can_never_run_is_left_out(tmp_path):
    jobs = [
        {"id": n, "submit_s": 0, "run_s": 10, "licenses": {"matlab": 1 + n % 2}} for n in range(4)
    ]
    jobs.append({"id": 9, "submit_s": 0, "run_s": 10, "licenses": {"matlab": 3}})
    jobs.append({"id": 10, "submit_s": 0, "run_s": 10, "licenses": {"matlba": 1}})
    trace = trace_of(tmp_path, jobs)
    found = outcome_of(trace, "fifo-skip")
    assert sorted(ends(found).values()) == [10_000, 10_000, 20_000, 30_000]
    assert found.workload.rejected == {
        "can never run: there are 2 matlab, this job asks for 3": 1,
        "there is no resource 'matlba'": 1,
    }


def random_lines(seed: int) -> list[dict]:
    rng = Random(seed)
    lines = []
    for number in range(14):
        steps, at, held = [], 0, {}
        for name in rng.sample(["a", "b", "c"], rng.randint(0, 3)):
            at += rng.randint(0, 5)
            held[name] = rng.randint(1, 2)
            steps.append([at, "acquire", name, held[name]])
        for name in held if rng.random() < 0.5 else ():
            at += rng.randint(0, 3)
            steps.append([at, "release", name, held[name]])
        line = {"id": number, "submit_s": rng.randint(0, 20), "run_s": at + rng.randint(1, 9)}
        line |= {"steps": steps, "priority": rng.choice([10, 50])}
        if rng.random() < 0.3:
            line["licenses"] = {"lic": 1}
        lines.append(line)
    return lines


@pytest.mark.parametrize("mode", ["avoid", "detect", "ordered"])
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_under_every_policy_and_mode_every_job_comes_to_an_end(policy, mode, tmp_path):
    """Also where a preemptive order takes the place of jobs that hold something."""
    stopped = 0
    for seed in range(3):
        lines = random_lines(seed)
        resources = {"a": 2, "b": 2, "c": 2, "lic": 1}
        trace = trace_of(tmp_path, lines, resources, "1x4cpu")
        found = outcome_of(trace, policy, mode)
        stopped += found.deadlocks
        assert mode == "ordered" or not found.refused
    assert mode == "detect" or not stopped


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": [[61, "acquire", "db", 1]]}, "when the job has ended"),
        ({"steps": [[5, "acquire", "db", 1], [4, "release", "db", 1]]}, "not in the order"),
        ({"steps": [[5, "release", "db", 1]]}, "more db is released than was acquired"),
        ({"steps": [[5, "acquire", "db", 0]]}, "steps"),
        ({"steps": [[5, "take", "db", 1]]}, "steps"),
        ({"may_acquire": {"db": 1}}, "the steps come to 1 index, may_acquire says 0"),
        ({"licenses": {"matlab": 0}}, "licenses"),
        ({"members_max": 2}, "found steps and members_max"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_with_its_number(change, words, tmp_path):
    with pytest.raises(Misuse, match=words) as wrong:
        trace_of(tmp_path, [TIDY, {**LOAD, **change}])
    assert ":3: " in wrong.value.message


def test_steps_cannot_be_replayed_event_by_event(tmp_path):
    with pytest.raises(Misuse, match="cannot be replayed event by event"):
        outcome_of(trace_of(tmp_path, [LOAD]), rules=Rules(event_order="reference"))


def test_the_most_that_steps_come_to():
    steps = [
        Step(at_ms=0, verb="acquire", name="b", amount=2),
        Step(at_ms=1, verb="release", name="b", amount=1),
        Step(at_ms=1, verb="acquire", name="a", amount=1),
        Step(at_ms=2, verb="acquire", name="b", amount=2),
    ]
    assert most_acquired(steps) == {"a": 1, "b": 3}
