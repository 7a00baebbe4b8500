"""Fair Tree: users ranked level by level, so that nobody pays for cousins. algorithms.md 3.4.

A node's level value is S / U: its part of its siblings' shares by its part of its parent's usage.
Depth first, the larger value first. Siblings that tie share a rank; accounts that tie are merged
into one; a user that ties with an account shares the rank of the account's best user. Source:
Slurm's fair_tree.c, the rules it states.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

Level: TypeAlias = Fraction | None  # None: infinite, nothing was used


class Member(NamedTuple):
    """An account with members below, or a user without."""

    name: str
    shares: int
    usage: int = 0  # of a user, in any unit; an account's is the sum of those below
    below: tuple[Member, ...] = ()
    key: tuple[str, ...] = ()  # for the caller


def usage(member: Member) -> int:
    """Return what a member and all below it have used."""
    return member.usage + sum(usage(each) for each in member.below)


def levels(siblings: Sequence[Member]) -> list[Level]:
    """Return the level values of siblings."""
    shares = sum(each.shares for each in siblings)
    uses = [usage(each) for each in siblings]
    total = sum(uses)
    return [
        Fraction(0)
        if not each.shares
        else Fraction(each.shares * total, shares * used)
        if used
        else None
        for each, used in zip(siblings, uses, strict=True)
    ]


def ranking(tree: Member) -> list[tuple[int, Member]]:
    """Return (rank, user) of all users, the best first; rank counts down from their number.

    A user's fair-share factor is rank / number of users.
    """
    order: list[list[Member]] = []
    _descend([tree], order)
    left = sum(map(len, order))
    found: list[tuple[int, Member]] = []
    for equal in order:
        found += [(left, user) for user in equal]
        left -= len(equal)
    return found


def _descend(accounts: Sequence[Member], order: list[list[Member]]) -> None:
    """Append the users below tied accounts, in sets of equals."""
    valued: list[tuple[Level, Member]] = []
    for account in accounts:
        valued += zip(levels(account.below), account.below, strict=True)
    valued.sort(key=lambda item: (item[0] is not None, -(item[0] or 0), item[1].name))
    place = 0
    while place < len(valued):
        value = valued[place][0]
        tied = [each for level, each in valued[place:] if level == value]
        place += len(tied)
        users = [each for each in tied if not each.below]
        inner = [each for each in tied if each.below]
        before = len(order)
        if inner:
            _descend(inner, order)
        if users and len(order) > before:
            order[before] = users + order[before]
        elif users:
            order.append(users)
