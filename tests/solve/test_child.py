"""A solver that hangs, dies, or lies costs its answer and nothing else."""

from __future__ import annotations

import sys
import time

import msgspec
import pytest

from fairlead.model.base import Misuse
from fairlead.solve import child
from fairlead.solve.answer import Answer, Status, encode
from fairlead.solve.check import Broken
from fairlead.solve.extra import Missing, need
from fairlead.solve.problem import build
from fairlead.solve.solver import solve_here

SEED = build([[2, 3], [4, 1], [3, 2]])
PLAN = Answer(*(Status.FEASIBLE, "makespan", 9, (0, 0, 0), ((0, 1, 2), ())), bound=None)


def says(*lines: bytes, then: str = "") -> list[str]:
    """Return a command that prints lines and then does something."""
    code = f"import os, sys, time\nfor line in {lines!r}: os.write(1, line)\n{then}"
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("reading", ["once", "as-many-as-possible", "makespan", "sum-completion"])
def test_the_child_answers_as_we_would_here(reading):
    assert child.solve(SEED, reading) == solve_here(SEED, reading)


def test_sizes_and_decimals_travel():
    problem = build([["0.5", 9], [3, 5]], size=[[4, 5], [3, 2]], capacity=[6, 8])
    assert child.solve(problem) == solve_here(problem)


def test_a_child_that_hangs_is_killed_after_the_limit(monkeypatch):
    monkeypatch.setattr(child, "GRACE_S", 0.3)
    began = time.monotonic()
    answer = child.solve(SEED, "once", limit_s=0.2, command=says(then="time.sleep(60)"))
    assert time.monotonic() - began < 20
    assert answer.status is Status.UNKNOWN and "was killed" in answer.reason


def test_a_child_that_dies_leaves_the_best_plan_it_told():
    told = b"found " + encode(PLAN) + b"\n"
    ends = {"sys.exit(3)": "died with exit code 3", "os.kill(os.getpid(), 9)": "killed by SIGKILL"}
    for end, said in ends.items():
        answer = child.solve(SEED, "makespan", command=says(told, then=end))
        assert (answer.status, answer.plan) == (Status.FEASIBLE, PLAN.plan)
        assert said in answer.reason


def test_a_child_that_dies_at_once_leaves_nothing():
    answer = child.solve(SEED, "once", command=says(then="sys.exit(1)"))
    assert (answer.status, answer.plan) == (Status.UNKNOWN, ())
    assert "exit code 1" in answer.reason


def test_half_a_line_is_no_answer():
    half = b"answer " + encode(solve_here(SEED, "shared-total"))
    answer = child.solve(SEED, "shared-total", command=says(half))
    assert answer.status is Status.UNKNOWN


def test_a_plan_that_breaks_a_rule_is_not_passed_on():
    broken = msgspec.structs.replace(PLAN, value=1)
    with pytest.raises(Broken):
        child.solve(SEED, "makespan", command=says(b"found " + encode(broken) + b"\n"))
    with pytest.raises(Broken):
        child.solve(SEED, "makespan", command=says(b"answer " + encode(broken) + b"\n"))


def test_a_misuse_comes_back_as_one():
    with pytest.raises(Misuse, match="needs capacities"):
        child.solve(SEED, "capacity")
    trouble = msgspec.json.encode(child.Trouble("no", field="f", hint="h", code="c"))
    with pytest.raises(Misuse, match="no") as caught:
        child.solve(SEED, "once", command=says(b"error " + trouble + b"\n"))
    assert (caught.value.field, caught.value.hint, caught.value.code) == ("f", "h", "c")


def test_a_missing_solver_says_what_to_install():
    with pytest.raises(Missing, match="needs the solver lapx, which is not installed") as caught:
        need("fairlead_has_no_such_module", "lapx")
    assert caught.value.hint == "pip install 'fairlead[solve]'"


def test_a_misspelt_reading_gets_the_nearest():
    with pytest.raises(Misuse, match="no reading 'makspan'") as caught:
        child.solve(SEED, "makspan")
    assert caught.value.hint == "did you mean makespan?"


def test_a_penalty_has_no_meaning_under_other_readings():
    problem = build([[1, 2]], penalty=3)
    with pytest.raises(Misuse, match="nothing is left out at a penalty"):
        solve_here(problem, "makespan")
