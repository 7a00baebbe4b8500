"""Who is next in a tree of shares, kept while one launch follows another.

Dynamic hierarchical DRF (Bhattacharya et al., SoCC 2013; algorithms.md 4.3). A leaf's vector is
what it uses of every resource, as parts of the whole; its share is the largest of these, by its
weight. An inner node scales the vectors of its busy children down to the least share among them and
adds those of the idle ones as they are: so a child that can take no more of a full resource does
not hold up its siblings, and none pays twice. With leaves alone below the root it is DRF (Ghodsi et
al., NSDI 2011; 4.2).

A plain node just adds: one below it who has nothing yet does not make all others count for nothing.
So it is for the users of one queue, who may be more than it can serve at once.

The scaled vectors of a node's busy children add up to least share x sum of (vector / share), so a
node needs that sum, and the sum of its idle children. Only the first child of every heap on the way
to a leaf changes: a launch costs O(depth x (resources + log children)).

Integers only: parts are of ONE, shares finer by WEIGHT_BITS. A leaf that can start nothing more is
idle from that moment on: `block` where it is the best, else `drop`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from fairlead.core.shares import D, plus
from fairlead.model.base import JobId, Ms

ONE_BITS = 40
ONE = 1 << ONE_BITS
WEIGHT_BITS = 20
NORM_BITS = ONE_BITS + WEIGHT_BITS
WEIGHTLESS_BITS = 40  # a weight of 0 counts as 2^-40: last of all, but not never

Vector: TypeAlias = list[int]
Tie: TypeAlias = tuple[Ms, JobId]  # of the first job: submission and id


# Four operations on vectors, written out for those over DIMENSIONS as `plus` is: each is done at
# every level of the tree for every launch, and a loop takes three times as long.


def _minus(a: Vector, b: Vector) -> Vector:
    return [x - y for x, y in zip(a, b, strict=True)]


def _instead(total: Vector, new: Vector, old: Vector) -> Vector:
    """Return a sum in which `new` has taken the place of `old`."""
    if len(total) == D:
        t0, t1, t2, t3, t4 = total
        n0, n1, n2, n3, n4 = new
        o0, o1, o2, o3, o4 = old
        return [t0 + n0 - o0, t1 + n1 - o1, t2 + n2 - o2, t3 + n3 - o3, t4 + n4 - o4]
    return [t + n - o for t, n, o in zip(total, new, old, strict=True)]


def _norm(vector: Vector, share: int) -> Vector:
    """Return vector / share."""
    if len(vector) == D:
        v0, v1, v2, v3, v4 = vector
        return [
            (v0 << NORM_BITS) // share,
            (v1 << NORM_BITS) // share,
            (v2 << NORM_BITS) // share,
            (v3 << NORM_BITS) // share,
            (v4 << NORM_BITS) // share,
        ]
    return [(part << NORM_BITS) // share for part in vector]


def _scaled(total: Vector, share: int) -> Vector:
    """Return a sum of norms x share."""
    if len(total) == D:
        t0, t1, t2, t3, t4 = total
        return [
            share * t0 >> NORM_BITS,
            share * t1 >> NORM_BITS,
            share * t2 >> NORM_BITS,
            share * t3 >> NORM_BITS,
            share * t4 >> NORM_BITS,
        ]
    return [share * part >> NORM_BITS for part in total]


class Leaf:
    """Somebody who may launch jobs."""

    __slots__ = ("key", "norm", "parent", "share", "tie", "vector", "weight")

    def __init__(self, key: Any, parent: Inner | None, weight: int) -> None:
        self.key, self.parent, self.weight = key, parent, weight
        self.vector: Vector = []
        self.norm: Vector = []  # vector / share: what its parent counts of it
        self.share = 0  # by its weight
        self.tie: Tie = (0, 0)


class Inner(Leaf):
    """A node with others below."""

    __slots__ = ("busy", "heap", "plain", "rest", "total")

    def __init__(self, key: Any, parent: Inner | None, weight: int, width: int) -> None:
        super().__init__(key, parent, weight)
        self.plain = False  # whether it uses what all below it use together, not scaled
        self.busy: list[Leaf] = []  # until `settle`
        self.heap: list[tuple[int, Ms, JobId, Leaf]] = []  # busy children, the least share first
        self.total = [0] * width  # of the busy children: vector / share
        self.rest = [0] * width  # of the idle children: vector


class TreeWalk:
    """A walk that always goes to the busy leaf with the least share."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.root = Inner("", None, 1, width)
        self._open: Sequence[int] | None = None  # rows that are not used up; None: all

    def inner(self, key: Any, parent: Inner, weight: int) -> Inner:
        """Add a node without leaves; one that gets none counts for nothing."""
        return Inner(key, parent, weight, self.width)

    def leaf(self, key: Any, parent: Inner, weight: int, vector: Vector, tie: Tie) -> Leaf:
        """Add a busy leaf."""
        made = Leaf(key, parent, weight)
        made.vector, made.tie = vector, tie
        parent.busy.append(made)
        return made

    def settle(self, rows: Sequence[int] | None = None) -> None:
        """Work everything out, with shares counted in these rows only (None: in all). O(nodes)."""
        self._open = rows
        self._settle(self.root)

    def _settle(self, node: Inner) -> None:
        if node.heap:  # settled before
            node.busy = [entry[3] for entry in node.heap]
        node.total = [0] * self.width
        node.heap = []
        for child in node.busy:
            if isinstance(child, Inner):
                self._settle(child)
                self._look(child)
            self._measure(child)
            node.heap.append((child.share, *child.tie, child))
            if node is not self.root:
                node.total = plus(node.total, child.norm)
        heapq.heapify(node.heap)
        node.busy = []

    def best(self) -> Leaf | None:
        """Return the busy leaf that is next, None if there is none."""
        node: Leaf = self.root
        while isinstance(node, Inner):
            if not node.heap:
                return None
            node = node.heap[0][3]
        return node

    def moved(self, leaf: Leaf, vector: Vector, tie: Tie) -> None:
        """The best leaf now uses this much, and this is its next job."""
        leaf.vector, leaf.tie = vector, tie
        self._rise(leaf)

    def retie(self, leaf: Leaf, tie: Tie) -> None:
        """The best leaf passes over its first job: this is its next."""
        node: Leaf = leaf
        node.tie = tie
        while (parent := node.parent) is not None:
            heapq.heapreplace(parent.heap, (node.share, *node.tie, node))
            if parent.heap[0][1:3] == parent.tie:
                return
            parent.tie = parent.heap[0][1:3]
            node = parent

    def block(self, leaf: Leaf) -> None:
        """The best leaf can start nothing: it is idle from now on."""
        node = leaf
        while (parent := node.parent) is not None:
            heapq.heappop(parent.heap)
            parent.rest = plus(parent.rest, node.vector)
            if parent.heap:
                if parent.parent is not None:
                    parent.total = _minus(parent.total, node.norm)
                    self._look(parent)
                    self._rise(parent)
                return
            parent.vector = parent.rest
            node = parent

    def drop(self, leaf: Leaf) -> None:
        """Any busy leaf can start nothing: it is idle from now on. O(depth x children)."""
        node = leaf
        gone = True
        while (parent := node.parent) is not None:
            others = [entry for entry in parent.heap if entry[3] is not node]
            old = node.norm
            if gone:
                parent.rest = plus(parent.rest, node.vector)
                change = [-each for each in old]
            else:
                self._measure(node)
                others.append((node.share, *node.tie, node))
                change = _minus(node.norm, old)
            heapq.heapify(others)
            parent.heap = others
            if parent.parent is not None:
                if others:
                    parent.total = plus(parent.total, change)
                    self._look(parent)
                else:
                    parent.vector = parent.rest
            gone = not others
            node = parent

    def _rise(self, node: Leaf) -> None:
        """The first child of its parent, and of all above it, has another vector."""
        while (parent := node.parent) is not None:
            old = node.norm
            self._measure(node)
            heapq.heapreplace(parent.heap, (node.share, *node.tie, node))
            if parent.parent is None:
                return
            parent.total = _instead(parent.total, node.norm, old)
            self._look(parent)
            node = parent

    def _look(self, node: Inner) -> None:
        """Work out the vector of a node with busy children."""
        least, submitted, job, _ = node.heap[0]
        node.tie = (submitted, job)
        node.vector = plus(node.total if node.plain else _scaled(node.total, least), node.rest)

    def _measure(self, node: Leaf) -> None:
        """Work out a node's share from its vector."""
        vector = node.vector
        if self._open is None:
            most = max(vector)
        else:
            most = max([vector[row] for row in self._open], default=0)
        if node.weight:
            node.share = share = (most << WEIGHT_BITS) // node.weight
        else:
            node.share = share = most << WEIGHT_BITS + WEIGHTLESS_BITS
        parent = node.parent
        if parent is self.root:
            return  # nobody asks for the root's vector
        if parent is not None and parent.plain:
            node.norm = vector
        else:
            node.norm = _norm(vector, share) if share else [0] * self.width


class RankWalk:
    """A walk by fixed ranks of leaves: the smallest first."""

    def __init__(self, ranked: Iterable[tuple[int, Leaf]]) -> None:
        self._heap = [(rank, *leaf.tie, leaf) for rank, leaf in ranked]
        heapq.heapify(self._heap)

    def best(self) -> Leaf | None:
        """Return the leaf that is next, None if there is none."""
        return self._heap[0][3] if self._heap else None

    def again(self, leaf: Leaf, rank: int, tie: Tie) -> None:
        """The best leaf goes on with another job."""
        leaf.tie = tie
        heapq.heapreplace(self._heap, (rank, *tie, leaf))

    def block(self, leaf: Leaf) -> None:
        """The best leaf can start nothing more."""
        heapq.heappop(self._heap)

    def drop(self, leaf: Leaf) -> None:
        """Any leaf can start nothing more."""
        self._heap = [entry for entry in self._heap if entry[3] is not leaf]
        heapq.heapify(self._heap)
