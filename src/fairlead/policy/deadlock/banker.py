"""The banker's algorithm: is there an order in which all can be served, whatever they still ask?

Source: Dijkstra 1965 (EWD 108, EWD 623); Habermann, CACM 1969; algorithms.md 12.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

Amounts: TypeAlias = Mapping[str, int]


class Claim(NamedTuple):
    """What somebody holds, and what it needs beyond that before it gives everything back."""

    held: Amounts
    need: Amounts


def finishing(claims: Sequence[Claim], free: Amounts) -> list[int]:
    """Return who can finish, by index, in the order lowest index first after each that has.

    With needs up to declared maxima this is the banker's safety check, with needs that are asked
    for now the reduction that finds deadlocks. O(n^2 r).
    """
    work = dict(free)
    done: list[int] = []
    left = dict(enumerate(claims))
    while True:
        index = next((each for each, claim in left.items() if _covered(claim.need, work)), None)
        if index is None:
            return done
        for name, amount in left.pop(index).held.items():
            work[name] = work.get(name, 0) + amount
        done.append(index)


def _covered(need: Amounts, work: Amounts) -> bool:
    return all(amount <= work.get(name, 0) for name, amount in need.items() if amount)


def safe_sequence(claims: Sequence[Claim], free: Amounts) -> list[int] | None:
    """Return an order in which all can finish, None if there is none: the state is unsafe."""
    order = finishing(claims, free)
    return order if len(order) == len(claims) else None


def unsafe_set(claims: Sequence[Claim], free: Amounts) -> list[int]:
    """Return those that may never finish, if each asks for all it may."""
    return sorted(set(range(len(claims))) - set(finishing(claims, free)))


def grant(claims: Sequence[Claim], free: Amounts, who: int, amounts: Amounts) -> bool:
    """Whether a request may be granted: within what was declared and what is free, and safe.

    In a state that is unsafe already (a limit was lowered) a grant is one that strands nobody
    else.
    """
    claim = claims[who]
    for name, amount in amounts.items():
        if amount > claim.need.get(name, 0) or amount > free.get(name, 0):
            return False
    after = list(claims)
    after[who] = Claim(_plus(claim.held, amounts), _plus(claim.need, amounts, -1))
    stranded = set(unsafe_set(after, _plus(free, amounts, -1)))
    return not stranded or stranded <= set(unsafe_set(claims, free))


def _plus(amounts: Amounts, more: Amounts, sign: int = 1) -> dict[str, int]:
    found = dict(amounts)
    for name, amount in more.items():
        found[name] = found.get(name, 0) + sign * amount
    return found
