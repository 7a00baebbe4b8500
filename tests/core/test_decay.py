"""Averages of the past: exact, however often they are brought up."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.decay import AVERAGE_ONE, ONE, decayed, factor
from fairlead.core.shares import Account

DAY = 86_400_000
intervals = st.integers(0, 40 * DAY)
half_lives = st.integers(1, 60 * DAY)


@given(intervals, half_lives)
def test_the_factor_is_a_power_of_two(interval: int, half_life: int) -> None:
    assert factor(interval, half_life) / ONE == pytest.approx(
        2 ** (-interval / half_life), rel=1e-14, abs=1e-17
    )


@given(st.integers(0, 60), half_lives)
def test_after_whole_half_lives_it_is_halved_exactly_so_often(count: int, half_life: int) -> None:
    assert Fraction(factor(count * half_life, half_life), ONE) == Fraction(1, 2**count)


@given(
    st.lists(st.tuples(st.integers(1, DAY), st.integers(0, 10**6)), min_size=1, max_size=6),
    st.lists(st.integers(0, 6 * DAY), max_size=6),
)
def test_how_often_an_account_is_looked_at_changes_nothing(stretches, looks) -> None:
    def average(times: set[int]) -> int:
        account, now = Account(5, 0), 0
        for length, rate in stretches:
            account.held = [rate, 0, 0, 0, 0]
            for at in sorted(time for time in times if now < time < now + length):
                account.bring_up(at, 7 * DAY)
            now += length
            account.bring_up(now, 7 * DAY)
        account.held = [0] * 5
        return account.as_of(now + DAY, 7 * DAY)[0]

    highest = max(rate for _, rate in stretches)
    assert abs(average(set(looks)) - average(set())) <= 1e-15 * AVERAGE_ONE * highest + 20


@given(st.integers(0, 10**9), st.integers(0, 10**9), intervals, half_lives)
def test_an_average_stays_between_what_was_and_what_is(was, rate, interval, half_life) -> None:
    after = decayed(was * AVERAGE_ONE, rate, interval, half_life) / AVERAGE_ONE
    assert min(was, rate) - 1 <= after <= max(was, rate) + 1


def test_a_burst_counts_half_after_a_half_life_and_nothing_in_the_end() -> None:
    account = Account(5, 0)
    account.held = [8000, 0, 0, 0, 0]
    account.bring_up(3_600_000, DAY)
    account.held = [0] * 5
    burst = account.average[0]
    assert account.as_of(3_600_000 + DAY, DAY)[0] == burst // 2
    assert account.as_of(3_600_000 + 200 * DAY, DAY) == [0] * 5
