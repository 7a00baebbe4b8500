"""One task per resource: chooses how to solve it, and gives plan, prices and tight pairs."""

from __future__ import annotations

import numpy as np

from fairlead.solve import sparse
from fairlead.solve.chains import masks_of
from fairlead.solve.duals import Ints, dense_duals
from fairlead.solve.flow import flow
from fairlead.solve.matching import matching
from fairlead.solve.problem import FORBIDDEN, Matrix


def one_each(cost: Matrix) -> tuple[Ints, Ints, Ints, Ints] | None:
    """Return plan, u, v and the tight pairs (flat); None if not every task can have a resource."""
    tasks, resources = cost.shape
    if tasks > resources:
        return None
    mate: Ints | None = None
    low, high = int(cost.min()), int(cost.max())
    if high >= FORBIDDEN:
        board = matching(masks_of(cost != FORBIDDEN), [1] * resources)
        if min(board.place) < 0:
            return None
        mate = np.array(board.place, np.int64)
        high = int(cost[cost != FORBIDDEN].max())
    if sparse.exact_in_floats(low, high, (tasks, resources)):
        return sparse.assign(cost, mate, low)
    return many_each(cost, np.ones(resources, np.int64))


def many_each(cost: Matrix, capacity: Ints) -> tuple[Ints, Ints, Ints, Ints] | None:
    """Return the same where a resource takes as many tasks as its capacity."""
    plan = flow(cost, capacity)
    if plan is None:
        return None
    u, v = dense_duals(cost, plan, capacity)
    return plan, u, v, np.flatnonzero(cost - v == u[:, None])
