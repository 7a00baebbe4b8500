"""The process that makes plans: each line is answered by a line, whatever goes wrong."""

from __future__ import annotations

import io

import msgspec

from fairlead.model.advice import Candidate, Question
from fairlead.solve import extra
from fairlead.solve.advise.child import Asked, Said, serve


def asked(adviser: str) -> bytes:
    job = Candidate(
        **{"job": 1, "job_type": "a", "width_milli": 1000, "gpus_milli": 1000, "members": 1},
        **{"members_max": 1, "weight": 1, "entity": "default", "micro_per_s": (2_000_000,)},
        **{"left": 10, "expected_ms": None, "submitted_ms": 0, "served_ms": 0, "restarts": 0},
        **{"deadline_ms": None, "preemptible": True, "on": None, "size": 0},
    )
    question = Question(
        **{"now": 0, "lease_ms": 1000, "models": ("t4",), "amounts_milli": (1000,)},
        kinds=(),
        jobs=(job,),
    )
    return msgspec.json.encode(Asked(adviser=adviser, question=question)) + b"\n"


def said(*lines: bytes) -> list[Said]:
    target = io.BytesIO()
    serve(io.BytesIO(b"".join(lines)), target)
    return [msgspec.json.decode(line, type=Said) for line in target.getvalue().splitlines()]


def test_each_question_is_answered_until_there_is_no_more():
    first, second = said(asked("gavel-maxmin"), asked("gavel-maxmin"))
    assert first == second
    assert first.plan is not None and first.plan.plan[0].on == (("t4", 1_000_000),)


def test_an_unknown_adviser_is_a_reason_and_not_the_end():
    wrong, right = said(asked("gravel"), asked("gavel-maxmin"))
    assert wrong.plan is None and "there is no plan 'gravel'" in wrong.problem
    assert right.plan is not None


def test_without_the_solver_it_says_what_to_install(monkeypatch):
    def absent(name: str):
        raise ImportError(name)

    monkeypatch.setattr(extra, "import_module", absent)
    (answer,) = said(asked("gavel-maxmin"))
    assert answer.plan is None
    assert "not installed" in answer.problem and "fairlead[solve]" in answer.problem
