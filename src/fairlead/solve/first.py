"""The lexicographically smallest perfect matching of a graph, given any perfect matching of it.

A block of tasks takes, in order, the first resource that is left to each. Whoever held it looks for
another place among those that the block has vacated, by a chain of moves. Where no chain leads
there, some tasks have one place fewer than they are (Hall 1935), and the last of the block that
took one from them took one too many. It is let go, with all that come after it in the block, and
then as many places as tasks are left to those: in no plan does anybody else take one of them.

So each block fixes a task at least or splits off such a closed set, and what it has moved remains a
matching. Sets of resources are the bits of integers, one step looks at thousands of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fairlead.solve.chains import Mask, bits

BLOCK = 64  # tasks to begin with: twice as many when all go well, else twice as many as went well
BLOCK_MIN = 4
NEAR_TASKS = 16  # tasks one move away from a free place: so many are looked for
FREE_FEW = 4  # with fewer free places than these a chain is looked for from both of its ends


def first(
    masks: Sequence[Mask],
    place: Sequence[int],
    reach: Sequence[list[int]] | None,
    tasks: int,
    most: int,
) -> tuple[list[int], bool]:
    """Return the places of the smallest matching in the order of the first `tasks` tasks.

    `masks`: where each task may be; `place`: where it is, all resources taken; `reach`: who may be
    on each resource, None if too many to list. Tasks beyond `tasks` may end anywhere. False: given
    up after about `most` looks at a resource, with a matching as good as was found by then.
    """
    search = _Search(masks, place, reach)
    at, size = 0, BLOCK
    while at < tasks and search.steps <= most:
        end = min(at + size, tasks)
        reached = search.block(at, end)
        size = 2 * size if reached == end else max(BLOCK_MIN, 2 * (reached - at))
        at = reached
    return search.place, at >= tasks


class _Closed(NamedTuple):
    """Tasks that have these places and no others, and nobody else has them."""

    tasks: list[int]
    places: Mask


class _Search:
    """A matching in the making. A task moves within the region of its label only."""

    def __init__(
        self, masks: Sequence[Mask], place: Sequence[int], reach: Sequence[list[int]] | None
    ):
        self.masks = masks
        self.reach = reach
        self.place = list(place)  # -1 while a task looks for one
        self.holder = [0] * len(place)
        for task, resource in enumerate(place):
            self.holder[resource] = task
        self.open: Mask = (1 << len(place)) - 1  # not held by a fixed task
        self.free: Mask = 0  # held by nobody
        self.fixed = 0  # so many tasks are fixed, the first ones
        self.label = [0] * len(place)
        self.region = [self.open]
        self.steps = 0

    def block(self, begin: int, end: int) -> int:
        """Fix the tasks from `begin` to `end`, or to one that took a wrong place; return where.

        That place will not be left to it again.
        """
        closed: _Closed | None = None
        for task in self._settle(begin, self._take(begin, end)):
            while (found := self._place(task)) is not None:
                closed = found
        if closed is not None:
            old, new = self.label[closed.tasks[0]], len(self.region)
            self.region[old] &= ~closed.places
            self.region.append(closed.places)
            for task in closed.tasks:
                self.label[task] = new
        return self.fixed

    def _take(self, begin: int, end: int) -> list[int]:
        """Return the first place that is left to each task of a block, and close these places."""
        masks, label, region, left = self.masks, self.label, self.region, self.open
        taken = []
        for task in range(begin, end):
            mine = masks[task] & left & region[label[task]]
            if not mine:
                break
            mine &= -mine
            left ^= mine
            taken.append(mine.bit_length() - 1)
        self.open = left
        self.fixed = begin + len(taken)
        return taken

    def _settle(self, begin: int, taken: list[int]) -> list[int]:
        """Let a block have its places, and who held them the vacated ones; return who has none."""
        masks, place, holder = self.masks, self.place, self.holder
        homeless = [each for each in (holder[x] for x in taken) if each >= self.fixed]
        free = 0
        for each in place[begin : self.fixed]:
            free |= 1 << each
        free &= self.open
        for task, resource in enumerate(taken, begin):
            place[task] = resource
            holder[resource] = task
        stuck = []
        for task in homeless:
            near = masks[task] & free & self.region[self.label[task]]
            if near:
                near &= -near
                free ^= near
                self._put(task, near.bit_length() - 1)
            else:
                place[task] = -1
                stuck.append(task)
        self.free = free
        return stuck

    def _put(self, task: int, resource: int) -> None:
        self.place[task] = resource
        self.holder[resource] = task

    def _place(self, task: int) -> _Closed | None:
        """Place a task by a chain of moves; else let one of the block go, and return why."""
        masks, label = self.masks, self.label[task]
        field = self.open & self.region[label]
        goal = self.free & field
        onward: dict[int, int] = {}
        if self.reach is not None and goal.bit_count() < FREE_FEW:
            tasks, goal, all_ = self._near(goal, label, onward)
            if all_:  # nobody else can have these places
                last = self._let_go(lambda each: masks[each] & goal and self.label[each] == label)
                return _Closed([*tasks, last], goal)
        start = masks[task] & field
        came: list[tuple[int, Mask]] = []
        left, level, hit = field & ~start, start, start & goal
        while level and not hit:
            level, left, hit = self._step(level, left, goal, came)
        self.steps += 1 + len(came)
        if not hit:  # these tasks have no other places
            seen = field & ~left
            tasks = [task, *(self.holder[each] for each in bits(seen))]
            theirs = 0
            for each in tasks:
                theirs |= masks[each]
            theirs &= self.region[label]
            last = self._let_go(lambda each: theirs >> self.place[each] & 1)
            return _Closed(tasks, seen | 1 << self.place[last])
        self._follow(task, hit & self.free or hit, came, onward)
        return None

    def _near(self, goal: Mask, label: int, onward: dict[int, int]) -> tuple[list[int], Mask, bool]:
        """Return tasks that chains can move into free places, all places so near, and whether
        these are all that there are. `onward` is told where each of the tasks moves to.
        """
        assert self.reach is not None
        tasks: list[int] = []
        all_ = True
        queue = list(bits(goal))
        for resource in queue:
            for task in self.reach[resource]:
                if task < self.fixed or self.label[task] != label:
                    continue
                here = self.place[task]
                if here < 0:
                    all_ = False
                elif not goal >> here & 1:
                    goal |= 1 << here
                    onward[here] = resource
                    queue.append(here)
                    tasks.append(task)
            if len(tasks) > NEAR_TASKS:
                return tasks, goal, False
        return tasks, goal, all_

    def _step(
        self, level: Mask, left: Mask, goal: Mask, came: list[tuple[int, Mask]]
    ) -> tuple[Mask, Mask, Mask]:
        """Return what is one move on from a level, what is left to see, and what of the goal is
        met. `came` is told from where.
        """
        masks, holder = self.masks, self.holder
        following = 0
        while level:
            low = level & -level
            level ^= low
            here = low.bit_length() - 1
            fresh = masks[holder[here]] & left
            if fresh:
                came.append((here, fresh))
                if fresh & goal:
                    return following, left, fresh & goal
                left ^= fresh
                following |= fresh
        return following, left, 0

    def _let_go(self, took: Callable[[int], object]) -> int:
        """Fix only the tasks before the last of the block that took a certain place; return it."""
        while True:
            self.fixed -= 1
            self.open |= 1 << self.place[self.fixed]
            if took(self.fixed):
                return self.fixed

    def _follow(
        self, task: int, hit: Mask, came: list[tuple[int, Mask]], onward: dict[int, int]
    ) -> None:
        """Move everybody along a chain that goes by `came` to a place of `hit`, then `onward`."""
        last = (hit & -hit).bit_length() - 1
        path = [last]
        while path[-1] in onward:
            path.append(onward[path[-1]])
        self.free ^= 1 << path[-1]
        for here, there in zip(path[-2::-1], path[:0:-1], strict=True):
            self._put(self.holder[here], there)
        for here, fresh in reversed(came):
            if fresh >> last & 1:
                self._put(self.holder[here], last)
                last = here
        self._put(task, last)
