"""`defrag`: what would move is shown; nothing moves before somebody has said yes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from fake_service import NOW, Problem

PATH = "POST /api/v1/defrag"
STEP = {"kind": "move", "job": 3, "name": "train", "lost_ms": 610_000, "cost_gpu_ms": 2_440_000}
STEP |= {
    "source": [{"node": "n1", "devices": [0, 1]}, {"node": "n3", "devices": []}],
    "to": [{"node": "n2", "devices": [4, 5]}],
}
FOUND: dict[str, Any] = {"outcome": "moves", "reason": "", "now_ms": NOW, "job": 12, "gpus": 8}
FOUND |= {"nodes": 1, "room": [{"node": "n1", "devices": [0, 1, 2, 3]}], "steps": [STEP]}
FOUND |= {"cost_gpu_ms": 2_440_000, "saves_gpu_ms": 29_000_000, "serves": [12], "worth": True}
FOUND |= {"sure": True, "ready_ms": NOW + 30_000, "applied": False}


@pytest.fixture
def moves(service):
    """A service that finds a way, and applies it when it is told to."""

    def answer(request):
        return FOUND | {"applied": not request.body.get("dry_run", True)}

    service.answers[PATH] = answer
    return service


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_than_on_a_terminal_it_is_shown_and_nothing_moves(cli, moves):
    result = cli("defrag", "--for", "12")
    assert result.code == 0
    assert result.out.splitlines() == [
        "STEP  JOB  NAME   FROM            TO          LOSES   COST",
        "move  3    train  n1 GPU 0,1; n3  n2 GPU 4,5  10m10s  40.7 GPU-min",
        "then job 12 fits: n1 GPU 0,1,2,3",
        "costs 40.7 GPU-min of work, saves job 12 8.1 GPU-h of waiting: worth it",
        "nothing was moved: --yes moves them",
    ]
    assert [each.body for each in moves.requests] == [{"job": 12}]


def test_yes_moves_without_asking(cli, moves):
    result = cli("defrag", "--gpus", "8", "--nodes", "2", "--yes")
    assert result.code == 0 and "the room is held for job 12" in result.out
    assert [each.body for each in moves.requests] == [{"gpus": 8, "nodes": 2, "dry_run": False}]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_it_asks_and_moves_just_what_it_has_shown(
    cli, moves, monkeypatch, answer, code
):
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    result = cli("defrag", "--for", "12")
    assert result.code == code
    asked = [each.body for each in moves.requests]
    assert asked[0] == {"job": 12}
    assert asked[1:] == ([{"job": 12, "dry_run": False, "plan": [3]}] if answer == "y" else [])
    assert ("nothing was moved" in result.err) == (answer == "n")


def test_a_dry_run_asks_nobody(cli, moves, monkeypatch):
    monkeypatch.setattr("sys.stdin", Terminal(""))
    assert cli("defrag", "--for", "12", "--dry-run").code == 0
    assert json.loads(cli("defrag", "--for", "12", "--json").out) == FOUND


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"saves_gpu_ms": 30_000, "worth": False}, "12 30 GPU-s of waiting: not worth it"),
        ({"saves_gpu_ms": None}, "without, nothing that is known lets job 12 start: worth it"),
        ({"serves": []}, "saves no waiting: no job waits that fits then"),
        ({"sure": False}, "there may be a cheaper way: the search was cut off"),
        ({"job": None}, "then this is free: n1 GPU 0,1,2,3"),
        ({"outcome": "nothing", "reason": "there is room"}, "there is room"),
    ],
)
def test_it_says_whether_it_is_worth_it(cli, service, changes, line):
    service.answers[PATH] = lambda _: FOUND | changes
    result = cli("defrag", "--for", "12")
    assert result.code == 0 and line in result.out


def test_in_a_circle_the_suspended_job_is_shown_twice_and_counted_once(cli, service):
    away = STEP | {"kind": "suspend", "to": []}
    back = STEP | {"kind": "resume", "source": []}
    service.answers[PATH] = lambda _: FOUND | {"steps": [away, back]}
    lines = cli("defrag", "--for", "12").out.splitlines()
    assert lines[1].split()[0] == "suspend" and "40.7 GPU-min" in lines[1]
    assert lines[2].split()[0] == "resume" and lines[2].endswith("-")


def test_what_is_impossible_exits_1_and_says_why(cli, service):
    service.answers[PATH] = lambda _: (
        FOUND | {"outcome": "impossible", "reason": "free in all: 3 gpus", "steps": []}
    )
    result = cli("defrag", "--for", "12", "--yes")
    assert (result.code, result.out) == (
        1, "moving jobs does not make room: free in all: 3 gpus\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpus", "0"], "--gpus"),
        (["--gpus", "many"], "--gpus"),
        (["--for", "-1"], "--for"),
        (["--gpu", "8"], "did you mean --gpus"),
        (["--gpus", "8", "--yes", "--dry-run"], "do not go together"),
    ],
)
def test_a_wrong_command_line_is_a_misuse(cli, moves, words, says):
    result = cli("defrag", *words)
    assert (result.code, says in result.err, moves.requests) == (2, True, [])


def test_an_error_names_the_option(cli, service):
    def answer(_):
        raise Problem(422, "there is no job 99", field="job", hint="fairlead ps")

    service.answers[PATH] = answer
    assert "--for: there is no job 99" in cli("defrag", "--for", "99").err
