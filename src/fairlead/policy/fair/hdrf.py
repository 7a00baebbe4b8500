"""Dynamic hierarchical DRF, task by task, in a cluster that is one heap of resources.

The same walk that orders jobs (walk.py), where whatever fits in total fits. Source: Bhattacharya et
al., SoCC 2013; algorithms.md 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from fairlead.policy.fair.walk import ONE, Inner, TreeWalk, Vector


class Share(NamedTuple):
    """A node of a tree of shares: a leaf launches equal tasks, others have nodes below."""

    name: str
    weight: int = 1
    below: tuple[Share, ...] = ()
    demand: Mapping[str, int] = {}
    most: int | None = None  # tasks; None: no limit


def leaves(tree: Share) -> Iterator[Share]:
    """Yield the leaves, in the order of their names, tree by tree."""
    if not tree.below:
        yield tree
    for child in sorted(tree.below, key=lambda each: each.name):
        yield from leaves(child)


def launch(capacity: Mapping[str, int], tree: Share) -> list[str]:
    """Return the leaves in the order in which they launch tasks, until nothing fits.

    Ties by name. A task without any demand never ends, so it needs `most`.
    """
    names = sorted(capacity)
    free = [capacity[name] for name in names]
    walk = TreeWalk(len(names))
    order = {leaf.name: place for place, leaf in enumerate(leaves(tree))}

    def grow(share: Share, parent: Inner) -> None:
        for child in share.below:
            if child.below:
                node = walk.inner(child, parent, child.weight)
                grow(child, node)
                parent.busy.append(node)
            else:
                nothing = [0] * len(names)
                walk.leaf(child, parent, child.weight, nothing, (0, order[child.name]))

    grow(tree if tree.below else Share("", below=(tree,)), walk.root)
    walk.settle()
    used = {leaf.name: 0 for leaf in leaves(tree)}
    done: list[str] = []
    while (leaf := walk.best()) is not None:
        share = leaf.key
        assert isinstance(share, Share)
        asked = [share.demand.get(name, 0) for name in names]
        ended = share.most is not None and used[share.name] >= share.most
        if ended or any(a > f for a, f in zip(asked, free, strict=True)):
            walk.block(leaf)
            continue
        used[share.name] += 1
        done.append(share.name)
        free = [f - a for f, a in zip(free, asked, strict=True)]
        walk.moved(leaf, _vector(capacity, names, asked, used[share.name]), leaf.tie)
        if any(a and not f for a, f in zip(asked, free, strict=True)):
            walk.settle([row for row, amount in enumerate(free) if amount])
    return done


def _vector(
    capacity: Mapping[str, int], names: Sequence[str], asked: Sequence[int], tasks: int
) -> Vector:
    return [
        ONE * amount * tasks // capacity[name] if capacity[name] else 0
        for name, amount in zip(names, asked, strict=True)
    ]


def promised(tree: Share) -> dict[str, Fraction]:
    """Return the share that every leaf is sure of when all are busy: the product of its parts."""
    found: dict[str, Fraction] = {}

    def descend(share: Share, part: Fraction) -> None:
        if not share.below:
            found[share.name] = part
        total = sum(child.weight for child in share.below)
        for child in share.below:
            descend(child, part * Fraction(child.weight, total))

    descend(tree, Fraction(1))
    return found
