"""GPUs of one host that are close together: the least sum of the costs of their pairs.

NVLink < one PCIe switch < one socket < across sockets (algorithms.md 8.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import combinations
from math import comb
from typing import NamedTuple

from fairlead.model.base import Misuse
from fairlead.model.links import Matrix, Place, check_costs, costs_of
from fairlead.model.resources import Node

SETS_MAX = 20_000
QUICK = 2_000  # sets to look at while a job waits: all of a host of 8, 4 of 16
KEPT = 4_096  # choices remembered per kind of host


class Pick(NamedTuple):
    """GPUs of one host, and the sum of the costs of their pairs."""

    gpus: tuple[int, ...]
    cost: int
    exact: bool  # no cheaper set exists


def pick_gpus(
    cost: Sequence[Sequence[int]],
    free: Iterable[int],
    count: int,
    *,
    keep_pair: bool = False,
    sets_max: int = SETS_MAX,
) -> Pick | None:
    """Return the free GPUs of least pair cost, None if there are too few; ties: the least indices.

    With `keep_pair`, of equal cost the set that leaves the cheapest best pair for the next job.
    Exact while there are at most `sets_max` sets to look at one by one (so for hosts of 8 GPUs);
    beyond, sets are grown from each GPU. Raises Misuse
    for a matrix that is not square and symmetric, or GPUs that it does not have.
    """
    usable = sorted(set(free))
    check_costs(cost)
    if count < 1:
        raise Misuse(f"{count} GPUs are asked for, expected at least 1", field="k")
    if usable and not 0 <= usable[0] <= usable[-1] < len(cost):
        raise Misuse(f"GPU {usable[-1]} is free but there are {len(cost)}", field="free")
    if count > len(usable):
        return None
    exact = comb(len(usable), count) <= sets_max
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


class Links:
    """The links of one kind of host, with the choices that were made before."""

    def __init__(self, cost: Matrix) -> None:
        self.cost = cost
        self._made: dict[tuple[tuple[int, ...], int], tuple[int, ...] | None] = {}

    def pick(self, free: tuple[int, ...], count: int) -> tuple[int, ...] | None:
        """Return the closest of the free GPUs (ascending), None if there are too few.

        Of sets that are as close the one that leaves the closest pair, then the least indices.
        """
        key = free, count
        if key not in self._made:
            if len(self._made) >= KEPT:
                self._made.clear()
            found = pick_gpus(self.cost, free, count, keep_pair=True, sets_max=QUICK)
            self._made[key] = None if found is None else found.gpus
        return self._made[key]


def links_of(node: Node) -> Links | None:
    """Return the links of a host, None where all pairs are alike: then any GPUs are as good."""
    facts = tuple((each.island, each.pcie, each.socket) for each in node.devices)
    return _links(facts, node.links) if len(facts) > 2 and (node.links or any(facts)) else None


@lru_cache(maxsize=1024)
def _links(facts: tuple[Place, ...], known: Matrix) -> Links | None:
    cost = known or costs_of(facts)
    pairs = {cost[one][other] for one, other in combinations(range(len(cost)), 2)}
    return Links(cost) if len(pairs) > 1 else None
