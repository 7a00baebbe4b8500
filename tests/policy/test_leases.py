"""Gangs whose workers are placed one by one: reserve all, then start, under a lease or a lock."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.policy.deadlock.leases import Leases, back_off_ms
from fairlead.sim.leases import explore


def test_without_a_guard_two_gangs_of_three_on_four_gpus_lock_each_other_out():
    found = explore(4, [3, 3], "none")
    assert found.stuck == [{"A": 2, "B": 2}]
    assert found.hopeless == 6, "which two of the four each has"


@pytest.mark.parametrize("guard", ["lease", "lock"])
@pytest.mark.parametrize(
    ("gpus", "sizes"), [(4, [3, 3]), (3, [2, 2, 2]), (4, [3, 2, 2]), (4, [4, 4])]
)
def test_with_a_lease_or_a_lock_every_interleaving_can_come_to_its_end(gpus, sizes, guard):
    found = explore(gpus, sizes, guard)
    assert (found.stuck, found.hopeless) == ([], 0) and found.states > 10


@given(st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_without_a_guard_it_is_stuck_exactly_where_gangs_can_share_all_and_none_has_enough(
    gpus, sizes
):
    sizes = [min(size, gpus) for size in sizes]
    found = explore(gpus, sizes, "none")
    wants = [size for size in sizes if size > 1]
    tight = any(
        sum(size - 1 for index, size in enumerate(wants) if chosen >> index & 1) >= gpus
        for chosen in range(1 << len(wants))
    )
    assert bool(found.stuck) == tight == bool(found.hopeless)


def test_a_gang_never_starts_on_a_lease_that_has_lapsed_and_its_units_go_back_once():
    leases = Leases(2, lease_ms=100)
    assert leases.reserve(0, "A") and leases.reserve(50, "A")
    assert leases.next_lapse() == 100
    assert not leases.start(100, "A", 2), "the lease is over, whether somebody looked or not"
    assert not leases.reserve(100, "A")
    assert leases.lapse(100) == ["A"] and leases.lapse(100) == []
    assert leases.has("A") == 0 and not leases.release("A")
    assert leases.reserve(100, "B") and leases.reserve(100, "B") and leases.start(199, "B", 2)
    assert leases.lapse(10_000) == [], "what has started has no lease"
    assert leases.release("B") and not leases.release("B")


def test_under_the_lock_a_second_gang_reserves_only_when_the_first_has_started():
    leases = Leases(4, None, alone=True)
    assert leases.reserve(0, "A") and not leases.reserve(0, "B")
    assert leases.reserve(0, "A") and not leases.start(0, "A", 3)
    assert leases.start(0, "A", 2) and leases.reserve(0, "B")


@given(st.integers(1, 1000), st.integers(1, 20), st.integers(0, 2**32))
def test_back_off_doubles_and_half_of_it_is_chance(base, tries, draw):
    span = base << min(tries - 1, 10)
    assert span // 2 <= back_off_ms(base, tries, draw) <= span


@pytest.mark.parametrize("seed", range(5))
def test_with_leases_and_back_off_gangs_that_all_come_at_once_have_all_run(seed):
    """Four gangs of three on four GPUs: each reserves a unit every 10 ms; a lease is 50 ms."""
    rng = Random(seed)
    leases = Leases(4, 50)
    gangs = dict.fromkeys("ABCD", 0)  # when each tries next
    tries = dict.fromkeys(gangs, 0)
    ends: dict[str, int] = {}
    now = 0
    while gangs or ends:
        now += 1
        assert now < 100_000, "they meet again and again"
        for gang in [gang for gang, end in ends.items() if end <= now]:
            leases.release(gang)
            del ends[gang]
        for gang in leases.lapse(now):
            tries[gang] += 1
            gangs[gang] = now + back_off_ms(20, tries[gang], rng.getrandbits(32))
        for gang in [gang for gang, at in gangs.items() if at <= now]:
            leases.reserve(now, gang)
            gangs[gang] = now + 10
            if leases.start(now, gang, 3):
                ends[gang] = now + 30
                del gangs[gang]


def test_what_cannot_be_is_said(monkeypatch):
    with pytest.raises(Misuse, match="a gang of 5 does not fit 4 GPUs"):
        explore(4, [3, 5], "lease")
    monkeypatch.setattr("fairlead.sim.leases.STATES_MAX", 1000)
    with pytest.raises(Misuse, match="more than 1,000 states"):
        explore(12, [6, 6, 6, 6], "lease")


def test_the_command_shows_the_deadlock_and_how_it_goes_away():
    from click.testing import CliRunner

    from fairlead.cli.sim_leases import leases

    shown = CliRunner().invoke(leases, ["--guard", "none"])
    assert "deadlock: A has 2 of 3, B has 2 of 3" in shown.output
    shown = CliRunner().invoke(leases, [])
    assert "from every state all gangs can come to their end" in shown.output
