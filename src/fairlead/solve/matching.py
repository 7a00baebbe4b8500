"""How many tasks can be placed at all, and which of them are too many for what they may use.

Kuhn's augmenting chains. A task that no chain can place, with all tasks whose resources it could
reach, is a set S with fewer places than tasks (Hall 1935); such a set is a circuit of the
transversal matroid, so none of its proper subsets is short. The smallest of all circuits is hard to
find in general (McCormick 1983): small worlds are enumerated, else the best circuit seen is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from fairlead.solve.chains import Board, Mask, bits

ENUMERATED_MAX = 200_000  # sets of tasks tried in the search for the smallest that is short


class Short(NamedTuple):
    """Tasks that have fewer places than they are; `smallest`: no smaller set is short."""

    tasks: tuple[int, ...]
    resources: tuple[int, ...]
    shortage: int
    smallest: bool


def matching(masks: Sequence[Mask], capacity: Sequence[int]) -> Board:
    """Return a board on which as many tasks as possible are placed."""
    board = Board(masks, capacity, ())
    free = sum(1 << each for each, room in enumerate(capacity) if room > 0)
    for task, mask in enumerate(masks):
        chain = board.chain(mask, free) if mask else None
        if chain is None:
            continue
        first = chain[0][0] if chain else next(bits(mask & free))
        last = chain[-1][1] if chain else first
        board.follow(chain)
        board.put(task, first)
        if not board.room[last]:
            free &= ~(1 << last)
    return board


def short(board: Board, capacity: Sequence[int]) -> Short | None:
    """Return a smallest set of tasks that is short of places; None if all are placed."""
    lost = [task for task, place in enumerate(board.place) if place < 0]
    if not lost:
        return None
    best: tuple[int, ...] = ()
    involved: set[int] = set()
    for task in lost:
        board.chain(board.masks[task], 0)
        circuit = {task}.union(*(board.at[each] for each in bits(board.visited)))
        involved |= circuit
        found = tuple(sorted(circuit))
        if not best or (len(found), found) < (len(best), best):
            best = found
    smallest = True
    tried = 0
    for size in range(1, len(best) + 1):
        if size == len(best) and not _affordable(len(involved), size, tried):
            break  # the size is right, only a lexicographically smaller set is not looked for
        for found in combinations(sorted(involved), size):
            tried += 1
            if tried > ENUMERATED_MAX:
                smallest = False
                break
            places, mask = 0, 0
            for task in found:
                mask |= board.masks[task]
            places = sum(capacity[each] for each in bits(mask))
            if places < size:
                return _short(found, board.masks, capacity, smallest=True)
        if not smallest:
            break
    return _short(best, board.masks, capacity, smallest=smallest)


def _affordable(tasks: int, size: int, tried: int) -> bool:
    count = tried
    ways = 1
    for step in range(size):
        ways = ways * (tasks - step) // (step + 1)
    return count + ways <= ENUMERATED_MAX


def _short(
    tasks: tuple[int, ...], masks: Sequence[Mask], capacity: Sequence[int], *, smallest: bool
) -> Short:
    union = 0
    for task in tasks:
        union |= masks[task]
    resources = tuple(bits(union))
    return Short(tasks, resources, len(tasks) - sum(capacity[j] for j in resources), smallest)
