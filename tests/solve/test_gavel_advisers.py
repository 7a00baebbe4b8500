"""Gavel's advisers: known answers, and what each owes to whom."""

from __future__ import annotations

import pytest

from fairlead.model.advice import WHOLE, Candidate, Question
from fairlead.model.base import Misuse
from fairlead.policy.registry import GAVEL
from fairlead.solve.advise import adviser

MODELS = ("v100", "p100", "k80")


def job(number: int, *speeds: float | None, gpus: int = 1, **more) -> Candidate:
    given = {
        **{"job": number, "job_type": f"t{number}", "width_milli": 1000 * gpus, "members": gpus},
        **{"gpus_milli": 1000, "members_max": 0, "weight": 1, "entity": "default", "left": 0},
        **{"expected_ms": None, "submitted_ms": number, "served_ms": 0, "restarts": 0},
        **{"deadline_ms": None, "preemptible": True, "on": None, "size": 0},
    }
    micro = tuple(None if speed is None else round(speed * 10**6) for speed in speeds)
    return Candidate(**{**given, "micro_per_s": micro, **more})


def ask(name: str, *jobs: Candidate, amounts=(1, 1, 1), now: int = 0, **more) -> dict:
    question = Question(
        **{"now": now, "lease_ms": 360_000, "models": MODELS, "kinds": (), "jobs": jobs},
        amounts_milli=tuple(1000 * amount for amount in amounts),
        **{"weights": (("default", 1), ("other", 1)), **more},
    )
    plan = adviser(name)(question)
    assert plan.adviser == name
    return {number: dict(share.on) for share in plan.plan for number in share.jobs}


def rate(of: Candidate, share: dict) -> float:
    speeds = dict(zip(MODELS, of.micro_per_s, strict=True))
    return sum(part * speeds[model] for model, part in share.items()) / WHOLE / 10**6


A, B, C = job(1, 40, 20, 10), job(2, 12, 10, 4), job(3, 100, 25, 20)
EQUAL = {1: 70 / 3, 2: 26 / 3, 3: 145 / 3}  # a third of the time on each


def levels(shares: dict) -> list[float]:
    return [rate(each, shares[each.job]) / EQUAL[each.job] for each in (A, B, C)]


def test_max_min_gives_the_level_of_the_design():
    assert min(levels(ask("gavel-maxmin", A, B, C))) == pytest.approx(132 / 115, rel=1e-4)


def test_water_filling_raises_who_can_rise_beyond_the_least():
    found = sorted(levels(ask("gavel-waterfill", A, B, C)))
    assert found[0] == pytest.approx(132 / 115, rel=1e-4)
    assert sum(found) >= sum(levels(ask("gavel-maxmin", A, B, C))) - 1e-4


def test_makespan_lets_all_end_together_at_the_time_of_the_design():
    jobs = [job(1, 40, 20, 10, left=30_000), job(2, 12, 10, 4, left=9_000)]
    shares = ask("gavel-makespan", *jobs)
    ends = [each.left / rate(each, shares[each.job]) for each in jobs]
    alone = max(30_000 / 40, 9_000 / 10)
    assert max(ends) <= alone * 1.0001  # each has its best model


def test_the_sum_of_speeds_is_that_of_the_design():
    assert sum(levels(ask("gavel-throughput", A, B, C))) == pytest.approx(9636 / 2639, rel=1e-4)


def test_fifo_gives_each_in_turn_its_fastest_model_and_stops_at_the_first_that_does_not_fit():
    slow, wide, last = job(2, 1, 1, 3), job(3, 1, 1, 1, gpus=2), job(4, 12, 10, 4)
    shares = ask("gavel-fifo", A, slow, wide, last, amounts=(2, 1, 1))
    assert shares == {1: {"v100": WHOLE}, 2: {"k80": WHOLE}}
    assert ask("gavel-fifo", A, slow, last, amounts=(2, 1, 1))[4] == {"v100": WHOLE}


def test_fifo_that_is_blind_prefers_what_comes_first_and_leaves_jobs_where_they_are():
    better_elsewhere = job(1, 1, 1, 9)
    stays = job(2, 40, 1, 1, on="k80", size=1)
    shares = ask("gavel-fifo-blind", better_elsewhere, stays)
    assert shares == {1: {"v100": WHOLE}, 2: {"k80": WHOLE}}


def test_equal_time_is_spread_over_all_models_and_wide_jobs_have_less_of_it():
    shares = ask("gavel-las", job(1, 9, 1, 1), job(2, 1, 9, 0), amounts=(2, 2, 2))
    assert [round(part, -1) for part in shares[1].values()] == [333_330] * 3
    assert shares[2] == {"v100": WHOLE // 2, "p100": WHOLE // 2}
    jobs = [job(1, 1, 1, 1), job(2, 1, 1, 1, gpus=2)]
    shares = ask("gavel-las", *jobs, amounts=(2, 0, 0))
    assert shares == {1: {"v100": WHOLE}, 2: {"v100": WHOLE // 2}}


def test_each_queue_has_its_part_whatever_it_submits():
    many = [job(number, 10, 10, 10) for number in range(1, 10)]
    alone = job(10, 10, 10, 10, entity="other")
    shares = ask("gavel-tree", *many, alone, amounts=(1, 0, 0))
    assert shares[10]["v100"] == pytest.approx(WHOLE / 2, rel=1e-3)
    assert shares[1]["v100"] == pytest.approx(WHOLE / 18, rel=1e-3)


def test_within_a_queue_the_first_come_first_where_it_is_told_so():
    jobs = [job(1, 10, 10, 10), job(2, 10, 10, 10), job(3, 10, 10, 10, entity="other")]
    shares = ask("gavel-tree-fifo", *jobs, amounts=(1, 0, 0))
    assert shares[1]["v100"] == pytest.approx(WHOLE / 2, rel=1e-3)
    assert shares[3]["v100"] == pytest.approx(WHOLE / 2, rel=1e-3)
    assert 2 not in shares


def test_money_goes_where_it_buys_most_and_every_price_has_to_be_told():
    jobs = [job(1, 10, 6, 1), job(2, 10, 6, 1)]
    prices = (10**6, 2 * 10**5, 10**6)
    assert set(ask("gavel-cost", *jobs, prices=prices)[1]) == {"p100"}
    with pytest.raises(Misuse, match="no price of p100"):
        ask("gavel-cost", *jobs, prices=(10**6, 0, 10**6))
    # Where no price is told all cost the same: each goes where it makes most steps.
    assert ask("gavel-cost", *jobs, prices=(0, 0, 0)) == ask("gavel-cost", *jobs, prices=(7, 7, 7))


def test_a_deadline_is_kept_though_it_costs_more():
    cheap = job(1, 10, 6, 1, left=36_000)
    hurried = job(2, 10, 6, 1, left=36_000, deadline_ms=3_700_000)
    prices = (10**7, 2 * 10**5, 10**6)
    shares = ask("gavel-slo", cheap, hurried, prices=prices, amounts=(1, 2, 1))
    assert rate(hurried, shares[2]) * 3_700 >= 36_000 * 0.999


def test_finish_time_fairness_gives_most_to_who_has_waited_longest():
    now = 10 * 3_600_000
    old = job(1, 10, 10, 10, left=100_000, submitted_ms=0)
    new = job(2, 10, 10, 10, left=100_000, submitted_ms=now)
    shares = ask("gavel-ftf", old, new, amounts=(1, 0, 0), now=now)
    assert shares[1]["v100"] > shares[2]["v100"]


def test_what_nobody_measured_follows_from_what_others_gain():
    measured = job(1, 40, 20, 10, job_type="a")
    unknown = job(2, None, 10, None, job_type="b")
    full = job(2, 20, 10, 5, job_type="b")
    assert ask("gavel-maxmin", measured, unknown) == ask("gavel-maxmin", measured, full)


def test_a_job_runs_nowhere_where_it_is_zero_or_where_there_are_too_few_devices():
    for name in (f"gavel-{each}" for each in GAVEL if each not in ("cost", "slo")):
        jobs = [job(1, 10, 0, 0, left=100), job(2, 9, 9, 9, gpus=2, left=100)]
        shares = ask(name, *jobs, job(3, 0, 0, 0, left=100), amounts=(1, 2, 1))
        assert set(shares.get(1, {})) <= {"v100"}, name
        assert set(shares.get(2, {})) <= {"p100"}, name
        assert 3 not in shares, name


def test_without_jobs_there_is_an_empty_plan():
    for each in GAVEL:
        prices = (1, 1, 1)
        assert ask(f"gavel-{each}", prices=prices) == {}
