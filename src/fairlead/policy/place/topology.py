"""Where GPUs are close together: on one host by the cost of links, in a tree by levels.

algorithms.md 8.3. On a host the least sum of pair costs (NVLink < one PCIe switch < one socket <
across sockets); in a tree the lowest domain (node, rack, root) that has room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import combinations
from math import comb
from typing import Generic, NamedTuple, TypeVar

from fairlead.model.base import Misuse

K = TypeVar("K", int, str)
D = TypeVar("D", str, tuple[str, ...])

SUBSETS_MAX = 20_000  # looked at one by one; beyond, sets are grown from each GPU
LEVELS = ("node", "rack", "root")


class Pick(NamedTuple):
    """GPUs of one host, and the sum of the costs of their pairs."""

    gpus: tuple[int, ...]
    cost: int
    exact: bool  # no cheaper set exists


def pick_gpus(
    cost: Sequence[Sequence[int]], free: Iterable[int], count: int, *, keep_pair: bool = False
) -> Pick | None:
    """Return the free GPUs of least pair cost, None if there are too few; ties: the least indices.

    With `keep_pair`, of equal cost the set that leaves the cheapest best pair for the next job.
    Exact for hosts of 8 GPUs, and while there are at most 20,000 sets to look at. Raises Misuse
    for a matrix that is not square and symmetric, or GPUs that it does not have.
    """
    usable = sorted(set(free))
    _check(cost, usable, count)
    if count > len(usable):
        return None
    exact = comb(len(usable), count) <= SUBSETS_MAX
    sets = combinations(usable, count) if exact else _grown(cost, usable, count)
    best: tuple[int, int, tuple[int, ...]] | None = None
    for chosen in sets:
        price = pair_cost(cost, chosen)
        if best is not None and price > best[0]:
            continue
        left = _best_pair(cost, [gpu for gpu in usable if gpu not in chosen]) if keep_pair else 0
        if best is None or (price, left, chosen) < best:
            best = price, left, chosen
    assert best is not None
    return Pick(best[2], best[0], exact)


def pair_cost(cost: Sequence[Sequence[int]], gpus: Sequence[int]) -> int:
    """Return the sum of the costs of all pairs of these GPUs."""
    return sum(cost[one][other] for one, other in combinations(gpus, 2))


def _check(cost: Sequence[Sequence[int]], usable: Sequence[int], count: int) -> None:
    size = len(cost)
    if any(len(row) != size for row in cost):
        raise Misuse("the costs of links are no square matrix", field="link_cost")
    for one, other in combinations(range(size), 2):
        if cost[one][other] != cost[other][one]:
            raise Misuse(f"the cost of link {one}-{other} depends on the way", field="link_cost")
    if count < 1:
        raise Misuse(f"{count} GPUs are asked for, expected at least 1", field="k")
    if usable and not 0 <= usable[0] <= usable[-1] < size:
        raise Misuse(f"GPU {usable[-1]} is free but there are {size}", field="free")


def _grown(
    cost: Sequence[Sequence[int]], usable: Sequence[int], count: int
) -> Iterable[tuple[int, ...]]:
    """Yield one set per GPU: grown from it by whichever adds the least cost."""
    for first in usable:
        chosen = [first]
        added = {gpu: cost[first][gpu] for gpu in usable if gpu != first}
        while len(chosen) < count:
            closest = min(added, key=lambda gpu: (added[gpu], gpu))
            del added[closest]
            chosen.append(closest)
            for gpu in added:
                added[gpu] += cost[closest][gpu]
        yield tuple(sorted(chosen))


def _best_pair(cost: Sequence[Sequence[int]], left: Sequence[int]) -> int:
    """Return the cost of the cheapest pair, more than any where there is none."""
    ceiling = 1 + max((max(row) for row in cost), default=0)
    return min((cost[one][other] for one, other in combinations(left, 2)), default=ceiling)


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

    Of its domains with room the one with the least that is free, ties by name; inside it as few
    nodes as possible: the largest first, the last by best fit. `levels` give the domain of a node,
    from close to far. O(nodes log nodes) per level.
    """
    for at, domain_of in enumerate(levels):
        room: dict[D, int] = {}
        for node, amount in usable.items():
            domain = domain_of(node)
            room[domain] = room.get(domain, 0) + amount
        roomy = {domain: 0 for domain, amount in room.items() if amount >= count}
        if not roomy:
            continue
        for node, amount in free.items():
            if (domain := domain_of(node)) in roomy:
                roomy[domain] += amount
        name = min(roomy, key=lambda each: (roomy[each], each))
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
