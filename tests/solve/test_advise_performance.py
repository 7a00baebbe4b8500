"""What AlloX, Sia and Pollux answer: matchings and sizes that nothing beats."""

from __future__ import annotations

from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.advice import WHOLE, Candidate, Kind, Question
from fairlead.model.events import Advised
from fairlead.solve import sia
from fairlead.solve.advise.allox import match
from fairlead.solve.advise.elastic import pollux
from fairlead.solve.advise.elastic import sia as advise_sia
from fairlead.solve.advise.rates import kind_of, rates_of
from fairlead.solve.goodput import power_mean
from fairlead.solve.sia import Config, Elastic, choose, relative

MICRO = 1_000_000


def job(number: int, *speeds: int | None, **more: object) -> Candidate:
    """Return a job of one GPU with speeds by model, which waits."""
    known: dict[str, object] = {
        "job_type": f"type{number}",
        "width_milli": 1000,
        "gpus_milli": 1000,
        "members": 1,
        "members_max": 0,
        "weight": 1,
        "entity": "default",
        "micro_per_s": tuple(None if each is None else each * MICRO for each in speeds),
        "left": 0,
        "expected_ms": None,
        "submitted_ms": number,
        "served_ms": 0,
        "deadline_ms": None,
        "restarts": 0,
        "preemptible": True,
        "on": None,
        "size": 0,
    }
    return Candidate(job=number, **(known | more))  # type: ignore[arg-type]


def elastic(number: int, rates: dict[int, tuple[int, ...]], **more: object) -> Candidate:
    """Return an elastic job with these speeds by members, of each model."""
    least, *others = sorted(rates)
    wider = tuple((size, tuple(each * MICRO for each in rates[size])) for size in others)
    known = {"members_max": max(rates), "members": least, "wider": wider}
    return job(number, *rates[least], **(known | {"width_milli": 1000 * least} | more))


def question(jobs: list[Candidate], **gpus: int) -> Question:
    """Return a question with one node of each model."""
    models = tuple(sorted(gpus))
    return Question(
        now=1_000_000,
        lease_ms=60_000,
        models=models,
        amounts_milli=tuple(1000 * gpus[model] for model in models),
        kinds=tuple(Kind(model, gpus[model], 64_000, 64_000, 1) for model in models),
        jobs=tuple(jobs),
    )


def places(plan: Advised) -> dict[int, tuple[str, int]]:
    """Return model and members of each job, in the plan's order."""
    assert all(len(share.on) == 1 and share.on[0][1] == WHOLE for share in plan.plan)
    return {each: (share.on[0][0], share.members) for share in plan.plan for each in share.jobs}


# ---- AlloX --------------------------------------------------------------------------------------


def ends(order: list[int], times: dict[int, int]) -> int:
    """Return the sum of ends of jobs one after another on a device."""
    total = now = 0
    for each in order:
        now += times[each]
        total += now
    return total


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=5))
def test_jobs_end_as_soon_on_the_mean_as_in_the_best_of_all_orders(steps):
    speeds = [(60 * 50 // a, 60 * 50 // b) for a, b in steps]
    jobs = [job(at + 1, *each, left=9000) for at, each in enumerate(speeds)]
    ms = {at + 1: [9000 * 1000 // speed for speed in each] for at, each in enumerate(speeds)}
    found = places(match(question(jobs, a=1, b=1)))
    assert sorted(found) == sorted(ms)
    mine = sum(
        ends([each for each in found if found[each][0] == model], {k: v[at] for k, v in ms.items()})
        for at, model in enumerate("ab")
    )
    best = min(
        sum(
            min(
                ends(list(order), {k: v[at] for k, v in ms.items()})
                for order in permutations(
                    [k for k, side in zip(ms, sides, strict=True) if side == at]
                )
            )
            for at in (0, 1)
        )
        for sides in product((0, 1), repeat=len(ms))
    )
    assert mine <= best + 2 * len(ms)  # run times are rounded to milliseconds


def test_what_runs_stays_and_comes_first():
    running = job(2, 9, 1, left=100, on="b", size=1)
    plan = places(match(question([job(1, 9, 1, left=10), running], a=1, b=1)))
    assert list(plan.items()) == [(2, ("b", 0)), (1, ("a", 0))]


def test_a_job_waits_for_a_fast_device_where_that_ends_sooner():
    running = job(1, 100, 1, left=100, on="a", size=1)  # one second more
    waiting = job(2, 100, 1, left=1000)  # ten seconds there, or 1,000 on the other
    assert places(match(question([running, waiting], a=1, b=1)))[2][0] == "a"
    long = job(1, 100, 1, left=10_000_000, on="a", size=1)
    assert places(match(question([long, waiting], a=1, b=1)))[2][0] == "b"


def test_a_part_of_those_that_wait_is_matched_and_the_others_come_after():
    short = [job(number, 10, left=10) for number in (3, 4)]
    long = [job(number, 10, left=1000) for number in (1, 2)]
    asked = question([*long, *short], a=1)
    assert list(places(match(asked))) == [3, 4, 1, 2]
    half = Question(
        **{name: getattr(asked, name) for name in asked.__struct_fields__} | {"part_percent": 50}
    )
    assert list(places(match(half))) == [1, 2, 3, 4]


def test_a_job_that_runs_nowhere_is_in_no_plan():
    assert places(match(question([job(1, 0, 0), job(2, 1, 0)], a=1, b=1))) == {2: ("a", 0)}


# ---- Sia ----------------------------------------------------------------------------------------

CONFIGS = [Config(name, gpus) for name in ("a", "b") for gpus in (1, 2, 4)]
rows = st.lists(st.one_of(st.none(), st.integers(1, 20)), min_size=6, max_size=6)


@settings(max_examples=40)
@given(st.lists(st.tuples(rows, st.sampled_from([0.3, 1.0])), min_size=1, max_size=7), st.data())
def test_prices_leave_out_no_configuration_of_the_best_choice(asked, data):
    jobs = [
        Elastic(relative(row), restart, data.draw(st.sampled_from([None, 0, 3])))
        for row, restart in asked
    ]
    room = {"a": data.draw(st.integers(0, 8)), "b": data.draw(st.integers(0, 8))}
    whole = choose(jobs, CONFIGS, room)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sia, "SMALL", 0)
        patch.setattr(sia, "FIRST_COLUMNS", 1)
        priced = choose(jobs, CONFIGS, room)
    assert priced.status == whole.status == "optimal"
    assert priced.objective == pytest.approx(whole.objective, abs=1e-6)


def test_sia_gives_each_job_the_model_and_the_size_that_it_makes_most_of():
    scales = elastic(1, {1: (10, 5), 2: (20, 10), 4: (40, 20)})
    flat = elastic(2, {1: (5, 5), 2: (5, 5), 4: (5, 5)})
    plan = advise_sia(question([scales, flat], fast=4, slow=4))
    assert places(plan) == {1: ("fast", 4), 2: ("slow", 1)}
    assert plan.gap_ppm == 0 and "told or measured on every model" in plan.because


def test_a_job_that_may_not_be_stopped_keeps_what_it_has():
    kept = elastic(1, {1: (10, 1), 2: (20, 2)}, on="slow", size=2, preemptible=False)
    assert places(advise_sia(question([kept], fast=4, slow=4))) == {1: ("slow", 2)}


def test_among_equals_who_runs_stays_and_who_came_first_is_next():
    jobs = [job(1, 1), job(2, 1, on="a", size=1), job(3, 1)]
    assert sorted(places(advise_sia(question(jobs, a=2)))) == [1, 2]
    assert sorted(places(pollux(question(jobs, a=2)))) == [1, 2]


def test_a_young_job_is_not_moved_for_a_gain_that_its_restart_costs():
    rates = {1: (11, 10)}
    young = elastic(1, rates, on="slow", size=1, restart_ms=30_000, submitted_ms=990_000)
    old = elastic(1, rates, on="slow", size=1, restart_ms=30_000, submitted_ms=0)
    assert places(advise_sia(question([young], fast=1, slow=1)))[1][0] == "slow"
    assert places(advise_sia(question([old], fast=1, slow=1)))[1][0] == "fast"


def test_a_job_is_tried_with_at_most_twice_as_many_members_as_is_known():
    known_of_one = job(1, 10, members_max=16)
    known_of_three = elastic(2, {1: (10,), 3: (30,)}, members_max=16)
    never_seen = job(3, None, members_max=16)
    for each, most in ((known_of_one, 2), (known_of_three, 6), (never_seen, 16)):
        for adviser in (advise_sia, pollux):
            assert places(adviser(question([each], a=64)))[each.job][1] == most


# ---- Pollux -------------------------------------------------------------------------------------

curves = st.lists(st.integers(1, 30), min_size=4, max_size=4)


@settings(max_examples=40)
@given(st.lists(curves, min_size=1, max_size=3), st.integers(1, 6))
def test_no_other_sizes_have_a_better_power_mean(asked, gpus):
    jobs = [
        elastic(number, {size: (rate,) for size, rate in enumerate(each, 1)})
        for number, each in enumerate(asked, 1)
    ]
    plan = places(pollux(question(jobs, a=gpus)))

    def worth(sizes: list[int]) -> float:
        return power_mean(
            [
                each[size - 1] / each[0] if size else 0.01
                for each, size in zip(asked, sizes, strict=True)
            ]
        )

    mine = [plan[number][1] if number in plan else 0 for number in range(1, len(jobs) + 1)]
    assert sum(mine) <= gpus
    every = product(range(5), repeat=len(jobs))
    assert worth(mine) == pytest.approx(max(worth(list(s)) for s in every if sum(s) <= gpus))


def test_pollux_counts_all_models_alike_and_keeps_a_job_where_it_is():
    stays = elastic(1, {1: (10, 1), 2: (20, 2)}, on="slow", size=1)
    assert places(pollux(question([stays], fast=4, slow=4))) == {1: ("slow", 2)}


def test_members_of_several_gpus_and_of_none_are_counted_as_what_they_are():
    pair = elastic(1, {1: (10,), 2: (20,)}, width_milli=2000, gpus_milli=2000)
    assert places(pollux(question([pair], a=3))) == {1: ("a", 1)}
    assert places(pollux(question([pair], a=4))) == {1: ("a", 2)}
    cores = job(2, None, width_milli=4000, gpus_milli=0, members_max=3)
    asked = question([cores], a=1)
    none = Question(
        **{n: getattr(asked, n) for n in asked.__struct_fields__}
        | {"models": ("",), "amounts_milli": (8000,), "kinds": (Kind("", 0, 8000, 1, 1),)}
    )
    for adviser in (advise_sia, pollux):
        assert places(adviser(none)) == {2: ("", 2)}


# ---- speeds -------------------------------------------------------------------------------------


def test_speeds_between_and_beyond_what_is_known_are_estimated():
    asked = question([elastic(1, {1: (10,), 4: (20,)}, members_max=8)], a=8)
    rates = rates_of(asked)[kind_of(asked.jobs[0])]
    assert [rates.at(0, size) for size in (1, 4)] == [10, 20]
    assert rates.at(0, 2) == pytest.approx(200**0.5)  # half way, by logarithms
    assert rates.at(0, 8) == pytest.approx(40)


def test_a_model_never_tried_is_filled_in_from_jobs_that_were_and_said_to_be():
    twice = [job(1, 10, 20), job(2, 30, None)]
    asked = question(twice, a=1, b=1)
    rates = rates_of(asked)
    assert rates[kind_of(twice[1])].at(1, 1) == pytest.approx(60)
    assert "1 of 4 speeds by job type and model are estimated" in advise_sia(asked).because


def test_what_nothing_connects_counts_as_no_faster_than_what_is_known():
    alone = job(1, 10, None)
    rates = rates_of(question([alone], a=1, b=1))[kind_of(alone)]
    assert rates.at(1, 1) == pytest.approx(10)
    assert rates_of(question([job(1, 0, 5)], a=1, b=1))[kind_of(job(1, 0, 5))].at(0, 1) is None
