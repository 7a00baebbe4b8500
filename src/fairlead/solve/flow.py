"""Min-cost flow from tasks through resources with capacities: exact, in integers, of any size.

Successive shortest paths: tasks come in one after another, each by the cheapest chain of moves,
found by Dijkstra's algorithm on reduced costs (Edmonds and Karp 1972; with room for one task each
it is Jonker and Volgenant's). O(n m^2) at worst, in steps of m at a time.
"""

from __future__ import annotations

import numpy as np

from fairlead.solve.duals import Ints
from fairlead.solve.problem import FORBIDDEN, Matrix


def flow(cost: Matrix, capacity: Ints) -> Ints | None:
    """Return the resource of each task at least total cost; None if not every task has a place."""
    tasks, resources = cost.shape
    plan = np.full(tasks, -1, np.int64)
    v = np.zeros(resources, np.int64)
    room = capacity.astype(np.int64)
    at: list[set[int]] = [set() for _ in range(resources)]
    # moves[a, b]: what it costs to move the best task from a to b; mover[a, b]: which one.
    moves = np.full((resources, resources), FORBIDDEN, np.int64)
    mover = np.full((resources, resources), -1, np.int64)

    def settle(resource: int) -> None:
        here = np.array(sorted(at[resource]), np.int64)
        if not len(here):
            moves[resource] = FORBIDDEN
            return
        rows = cost[here]
        gain = np.where(rows == FORBIDDEN, FORBIDDEN, rows - rows[:, resource][:, None])
        best = gain.argmin(axis=0)
        moves[resource] = gain[best, np.arange(resources)]
        mover[resource] = here[best]

    for task in range(tasks):
        row = cost[task]
        distance = np.where(row == FORBIDDEN, FORBIDDEN, row - v)
        before = np.full(resources, -1, np.int64)
        done = np.zeros(resources, np.bool_)
        while True:
            open_ = np.where(done, FORBIDDEN, distance)
            here = int(open_.argmin())
            if open_[here] >= FORBIDDEN // 2:
                return None
            done[here] = True
            if room[here] > 0:
                break
            step = moves[here]
            reach = np.where(step == FORBIDDEN, FORBIDDEN, distance[here] + step + v[here] - v)
            better = (reach < distance) & ~done
            distance[better] = reach[better]
            before[better] = here
        v[done] += distance[done] - distance[here]
        room[here] -= 1
        touched = {here}
        while (source := int(before[here])) >= 0:
            mover_ = int(mover[source, here])
            at[source].discard(mover_)
            at[here].add(mover_)
            plan[mover_] = here
            touched.add(source)
            here = source
        plan[task] = here
        at[here].add(task)
        for each in touched:
            settle(each)
    return plan
