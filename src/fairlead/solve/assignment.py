"""Assignment at least cost, resources up to their capacity; with tasks left out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairlead.solve.answer import Duals, Explanation
from fairlead.solve.chains import Board, masks_of
from fairlead.solve.duals import Ints
from fairlead.solve.lexicographic import smallest
from fairlead.solve.matching import matching, short
from fairlead.solve.problem import FORBIDDEN, Matrix
from fairlead.solve.unit import many_each, one_each

FLOW_MAX = 300  # tasks up to which leaving out is solved as one resource more, not as many


class LeftOut(NamedTuple):
    """That a task may be left out: at which cost, and how many at most."""

    cost: int
    most: int


class Assigned(NamedTuple):
    """A cheapest plan, -1 for a task left out; `first`: the lexicographically smallest of them."""

    plan: Ints
    value: int
    duals: Duals
    first: bool


def assign(cost: Matrix, capacity: Ints, left_out: LeftOut | None = None) -> Assigned | None:
    """Return the smallest cheapest plan with its prices; None if not every task has a place.

    `capacity` counts tasks. A task left out comes after every resource in the order of plans.
    """
    tasks, resources = cost.shape
    capacity = np.minimum(capacity, tasks)
    unit = bool(np.all(capacity == 1))
    wide, room, extra = cost, capacity, 0
    if left_out is not None and left_out.most > 0:
        extra = left_out.most if unit and tasks > FLOW_MAX else 1
        column = np.full((tasks, extra), left_out.cost, np.int64)
        wide = np.ascontiguousarray(np.concatenate([cost, column], axis=1))
        last = np.full(extra, 1 if extra > 1 else left_out.most, np.int64)
        room = np.concatenate([capacity, last])
        unit = unit and last[0] == 1
    found = one_each(wide) if unit else many_each(wide, room)
    if found is None:
        return None
    plan, u, v, tight = found
    plan, first = smallest(wide.shape, plan, v, tight, room)
    value = int(wide[np.arange(tasks), plan].sum())
    price = int(v[resources:].min()) if extra else 0
    duals = Duals(
        u=tuple(u.tolist()),
        v=tuple(v[:resources].tolist()),
        left_out=price,
        left_out_most=left_out.most if left_out is not None else 0,
    )
    return Assigned(np.where(plan >= resources, -1, plan), value, duals, first)


def as_many(cost: Matrix, capacity: Ints) -> tuple[Assigned, Explanation | None]:
    """Return the cheapest of the plans that place the most tasks, and why not all are placed."""
    masks = masks_of(cost != FORBIDDEN)
    counts = np.minimum(capacity, len(cost)).tolist()
    board = matching(masks, counts)
    lost = sum(place < 0 for place in board.place)
    found = assign(cost, capacity, LeftOut(0, lost))
    assert found is not None, "a plan of so many is known"
    return found, None if not lost else _explain(board, counts)


def explain(cost: Matrix, capacity: Ints) -> Explanation | None:
    """Return why not every task has a place; None if every task has."""
    counts = np.minimum(capacity, len(cost)).tolist()
    board = matching(masks_of(cost != FORBIDDEN), counts)
    return _explain(board, counts)


def _explain(board: Board, capacity: list[int]) -> Explanation | None:
    found = short(board, capacity)
    if found is None:
        return None
    return Explanation(
        rows=(),
        irreducible=True,
        tasks=found.tasks,
        resources=found.resources,
        shortage=found.shortage,
        placeable=sum(place >= 0 for place in board.place),
        smallest=found.smallest,
    )
