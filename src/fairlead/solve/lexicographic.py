"""Of all plans of least cost the lexicographically smallest: task 0 as far left as can be, then 1 …

Given prices that prove one plan, every plan of the same cost uses tight pairs only and leaves no
resource of a negative price with room. So the first task may move to a tight resource if a chain of
tight moves leads from there back to the place it leaves (or to room, when that place has no price).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fairlead.solve.chains import Board, Mask, masks_of
from fairlead.solve.duals import Ints
from fairlead.solve.first import first

LISTED_MAX = 64  # tight pairs per resource, at the mean
TRIMMED_MAX = 30  # of more tight pairs per task few are outside of all circles
STEPS_MAX = 2_000_000  # looks at a resource, about 2 s; worlds with many equal costs need them


def smallest(
    shape: tuple[int, int], plan: Ints, v: Ints, tight: Ints, capacity: Ints
) -> tuple[Ints, bool]:
    """Return the smallest plan, and whether the search was complete.

    `tight` are the pairs with u_i + v_j = c_ij, flat and ascending. Resources
    are compared by index.
    """
    tasks, resources = shape
    room = capacity - np.bincount(plan, minlength=resources)
    unit = bool(np.all(capacity == 1))
    if unit and len(tight) > TRIMMED_MAX * tasks:
        return _one_each(shape, plan, v, tight, room)
    row, column = np.divmod(tight, resources)
    source = plan[row]
    reach_row, reach_column = row, column
    moves = source != column
    row, column, source = row[moves], column[moves], source[moves]
    core = _circular(source, column, v, room)
    if not core.any():
        return plan, True
    if unit:
        kept = np.concatenate([tight[moves][core], np.arange(tasks) * resources + plan])
        return _one_each(shape, plan, v, kept, room)
    board = _board(shape, plan, v, row, column, room)
    reach = _reach(reach_row, reach_column, resources)
    alive = sum(1 << each for each in range(resources) if board.onward(each))
    for task in range(tasks):
        here = board.place[task]
        board.fix(task)
        wanted = board.masks[task] & ((1 << here) - 1) & alive
        touched = {here}
        goal = _goal(board, task, here, reach) if wanted else 0
        while wanted and goal:
            first = wanted & -wanted
            chain = board.chain(first, goal)
            if chain is not None:
                last = chain[-1][1] if chain else first.bit_length() - 1
                if last != here:
                    chain.append((last, here))
                target = first.bit_length() - 1
                board.follow(chain)
                board.put(task, target)
                board.fix(task)
                touched |= {target}.union(*chain)
                break
            wanted &= ~board.visited
        _pass_room(board, touched)
        for each in touched:
            alive = alive | 1 << each if board.onward(each) else alive & ~(1 << each)
        if board.steps > STEPS_MAX:
            return np.array(board.place, np.int64), False
    return np.array(board.place, np.int64), True


def _reach(row: Ints, column: Ints, resources: int) -> list[list[int]] | None:
    """Return which tasks could move to each resource; None if they are too many to list."""
    if len(row) > LISTED_MAX * resources:
        return None
    tasks = row[np.argsort(column, kind="stable")].tolist()
    ends = np.cumsum(np.bincount(column, minlength=resources)).tolist()
    return [tasks[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def _goal(board: Board, task: int, here: int, reach: list[list[int]] | None) -> Mask:
    """Return where a chain is one move away from `here`; a wide goal is found soon."""
    if reach is None:
        return 1 << here
    free = len(board.room)
    goal = (board.extra.get(free, 0) >> here & 1) << free
    for each in reach[here]:
        if each > task:
            goal |= 1 << board.place[each]
    return goal


def _circular(source: Ints, target: Ints, v: Ints, room: Ints) -> npt.NDArray[np.bool_]:
    """Return which tight moves may be part of a circle; without any the plan is the only one."""
    count, moves = len(v), len(source)
    open_ = np.flatnonzero(room > 0)
    if len(open_):
        idle = np.intersect1d(np.flatnonzero(v == 0), source)
        source = np.concatenate([source, open_, np.full(len(idle), count)])
        target = np.concatenate([target, np.full(len(open_), count), idle])
    kept = np.arange(len(source))
    while len(kept):
        enters = np.zeros(count + 1, np.bool_)
        leaves = np.zeros(count + 1, np.bool_)
        enters[target[kept]] = True
        leaves[source[kept]] = True
        stay = enters[source[kept]] & leaves[target[kept]]
        if stay.all():
            break
        kept = kept[stay]
    core = np.zeros(len(source), np.bool_)
    core[kept] = True
    return core[:moves]


def _one_each(
    shape: tuple[int, int], plan: Ints, v: Ints, tight: Ints, room: Ints
) -> tuple[Ints, bool]:
    """Return the smallest plan of one task per resource, on these pairs; whether it surely is."""
    tasks, resources = shape
    dense = np.zeros(shape, np.bool_)
    dense.reshape(-1)[tight] = True
    masks, place = masks_of(dense), plan.tolist()
    reach: list[list[int]] | None = None
    idle = np.flatnonzero(room > 0).tolist()
    if idle:  # somebody nameless is there, who can be wherever there is no price
        masks += masks_of((v == 0)[None, :]) * len(idle)
        place += idle
    elif len(tight) <= LISTED_MAX * resources:
        reach = _reach(*np.divmod(tight, resources), resources)
    found, sure = first(masks, place, reach, tasks, STEPS_MAX)
    return np.array(found[:tasks], np.int64), sure


def _board(
    shape: tuple[int, int], plan: Ints, v: Ints, row: Ints, column: Ints, room: Ints
) -> Board:
    tasks, resources = shape
    masks = [1 << int(each) for each in plan]
    if len(row) > 40 * tasks:
        dense = np.zeros(shape, np.bool_)
        dense[row, column] = True
        packed = np.packbits(dense, axis=1, bitorder="little")
        more = (int.from_bytes(each.tobytes(), "little") for each in packed)
        masks = [one | other for one, other in zip(masks, more, strict=True)]
    else:
        for task, resource in zip(row.tolist(), column.tolist(), strict=True):
            masks[task] |= 1 << resource
    used = np.bincount(plan, minlength=resources)
    board = Board(masks, (room + used).tolist(), plan.tolist())
    free = len(board.room)
    if any(each > 0 for each in board.room):
        board.extra[free] = sum(1 << int(each) for each in np.flatnonzero(v == 0))
    _pass_room(board, range(free))
    return board


def _pass_room(board: Board, resources: Iterable[int]) -> None:
    """Let room pass from a resource that has some to one without a price, by a node "free"."""
    free = len(board.room)
    if free not in board.extra:
        return
    for resource in resources:
        now = 1 << free if resource < free and board.room[resource] > 0 else 0
        if resource < free and board.extra.get(resource, 0) != now:
            board.extra[resource] = now
            board.forget(resource)
