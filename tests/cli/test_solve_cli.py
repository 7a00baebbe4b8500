"""`fairlead solve`: a table a person understands, JSON for programs, exit codes for scripts."""

from __future__ import annotations

import json

import pytest

SEED = ",R1,R2\nT1,2,3\nT2,4,1\nT3,3,2\n"


@pytest.fixture
def seed(tmp_path):
    path = tmp_path / "seed.csv"
    path.write_text(SEED)
    return str(path)


def test_what_cannot_be_done_is_explained_with_an_offer(cli, seed):
    shown = cli("solve", seed)
    assert shown.code == 1
    assert "T1, T2, T3 may use only R1, R2: 1 too few (the smallest such set)" in shown.out
    assert "  R2 at most once" in shown.out
    assert "what can be done instead" in shown.out
    assert "optimal: cost 3, 2 of 3 tasks placed" in shown.out
    assert shown.out.count("contradict") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--capacity", "2"), "optimal: cost 5"),
        (("--capacity", "2,1"), "optimal: cost 6"),
        (("--reading", "shared-total"), "optimal: cost 5"),
        (("--reading", "makespan"), "optimal: makespan 3"),
        (("--reading", "sum-completion"), "optimal: sum of completion times 6"),
        (("--reading", "as-many-as-possible"), "optimal: cost 3, 2 of 3 tasks placed"),
        (("--penalty", "10"), "optimal: cost 13, 2 of 3 tasks placed"),
    ],
)
def test_each_reading_is_told_with_its_cost_and_its_proof(cli, seed, words, said):
    shown = cli("solve", seed, *words)
    assert shown.code == 0
    assert said in shown.out
    assert "proof: " in shown.out


def test_json_has_the_certificate_and_it_adds_up(cli, seed):
    shown = cli("solve", seed, "--capacity", "2", "--json", "--certificate")
    body = json.loads(shown.out)
    assert body["status"] == "optimal" and body["gap"] == 0
    prices = body["certificate"]
    assert sum(prices["tasks"]) + 2 * sum(prices["resources"]) == body["cost"] == 5
    assert body["plan"] == {"T1": "R1", "T2": "R2", "T3": "R2"}


def test_amounts_are_in_the_units_of_the_file(cli, tmp_path):
    path = tmp_path / "costs.csv"
    path.write_text("0.5,2.25\n1,1e3\n")
    assert json.loads(cli("solve", str(path), "--json").out)["cost"] == 3.25


def test_what_is_not_used_is_said(cli, tmp_path):
    path = tmp_path / "costs.csv"
    path.write_text(",a,b\nT,1,2\ncapacity,1,1\n")
    shown = cli("solve", str(path), "--reading", "shared-total")
    assert "not used under this reading: capacities" in shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reading", "onse"), "did you mean once?"),
        (("--gap", "lots"), "'lots' is not a gap"),
        (("--time-limit", "0s"), "the time limit is zero"),
        (("--capacity", "-1"), "capacity 1 is negative"),
        (("--capacity", "1,2,3"), "3 capacities for 2 resources"),
        (("--penalty", "x"), "'x' is not a number"),
    ],
)
def test_misuse_is_told_in_one_error(cli, seed, words, said):
    shown = cli("solve", seed, *words)
    assert shown.code == 2
    assert said in shown.err and "Traceback" not in shown.err


def test_a_problem_beyond_the_memory_is_refused(cli, tmp_path):
    path = tmp_path / "large.csv"
    path.write_text((",".join(["1"] * 1000) + "\n") * 100)
    shown = cli("solve", str(path), "--memory", "1M")
    assert shown.code == 1
    assert "about 100,000 pairs" in shown.err and "0.0 GiB are available" in shown.err


def test_unknown_has_its_own_exit_code_and_says_why(cli, seed, monkeypatch):
    from fairlead.solve import child
    from fairlead.solve.answer import Answer, Status

    lost = Answer(Status.UNKNOWN, "once", reason="the time limit")
    monkeypatch.setattr(child, "solve", lambda *_, **__: lost)
    shown = cli("solve", seed)
    assert shown.code == 3
    assert "unknown" in shown.out and "the search ended early: the time limit" in shown.out


def test_all_pairs_forbidden_offers_nothing(cli, tmp_path):
    path = tmp_path / "none.csv"
    path.write_text("-,-\n-,-\n")
    shown = cli("solve", str(path))
    assert shown.code == 1
    assert "task 1 may use no resource at all" in shown.out
    assert "instead" not in shown.out


def test_a_long_plan_is_cut_for_people_and_whole_for_programs(cli, tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("1,2\n" * 300)
    words = ("solve", str(path), "--reading", "shared-total")
    assert "… and 100 more; --json has them all" in cli(*words).out
    assert len(json.loads(cli(*words, "--json").out)["plan"]) == 300
