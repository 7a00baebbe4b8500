"""Finish-time fairness and the Themis auction: exact, truthful, and leases that hold."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import prod

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Watched, jobs_on, pool

from fairlead.core.clone import clone
from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.model.base import Misuse
from fairlead.model.events import Submitted
from fairlead.model.jobs import JobSpec
from fairlead.model.resources import Shape
from fairlead.policy.finish import Standing, ideal_ms, rho, round_start, unfair
from fairlead.policy.registry import describe, policy_config
from fairlead.policy.settings import override
from fairlead.policy.themis import auction
from fairlead.sim.workload import SimJob
from strategies import cluster, node, place, spec, start, submit


def job(number: int, at: int, run: int, width: int = 1) -> SimJob:
    asked = JobSpec(shape=Shape(cpu_milli=1000 * width), expected_ms=run)
    return SimJob(number, at, run, asked)


def leased(name: str, lease_ms: int):
    return msgspec.structs.replace(policy_config(name), lease_ms=lease_ms)


# ---- the measure ----------------------------------------------------------------------------


def test_a_job_alone_with_its_part_takes_as_long_as_its_part_is_narrow():
    assert ideal_ms(600, width=4, capacity=8, crowd=Fraction(1)) == 600
    assert ideal_ms(600, width=4, capacity=8, crowd=Fraction(2)) == 600
    assert ideal_ms(600, width=4, capacity=8, crowd=Fraction(6)) == 1800
    assert rho(600, 1200, Fraction(1800)) == 1
    assert unfair({"a": Fraction(6, 5), "b": Fraction(1), "c": Fraction(2)}) == ["c", "a"]


def test_competitors_are_averaged_over_the_life_of_a_job():
    core = cluster(node(cpus=8))
    core.apply(1000, Submitted(job=1, spec=spec(8, expected_ms=1000)))
    for number in (2, 3, 4):  # the first is alone for a second, then there are four
        core.apply(2000, Submitted(job=number, spec=spec(8, expected_ms=1000)))
    core.clock = 3000
    for each in (core, Core.load(core.dump()), clone(core)):
        each.clock = 3000
        standing = Standing(each, lease_ms=1)
        crowd = Fraction(1 * 1000 + 4 * 1000, 2000)
        assert standing.rho(each.jobs[1]) == rho(2000, 1000, ideal_ms(1000, 8, 8, crowd))
        assert standing.rho(each.jobs[4]) == rho(1000, 1000, ideal_ms(1000, 8, 8, Fraction(4)))
        order = sorted(each.jobs.values(), key=standing.key)
        assert [job.id for job in order] == [1, 2, 3, 4]
    check(core)


def test_who_runs_is_no_worse_off_with_time_and_who_waits_is():
    core = cluster(node(cpus=8))
    runs, waits = submit(core, 8, expected_ms=9000), submit(core, 8, expected_ms=9000)
    place(core, runs, 0)
    start(core, runs)
    before = [Standing(core, 1).finish_ms(each) for each in (runs, waits)]
    core.clock = 4000
    after = [Standing(core, 1).finish_ms(each) for each in (runs, waits)]
    assert before == [9000, 9000]
    assert after == [9000, 13_000]


# ---- the auction ----------------------------------------------------------------------------

GPUS = 4


@st.composite
def bids(draw):
    """Draw values that grow with the GPUs, of one to three bidders."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        steps = draw(st.lists(st.integers(0, 5), min_size=GPUS, max_size=GPUS))
        value, bid = draw(st.integers(1, 5)), []
        for gpus, step in enumerate([0, *steps]):
            value += step
            bid.append((gpus, Fraction(value, 7)))
        found.append(bid)
    return found


def by_enumeration(asked) -> Fraction:
    choices = (each for each in product(range(GPUS + 1), repeat=len(asked)) if sum(each) <= GPUS)
    return max(
        prod((dict(bid)[got] for bid, got in zip(asked, each, strict=True)), start=Fraction(1))
        for each in choices
    )


@settings(max_examples=60, deadline=None)
@given(bids())
def test_the_product_of_values_is_the_greatest_and_the_payment_what_others_lose(asked):
    found = auction(GPUS, asked)
    values = [dict(bid)[got] for bid, got in zip(asked, found.best, strict=True)]
    assert prod(values) == by_enumeration(asked)
    assert sum(found.best) <= GPUS and sum(found.won) + found.left == GPUS
    for index, kept in enumerate(found.kept):
        others = [*asked[:index], *asked[index + 1 :]]
        without = prod(v for i, v in enumerate(values) if i != index) / by_enumeration(others)
        assert kept == without and 0 < kept <= 1
        assert found.won[index] == int(kept * found.best[index])


@settings(max_examples=60, deadline=None)
@given(bids(), bids())
def test_bidding_the_truth_is_a_best_response(asked, lies):
    true = auction(GPUS, asked)
    worth = dict(asked[0])
    for lie in lies:
        false = auction(GPUS, [lie, *asked[1:]])
        # What a part of an allocation is worth is that part of its worth.
        assert false.kept[0] * worth[false.best[0]] <= true.kept[0] * worth[true.best[0]]


def test_nobody_pays_where_there_is_enough_for_all():
    found = auction(6, [[(0, 1), (2, 3)], [(0, 1), (3, 2)]])
    assert found.best == found.won == [2, 3]
    assert found.kept == [1, 1] and found.left == 1


# ---- the policies ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ftf", "themis"])
def test_two_long_jobs_take_turns_lease_by_lease(name):
    lease = 600_000
    jobs = [job(1, 0, 6 * lease, width=8), job(2, 0, 6 * lease, width=8)]
    world = Watched(jobs, pool(8), leased(name, lease)).done()
    assert world.end_ms[0] + world.end_ms[1] == 11 * lease + 12 * lease
    assert len(world.stops) == 10  # 12 leases in turn
    assert all(at % lease == 0 and ran == lease for at, _, ran in world.stops)


def test_without_others_nobody_is_stopped_and_nobody_wakes_the_scheduler():
    world = Watched([job(1, 0, 10**7, width=8)], pool(8), leased("themis", 1000))
    times = []
    world.done(lambda now, core: times.append(now))
    assert times == [0, 10**7] and not world.stops


def test_who_has_waited_as_long_is_the_worse_off_the_shorter_it_is():
    lease = 1000
    jobs = [job(1, 0, 50_000, width=8), job(2, 1, 20_000, width=8), job(3, 2, 2_000, width=8)]
    world = Watched(jobs, pool(8), leased("ftf", lease)).done()
    assert sorted((end, index + 1) for index, end in enumerate(world.end_ms))[0][1] == 3


@pytest.mark.parametrize(("name", "first"), [("ftf", 2), ("themis", 3)])
def test_a_place_goes_to_the_worst_off_or_to_whom_it_is_worth_most(name, first):
    # At 20 s job 2 has waited long, and job 3 is short: its end would be put off by a larger part.
    jobs = [job(1, 0, 20_000, width=8), job(2, 1, 8_000, width=8), job(3, 15_000, 3_000, width=8)]
    stays = msgspec.structs.replace(jobs[0].spec, preemptible=False)
    jobs[0] = msgspec.structs.replace(jobs[0], spec=stays)
    config = msgspec.structs.replace(leased(name, 10_000), auction_percent=100)
    world = Watched(jobs, pool(8), config).done()
    assert world.start_ms[first - 1] == 20_000


@pytest.mark.parametrize("name", ["ftf", "themis"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_places_change_hands_at_the_beginning_of_rounds_alone(name, data):
    jobs = data.draw(jobs_on(gpus=False))
    lease = data.draw(st.sampled_from([5, 10, 40]))
    world = Watched(jobs, pool(8), leased(name, lease)).done()
    for at, _, ran in world.stops:
        assert at - round_start(at, lease) <= lease // 20
        assert ran >= at - round_start(at, lease)


@pytest.mark.parametrize("name", ["ftf", "themis"])
@settings(max_examples=10, deadline=None)
@given(jobs=jobs_on(gpus=False, most=15))
def test_a_scheduler_that_forgets_all_but_the_core_decides_the_same(name, jobs):
    config = leased(name, 10)
    plain, forgetful = Watched(jobs, pool(8), config), Watched(jobs, pool(8), config)
    forgetful.forget = True
    assert plain.done().schedule == forgetful.done().schedule


def test_settings_of_leases_are_checked():
    with pytest.raises(Misuse, match="at least a second"):
        override(policy_config("ftf"), {"lease": "5ms"})
    with pytest.raises(Misuse, match="no effect") as wrong:
        override(policy_config("ftf"), {"auction": 50})
    assert "themis" in wrong.value.hint
    config = override(policy_config("themis"), {"lease": "1h", "auction": 50})
    assert (config.lease_ms, config.auction_percent) == (3_600_000, 50)
    assert "1h" in describe(config)
