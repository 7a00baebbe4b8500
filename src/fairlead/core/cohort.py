"""Quotas that are lent and borrowed in a tree: who may use how much more. Pure arithmetic.

Every branch has rows, one per resource. None as a limit: there is none. Source: Kueue's
resource_node.go, as stated in algorithms.md 4.4. A question costs O(depth).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Limits: TypeAlias = Sequence[int | None]


class Branch:
    """A queue, or the cluster itself at the root."""

    __slots__ = (
        *("borrow", "children", "held", "lend", "live", "local", "most", "name", "parent"),
        *("quota", "subtree", "used", "waiting"),
    )

    def __init__(self, name: str, parent: Branch | None, rows: int) -> None:
        self.name, self.parent = name, parent
        self.children: list[Branch] = []
        if parent is not None:
            parent.children.append(self)
        self.quota = [0] * rows  # its own, guaranteed
        self.borrow: Limits = [None] * rows
        self.lend: Limits = [None] * rows
        self.most: Limits = [None] * rows
        self.subtree = [0] * rows  # its own quota, and what those below it lend
        self.local = [0] * rows  # of that, what it lends to nobody
        self.used = [0] * rows  # its own use, and what those below it take beyond their own
        self.held = [0] * rows  # all that is held here and below
        self.live = 0  # jobs here and below that hold resources
        self.waiting = 0  # jobs here and below that wait

    def copy(self, parent: Branch | None) -> Branch:
        """Return this branch and all below it again, under another parent."""
        other = Branch(self.name, parent, 0)
        for name in ("quota", "borrow", "lend", "most", "subtree", "local", "held"):
            setattr(other, name, getattr(self, name))
        other.used = list(self.used)
        other.live, other.waiting = self.live, self.waiting
        for child in self.children:
            child.copy(other)
        return other

    def above(self) -> list[Branch]:
        """Return this branch and all above it, up to the root."""
        path: list[Branch] = [self]
        while path[-1].parent is not None:
            path.append(path[-1].parent)
        return path

    def settle(self) -> None:
        """Derive the quotas of this branch and of all below it from what each was given."""
        self.subtree = list(self.quota)
        for child in self.children:
            child.settle()
            for row, lent in enumerate(child.subtree):
                self.subtree[row] += lent - child.local[row]
        self.local = [
            0 if most is None else max(0, whole - most)
            for whole, most in zip(self.subtree, self.lend, strict=True)
        ]

    def use(self, row: int, amount: int) -> None:
        """Book what is used here: what exceeds the branch's own is used of those above it."""
        branch: Branch | None = self
        while branch is not None and amount:
            before = max(0, branch.used[row] - branch.local[row])
            branch.used[row] += amount
            amount = max(0, branch.used[row] - branch.local[row]) - before
            branch = branch.parent

    def available(self, row: int) -> int:
        """Return how much more can be used here now; below zero after a cut of quotas."""
        if self.parent is None:
            return self.subtree[row] - self.used[row]
        local, used, borrow = self.local[row], self.used[row], self.borrow[row]
        more = self.parent.available(row)
        if borrow is not None:
            more = min(more, self.subtree[row] - local - max(0, used - local) + borrow)
        return max(0, local - used) + more

    def potential(self, row: int) -> int:
        """Return the most that could be used here if nobody else used anything."""
        if self.parent is None:
            return self.subtree[row]
        most = self.local[row] + self.parent.potential(row)
        borrow = self.borrow[row]
        return most if borrow is None else min(most, self.subtree[row] + borrow)

    def borrowed(self, row: int) -> int:
        """Return what is used here beyond what the branch was promised."""
        return max(0, self.used[row] - self.subtree[row])
