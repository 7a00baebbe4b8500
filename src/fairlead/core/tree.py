"""Where nodes are: in racks, racks under switches. How many members of a gang fit close together.

A domain is all nodes that share a rack or a switch; a node is the smallest. What nobody has said
is never taken to be close: a node without a rack is a rack of its own, a rack without a switch is
all that is under its switch (algorithms.md 8.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from fairlead.model.base import NodeId
from fairlead.model.resources import LEVELS, Level, Node, Shape

if TYPE_CHECKING:
    from fairlead.core.ledger import Ledger, Request

Domain: TypeAlias = tuple[str, ...]  # (switch,), (switch, rack) or (switch, rack, node)


def domains(node: Node) -> tuple[Domain, ...]:
    """Return the domains that a node is in, in the order of LEVELS."""
    own = (node.switch, node.rack, node.name)
    rack = own[:2] if node.rack else own
    return (own, rack, own[:1] if node.switch else rack)


def level_of(ledger: Ledger, level: Level, node: NodeId) -> Domain:
    """Return the domain of a level that a node is in."""
    return ledger.domains[node][LEVELS.index(level)]


def together(ledger: Ledger, shape: Shape, nodes: Iterable[NodeId]) -> bool:
    """Whether members on these nodes are as close together as a shape requires."""
    return not shape.within or len({level_of(ledger, shape.within, node) for node in nodes}) <= 1


class Tally:
    """How many members of a gang fit on each node, and whether all fit by the rules of its shape:
    how they are spread, and within what they have to be. Kept up node by node."""

    __slots__ = ("_full", "_ledger", "_level", "_per", "counts", "members", "spread", "total")

    def __init__(self, ledger: Ledger, request: Request) -> None:
        self._ledger, self.members = ledger, request.members
        self.spread, within = request.shape.spread, request.shape.within
        self._level = LEVELS.index(within) if within else -1
        self.counts: dict[NodeId, int] = {}
        self.total = 0
        self._per: dict[Domain, int] = {}  # members that fit in each domain of the level
        self._full = 0  # domains in which all members fit

    def set(self, node: NodeId, count: int) -> None:
        """So many members fit on a node now, if they need not be spread."""
        members = self.members
        if self.spread == "distinct-nodes":
            count = min(count, 1)
        elif self.spread == "same-node" and count < members:
            count = 0
        change = count - self.counts.get(node, 0)
        self.total += change
        if self._level >= 0 and change:
            domain = self._ledger.domains[node][self._level]
            before = self._per.get(domain, 0)
            self._per[domain] = before + change
            self._full += (before + change >= members) - (before >= members)
        if count:
            self.counts[node] = count
        else:
            self.counts.pop(node, None)

    def enough(self) -> bool:
        """Whether all members fit together."""
        return self._full > 0 if self._level >= 0 else self.total >= self.members

    def most(self) -> int:
        """Return how many members fit by the rules, at most all; with same-node all or none."""
        most = max(self._per.values(), default=0) if self._level >= 0 else self.total
        return min(most, self.members)
