from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.policy.gittins import GittinsTable

SAMPLES = st.lists(st.integers(0, 30), min_size=1, max_size=25)


def by_definition(samples, attained, delta):
    """Return G and the smallest best look-ahead, from the definition, over all samples each."""
    left = [each - attained for each in samples if each > attained]
    if not left:
        return None, None
    found = {
        look: Fraction(sum(s <= look for s in left), sum(min(s, look) for s in left))
        for look in ([delta] if delta else sorted(set(left)))
    }
    best = max(found.values())
    return best, min(look for look, value in found.items() if value == best)


@given(SAMPLES, st.integers(0, 32), st.none() | st.integers(1, 12))
def test_the_table_says_what_the_definition_says(samples, attained, delta):
    table = GittinsTable(samples, delta)
    expected = by_definition(samples, attained, delta)
    assert (table.index(attained), table.best_delta(attained)) == expected


@given(SAMPLES, st.integers(0, 29), st.integers(1, 60))
def test_no_look_ahead_at_all_beats_the_best(samples, attained, look):
    best = GittinsTable(samples).index(attained)
    fixed = GittinsTable(samples, look).index(attained)
    assert (best is None) == (fixed is None)
    assert best is None or best >= fixed


@given(SAMPLES, st.none() | st.integers(1, 12))
def test_keys_sort_as_the_indices_and_those_beyond_every_sample_last(samples, delta):
    table = GittinsTable(samples, delta)
    order = sorted(range(33), key=table.key)
    found = [table.index(each) for each in order]
    known = [each for each in found if each is not None]
    assert known == sorted(known, reverse=True)
    assert found[: len(known)] == known  # and none of the others stands before one of these
    assert len(found) - len(known) == 33 - max(samples)


@given(SAMPLES, st.none() | st.integers(1, 12), st.integers(0, 32))
def test_an_index_can_fall_only_where_the_table_says(samples, delta, attained):
    table = GittinsTable(samples, delta)
    until = table.falls_after(attained)
    if until is None:
        assert table.index(attained) is None
    else:
        keys = [table.key(each) for each in range(attained, until)]
        assert keys == sorted(keys, reverse=True)


def test_a_long_history_is_searched_and_not_scanned():
    # All samples are on the hull, and from 0 the best of them is far along it.
    samples = [1_000_000 + n * n for n in range(1500)]
    table = GittinsTable(samples)
    seen = 0
    steeper = table._steeper

    def counted(*given):
        nonlocal seen
        seen += 1
        return steeper(*given)

    table._steeper = counted
    value, look = by_definition(samples, 0, None)
    assert look > 1_000_000 + 700**2
    assert (table.index(0), table.best_delta(0)) == (value, look)
    assert seen < 200


def test_without_samples_everybody_is_alike():
    assert GittinsTable([]).key(0) == GittinsTable([]).key(7)
    assert GittinsTable([]).index(0) is None


@pytest.mark.parametrize(("samples", "delta"), [([1, -1], None), ([1], 0)])
def test_what_cannot_be_is_refused(samples, delta):
    with pytest.raises(Misuse):
        GittinsTable(samples, delta)
