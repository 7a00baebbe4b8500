"""Shares of time become rounds: whole gangs, one type at a time, and in the long run as told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.solve.gavel import JobClass, max_min
from fairlead.solve.rounds import Rounds


def received(rounds: Rounds, count: int) -> dict[int, list[float]]:
    for _ in range(count):
        rounds.next()
    return {job: [each / count for each in row] for job, row in rounds.received.items()}


def worst(rounds: Rounds, fractions) -> float:
    return max(
        abs(have - share)
        for job, row in fractions.items()
        for have, share in zip(row, rounds.shares[job], strict=True)
    )


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
        min_size=2,
        max_size=7,
    ),
    st.lists(st.integers(1, 2), min_size=3, max_size=3),
)
def test_what_is_received_comes_closer_to_the_shares_as_rounds_grow(rates, devices):
    jobs = [JobClass(f"j{n}", tuple(map(float, row))) for n, row in enumerate(rates)]
    shares = dict(enumerate(max_min(jobs, devices).shares))
    few, many = Rounds(devices), Rounds(devices)
    few.set(shares, {})
    many.set(shares, {})
    early, late = worst(few, received(few, 10)), worst(many, received(many, 400))
    assert late <= max(early, 0.02)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 10)), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_no_round_gives_more_than_there_is_nor_part_of_a_gang(jobs, devices):
    rounds = Rounds([devices, 2])
    shares = {n: (share / 20, 0.5 - share / 20) for n, (_, share) in enumerate(jobs)}
    scale = {n: size for n, (size, _) in enumerate(jobs)}
    rounds.set(shares, scale)
    before: dict[int, int] = {}
    for _ in range(12):
        grants = rounds.next()
        assert len({grant.job for grant in grants}) == len(grants)
        for kind, count in enumerate((devices, 2)):
            assert sum(scale[g.job] for g in grants if g.type == kind) <= count
        assert all(g.extended == (before.get(g.job) == g.type) for g in grants)
        before = {grant.job: grant.type for grant in grants}


def test_who_keeps_its_type_extends_its_lease_and_the_departed_are_forgotten():
    rounds = Rounds([1])
    rounds.set({7: [1.0], 8: [0.0]}, {})
    assert [grant.extended for _ in range(3) for grant in rounds.next()] == [False, True, True]
    rounds.remove(7)
    assert rounds.next() == []


def test_devices_that_are_down_are_not_given():
    rounds = Rounds([2])
    rounds.set({1: [1.0], 2: [1.0]}, {})
    assert [grant.job for grant in rounds.next([1])] == [1]
    assert [grant.job for grant in rounds.next([1])] == [2]


def test_shares_that_are_no_fractions_of_a_time_are_refused():
    with pytest.raises(Misuse):
        Rounds([1, 1]).set({1: [0.8, 0.8]}, {})
    with pytest.raises(Misuse):
        Rounds([1, 1]).set({1: [0.8]}, {})
