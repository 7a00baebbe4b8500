"""Rates that were never measured, filled in from those that were."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.solve.matrix import complete

tables = st.lists(
    st.lists(st.sampled_from([None, 0.5, 1.0, 3.0, 8.0, 20.0]), min_size=3, max_size=3),
    min_size=1,
    max_size=5,
)


@given(tables, st.sampled_from([0.01, 7.0]))
def test_measured_rates_are_kept_and_a_job_of_other_units_is_predicted_in_them(rows, factor):
    found = complete(rows)
    scaled = complete([[r and r * factor for r in rows[0]], *rows[1:]])
    for number, row in enumerate(rows):
        for column, rate in enumerate(row):
            if rate is not None:
                assert found.rates[number][column] == rate
            its = found.rates[number][column]
            unit = factor if number == 0 else 1.0
            other = scaled.rates[number][column]
            assert (its is None and other is None) or other == pytest.approx(its * unit)
            assert found.measured[number][column] == (rate is not None)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 50), min_size=2, max_size=5),
    st.lists(st.integers(1, 50), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_what_is_of_rank_one_is_found_exactly_wherever_it_can_be_compared(jobs, types, rng):
    rows = [[j * t if rng.random() < 0.6 else None for t in types] for j in jobs]
    found = complete(rows)
    for number, j in enumerate(jobs):
        for column, t in enumerate(types):
            rate = found.rates[number][column]
            comparable = found.part[number] == found.part_of_type[column] >= 0
            assert (rate is not None) == comparable
            assert rate is None or rate == pytest.approx(j * t)
    assert found.spread is None or found.spread < 1e-6


def test_what_no_chain_of_measurements_connects_is_reported_and_not_guessed():
    found = complete([[1.0, 2.0, None, None], [None, None, 3.0, None], [None] * 4])
    assert found.rates[0] == [1.0, 2.0, None, None]
    assert found.rates[1] == [None, None, 3.0, None]
    assert found.part == [0, 1, -1]
    assert found.part_of_type == [0, 0, 1, -1]


@pytest.mark.parametrize("rows", [[[1.0], [1.0, 2.0]], [[0.0]], [[-1.0]], [[float("inf")]]])
def test_rates_that_make_no_sense_are_named(rows):
    with pytest.raises(Misuse, match="row"):
        complete(rows)
