"""Every interleaving of gangs that reserve worker by worker: can they lock each other out?"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import msgspec

from fairlead.model.base import Misuse, Ms
from fairlead.policy.deadlock.leases import Leases

Guard: TypeAlias = Literal["none", "lease", "lock"]
GUARDS: tuple[Guard, ...] = ("none", "lease", "lock")
STATES_MAX = 50_000
LEASE_MS: Ms = 1000  # which number it is makes no difference: only the order of ends does


class Explored(msgspec.Struct, frozen=True):
    """What was found: `stuck` says how many units each gang has where nothing can happen any more,
    each way once, whichever units they are.

    `hopeless`: how many states there are from which not all gangs can come to their end.
    """

    gangs: dict[str, int]
    units: int
    guard: Guard
    states: int
    stuck: list[dict[str, int]]
    hopeless: int


class _State(msgspec.Struct):
    leases: Leases
    now: Ms
    done: frozenset[str]

    def key(self) -> object:
        """Return what tells states apart: who has which units, whose lease ends before whose."""
        leases = self.leases
        ends = sorted(leases.until, key=lambda gang: (leases.until[gang] or 0, gang))
        return (
            tuple(sorted(leases.holder.items())),
            tuple(ends),
            frozenset(leases.started),
            self.done,
        )


def explore(units: int, sizes: Sequence[int], guard: Guard) -> Explored:
    """Return what can become of gangs of these sizes; Misuse for what cannot be, or is too much."""
    _check(units, sizes)
    gangs = dict(zip(string.ascii_uppercase, sizes, strict=False))
    lease = LEASE_MS if guard == "lease" else None
    first = _State(Leases(units, lease, alone=guard == "lock"), 0, frozenset())
    states = {first.key(): first}
    frontier = [first]
    before: dict[object, list[object]] = {}
    stuck: list[dict[str, int]] = []
    ends: list[object] = []
    for state in frontier:  # it grows meanwhile
        here = state.key()
        after = list(_after(state, gangs))
        if len(state.done) == len(gangs):
            ends.append(here)
        elif not after:
            has = {gang: state.leases.has(gang) for gang in gangs}
            stuck += [has] if has not in stuck else []
        for each in after:
            key = each.key()
            before.setdefault(key, []).append(here)
            if key not in states:
                if len(states) >= STATES_MAX:
                    message = f"more than {STATES_MAX:,} states"
                    raise Misuse(message, field="gangs", hint="fewer or smaller gangs")
                states[key] = each
                frontier.append(each)
    good = set(ends)
    for key in ends:
        for other in before.get(key, ()):
            if other not in good:
                good.add(other)
                ends.append(other)
    return Explored(gangs, units, guard, len(states), stuck, len(states) - len(good))


def _check(units: int, sizes: Sequence[int]) -> None:
    if not 1 <= len(sizes) <= len(string.ascii_uppercase):
        raise Misuse(f"{len(sizes)} gangs", field="gangs", hint="1 to 26, such as 3,3")
    for size in sizes:
        if not 1 <= size <= units:
            raise Misuse(
                f"a gang of {size} does not fit {units} GPUs", field="gangs", hint=f"1 to {units}"
            )


def _after(state: _State, gangs: dict[str, int]) -> Iterator[_State]:
    """Yield all that may happen next: a gang takes one more, starts, ends; a lease ends."""
    for gang, size in gangs.items():
        if gang in state.done:
            continue
        leases = state.leases.copy()
        if gang in leases.started:
            assert leases.has(gang) == size, "a gang that runs has all its units"
            leases.release(gang)
            yield _State(leases, state.now, state.done | {gang})
        elif leases.has(gang) == size:
            assert leases.start(state.now, gang, size)
            yield _State(leases, state.now, state.done)
        elif leases.reserve(state.now, gang):
            yield _State(leases, state.now, state.done)
    lapse = state.leases.next_lapse()
    if lapse is not None:
        leases = state.leases.copy()
        assert leases.lapse(lapse), "the lease that ends next ends then"
        yield _State(leases, lapse, state.done)
