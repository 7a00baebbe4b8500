"""`fairlead sim` as a user meets it: predictors, our own log, how good estimated starts are."""

from __future__ import annotations

import json

import pytest
from test_cli_sim import call, fails

from fairlead.model.resources import Shape
from sim_life import Lived


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """Jobs of users who run much the same again, on a machine that is too small for them."""
    path = tmp_path_factory.mktemp("trace") / "jobs.jsonl"
    call("generate", "poisson", "--jobs", 160, "--load", 1.3, "--cluster", "pool:8", "-o", path)
    return path


def test_a_predictor_changes_what_is_believed_and_not_how_long_jobs_run(trace):
    plain = json.loads(call("run", trace, "--policy", "easy", "--json").output)
    told = call("run", trace, "--policy", "easy++", "--predictor", "online", "--json").output
    guessed = json.loads(told)

    assert guessed["digest"] != plain["digest"]
    assert guessed["jobs"] == plain["jobs"] == 160
    again = call("run", trace, "--policy", "easy++", "--predictor", "online", "--json").output
    assert json.loads(again)["digest"] == guessed["digest"]


def test_each_policy_of_a_comparison_gets_a_predictor_that_has_learned_nothing(trace):
    one = json.loads(
        call("run", trace, "--policy", "easy++", "--predictor", "last2", "--json").output
    )
    both = call("compare", trace, "--policies", "sjf,easy++", "--predictor", "last2", "--json")
    results = {each["policy"]: each for each in json.loads(both.output)["results"]}

    assert results["easy++"]["digest"] == one["digest"]


def test_an_unknown_predictor_is_answered_with_the_nearest(trace, capsys):
    code, said = fails(capsys, "run", trace, "--predictor", "onlin")
    assert code == 2 and "did you mean: online" in said


def test_the_errors_of_estimated_starts_are_measured_over_a_trace(trace):
    report = json.loads(call("eta", trace, "--policy", "easy", "--every", 2, "--json").output)

    assert report["compared"] + report["unknown"] == report["waited"] // 2 > 15
    assert 0.3 < report["coverage_ratio"] <= 1
    missed = report["too_early_ratio"] + report["too_late_ratio"]
    assert report["coverage_ratio"] + missed == pytest.approx(1)
    assert "inside the 80 % band" in call("eta", trace, "--policy", "easy", "--every", 5).output


def test_with_exact_run_times_and_no_overtaking_estimates_are_right_to_the_second(trace):
    report = json.loads(
        call(
            "eta", trace, "--policy", "fifo", "--estimates", "exact", "--every", 3, "--json"
        ).output
    )
    assert report["mean_error_s"] <= 1


def test_our_own_history_is_compared_with_another_policy(tmp_path):
    life = Lived(tmp_path)
    first = life.submit(1000, Shape(cpu_milli=3000), limit_ms=60_000)
    wide = life.submit(2000, Shape(cpu_milli=4000), limit_ms=60_000)
    small = life.submit(3000, Shape(cpu_milli=1000), limit_ms=5_000)
    for at, job in ((31_000, first), (41_000, wide), (44_000, small)):
        life.end(at, job)
    life.store.close()
    before = (tmp_path / "fairlead.db").read_bytes()

    said = call("run", "--from-log", tmp_path, "--policy", "easy").output
    assert "as it was" in said
    assert f"parts from what happened at job {small}: it starts 38s earlier" in said
    same = call("run", "--from-log", tmp_path, "--policy", "fifo").output
    assert "every job starts as it did, to the second" in same
    body = json.loads(
        call("compare", "--from-log", tmp_path, "--policies", "fifo", "--json").output
    )
    assert [each["policy"] for each in body["results"]] == ["as it was", "fifo"]
    assert (tmp_path / "fairlead.db").read_bytes() == before, "nothing was written"


def test_a_log_and_a_trace_are_two_workloads_and_none_is_too_few(trace, tmp_path, capsys):
    assert fails(capsys, "run")[0] == 2
    code, said = fails(capsys, "run", trace, "--from-log", tmp_path)
    assert code == 2 and "two workloads" in said
    code, said = fails(capsys, "run", "--from-log", tmp_path / "nowhere")
    assert code != 0 and "no database" in said
