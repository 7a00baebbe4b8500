"""Whom to preempt: exact against trying every set, and what is said where it is not exact."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.policy import victims
from fairlead.policy.victims import Candidate, choose


class Nodes:
    """Machines with free GPUs; a gang of `workers` with `each` GPUs wants to start."""

    def __init__(self, free, held, workers, each):
        self.free, self.held, self.workers, self.each = list(free), held, workers, each
        self.gone = set()

    def remove(self, place):
        assert place not in self.gone
        self.gone.add(place)

    def restore(self, place):
        self.gone.remove(place)

    def fits(self, gone=None):
        free = list(self.free)
        for place in self.gone if gone is None else gone:
            for node, amount in self.held[place].items():
                free[node] += amount
        return sum(have // self.each for have in free) >= self.workers

    def least(self, places):
        return 0 if self.fits() else 1


@st.composite
def cases(draw, most=8):
    count = draw(st.integers(1, 3))
    amounts = st.dictionaries(st.integers(0, count - 1), st.integers(1, 3), min_size=1)
    held = draw(st.lists(amounts, min_size=1, max_size=most))
    candidates = [
        Candidate(f"j{i}", draw(st.integers(0, 2)), draw(st.integers(0, 5)), sum(its.values()))
        for i, its in enumerate(held)
    ]
    free = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return candidates, Nodes(free, held, draw(st.integers(1, 3)), draw(st.integers(1, 4)))


def value(candidates, places):
    those = [candidates[place] for place in places]
    objective = (
        max((c.priority for c in those), default=0),
        len(those),
        sum(c.lost for c in those),
    )
    return objective, sorted(c.id for c in those)


@given(cases())
def test_the_choice_is_the_best_of_all_sets(case):
    candidates, nodes = case
    places = range(len(candidates))
    sets = [each for k in range(len(candidates) + 1) for each in combinations(places, k)]
    best = min((value(candidates, each) for each in sets if nodes.fits(each)), default=None)
    found = choose(candidates, nodes)
    assert not nodes.gone, "the scene is as it was"
    if best is None or found is None:
        assert best is found is None
        return
    assert found.exact
    assert (found.objective, [candidates[p].id for p in found.places]) == best


@given(cases())
def test_the_greedy_choice_fits_spares_who_can_be_and_is_no_better_than_its_bound(case):
    candidates, nodes = case
    before, victims.EXACT_MAX = victims.EXACT_MAX, -1
    try:
        found = choose(candidates, nodes)
    finally:
        victims.EXACT_MAX = before
    if found is None:
        assert not nodes.fits(range(len(candidates)))
        return
    assert nodes.fits(found.places) and not nodes.gone
    for place in found.places:
        assert not nodes.fits(set(found.places) - {place}), "one of them need not go"
    assert found.bound <= found.objective


def test_twenty_equal_jobs_on_a_few_machines_are_chosen_exactly():
    held = [{place // 8: 1} for place in range(20)]
    candidates = [Candidate(place, 0, 20 - place, 1) for place in range(20)]
    found = choose(candidates, Nodes([0, 0, 0], held, 1, 4))
    assert found is not None and found.exact
    assert found.places == (16, 17, 18, 19)
