"""What each queue, and each user in it, is entitled to now, of every resource.

Weighted max-min with guarantees, from the root of the tree down: what the cluster has is divided
among the top queues by what they demand (hold, and wait for), what each gets among the queues and
users in it. A queue is guaranteed its quota and the quotas below it. algorithms.md 4.1, 4.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from fairlead.core.cohort import Branch
from fairlead.core.engine import Core
from fairlead.core.ledger import Request
from fairlead.core.shares import D
from fairlead.model.resources import asked_in_all
from fairlead.policy.fair.maxmin import Claim, divide_whole

Key: TypeAlias = tuple[str, str]  # queue and user; the user "" is the queue itself
Amounts: TypeAlias = list[int]  # in the order of DIMENSIONS


def asks(request: Request) -> Amounts:
    """Return what a job of a shape will hold at least, in the order of DIMENSIONS."""
    return list(asked_in_all(request.shape))


def demands(core: Core) -> dict[Key, Amounts]:
    """Return what every user of every queue holds and waits for; O(users x shapes)."""
    known = [asks(request) for request in core.shapes]
    found: dict[Key, Amounts] = {}
    for key, account in core.shares.accounts.items():
        if account.live or account.waiting:
            total = list(account.held[:D])
            for shape, jobs in account.waits.items():
                total = [a + jobs * b for a, b in zip(total, known[shape], strict=True)]
            found[key] = total
    return found


def entitlements(core: Core, demanded: Mapping[Key, Amounts]) -> dict[Key, Amounts]:
    """Return the entitlement of every queue and of every user in one."""
    users: dict[str, list[str]] = {}
    for queue, user in sorted(demanded):
        users.setdefault(queue, []).append(user)
    found: dict[Key, Amounts] = {}
    shares = core.shares
    shares.sync()
    for row, capacity in enumerate(shares.capacity()[:D]):
        wants = {key: amounts[row] for key, amounts in demanded.items()}
        _Row(core, row, users, wants, found).share(shares.root, capacity)
    return found


class _Row:
    """One resource."""

    def __init__(
        self,
        core: Core,
        row: int,
        users: Mapping[str, list[str]],
        wants: Mapping[Key, int],
        found: dict[Key, Amounts],
    ) -> None:
        self.core, self.row, self.users, self.wants, self.found = core, row, users, wants, found
        self.claims: dict[str, Claim] = {}
        self._claim(core.shares.root)

    def _claim(self, branch: Branch) -> Claim:
        """Return what a queue claims, after those below it."""
        row, mine = self.row, self.users.get(branch.name, ())
        below = [self._claim(child) for child in branch.children]
        demand = sum(self.wants[branch.name, user] for user in mine)
        demand += sum(int(claim.demand) for claim in below)
        guarantee = branch.quota[row] + sum(int(claim.guarantee) for claim in below)
        most, borrow = branch.most[row], branch.borrow[row]
        if borrow is not None:
            demand = min(demand, guarantee + borrow)
        if most is not None:
            demand = min(demand, most)
        queue = self.core.queues.get(branch.name)
        claim = Claim(demand, queue.weight if queue else 1, guarantee)
        self.claims[branch.name] = claim
        return claim

    def share(self, branch: Branch, capacity: int) -> None:
        """Divide what a queue gets among those in it."""
        mine = self.users.get(branch.name, ())
        claims = [self.claims[child.name] for child in branch.children]
        claims += [Claim(self.wants[branch.name, user], self._weight(user), 0) for user in mine]
        parts = divide_whole(capacity, claims)
        self._note((branch.name, ""), min(capacity, int(self.claims[branch.name].demand)))
        for user, part in zip(mine, parts[len(branch.children) :], strict=True):
            self._note((branch.name, user), part)
        for child, part in zip(branch.children, parts, strict=False):
            self.share(child, part)

    def _weight(self, name: str) -> int:
        user = self.core.shares.user(name)
        return user.weight if user else 1

    def _note(self, key: Key, amount: int) -> None:
        self.found.setdefault(key, [0] * D)[self.row] = amount
