from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli.main import main
from fairlead.cli.sim import sim
from fairlead.model.base import Misuse
from fairlead.sim.fluid import fluid

JOBS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=12).map(
    lambda jobs: sorted(jobs, key=lambda job: job[0])
)
BOTH = st.sampled_from(["ps", "fb"])


def exact(policy, jobs):
    """Return the outcome on fractions of jobs (arrival, size)."""
    return fluid(policy, [Fraction(at) for at, _ in jobs], [Fraction(size) for _, size in jobs])


def plainly(policy, jobs):
    """Return the finish times, found by looking at every job at every event."""
    left = [Fraction(size) for _, size in jobs]
    got = [Fraction(0)] * len(jobs)
    finish: list[Fraction | None] = [None] * len(jobs)
    now = Fraction(0)
    while None in finish:
        inside = [i for i, (at, _) in enumerate(jobs) if at <= now and finish[i] is None]
        for i in [i for i in inside if left[i] == 0]:
            finish[i] = now
            inside.remove(i)
        least = min((got[i] for i in inside), default=None)
        run = [i for i in inside if policy == "ps" or got[i] == least]
        steps = [at - now for at, _ in jobs if at > now]
        steps += [left[i] * len(run) for i in run]
        steps += [(got[i] - least) * len(run) for i in inside if policy == "fb" and got[i] > least]
        if not steps:
            continue
        step = min(steps)
        for i in run:
            got[i] += step / len(run)
            left[i] -= step / len(run)
        now += step
    return finish


def busy_periods(jobs, finish):
    """Return the maximal intervals in which somebody is inside."""
    found: list[list[Fraction]] = []
    for (at, size), end in sorted(zip(jobs, finish, strict=True)):
        if size == 0:
            continue
        if found and at <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([Fraction(at), end])
    return found


@given(BOTH, JOBS)
def test_the_queues_end_every_job_when_looking_at_all_jobs_does(policy, jobs):
    assert exact(policy, jobs).finish == plainly(policy, jobs)


@given(BOTH, JOBS)
def test_work_is_conserved_and_littles_law_holds_exactly(policy, jobs):
    done = exact(policy, jobs)
    assert done.busy == sum(size for _, size in jobs)
    assert done.area == sum(done.finish) - sum(at for at, _ in jobs)


@given(JOBS)
def test_ps_fb_and_fcfs_are_busy_at_the_same_times(jobs):
    fcfs, free = [], Fraction(0)
    for at, size in jobs:
        free = max(free, Fraction(at)) + size
        fcfs.append(free)
    expected = busy_periods(jobs, fcfs)
    for policy in ("ps", "fb"):
        assert busy_periods(jobs, exact(policy, jobs).finish) == expected


@given(JOBS)
def test_under_fb_nobody_waits_for_one_who_got_more(jobs):
    # Then no service beyond one's own size, given to whomever, can delay one's end.
    finish = exact("fb", jobs).finish
    for index, (_, size) in enumerate(jobs):
        cut = [(at, min(size, other)) for at, other in jobs]
        assert exact("fb", cut).finish[index] == finish[index]


@given(JOBS)
def test_under_ps_who_comes_together_ends_in_order_of_size_and_equals_together(jobs):
    ends = sorted(zip(jobs, exact("ps", jobs).finish, strict=True))
    for (job, end), (other, later) in pairwise(ends):
        if job[0] == other[0]:
            assert end <= later and (job[1] < other[1] or end == later)


@given(BOTH, st.integers(0, 10**6))
def test_floats_say_what_fractions_say(policy, seed):
    # Where an end and an arrival coincide, rounding decides which was first, and FB is not
    # continuous there; drawn times do not coincide.
    rng = Random(seed)
    at, jobs = 0.0, []
    for _ in range(40):
        at += rng.expovariate(0.9)
        jobs.append((at, rng.expovariate(1.0)))
    done = fluid(policy, [at for at, _ in jobs], [size for _, size in jobs])
    expected = exact(policy, jobs)
    assert done.finish == pytest.approx([float(end) for end in expected.finish], rel=1e-9)
    assert done.area == pytest.approx(float(expected.area), rel=1e-9)


@pytest.mark.parametrize(
    ("policy", "arrivals", "sizes", "message"),
    [
        ("las", [1.0], [1.0], "no fluid policy 'las'"),
        ("ps", [1.0], [], "1 arrivals and 0 sizes"),
        ("ps", [1.0], [-1.0], "negative size"),
        ("fb", [2.0, 1.0], [1.0, 1.0], "not in order"),
    ],
)
def test_what_cannot_be_served_is_refused(policy, arrivals, sizes, message):
    with pytest.raises(Misuse, match=message):
        fluid(policy, arrivals, sizes)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = [{"format": "fairlead-trace", "version": 1, "cluster": "1x1gpu"}]
    for number, (submit, run) in enumerate([(100, 5), (101, 2), (102, 4)]):
        lines.append({"id": number, "submit_s": submit, "run_s": run})
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.mark.parametrize(("policy", "mean"), [("ps", 25 / 3), ("fb", 8)])
def test_the_command_serves_a_trace_by_one_server(trace, policy, mean):
    words = ["fluid", str(trace), "--policy", policy]
    result = CliRunner().invoke(sim, [*words, "--json"], catch_exceptions=False)
    body = json.loads(result.stdout)
    assert body["mean_response_s"] == pytest.approx(mean)
    assert (body["jobs"], body["busy_s"], body["end_s"]) == (3, 11, 11)
    assert body["load_ratio"] == pytest.approx(11 / 2)
    shown = CliRunner().invoke(sim, words, catch_exceptions=False).stdout
    assert "mean response" in shown and f"{mean:.1f} s" in shown


def test_the_command_takes_the_first_jobs_and_knows_only_its_policies(trace, capsys):
    words = ["fluid", str(trace), "--limit-jobs", "1", "--json"]
    body = json.loads(CliRunner().invoke(sim, words, catch_exceptions=False).stdout)
    assert (body["jobs"], body["mean_slowdown"], body["load_ratio"]) == (1, 1, None)
    with pytest.raises(SystemExit) as left:
        main(["sim", "fluid", str(trace), "--policy", "pf"])
    assert left.value.code == 2 and "'ps', 'fb'" in capsys.readouterr().err
