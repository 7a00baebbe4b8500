"""Nodes close together in a tree: the lowest domain (node, rack, switch, all) that has room.

algorithms.md 8.3. GPUs close together on one host: core/links.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from fairlead.model.base import Misuse

K = TypeVar("K", int, str)
D = TypeVar("D", str, tuple[str, ...])

LEVELS = ("node", "rack", "root")


class Domain(NamedTuple):
    """A part of the tree: its level, its name ("root", "RACK", "RACK/NODE"), GPUs per node."""

    level: str
    name: str
    split: dict[str, int]


def pick_nodes(
    free: Mapping[str, int],
    count: int,
    *,
    required: str = "root",
    preferred: str = "node",
    per_node: int | None = None,
) -> Domain | None:
    """Return the domain and the GPUs per node for `count` GPUs, None if nothing has room.

    `free` maps "RACK/NODE" to free GPUs, `per_node` is the most to take of one. Levels are tried
    from `preferred` (lower ones save nothing) up to `required`: what must not be left is never
    left, what is preferred gives way. On a level the domain with the least free GPUs, ties by
    name; inside it as few nodes as possible: the largest first, the last by best fit.
    """
    low, high = _level(preferred, "preferred"), _level(required, "required")
    if low > high:
        raise Misuse(
            f"a {preferred} is preferred, but within one {required} is required",
            field="preferred",
            hint="prefer the same level or a lower one",
        )
    if count < 1:
        raise Misuse(f"{count} GPUs are asked for, expected at least 1", field="k")
    usable = {
        path: min(gpus, per_node) if per_node is not None else gpus
        for path, gpus in sorted(free.items())
    }
    levels = [partial(_domain, level=level) for level in LEVELS[low : high + 1]]
    found = lowest(levels, usable, free, count)
    if found is None:
        return None
    return Domain(LEVELS[low + found.level], found.name, found.split)


class Lowest(NamedTuple, Generic[K, D]):
    """The first level that has a domain with room, that domain, and how much to take of where."""

    level: int
    name: D
    split: dict[K, int]


def lowest(
    levels: Sequence[Callable[[K], D]],
    usable: Mapping[K, int],
    free: Mapping[K, int],
    count: int,
) -> Lowest[K, D] | None:
    """Return where to take `count` of what is usable, by the first level that has room.

    Of its domains with room the one with the least that is free, ties by the first node with room;
    inside it as few nodes as possible: the largest first, the last by best fit. `levels` give the
    domain of a node, from close to far. O(nodes log nodes) per level.
    """
    for at, domain_of in enumerate(levels):
        room: dict[D, int] = {}
        for node in sorted(node for node, amount in usable.items() if amount):
            domain = domain_of(node)
            room[domain] = room.get(domain, 0) + usable[node]
        roomy = {domain: 0 for domain, amount in room.items() if amount >= count}
        if not roomy:
            continue
        for node, amount in free.items():
            if (domain := domain_of(node)) in roomy:
                roomy[domain] += amount
        name = min(roomy, key=roomy.__getitem__)  # the first of several
        inside = {node: amount for node, amount in usable.items() if domain_of(node) == name}
        return Lowest(at, name, _split(inside, count))
    return None


def _level(name: str, field: str) -> int:
    if name not in LEVELS:
        raise Misuse(f"there is no level {name}", field=field, hint=f"one of: {', '.join(LEVELS)}")
    return LEVELS.index(name)


def _domain(path: str, level: str) -> str:
    rack, slash, node = path.partition("/")
    if not (slash and rack and node):
        raise Misuse(f"'{path}' is no RACK/NODE", field="free")
    return {"node": path, "rack": rack, "root": "root"}[level]


def _split(usable: Mapping[K, int], count: int) -> dict[K, int]:
    """Return how much to take of each node, on the least number of nodes."""
    split: dict[K, int] = {}
    left = count
    for node in sorted(usable, key=lambda node: (-usable[node], node)):
        if usable[node] >= left:
            enough = [each for each in usable if each not in split and usable[each] >= left]
            split[min(enough, key=lambda each: (usable[each], each))] = left
            return split
        split[node] = usable[node]
        left -= usable[node]
    raise AssertionError("the domain was said to have room")
