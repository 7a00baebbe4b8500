"""Deadlocks by what is asked for now: who can never go on, the cycle, and whom to stop.

A cycle in the graph of who waits for whom is necessary, and not sufficient where there are several
units of a resource: so what is stuck is found by reduction. Source: Coffman, Elphick and Shoshani,
Computing Surveys 1971; Holt 1972; algorithms.md 12.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from fairlead.policy.deadlock.banker import Amounts, Claim, finishing

Id = TypeVar("Id", int, str)


class Waiter(NamedTuple):
    """What somebody holds and waits for (all of it at once), and how dear it would be to stop."""

    held: Amounts
    waits: Amounts
    cost: tuple[int, ...] = ()  # the cheapest is stopped first: (priority, units held)


def deadlocked(waiters: Mapping[Id, Waiter], free: Amounts) -> list[Id]:
    """Return those that can never go on unless somebody is stopped, sorted. O(n^2 r)."""
    names = sorted(waiters)
    claims = [Claim(waiters[name].held, waiters[name].waits) for name in names]
    able = set(finishing(claims, free))
    return [name for index, name in enumerate(names) if index not in able]


def cycle(waiters: Mapping[Id, Waiter], free: Amounts) -> list[Id] | None:
    """Return one cycle, from its smallest id on, where there is one unit of each resource.

    None: there is no cycle, or some resource has several units, so that a cycle says nothing.
    """
    total = dict(free)
    holder: dict[str, Id] = {}
    for name in sorted(waiters):
        for resource, amount in waiters[name].held.items():
            total[resource] = total.get(resource, 0) + amount
            if amount:
                holder[resource] = name
    if any(amount > 1 for amount in total.values()):
        return None
    after = {
        name: sorted({holder[each] for each, n in waiter.waits.items() if n and each in holder})
        for name, waiter in waiters.items()
    }
    for start in sorted(waiters):
        found = _back_to(start, after)
        if found is not None:
            return found
    return None


def _back_to(start: Id, after: Mapping[Id, Sequence[Id]]) -> list[Id] | None:
    """Return the shortest way from `start` to itself through larger ids, None if there is none."""
    before: dict[Id, Id] = {}  # how each was reached
    queue = [start]
    for name in queue:  # it grows meanwhile
        for other in after[name]:
            if other == start:
                path = [name]
                while path[0] != start:
                    path.insert(0, before[path[0]])
                return path
            if other > start and other not in before:
                before[other] = name
                queue.append(other)
    return None


def victim(waiters: Mapping[Id, Waiter], free: Amounts) -> Id | None:
    """Return the cheapest (cost, id) of the stuck whose removal lets another of them go on.

    None: nobody is stuck, or no single one helps.
    """
    stuck = deadlocked(waiters, free)
    for name in sorted(stuck, key=lambda name: (waiters[name].cost, name)):
        if helped(waiters, free, name, stuck):
            return name
    return None


def helped(waiters: Mapping[Id, Waiter], free: Amounts, gone: Id, stuck: Sequence[Id]) -> list[Id]:
    """Return who of the stuck could go on if one of them were gone."""
    work = dict(free)
    for name, amount in waiters[gone].held.items():
        work[name] = work.get(name, 0) + amount
    rest = {name: waiter for name, waiter in waiters.items() if name != gone}
    still = set(deadlocked(rest, work))
    return [name for name in stuck if name != gone and name not in still]


def knot(waiters: Mapping[Id, Waiter], stuck: Sequence[Id]) -> Id | None:
    """Return the cheapest of the stuck that holds what another of them waits for.

    Where no single one helps, several have to go: this is the next of them.
    """
    for name in sorted(stuck, key=lambda name: (waiters[name].cost, name)):
        held = {each for each, amount in waiters[name].held.items() if amount}
        if any(held & set(waiters[other].waits) for other in stuck if other != name):
            return name
    return None
