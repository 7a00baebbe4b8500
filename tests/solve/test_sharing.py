"""Jobs that share GPUs: packed on the fewest, and paired for the most work."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.policy.place.share import Part, first_fit_decreasing, lower_bound
from fairlead.solve.colocate import allowed, keep, share
from fairlead.solve.share import fewest_gpus

MEMORY = 100
parts = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(0, MEMORY), st.booleans()), max_size=7
).map(lambda rows: [Part(f"t{n}", *row) for n, row in enumerate(rows)])


def fewest(items: list[Part], gpus: list[tuple[int, int]]) -> int:
    """Return the least number of GPUs by trying every place for every task."""
    if not items:
        return len(gpus)
    first, rest = items[0], items[1:]
    size = (1000, MEMORY) if first.exclusive else (first.milli, first.memory)
    best = fewest(rest, [*gpus, (1000 - size[0], MEMORY - size[1])])
    for at, (time, space) in enumerate(gpus):
        if size[0] <= time and size[1] <= space:
            after = [*gpus[:at], (time - size[0], space - size[1]), *gpus[at + 1 :]]
            best = min(best, fewest(rest, after))
    return best


@settings(max_examples=25)
@given(parts)
def test_the_exact_packing_is_what_trying_everything_gives_between_the_bounds(items):
    packed = first_fit_decreasing(items, MEMORY)
    assert sorted(name for gpu in packed for name in gpu) == [part.id for part in items]
    bound = lower_bound(items, MEMORY)
    sizes = [(1000, MEMORY) if p.exclusive else (p.milli, p.memory) for p in items]
    index = {part.id: n for n, part in enumerate(items)}
    start = [[index[name] for name in gpu] for gpu in packed]
    found = fewest_gpus(sizes, (1000, MEMORY), start, bound)
    best = fewest(items, [])
    assert found.status == "optimal"
    assert bound <= best == len(found.gpus) == found.bound <= len(packed)
    for gpu in (*found.gpus, *start):
        assert sum(sizes[task][0] for task in gpu) <= 1000
        assert sum(sizes[task][1] for task in gpu) <= MEMORY


def test_an_exclusive_task_shares_with_nobody():
    items = [Part("a", 1, 0, exclusive=True), Part("b", 1, 0)]
    assert len(first_fit_decreasing(items, MEMORY)) == lower_bound(items, MEMORY) == 2


@pytest.mark.parametrize("part", [Part("a", 0, 0), Part("a", 1001, 0), Part("a", 1, 101)])
def test_a_task_that_no_gpu_holds_is_named(part):
    with pytest.raises(Misuse, match="task a"):
        lower_bound([part], MEMORY)


JOBS = "abcde"
pair_rates = st.dictionaries(
    st.sampled_from(list(combinations(JOBS, 2))),
    st.tuples(st.integers(1, 10), st.integers(1, 10)).map(lambda t: (t[0] / 10, t[1] / 10)),
)


def most(names: tuple[str, ...], pairs, gpus: int) -> float:
    if not names or not gpus:
        return 0.0
    first, rest = names[0], names[1:]
    best = max(most(rest, pairs, gpus), 1 + most(rest, pairs, gpus - 1))
    for at, other in enumerate(rest):
        if (first, other) in pairs:
            left = rest[:at] + rest[at + 1 :]
            best = max(best, pairs[first, other] + most(left, pairs, gpus - 1))
    return best


@settings(max_examples=30)
@given(pair_rates, st.integers(0, 5), st.permutations(JOBS))
def test_pairs_are_the_best_of_all_and_never_worse_than_running_alone(rates, gpus, order):
    pairs = allowed(rates, min_gain=0.1, min_rate=0.3)
    found = share(order, pairs, gpus)
    assert found.total == pytest.approx(most(tuple(JOBS), pairs, gpus))
    assert found.total >= min(gpus, len(JOBS))
    assert len(found.pairs) + len(found.alone) <= gpus
    everyone = [*(name for pair in found.pairs for name in pair), *found.alone, *found.waiting]
    assert sorted(everyone) == sorted(JOBS)
    assert found == share(JOBS, pairs, gpus)


def test_unknown_slow_latency_bound_and_large_pairs_do_not_share():
    rates = {("a", "b"): (0.9, 0.9), ("a", "c"): (0.9, 0.1), ("b", "d"): (0.55, 0.5)}
    open_to = {"min_gain": 0.1, "min_rate": 0.3}
    assert allowed(rates, **open_to) == {("a", "b"): 1.8}
    assert allowed(rates, **open_to, never=frozenset("b")) == {}
    assert allowed(rates, **open_to, memory={"a": 60, "b": 50}, gpu_memory=100) == {}
    assert allowed(rates, **open_to, memory={"a": 60}, gpu_memory=100) == {}


def test_a_pair_is_parted_only_when_it_is_clearly_below_what_lets_it_share():
    kept = {"min_gain": 0.1, "min_rate": 0.4, "slack": 0.05}
    assert keep((0.5, 0.56), **kept)
    assert not keep((0.5, 0.5), **kept)
    assert not keep((0.9, 0.3), **kept)
