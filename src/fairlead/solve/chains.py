"""Chains of moves: one task moves to a resource, somebody there moves on, until there is room.

Sets of resources are the bits of integers, so that a step looks at thousands of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Mask = int  # bit j: resource j


def masks_of(allowed: npt.NDArray[np.bool_]) -> list[Mask]:
    """Return for each row of a matrix the columns that hold, as bits."""
    packed = np.packbits(allowed, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]


def bits(mask: Mask) -> Iterator[int]:
    """Yield the resources of a mask, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Board:
    """Which task stands where, how much room is left, and the chains that make room."""

    def __init__(self, masks: Sequence[Mask], capacity: Sequence[int], place: Iterable[int]):
        self.masks = list(masks)
        self.room = list(capacity)
        self.at: list[set[int]] = [set() for _ in capacity]
        self.place = [-1] * len(self.masks)
        self.visited: Mask = 0
        self.steps = 0
        self._next: dict[int, Mask] = {}
        self.extra: dict[int, Mask] = {}  # moves that need no task, see lexicographic.py
        for task, resource in enumerate(place):
            if resource >= 0:
                self.put(task, resource)

    def put(self, task: int, resource: int) -> None:
        """Place a task, or move it."""
        self.lift(task)
        self.place[task] = resource
        self.at[resource].add(task)
        self.room[resource] -= 1
        self._next.pop(resource, None)

    def lift(self, task: int) -> None:
        """Take a task off its resource."""
        old = self.place[task]
        if old >= 0:
            self.at[old].discard(task)
            self.room[old] += 1
            self.place[task] = -1
            self._next.pop(old, None)

    def fix(self, task: int) -> None:
        """Let a task stay where it is: no chain moves it any more."""
        self.at[self.place[task]].discard(task)
        self._next.pop(self.place[task], None)

    def forget(self, resource: int) -> None:
        """Compute anew where a resource leads: `extra` has changed."""
        self._next.pop(resource, None)

    def onward(self, resource: int) -> Mask:
        """Return where the tasks of a resource could move."""
        found = self._next.get(resource)
        if found is None:
            found = self.extra.get(resource, 0)
            for task in self.at[resource] if resource < len(self.at) else ():
                found |= self.masks[task]
            self._next[resource] = found
        return found

    def chain(self, start: Mask, goal: Mask) -> list[tuple[int, int]] | None:
        """Return the resources (from, to) of a shortest chain from `start` into `goal`, in order.

        [] if one is in both; None if there is none, and then `visited` is all that can be reached.
        Its first element begins where a task may come in.
        """
        if start & goal:
            return []
        came: list[tuple[int, Mask]] = []
        self.visited = start
        level = start
        while level:
            following = 0
            for here in bits(level):
                self.steps += 1
                fresh = self.onward(here) & ~self.visited
                if not fresh:
                    continue
                came.append((here, fresh))
                if fresh & goal:
                    return self._back(came, fresh & goal)
                self.visited |= fresh
                following |= fresh
            level = following
        return None

    @staticmethod
    def _back(came: list[tuple[int, Mask]], goal: Mask) -> list[tuple[int, int]]:
        last = next(bits(goal))
        links = []
        for here, fresh in reversed(came):
            if fresh >> last & 1:
                links.append((here, last))
                last = here
        return links[::-1]

    def follow(self, chain: Iterable[tuple[int, int]]) -> None:
        """Move one task along each link; a link that needs no task moves none."""
        for source, target in reversed(list(chain)):
            if self.extra.get(source, 0) >> target & 1:
                continue
            task = min(each for each in self.at[source] if self.masks[each] >> target & 1)
            self.put(task, target)
