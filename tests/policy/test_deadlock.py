"""Jobs that wait for each other: avoided, found and broken, or ruled out by an order."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import Programs

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.model.base import Misuse, Refused
from fairlead.model.events import (
    Asked,
    MemberEnded,
    NodeLost,
    Released,
    ResourceSet,
    StopDecided,
    Withdrawn,
)
from fairlead.model.jobs import Phase, Resource
from fairlead.policy.deadlock.banker import Claim, finishing, grant, safe_sequence
from fairlead.policy.deadlock.detect import Waiter, cycle, deadlocked, helped, victim
from fairlead.policy.explain import explain
from fairlead.policy.registry import build
from strategies import FAILED, OK

NAMES = "abc"
CROSSED = [
    [("acquire", "a", 1), ("acquire", "b", 1)],
    [("acquire", "b", 1), ("acquire", "a", 1)],
]


def picks_of(seed: int):
    rng = Random(seed)
    while True:
        yield rng.randrange(1000)


@st.composite
def states(draw):
    """What a few hold and want, and what is free."""
    amounts = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), max_size=3)
    pairs = st.lists(st.tuples(amounts, amounts), min_size=1, max_size=5)
    return draw(pairs), draw(amounts)


def some_order_serves_all(claims, free) -> bool:
    """The definition, by trying every order."""
    for order in permutations(claims):
        work = dict(free)
        for held, need in order:
            if any(amount > work.get(name, 0) for name, amount in need.items()):
                break
            for name, amount in held.items():
                work[name] = work.get(name, 0) + amount
        else:
            return True
    return False


@given(states())
def test_a_state_is_safe_exactly_if_some_order_of_completion_exists(state):
    pairs, free = state
    claims = [Claim(*pair) for pair in pairs]
    assert (safe_sequence(claims, free) is not None) == some_order_serves_all(claims, free)


@given(states())
def test_a_grant_is_one_after_which_some_order_still_exists(state):
    pairs, free = state
    claims = [Claim(*pair) for pair in pairs]
    if not some_order_serves_all(claims, free):
        return
    held, need = pairs[0]
    asked = {name: min(1, amount) for name, amount in need.items()}
    left = {name: free.get(name, 0) - n for name, n in asked.items()}
    after = [
        Claim(
            {name: held.get(name, 0) + asked.get(name, 0) for name in NAMES},
            {name: need.get(name, 0) - asked.get(name, 0) for name in NAMES},
        ),
        *claims[1:],
    ]
    possible = min(left.values(), default=0) >= 0
    possible = possible and some_order_serves_all(after, {**free, **left})
    assert grant(claims, free, 0, asked) == possible


@given(states())
def test_who_is_deadlocked_is_who_goes_on_in_no_order_at_all(state):
    pairs, free = state
    waiters = {index: Waiter(*pair) for index, pair in enumerate(pairs)}
    able = set()
    for order in permutations(waiters):
        work = dict(free)
        for name in order:
            if any(n > work.get(each, 0) for each, n in waiters[name].waits.items()):
                break
            able.add(name)
            for each, n in waiters[name].held.items():
                work[each] = work.get(each, 0) + n
    assert deadlocked(waiters, free) == sorted(set(waiters) - able)


@given(states())
def test_of_single_units_a_deadlock_has_a_cycle_and_a_cycle_is_a_deadlock(state):
    pairs, _ = state
    taken: set[str] = set()
    waiters = {}
    for index, (held, waits) in enumerate(pairs):
        mine = {name: 1 for name, n in held.items() if n and name not in taken}
        taken |= set(mine)
        waiters[index] = Waiter(mine, {name: 1 for name in waits if name not in mine})
    free = {name: 0 if name in taken else 1 for name in NAMES}
    stuck, found = deadlocked(waiters, free), cycle(waiters, free)
    assert (found is not None) == bool(stuck)
    if found:
        assert found[0] == min(found) and set(found) <= set(stuck)
        for name, after in zip(found, [*found[1:], found[0]], strict=True):
            assert set(waiters[name].waits) & set(waiters[after].held)


@given(states())
def test_the_victim_is_the_cheapest_that_helps_somebody(state):
    pairs, free = state
    waiters = {
        index: Waiter(held, waits, (index % 2, sum(held.values())))
        for index, (held, waits) in enumerate(pairs)
    }
    stuck = deadlocked(waiters, free)
    help_some = [name for name in stuck if helped(waiters, free, name, stuck)]
    chosen = victim(waiters, free)
    assert chosen == min(help_some, key=lambda name: (waiters[name].cost, name), default=None)


@st.composite
def programs(draw, ordered: bool):
    """Programs of acquires and releases; ordered ones acquire each name once, in order."""
    made = []
    for _ in range(draw(st.integers(2, 4))):
        names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=3))
        steps = []
        for name in sorted(names) if ordered else names:
            steps.append(("acquire", name, draw(st.integers(1, 2))))
        for verb, name, amount in list(steps) if draw(st.booleans()) else ():
            assert verb == "acquire"
            steps.append(("release", name, amount))
        made.append(steps)
    return made


seeds = st.integers(0, 2**32)


@given(programs(ordered=True), seeds)
def test_ordered_acquires_never_block_for_ever_though_nobody_is_stopped(made, seed):
    world = Programs(dict.fromkeys(NAMES, 2), made, "ordered", recover=False)
    assert world.run(picks_of(seed)) and not world.refused


def test_two_reversed_pairs_do_block_for_ever_where_nobody_is_stopped():
    ends = {
        seed: Programs({"a": 1, "b": 1}, CROSSED, "detect", recover=False).run(picks_of(seed))
        for seed in range(20)
    }
    assert set(ends.values()) == {True, False}, "some interleavings block, others do not"


@given(programs(ordered=False), seeds)
def test_detection_lets_every_program_come_to_its_end(made, seed):
    world = Programs(dict.fromkeys(NAMES, 2), made, "detect")
    assert world.run(picks_of(seed))


@given(programs(ordered=False), seeds)
def test_the_banker_stops_nobody_and_every_program_comes_to_its_end(made, seed):
    world = Programs(dict.fromkeys(NAMES, 2), made, "avoid")
    assert world.run(picks_of(seed)) and not world.stops


@given(programs(ordered=False), seeds)
def test_what_jobs_are_placed_with_counts_for_the_banker_too(made, seed):
    """Each holds one of something from its start on, and may ask for another of it."""
    base = [{program[0][1]: 1} for program in made]
    world = Programs(dict.fromkeys(NAMES, 3), made, "avoid", base=base)
    assert world.run(picks_of(seed)) and not world.stops


@given(programs(ordered=False), seeds)
def test_a_request_out_of_order_is_refused_and_the_rest_does_not_block(made, seed):
    world = Programs(dict.fromkeys(NAMES, 2), made, "ordered", recover=False)
    assert world.run(picks_of(seed))
    out = [
        number
        for number, program in world.programs.items()
        if (names := [name for verb, name, _ in program if verb == "acquire"]) != sorted(names)
    ]
    assert sorted(world.refused) == out


def crossed(mode: str, **more) -> Programs:
    """Two jobs, each with the one lock that the other is about to ask for (where granted)."""
    world = Programs({"a": 1, "b": 1}, CROSSED, mode, **more)
    world.step(1)
    world.step(2)
    if 2 in world.able():
        world.step(1)
        world.step(2)
    return world


def test_detect_stops_the_cheapest_and_says_why():
    world = crossed("detect", priorities=[60, 50])
    (stop,) = world.stops
    assert (stop.job, stop.then) == (2, Phase.PENDING)
    assert "job 1 holds 1 a and waits for 1 b; job 2 holds 1 b and waits for 1 a" in stop.because
    assert "job 2 is stopped, the cheapest that lets job 1 go on" in stop.because
    assert world.core.named.holders("b") == [(1, 1)] and world.run(picks_of(0))


def test_avoid_lets_the_second_wait_for_a_lock_that_is_free():
    world = crossed("avoid")
    assert not world.stops and world.core.named.free("b") == 1
    found = explain(world.core, build(world.core.policy), 2)
    assert found is not None and found.reason == "Acquiring"
    assert "1 b free, but to grant 1 now could end in a deadlock with job 1" in found.summary
    assert world.run(picks_of(1))


def test_a_job_that_holds_nothing_waits_its_turn_and_one_that_holds_something_goes_first():
    needs_two = [("acquire", "a", 2)]
    needs_one = [("acquire", "a", 1)]
    holds_b = [("acquire", "b", 1), ("acquire", "a", 1)]
    world = Programs({"a": 2, "b": 1}, [needs_one, needs_two, needs_one, holds_b], "detect")
    for job in (1, 2, 3):
        world.step(job)
    assert [ask.job for ask in world.core.named.waiting()] == [2, 3], "one is free, not for job 3"
    world.step(4)
    world.step(4)
    assert [event.job for event in world.grants] == [1, 4, 4]
    assert [ask.job for ask in world.core.named.waiting()] == [2, 3]
    assert world.run(picks_of(2))


def test_a_deadlock_that_needs_two_victims_is_broken_one_by_one():
    """Each waits for what the two others hold, so that no single one helps."""
    made = [[("acquire", name, 1) for name in (mine, *"abc")] for mine in "abc"]
    made = [[*dict.fromkeys(steps)] for steps in made]
    world = Programs({"a": 1, "b": 1, "c": 1}, made, "detect")
    for job in (1, 2, 3):
        world.step(job)
    inbox = [
        Asked(job=job, attempt=1, name=name, amount=1)
        for job, program in world.programs.items()
        for _, name, _ in program[1:]
    ]
    events = world.scheduler.turn(0, inbox).events
    assert [event.job for event in events if isinstance(event, StopDecided)] == [1, 2]


@pytest.mark.parametrize("exit", [OK, FAILED])
def test_what_was_acquired_goes_back_once_when_a_job_ends_also_for_late_reports(exit):
    world = crossed("avoid")
    report = MemberEnded(job=1, attempt=1, exit=exit)
    for _ in range(2):
        world.turn([report])
    assert world.core.named.held["a"] == 0
    assert world.core.named.holders("b") == [(2, 1)], "and whoever waited for it goes on"


def test_what_was_acquired_goes_back_when_the_node_is_lost_and_the_job_starts_anew_with_nothing():
    world = crossed("avoid")
    world.turn([NodeLost(node=0)])
    core = world.core
    assert not any(core.named.held.values()) and not core.named.asks and not core.named.live
    assert {job.phase for job in core.jobs.values()} == {Phase.PENDING}


def test_a_restart_knows_what_is_held_and_who_waits():
    for mode in ("avoid", "detect"):
        world = crossed(mode)
        twin = Core.load(world.core.dump())
        check(twin)
        assert twin.digest() == world.core.digest() == world.core.clone().digest()
        assert list(build(twin.policy).decide(twin)) == [], "there is nothing new to decide"


def test_a_request_that_is_withdrawn_lets_those_behind_it_through():
    needs = [[("acquire", "a", 1)], [("acquire", "a", 2)], [("acquire", "a", 1)]]
    world = Programs({"a": 2}, needs, "detect")
    for job in (1, 2, 3):
        world.step(job)
    (first, second) = world.core.named.waiting()
    assert (first.job, second.job) == (2, 3)
    world.turn([Withdrawn(job=2, attempt=1, ask=first.number)])
    assert world.core.named.holders("a") == [(1, 1), (3, 1)]


def test_a_release_of_what_is_not_held_or_of_an_earlier_attempt_changes_nothing():
    world = Programs({"a": 2}, [[("acquire", "a", 2)]], "avoid")
    world.step(1)
    before = world.core.named.holders("a")
    for amount, attempt in ((3, 1), (1, 2), (1, 0)):
        world.turn([Released(job=1, attempt=attempt, name="a", amount=amount)])
        assert world.core.named.holders("a") == before == [(1, 2)]
    for _ in range(2):
        world.turn([Released(job=1, attempt=1, name="a", amount=2)])
        assert world.core.named.free("a") == 2


def test_lowering_an_amount_takes_nothing_away_and_grants_nothing_until_it_has_run_out():
    two = [[("acquire", "a", 1)]] * 3
    world = Programs({"a": 2}, two, "detect")
    for job in (1, 2):
        world.step(job)
    world.turn([ResourceSet(resource=Resource(name="a", kind="lock", amount=1))])
    world.step(3)
    assert world.core.named.drained == {"a"} and len(world.core.named.holders("a")) == 2
    world.step(1)
    assert world.core.named.drained == set() and world.core.named.holders("a") == [(2, 1)]
    world.step(2)
    assert world.core.named.holders("a") == [(3, 1)]


def test_nobody_is_stopped_for_a_request_that_nothing_can_serve():
    world = Programs({"a": 2, "b": 1}, [[("acquire", "b", 1), ("acquire", "a", 2)]], "detect")
    world.step(1)
    world.turn([ResourceSet(resource=Resource(name="a", kind="lock", amount=1))])
    world.step(1)
    assert not world.stops and [ask.job for ask in world.core.named.waiting()] == [1]


def test_the_order_of_acquisition_is_by_kind_and_then_by_name():
    world = Programs({"a": 1}, [[("acquire", "a", 1)]], "ordered")
    for name, kind in (("z", "licence"), ("m", "volume"), ("b", "lock")):
        world.turn([ResourceSet(resource=Resource(name=name, kind=kind, amount=1))])
    named = world.core.named
    order = [name for name, _ in named.in_order([(name, 1) for name in named.resources])]
    assert order == ["z", "m", "a", "b"]


def test_finishing_goes_on_from_the_lowest_index_after_each_that_is_done():
    claims = [Claim({"a": 1}, {"a": 2}), Claim({"a": 1}, {"a": 1}), Claim({"a": 1}, {"a": 1})]
    assert finishing(claims, {"a": 1}) == [1, 0, 2]


def test_admission_refuses_what_can_never_be():
    from fairlead.core.admission import admit
    from fairlead.model.jobs import JobSpec
    from fairlead.model.resources import Shape

    core = Programs({"matlab": 4}, []).core
    shape = Shape(cpu_milli=1000)
    with pytest.raises(Misuse, match="there is no resource 'matlba'") as misspelt:
        admit(core, JobSpec(shape=shape, counted=(("matlba", 1),)))
    assert misspelt.value.hint == "did you mean 'matlab'?"
    with pytest.raises(Refused, match="there are 4 matlab, this job asks for 5"):
        admit(core, JobSpec(shape=shape, counted=(("matlab", 5),)))
    with pytest.raises(Refused, match="this job asks for 5"):
        spec = JobSpec(shape=shape, counted=(("matlab", 2),), may_acquire=(("matlab", 3),))
        admit(core, spec)
    with pytest.raises(Refused, match="a start cannot be promised"):
        admit(core, JobSpec(shape=shape, counted=(("matlab", 1),), deadline_ms=5, limit_ms=1))
