"""The fair orders: which leaf is next, given what all hold and have held.

A walk is made from the core alone at the beginning of a pass, and follows its launches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from fairlead.core.cohort import Branch
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.shares import D
from fairlead.model.jobs import PolicyConfig
from fairlead.policy.fair.entitle import asks, demands, entitlements
from fairlead.policy.fair.fairtree import Member, ranking
from fairlead.policy.fair.past import Past, tree_of
from fairlead.policy.fair.queue import LeafKey
from fairlead.policy.fair.terms import Terms
from fairlead.policy.fair.walk import ONE, Inner, Leaf, RankWalk, Tie, TreeWalk, Vector

Firsts = Mapping[LeafKey, Job]  # the first job of every leaf that waits
NAMES = ("fair", "drf", "maxmin", "multifactor", "fairtree")  # in `PolicyConfig.order`
NOTHING = 1 << 512  # so large a divisor leaves nothing of any amount
PAST = ("fair", "multifactor", "fairtree")  # those that heed past use


class Walk(Protocol):
    """Who is next, while one launch follows another."""

    leaves: dict[LeafKey, Leaf]

    def best(self) -> Leaf | None:
        """Return the leaf that is next, None if none is left."""
        ...

    def launched(self, leaf: Leaf, after: Job | None, as_if: Job | None = None) -> None:
        """The best leaf has started a job, or is taken to have (`as_if`); this is its next."""
        ...

    def passed(self, leaf: Leaf, after: Job | None) -> None:
        """The best leaf's first job is passed over; this is its next."""
        ...

    def drop(self, key: LeafKey) -> None:
        """A leaf can start nothing more."""
        ...


def tie(job: Job) -> Tie:
    """Return by what equals are told apart."""
    return (job.submitted_ms, job.id)


class _Shares:
    """A walk by what leaves hold: the core's accounts, and what is taken to be launched."""

    def __init__(self, core: Core, width: int) -> None:
        self.core = core
        self.tree = TreeWalk(width)
        self.leaves: dict[LeafKey, Leaf] = {}
        self._as_if: dict[LeafKey, list[int]] = {}

    def best(self) -> Leaf | None:
        """Return the leaf that is next, None if none is left."""
        return self.tree.best()

    def launched(self, leaf: Leaf, after: Job | None, as_if: Job | None = None) -> None:
        """The best leaf has started a job, or is taken to have; this is its next."""
        key: LeafKey = leaf.key
        held = self.core.shares.accounts[key[0], key[1]].held
        if as_if is not None:
            request = self.core.shapes[as_if.shape_id]
            old = self._as_if.get(key, [0] * D)
            self._as_if[key] = [a + b for a, b in zip(old, asks(request), strict=True)]
        if self._as_if and key in self._as_if:
            held = [a + b for a, b in zip(held, self._as_if[key], strict=False)]
        vector = self.vector(key, held)
        if after is None:
            leaf.vector = vector
            self.tree.block(leaf)
            del self.leaves[key]
        else:
            self.tree.moved(leaf, vector, (after.submitted_ms, after.id))
        if as_if is None:
            self.used_up()

    def passed(self, leaf: Leaf, after: Job | None) -> None:
        """The best leaf's first job is passed over; this is its next."""
        if after is None:
            self.tree.block(leaf)
            del self.leaves[leaf.key]
        else:
            self.tree.retie(leaf, (after.submitted_ms, after.id))

    def drop(self, key: LeafKey) -> None:
        """A leaf can start nothing more."""
        self.tree.drop(self.leaves.pop(key))

    def vector(self, key: LeafKey, held: list[int]) -> Vector:
        """Return the vector of a leaf that holds so much."""
        raise NotImplementedError

    def used_up(self) -> None:
        """Look whether nothing is free any more of a resource."""


class Fair(_Shares):
    """Hierarchical DRF of present use and its decayed average; flat: DRF over all leaves."""

    def __init__(self, core: Core, firsts: Firsts, config: PolicyConfig, *, flat: bool) -> None:
        shares = core.shares
        shares.sync()
        capacity = shares.capacity()[:D]
        super().__init__(core, D)
        self.past = Past(core, config, 0 if flat else config.history_percent)
        # What there is nothing of counts for nothing, even where jobs on lost nodes still hold it.
        self._whole = [self.past.whole * amount or NOTHING for amount in capacity]
        self._limits = self._where_full(capacity)
        self._full = 0
        if flat:
            for key, job in firsts.items():
                queue, user = core.queues.get(key[0]), shares.user(key[1])
                weight = (queue.weight if queue else 1) * (user.weight if user else 1)
                held = shares.accounts[key[0], key[1]].held
                vector = self.vector(key, held)
                self.leaves[key] = self.tree.leaf(key, self.tree.root, weight, vector, tie(job))
        else:
            waiting: dict[str, list[LeafKey]] = {}
            for key in firsts:
                waiting.setdefault(key[0], []).append(key)
            self._grow(shares.root, self.tree.root, waiting, firsts)
        self.tree.settle()
        self.used_up()

    def _where_full(self, capacity: list[int]) -> list[tuple[int, int]]:
        """Return (row, held by all) at which nothing is free any more."""
        core = self.core
        room, held = core.ledger.view(), core.shares.root.held
        up = [index for index, node in enumerate(core.nodes) if node.up]
        free = room[:D, up].clip(min=0).sum(axis=1).tolist()
        return [(row, held[row] + free[row]) for row in range(D) if capacity[row]]

    def _grow(
        self,
        branch: Branch,
        node: Inner,
        waiting: Mapping[str, list[LeafKey]],
        firsts: Firsts,
    ) -> list[int]:
        """Add what is below a queue; return what all of it uses."""
        shares = self.core.shares
        idle = used = self.past.used(branch)
        # To the letter (hdrf) users are scaled like queues; by what they had, they are added.
        node.plain = branch.name in waiting and self.core.policy.history_percent > 0
        for key in waiting.get(branch.name, ()):
            user, account = shares.user(key[1]), shares.accounts[key[0], key[1]]
            mine = self.past.of(key, account.held)
            weight = user.weight if user else 1
            vector, its = self._parts(mine), tie(firsts[key])
            self.leaves[key] = self.tree.leaf(key, node, weight, vector, its)
            idle = [a - b for a, b in zip(idle, mine, strict=True)]
        for child in branch.children:
            queue = self.core.queues.get(child.name)
            below = self.tree.inner(child.name, node, queue.weight if queue else 1)
            whole = self._grow(child, below, waiting, firsts)
            if below.busy:
                node.busy.append(below)
                idle = [a - b for a, b in zip(idle, whole, strict=True)]
        node.rest = self._parts(idle)
        return used

    def vector(self, key: LeafKey, held: list[int]) -> Vector:
        """Return the parts of the cluster that a leaf uses when it holds so much."""
        return self._parts(self.past.of(key, held))

    def _parts(self, amounts: list[int]) -> Vector:
        a0, a1, a2, a3, a4 = amounts  # written out: in the hot path
        w0, w1, w2, w3, w4 = self._whole
        return [ONE * a0 // w0, ONE * a1 // w1, ONE * a2 // w2, ONE * a3 // w3, ONE * a4 // w4]

    def used_up(self) -> None:
        """Count shares only in resources of which something is free."""
        held = self.core.shares.root.held
        full = 0
        for row, limit in self._limits:
            if held[row] >= limit:
                full += 1
        if full != self._full:
            self._full = full
            self.tree.settle([row for row, limit in self._limits if held[row] < limit])

    def count_all(self) -> None:
        """Count shares in all resources from now on: where nothing is free none would be left."""
        self._limits, self._full = [], 0
        self.tree.settle()


class MaxMin(_Shares):
    """Who is farthest below its entitlement, by the resource of which it needs most."""

    def __init__(self, core: Core, firsts: Firsts) -> None:
        super().__init__(core, 1)
        wanted = demands(core)
        entitled = entitlements(core, wanted)
        capacity = core.shares.capacity()[:D]
        self._of: dict[LeafKey, tuple[int, int]] = {}  # the resource, and the entitlement
        for key, job in firsts.items():
            amounts = wanted[key[0], key[1]]
            parts = [
                ONE * amount // there if there else 0
                for amount, there in zip(amounts, capacity, strict=True)
            ]
            row = parts.index(max(parts))
            self._of[key] = (row, max(1, entitled[key[0], key[1]][row]))
            held = core.shares.accounts[key[0], key[1]].held
            vector = self.vector(key, held)
            self.leaves[key] = self.tree.leaf(key, self.tree.root, 1, vector, tie(job))
        self.tree.settle()

    def vector(self, key: LeafKey, held: list[int]) -> Vector:
        """Return what part of its entitlement a leaf holds."""
        row, entitled = self._of[key]
        return [ONE * held[row] // entitled]


class Ranked:
    """A walk by ranks that launches do not change: of a leaf, or of its first job."""

    def __init__(self, firsts: Firsts, rank: Callable[[LeafKey, Job], int]) -> None:
        self._rank = rank
        self.leaves: dict[LeafKey, Leaf] = {}
        ranked = []
        for key, job in firsts.items():
            leaf = self.leaves[key] = Leaf(key, None, 1)
            leaf.tie = tie(job)
            ranked.append((rank(key, job), leaf))
        self._walk = RankWalk(ranked)

    def best(self) -> Leaf | None:
        """Return the leaf that is next, None if none is left."""
        return self._walk.best()

    def launched(self, leaf: Leaf, after: Job | None, as_if: Job | None = None) -> None:
        """The best leaf has started a job; this is its next."""
        self.passed(leaf, after)

    def passed(self, leaf: Leaf, after: Job | None) -> None:
        """The best leaf's first job is passed over; this is its next."""
        if after is None:
            self._walk.block(leaf)
            del self.leaves[leaf.key]
        else:
            self._walk.again(leaf, self._rank(leaf.key, after), tie(after))

    def drop(self, key: LeafKey) -> None:
        """A leaf can start nothing more."""
        self._walk.drop(self.leaves.pop(key))


def fair_tree(core: Core, firsts: Firsts, config: PolicyConfig) -> Ranked:
    """Rank leaves by Fair Tree of their decayed use."""
    ranks = fair_tree_ranks(tree_of(core, config))
    return Ranked(firsts, lambda key, job: -ranks[key[0], key[1]])


def fair_tree_ranks(tree: Member) -> dict[LeafKey, int]:
    """Return the ranks of all users in queues, the largest the best."""
    return {user.key: rank for rank, user in ranking(tree)}


def walk(core: Core, firsts: Firsts, config: PolicyConfig) -> Walk:
    """Return the walk of an order for the leaves that wait. O(accounts + queues)."""
    if config.order == "maxmin":
        return MaxMin(core, firsts)
    if config.order == "multifactor":
        terms = Terms(core, config)
        return Ranked(firsts, lambda key, job: -terms.points(job))
    if config.order == "fairtree":
        return fair_tree(core, firsts, config)
    return Fair(core, firsts, config, flat=config.order == "drf")
