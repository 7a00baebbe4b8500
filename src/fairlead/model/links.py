"""How the GPUs of a host are linked: what each pair costs that works together.

NVLink < one PCIe switch < one socket < across sockets (algorithms.md 8.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TypeAlias

from msgspec.structs import replace

from fairlead.model.base import Misuse
from fairlead.model.resources import Device

COST_MAX = 1_000_000
NVLINK, SWITCH, SOCKET, ACROSS = 1, 2, 4, 8  # what a pair costs

Matrix: TypeAlias = tuple[tuple[int, ...], ...]
Place: TypeAlias = tuple[int, int, int]  # a GPU's island, PCIe switch and socket


def costs_of(facts: tuple[Place, ...]) -> Matrix:
    """Return what each pair costs, by where both are."""
    return tuple(tuple(_cost(one, other) for other in facts) for one in facts)


def _cost(one: Place, other: Place) -> int:
    if one[0] == other[0]:
        return NVLINK
    if one[2] != other[2]:
        return ACROSS
    return SWITCH if one[1] == other[1] else SOCKET


def grouped(
    devices: Sequence[Device], *, nvlink: int = 0, pcie: int = 0, socket: int = 0
) -> tuple[Device, ...]:
    """Return the devices in groups of so many: linked by NVLink, on a PCIe switch, on a socket.

    In their order. 0: nobody has said; then no two are linked by NVLink where another group is
    given, and all are on one switch and socket.
    """
    if not (nvlink or pcie or socket):
        return tuple(devices)
    return tuple(
        replace(
            device,
            island=index // (nvlink or 1),
            pcie=index // pcie if pcie else 0,
            socket=index // socket if socket else 0,
        )
        for index, device in enumerate(devices)
    )


def known_links(
    devices: Sequence[Device], tell: Callable[[int, int], int]
) -> tuple[tuple[Device, ...], Matrix]:
    """Return the devices with the groups that they are in, by what each pair of them costs.

    `tell` gives NVLINK, SWITCH, SOCKET or ACROSS. The costs themselves are returned too where
    groups cannot say it: NVLink from one GPU to the next, but not to the one after it.
    """
    size = len(devices)
    cost = [[0] * size for _ in range(size)]
    for one, other in combinations(range(size), 2):
        cost[one][other] = cost[other][one] = tell(one, other)
    island, pcie, socket = (
        _groups(cost, most) for most in ((NVLINK,), (NVLINK, SWITCH), (NVLINK, SWITCH, SOCKET))
    )
    found = tuple(
        replace(device, island=island[at], pcie=pcie[at], socket=socket[at])
        for at, device in enumerate(devices)
    )
    facts = tuple((each.island, each.pcie, each.socket) for each in found)
    pairs = combinations(range(size), 2)
    told = all(_cost(facts[one], facts[other]) == cost[one][other] for one, other in pairs)
    return found, () if told else tuple(tuple(row) for row in cost)


def _groups(cost: Sequence[Sequence[int]], close: tuple[int, ...]) -> list[int]:
    """Return the number of each GPU's group: those that a chain of such pairs connects."""
    group = list(range(len(cost)))
    for one, other in combinations(range(len(cost)), 2):
        if cost[one][other] in close:
            old, new = max(group[one], group[other]), min(group[one], group[other])
            group = [new if each == old else each for each in group]
    numbers = {each: at for at, each in enumerate(dict.fromkeys(group))}
    return [numbers[each] for each in group]


def check_links(cost: object, gpus: int, field: str) -> Matrix:
    """Return the costs of all pairs of so many GPUs, given as rows; Misuse for anything else."""
    rows = cost if isinstance(cost, (list, tuple)) else ()
    square = len(rows) == gpus and all(
        isinstance(row, (list, tuple))
        and len(row) == gpus
        and all(type(each) is int and 0 <= each <= COST_MAX for each in row)
        for row in rows
    )
    if not square:
        raise Misuse(
            f"{field} is no table of {gpus} rows of {gpus} costs from 0 to {COST_MAX}", field=field
        )
    check_costs(rows)
    return tuple(tuple(row) for row in rows)


def check_costs(cost: Sequence[Sequence[int]]) -> None:
    """Raise Misuse for a table that is not square and the same both ways."""
    size = len(cost)
    if any(len(row) != size for row in cost):
        raise Misuse("the costs of links are no square matrix", field="link_cost")
    for one, other in combinations(range(size), 2):
        if cost[one][other] != cost[other][one]:
            raise Misuse(f"the cost of link {one}-{other} depends on the way", field="link_cost")
