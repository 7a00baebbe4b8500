"""Where every queue, and every user in it, stands: what it uses, is entitled to, and borrows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fairlead.core.cohort import Branch
from fairlead.core.decay import AVERAGE_ONE
from fairlead.core.engine import Core
from fairlead.core.shares import Account, D
from fairlead.model.base import Record
from fairlead.model.jobs import PolicyConfig
from fairlead.model.resources import DIMENSIONS
from fairlead.policy.fair.entitle import Amounts, Key, demands, entitlements


class Loan(Record, frozen=True, omit_defaults=False):
    """What a queue uses of what is guaranteed to another."""

    resource: str
    lender: str  # a queue; "": the cluster, of what is guaranteed to nobody
    amount: int


class Standing(Record, frozen=True, omit_defaults=False):
    """A queue, or a user in a queue. Amounts are by resource, in its unit; zeros are left out."""

    queue: str
    user: str  # "": the queue itself, with all that is in it
    depth: int  # from 0: top queues
    weight: int
    resource: str  # the one of which it needs the largest part of the cluster
    share_milli: int  # the largest part of any resource that it uses, in thousandths
    average_milli: int  # the same of its decayed average
    entitled: dict[str, int]  # by weighted max-min with guarantees, of what is demanded now
    quota: dict[str, int]  # its own and those below it: guaranteed
    using: dict[str, int]
    average: dict[str, int]  # decayed average of what it used
    borrowed: dict[str, int]  # beyond what is guaranteed to it
    loans: tuple[Loan, ...]  # whose that is
    waiting: int
    live: int


def standing(core: Core, config: PolicyConfig) -> list[Standing]:
    """Return where all stand: depth first, queues before the users in them. O(users x shapes)."""
    return list(_Standings(core, config).of(core.shares.root, 0))


class _Standings:
    def __init__(self, core: Core, config: PolicyConfig) -> None:
        self.core, self.half_life = core, config.half_life_ms
        self.now = max(core.clock, core.now)
        self.demanded = demands(core)
        self.entitled = entitlements(core, self.demanded)
        self.capacity = core.shares.capacity()[:D]
        self.averages: dict[Key, Amounts] = {}
        self.users: dict[str, list[str]] = {}
        for key, account in sorted(core.shares.accounts.items()):
            if account.live or account.waiting or any(account.average):
                self.users.setdefault(key[0], []).append(key[1])
                self.averages[key] = account.as_of(self.now, self.half_life)
        self.loans: dict[str, list[Loan]] = {}
        for row in core.shares.governed:
            if row < D:
                self._lend(core.shares.root, row, [])
        self._sum(core.shares.root)

    def _sum(self, branch: Branch) -> tuple[Amounts, Amounts]:
        """Work out demands and averages of queues from those below."""
        demand, average = [0] * D, [0] * D
        parts = [self._sum(child) for child in branch.children]
        for user in self.users.get(branch.name, ()):
            key = (branch.name, user)
            parts.append((self.demanded.get(key, [0] * D), self.averages[key]))
        for wanted, past in parts:
            demand = [a + b for a, b in zip(demand, wanted, strict=True)]
            average = [a + b for a, b in zip(average, past, strict=True)]
        self.demanded[branch.name, ""], self.averages[branch.name, ""] = demand, average
        return demand, average

    def _lend(self, branch: Branch, row: int, above: list[tuple[str, int]]) -> None:
        """Say who uses whose guarantee: first what the parent itself was given, then what the
        siblings leave, by name, then what the parent borrows from those above."""
        sources = [(branch.name, branch.quota[row])]
        for child in sorted(branch.children, key=lambda each: each.name):
            lent = child.subtree[row] - max(child.used[row], child.local[row])
            sources.append((child.name, lent))
        sources = [source for source in sources + above if source[1] > 0]
        for child in sorted(branch.children, key=lambda each: each.name):
            wants, mine = child.borrowed(row), []
            while wants > 0 and sources:
                lender, amount = sources[0]
                taken = min(wants, amount)
                wants -= taken
                sources[0] = (lender, amount - taken)
                if taken == amount:
                    del sources[0]
                mine.append((lender, taken))
            found = self.loans.setdefault(child.name, [])
            found += [Loan(DIMENSIONS[row], lender, amount) for lender, amount in mine]
            self._lend(child, row, mine)

    def of(self, branch: Branch, depth: int) -> Iterator[Standing]:
        """Yield a queue's users and queues."""
        for child in sorted(branch.children, key=lambda each: each.name):
            yield self._queue(child, depth)
            for user in self.users.get(child.name, ()):
                account = self.core.shares.accounts[child.name, user]
                yield self._user(child.name, user, account, depth + 1)
            yield from self.of(child, depth + 1)

    def _queue(self, branch: Branch, depth: int) -> Standing:
        queue = self.core.queues.get(branch.name)
        borrowed = [0] * D
        for row in self.core.shares.governed:
            if row < D:
                borrowed[row] = branch.borrowed(row)
        return self._standing(
            (branch.name, ""),
            depth,
            queue.weight if queue else 1,
            held=branch.held,
            quota=self._quota(branch),
            borrowed=borrowed,
            waiting=branch.waiting,
            live=branch.live,
        )

    def _quota(self, branch: Branch) -> Amounts:
        total = list(branch.quota[:D])
        for child in branch.children:
            total = [a + b for a, b in zip(total, self._quota(child), strict=True)]
        return total

    def _user(self, queue: str, name: str, account: Account, depth: int) -> Standing:
        user = self.core.shares.user(name)
        return self._standing(
            (queue, name),
            depth,
            user.weight if user else 1,
            held=account.held,
            quota=[0] * D,
            borrowed=[0] * D,
            waiting=account.waiting,
            live=account.live,
        )

    def _standing(
        self,
        key: Key,
        depth: int,
        weight: int,
        *,
        held: Sequence[int],
        quota: Amounts,
        borrowed: Amounts,
        waiting: int,
        live: int,
    ) -> Standing:
        held = held[:D]
        average = [amount // AVERAGE_ONE for amount in self.averages[key]]
        wants = self._parts(self.demanded.get(key, [0] * D))
        return Standing(
            queue=key[0],
            user=key[1],
            depth=depth,
            weight=weight,
            resource=DIMENSIONS[wants.index(max(wants))],
            share_milli=max(self._parts(held)),
            average_milli=max(self._parts(average)),
            entitled=_named(self.entitled.get(key, [0] * D)),
            quota=_named(quota),
            using=_named(held),
            average=_named(average),
            borrowed=_named(borrowed),
            loans=() if key[1] else tuple(self.loans.get(key[0], ())),
            waiting=waiting,
            live=live,
        )

    def _parts(self, amounts: Sequence[int]) -> list[int]:
        """Return what parts of the cluster these are, in thousandths."""
        return [
            1000 * amount // there if there else 0
            for amount, there in zip(amounts, self.capacity, strict=True)
        ]


def _named(amounts: Sequence[int]) -> dict[str, int]:
    return {name: each for name, each in zip(DIMENSIONS, amounts, strict=True) if each}
