"""What accounts have used: present use beside its decayed average, and decayed use in one number.

Source: algorithms.md 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.core.cohort import Branch
from fairlead.core.decay import AVERAGE_BITS
from fairlead.core.engine import Core
from fairlead.core.shares import Account, D, plus
from fairlead.model.base import Ms
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.fair.fairtree import Member
from fairlead.policy.fair.walk import ONE_BITS


class Past:
    """Use as an order by shares counts it: ((100 - history) x held + history x average) / 100.

    Amounts are exact: in parts of 1 / `whole` of their unit.
    """

    def __init__(self, core: Core, config: PolicyConfig, history: int) -> None:
        self.whole = 100 << AVERAGE_BITS if history else 1
        self._now = (100 - history) << AVERAGE_BITS if history else 1
        self._averages: dict[tuple[str, ...], list[int]] = {}
        self._below: dict[str, list[int]] = {}
        if not history:
            return
        for key, account in core.shares.accounts.items():
            if not (any(account.average) or any(account.held)):
                continue
            average = account.as_of(max(core.clock, account.at_ms), config.half_life_ms)
            if not any(average):
                continue
            weighed = self._averages[key] = [history * each for each in average]
            name = key[0]
            while name is not None:
                old = self._below.get(name)
                self._below[name] = (
                    weighed if old is None else [a + b for a, b in zip(old, weighed, strict=True)]
                )
                branch = core.shares.branches.get(name)
                parent = branch.parent if branch is not None else None
                if parent is None:
                    break
                name = parent.name

    def of(self, key: tuple[str, ...], held: Sequence[int]) -> list[int]:
        """Return the use of an account that holds so much now."""
        now = self._now
        h0, h1, h2, h3, h4 = held[:D]  # written out: in the hot path
        found = [now * h0, now * h1, now * h2, now * h3, now * h4]
        average = self._averages.get(key)
        return found if average is None else plus(found, average)

    def used(self, branch: Branch) -> list[int]:
        """Return the use of a queue and all below it."""
        average = self._below.get(branch.name)
        if average is None:
            return [self._now * amount for amount in branch.held[:D]]
        return [self._now * a + b for a, b in zip(branch.held, average, strict=False)]


def counted(account: Account, now: Ms, half_life_ms: Ms, capacity: Sequence[int]) -> int:
    """Return the decayed use of an account in one number: its largest part of any resource."""
    average = account.as_of(max(now, account.at_ms), half_life_ms)
    return max(
        (each << ONE_BITS) // (there << AVERAGE_BITS) if there else 0
        for each, there in zip(average, capacity, strict=False)
    )


def known(account: Account) -> bool:
    """Whether an account counts among its siblings: it waits, runs, or has run."""
    return bool(account.waiting or account.live or any(account.average))


def tree_of(core: Core, config: PolicyConfig) -> Member:
    """Return the tree of queues and users with weights and decayed use; idle queues left out."""
    shares = core.shares
    capacity = shares.capacity()[:D]
    users: dict[str, list[Member]] = {}
    for key, account in sorted(shares.accounts.items()):
        if known(account):
            user = shares.user(key[1])
            used = counted(account, core.clock, config.half_life_ms, capacity)
            member = Member(key[1], user.weight if user else 1, used, key=key)
            users.setdefault(key[0], []).append(member)

    def grow(branch: Branch) -> Member:
        below = [grow(child) for child in branch.children]
        below = [each for each in below if each.below] + users.get(branch.name, [])
        queue = core.queues.get(branch.name)
        return Member(branch.name, queue.weight if queue else 1, 0, tuple(below))

    return grow(shares.root)
