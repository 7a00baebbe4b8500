from __future__ import annotations

from functools import cache
from itertools import combinations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.policy import deadline
from fairlead.policy.deadline import Refusal, Work
from fairlead.policy.maxflow import Network

HORIZON = 7


@st.composite
def some_works(draw, widths=st.just(1), least=0, most=5):
    found = []
    for number in range(draw(st.integers(least, most))):
        release = draw(st.integers(0, 4))
        due = draw(st.integers(release, HORIZON))
        found.append(Work(number, release, draw(st.integers(0, 4)), due, draw(widths)))
    return found


def can_be_done(works, machines):
    """Whether a schedule of whole steps exists, by trying them all."""

    @cache
    def search(now, left):
        if any(rest and work.deadline_ms <= now for work, rest in zip(works, left, strict=True)):
            return False
        if not any(left):
            return True
        here = [n for n, work in enumerate(works) if left[n] and work.release_ms <= now]
        for count in range(len(here), -1, -1):
            for chosen in combinations(here, count):
                if sum(works[n].width for n in chosen) <= machines:
                    after = tuple(rest - (n in chosen) for n, rest in enumerate(left))
                    if search(now + 1, after):
                        return True
        return False

    return search(0, tuple(work.size_ms for work in works))


@given(some_works(), st.integers(1, 3))
def test_the_flow_says_what_trying_all_schedules_says(works, machines):
    expected = can_be_done(works, machines)
    assert deadline.flow_feasible(works, machines) == expected
    assert deadline.verdict(works, machines) == ("feasible" if expected else "infeasible")


@given(some_works(widths=st.integers(1, 3), most=4), st.integers(1, 4))
def test_no_verdict_on_jobs_of_several_widths_is_wrong(works, machines):
    found = deadline.verdict(works, machines)
    if found != "unknown":
        assert (found == "feasible") == can_be_done(works, machines)
    else:
        assert len({work.width for work in works}) > 1


@given(st.integers(2, 3).flatmap(lambda w: some_works(widths=st.just(w))), st.integers(1, 7))
def test_jobs_of_one_width_are_judged_exactly(works, machines):
    expected = "feasible" if can_be_done(works, machines) else "infeasible"
    assert deadline.verdict(works, machines) == expected


@given(some_works(most=8))
def test_on_one_machine_demand_flow_and_edf_agree(works):
    fits = deadline.demand_violation(works) is None
    assert deadline.flow_feasible(works, 1) == fits
    assert (deadline.edf_misses(works, 1) == []) == fits


@given(some_works(most=8))
def test_the_violated_interval_is_the_first(works):
    found = deadline.demand_violation(works)
    bad = [
        (start, end)
        for start in sorted({work.release_ms for work in works})
        for end in sorted({work.deadline_ms for work in works})
        if end >= start
        and sum(w.size_ms for w in works if start <= w.release_ms and w.deadline_ms <= end)
        > end - start
    ]
    assert found == (bad[0] if bad else None)


@given(some_works(widths=st.integers(1, 3), most=8), st.integers(1, 3), st.randoms())
def test_edf_does_not_depend_on_the_order_of_the_list(works, machines, rng):
    shuffled = rng.sample(works, len(works))
    found = deadline.edf_misses(shuffled, machines)
    assert sorted(found) == deadline.edf_misses(works, machines)


@given(some_works(least=1, most=6), st.integers(1, 2))
def test_a_refusal_names_the_earliest_deadline_that_holds(works, machines):
    *others, asked = works
    no = deadline.refusal(asked, others, machines)
    assume(no is not None)
    if deadline.verdict(others, machines) != "feasible":
        assert no.earliest is None
        return
    late = [
        at
        for at in range(asked.release_ms, 40)
        if can_be_done([*others, Work(asked.id, asked.release_ms, asked.size_ms, at)], machines)
    ]
    assert no.earliest == late[0] > asked.deadline_ms
    assert late == list(range(late[0], 40))


@given(some_works(least=1, most=6), st.integers(1, 2))
def test_who_would_have_to_give_way_is_enough_and_no_fewer_are(works, machines):
    *others, asked = works
    no = deadline.refusal(asked, others, machines)
    assume(no is not None)
    if no.give_way is None:
        assert asked.release_ms + asked.size_ms > asked.deadline_ms
        return
    for count in range(len(no.give_way) + 1):
        for gone in combinations(no.give_way, count):
            rest = [work for work in works if work.id not in gone]
            assert can_be_done(rest, machines) == (count == len(no.give_way))


@given(some_works(widths=st.integers(1, 3), least=1, most=6), st.integers(1, 3))
def test_also_where_widths_differ_a_refusals_deadline_holds_and_nobody_gives_way_in_vain(
    works, machines
):
    done = deadline.admit(works, machines)
    by_id = {work.id: work for work in works}
    assert can_be_done([by_id[name] for name in done.admitted], machines)
    for no in done.refused:
        before = [by_id[name] for name in done.admitted if name < no.id]
        asked = by_id[no.id]
        if no.earliest is not None:
            moved = Work(no.id, asked.release_ms, asked.size_ms, no.earliest, asked.width)
            assert deadline.verdict([*before, moved], machines) == "feasible"
        else:
            assert asked.width > machines
        if no.give_way is not None:
            kept = [work for work in before if work.id not in no.give_way] + [asked]
            assert deadline.verdict(kept, machines) == "feasible"
            for name in no.give_way:
                assert deadline.verdict([*kept, by_id[name]], machines) != "feasible"


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 2, st.integers(0, 6)), max_size=14))
def test_the_largest_flow_is_the_smallest_cut_and_no_arc_carries_too_much(arcs):
    network = Network(5)
    numbers = [network.connect(*arc) for arc in arcs]
    total = network.maximise(0, 4)
    cuts = []
    for count in range(4):
        for inner in combinations((1, 2, 3), count):
            side = {0, *inner}
            cuts.append(sum(c for a, b, c in arcs if a in side and b not in side))
    assert total == min(cuts)
    for node in range(1, 4):
        gained = [network.flow_of(n) for n, (_, b, _) in zip(numbers, arcs, strict=True)
                  if b == node]  # fmt: skip
        lost = [network.flow_of(n) for n, (a, _, _) in zip(numbers, arcs, strict=True)
                if a == node]  # fmt: skip
        assert sum(gained) == sum(lost)
    assert all(0 <= network.flow_of(n) <= arc[2] for n, arc in zip(numbers, arcs, strict=True))


def test_a_refusal_is_worded_with_all_that_could_be_done():
    both = Refusal(id="d", deadline=6000, earliest=9000, give_way=("a", "b", "c"))
    assert deadline.words(both) == (
        "job d cannot be done by 6s: the earliest deadline that it could be given is 9s, "
        "or a, b and c would have to give way"
    )
    none = Refusal(id=4, deadline=3, earliest=None, give_way=None, proven=False)
    assert deadline.words(none, "slot {}".format) == (
        "no plan was found to end job 4 by slot 3: nothing that gives way would help"
    )


def test_a_hundred_jobs_on_eight_machines_are_judged_at_once():
    # The Dhall effect many times over: EDF misses, so that the flow has to decide.
    works = []
    for block in range(12):
        at = block * 10_000_000
        works += [Work(f"{block}-{n}", at, 4_000_000, at + 9_000_000) for n in range(8)]
        works.append(Work(f"{block}-long", at, 9_999_999, at + 10_000_000))
    assert len(deadline.edf_misses(works, 8)) == 12
    assert deadline.verdict(works, 8) == "feasible"
    crowded = [*works, Work("more", 0, 10_000_000 - 10, 10_000_000)]
    assert deadline.verdict(crowded, 8) == "feasible"
    assert deadline.verdict(
        [*crowded, *[Work(n, 0, 7_000_000, 9_000_000) for n in range(4)]], 8
    ) == ("infeasible")


@pytest.mark.parametrize(
    ("work", "machines", "message"),
    [
        (Work(1, 0, 1, 1), 0, "0 machines"),
        (Work(1, 0, -1, 1), 1, "job 1 has a negative size"),
        (Work(1, 5, 1, 4), 1, "the deadline of job 1 is before its release"),
        (Work(1, 0, 1, 4, 0), 1, "job 1 has a width of 0"),
    ],
)
def test_what_cannot_be_is_refused(work, machines, message):
    with pytest.raises(Misuse, match=message):
        deadline.verdict([work], machines)
