from __future__ import annotations

from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.policy import elastic
from fairlead.policy.elastic import Elastic

GPUS = 6


@st.composite
def some_jobs(draw, least=0, most=6):
    found = []
    for number in range(draw(st.integers(least, most))):
        rates = draw(st.dictionaries(st.integers(1, 8), st.integers(0, 20), max_size=4))
        slots = draw(st.integers(0, 6))
        found.append(Elastic(number, draw(st.integers(0, 60)), slots, rates))
    return found


def work_done(job, given):
    """Return the work done by the end of each slot."""
    done, total = [], 0
    for count in given:
        total += job.rates[count] if count else 0
        done.append(total)
    return done


def check_plan(jobs, plan):
    for job in jobs:
        assert len(plan[job.id]) == job.deadline_slot
        assert max(work_done(job, plan[job.id]), default=0) >= job.work
    for slot in range(6):
        used = [given[slot] for given in plan.values() if slot < len(given)]
        assert sum(used) <= GPUS


@given(some_jobs())
def test_the_plan_serves_all_admitted_within_capacity_in_every_slot(jobs):
    done = elastic.admit(jobs, GPUS)
    check_plan([job for job in jobs if job.id in done.admitted], done.plan)
    assert sorted([*done.admitted, *(no.id for no in done.refused)]) == [job.id for job in jobs]


@given(some_jobs(least=1))
def test_whoever_asks_later_takes_no_guarantee_from_those_admitted(jobs):
    before = elastic.admit(jobs[:-1], GPUS)
    after = elastic.admit(jobs, GPUS)
    assert after.admitted[: len(before.admitted)] == before.admitted
    check_plan([job for job in jobs if job.id in after.admitted], after.plan)


@given(some_jobs(least=1, most=1), some_jobs(most=3))
def test_filling_takes_the_least_level_that_suffices(asked, others):
    (job,) = (Elastic("x", each.work, each.deadline_slot, each.rates) for each in asked)
    plan = elastic.fill([*others, job], GPUS)
    assume(plan is not None and job.work > 0)
    before = [each for each in others if each.deadline_slot <= job.deadline_slot]
    used = [plan[each.id] for each in before]
    free = [GPUS - sum(g[slot] for g in used if slot < len(g)) for slot in range(job.deadline_slot)]
    counts, _ = elastic.envelope(job.rates, GPUS)
    for level in counts:
        capped = [max([c for c in counts if c <= min(level, f)], default=0) for f in free]
        done = [*work_done(job, capped)]
        if done and done[-1] >= job.work:
            stop = next(slot for slot, total in enumerate(done) if total >= job.work)
            assert plan["x"] == (*capped[: stop + 1], *[0] * (len(free) - stop - 1))
            return
    raise AssertionError("the plan serves a job that no level serves")


@given(some_jobs(least=1, most=1))
def test_the_minimum_share_alone_is_what_filling_gives_a_job_alone(jobs):
    (job,) = jobs
    share = elastic.minimum_share(job, GPUS)
    plan = elastic.fill(jobs, GPUS)
    assert (share is None) == (plan is None)
    if plan is not None:
        assert max(plan[job.id], default=0) == share


@given(st.dictionaries(st.integers(1, 9), st.integers(0, 20), max_size=6))
def test_the_envelope_leaves_out_what_is_no_faster_than_less(rates):
    counts, speeds = elastic.envelope(rates, GPUS)
    assert counts == sorted(set(counts)) and speeds == sorted(set(speeds))
    for count, rate in rates.items():
        if count <= GPUS and count not in counts:
            better = [speeds[n] for n, less in enumerate(counts) if less < count]
            assert rate == 0 or max(better) >= rate


@given(some_jobs(least=1))
def test_a_refused_job_would_be_admitted_by_the_earliest_slot_and_no_earlier(jobs):
    *others, asked = jobs
    admitted = [job for job in others if job.id in elastic.admit(others, GPUS).admitted]
    no = elastic.refusal(asked, admitted, GPUS)
    assume(no is not None)
    if no.earliest is None:
        assert elastic.envelope(asked.rates, GPUS) == ([], [])
        return
    for slot in range(no.earliest + 1):
        late = Elastic(asked.id, asked.work, slot, asked.rates)
        fits = elastic.refusal(late, admitted, GPUS) is None
        assert fits == (slot == no.earliest)


@given(some_jobs(least=1))
def test_none_of_those_who_would_have_to_give_way_can_be_put_back(jobs):
    *others, asked = jobs
    admitted = [job for job in others if job.id in elastic.admit(others, GPUS).admitted]
    no = elastic.refusal(asked, admitted, GPUS)
    assume(no is not None)
    if no.give_way is None:
        assert elastic.minimum_share(asked, GPUS) is None
        return
    kept = [job for job in admitted if job.id not in no.give_way]
    assert elastic.fill([*kept, asked], GPUS) is not None
    for job in admitted:
        if job.id in no.give_way:
            assert elastic.fill([*kept, job, asked], GPUS) is None


@given(some_jobs())
def test_leftovers_make_nobody_later_and_stay_within_capacity(jobs):
    done = elastic.admit(jobs, GPUS)
    admitted = [job for job in jobs if job.id in done.admitted]
    more = elastic.leftovers(admitted, GPUS, done.plan)
    check_plan(admitted, more)
    for job in admitted:
        base, with_more = work_done(job, done.plan[job.id]), work_done(job, more[job.id])
        assert all(min(a, job.work) <= min(b, job.work) for a, b in
                   zip(base, with_more, strict=True))  # fmt: skip


@given(some_jobs())
def test_no_gpu_stays_free_that_would_speed_up_somebody(jobs):
    done = elastic.admit(jobs, GPUS)
    admitted = [job for job in jobs if job.id in done.admitted]
    more = elastic.leftovers(admitted, GPUS, done.plan)
    for job, slot in product(admitted, range(6)):
        if slot >= job.deadline_slot:
            continue
        free = GPUS - sum(g[slot] for g in more.values() if slot < len(g))
        had = more[job.id][slot]
        left = job.work - (work_done(job, more[job.id])[slot - 1] if slot else 0)
        now = min(left, job.rates[had] if had else 0)
        for count, rate in zip(*elastic.envelope(job.rates, GPUS), strict=True):
            assert not (had < count <= had + free and min(rate, left) > now)


def test_leftovers_go_where_they_gain_most_per_gpu():
    jobs = [
        Elastic("slow", 100, 9, {1: 10, 2: 11}),
        Elastic("fast", 100, 10, {1: 10, 2: 18, 4: 40}),  # two more only pay together
    ]
    plan = {"slow": (1,) * 9, "fast": (1,) * 10}
    more = elastic.leftovers(jobs, 5, plan)
    assert (more["slow"][0], more["fast"][0]) == (1, 4)


@pytest.mark.parametrize(("work", "slot"), [(200, 200), (201, None), (10**9, None)])
def test_no_deadline_is_proposed_beyond_the_most_slots(work, slot):
    assert elastic.earliest_slot(Elastic("a", work, 1, {1: 1}), [], GPUS) == slot


@pytest.mark.parametrize(
    ("job", "gpus", "message"),
    [
        (Elastic("a", 1, 1, {1: 1}), 0, "0 GPUs"),
        (Elastic("a", -1, 1, {1: 1}), 1, "job a has negative work"),
        (Elastic("a", 1, -1, {1: 1}), 1, "deadline of job a is past"),
        (Elastic("a", 1, 1, {0: 1}), 1, "job a has a rate that cannot be"),
    ],
)
def test_what_cannot_be_is_refused(job, gpus, message):
    with pytest.raises(Misuse, match=message):
        elastic.fill([job], gpus)
