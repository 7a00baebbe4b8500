"""Jobs that share a GPU in the simulator: as slow beside each other as the trace says."""

from __future__ import annotations

import pytest
from test_paces import HOUR, cluster, run

from fairlead.model.base import Misuse
from fairlead.policy.registry import policy_config
from fairlead.policy.settings import override

MINUTE = 60_000


def job(kind, hours=1.0, at_h=0.0, **beside):
    """A job that takes so long alone: 36,000 steps an hour."""
    return {
        "job_type": kind, "gpus": 0, "gpu_milli": 400, "rates": {"A": 10},
        "total_steps": round(36_000 * hours), "submit_s": round(3600 * at_h), "beside": beside,
    }  # fmt: skip


def policy(share, **more):
    return override(policy_config("fifo-skip"), {"share": share, **more})


def test_two_that_share_are_as_slow_as_the_trace_says_until_one_is_gone(tmp_path):
    jobs = job("a", b=0.5), job("b", 0.25, a=0.25)
    ends = run(tmp_path, cluster("A"), policy("any"), *jobs).end_ms
    assert ends == [HOUR // 2 + HOUR, HOUR]  # half of a is done when b has ended


def test_unknown_pairs_run_one_after_the_other(tmp_path):
    jobs = job("a", b=0.9), job("b", a=0.9)
    assert run(tmp_path, cluster("A"), policy("known"), *jobs).end_ms == [HOUR, 2 * HOUR]


def test_a_trial_finds_out_what_is_good_and_undoes_what_is_not(tmp_path):
    """Alone each is measured first; then the good pair shares, the bad one for a minute."""
    alone = job("a", 0.1), job("b", 0.1, at_h=0.2)
    good = job("a", at_h=1, b=0.8), job("b", at_h=1, a=0.8)
    shared = run(tmp_path, cluster("A"), policy("trial"), *alone, *good).end_ms
    assert shared[2:] == [HOUR + HOUR * 10 // 8] * 2
    bad = job("a", at_h=1, b=0.5), job("b", at_h=1, a=0.4)
    found = run(tmp_path, cluster("A"), policy("trial"), *alone, *bad)
    assert found.end_ms[2] == 2 * HOUR + MINUTE // 2  # a minute at half its speed
    assert found.end_ms[3] == found.end_ms[2] + HOUR - MINUTE * 4 // 10
    assert sum(found.preempted) == 1
    by_any = run(tmp_path, cluster("A"), policy("any"), *alone, *bad).end_ms
    assert found.end_ms[2] < by_any[2] and found.end_ms[3] > 0


def test_what_makes_no_sense_in_a_trace_is_refused(tmp_path):
    for wrong, words in (
        ({"beside": {"b": 0.5}}, "beside without rates"),
        ({"beside": {"b": 0.5}, "rates": {"A": 1}}, "beside without gpu_milli"),
        ({**job("a"), "beside": {"b": 0}}, "beside"),
        ({**job("a"), "beside": {"b": 1.5}}, "beside"),
    ):
        with pytest.raises(Misuse, match=words):
            run(tmp_path, cluster("A"), policy("any"), wrong)
