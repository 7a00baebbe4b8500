"""What queues and users got of a cluster, beside what their weights entitle them to.

Counted is the time in which somebody waits: while there is enough for all, who asks for little
gets little, and that is no unfairness. In that time whoever has jobs is entitled to a part by
weight, level by level, users inside their queue; who has none leaves its part to its siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.model.jobs import EVERYBODY, Queue, User
from fairlead.sim.metrics import Columns, Figures, columns, grouped, steps
from fairlead.sim.replay import Outcome

ACCOUNTS_MAX = 400  # users of queues that are told apart; beyond, queues alone are
Numbers: TypeAlias = npt.NDArray[np.float64]


class ShareRow(Figures, frozen=True, kw_only=True):
    """The figures of a queue or a user; `got` and `entitled` are parts of all that was used while
    somebody waited. `max_rho` is the worst finish-time fairness of its jobs (at most 1 is fair)."""

    name: str
    weight: int
    got_ratio: float
    entitled_ratio: float | None  # None: not computed, there are too many
    preemptions: int
    max_rho: float


class Shares(msgspec.Struct, frozen=True):
    """How fairly a replay shared. Jain's index: 1 where all got the same part of their due."""

    queues: list[ShareRow]
    users: list[ShareRow]
    jain_queues: float | None
    jain_users: float | None
    max_rho: float
    contended_s: float  # in which somebody waited

    def as_json(self) -> dict[str, Any]:
        """Return the fields for `--json`."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        return body


class _Tree(NamedTuple):
    """Queues and, as leaves below them, their users: parents come before children."""

    parent: npt.NDArray[np.int64]  # 0 is the root, its own parent
    weight: Numbers
    depth: npt.NDArray[np.int64]
    leaf_of: list[int]  # of each job


def shares_of(
    outcome: Outcome, queues: Sequence[Queue] = (), users: Sequence[User] = ()
) -> Shares | None:
    """Return how a replay shared between queues and users; None where there is one queue alone.

    Queues that nobody set have weight 1. O(jobs x log + changes of who has jobs x accounts).
    """
    jobs = outcome.workload.jobs
    of_queue, of_user = [job.spec.queue for job in jobs], [job.spec.user for job in jobs]
    if len(set(of_queue)) < 2 and len(queues) < 2:
        return None
    cols = columns(outcome)
    known = {queue.name: queue for queue in queues}
    people = {user.name: user for user in users}
    accounts = list(zip(of_queue, of_user, strict=True))
    detailed = len(set(accounts)) <= ACCOUNTS_MAX
    leaves: list[tuple[str, str]] = accounts if detailed else [(name, "") for name in of_queue]
    names = sorted(set(leaves))
    tree = _tree(leaves, names, known, people)
    got, entitled, contended_ms = _accrued(cols, tree, len(names))
    rhos = finish_time_fairness(outcome, cols)
    by_queue = {name: [i for i, each in enumerate(names) if each[0] == name] for name, _ in names}
    queue_rows = _rows(
        cols, of_queue, outcome.preempted, rhos, by_queue, got, entitled, _weights_of(known)
    )
    if detailed:
        by_user = {
            name: [i for i, each in enumerate(names) if each[1] == name] for _, name in names
        }
        user_rows = _rows(
            cols, of_user, outcome.preempted, rhos, by_user, got, entitled, _weights_of(people)
        )
    else:
        user_rows = _rows(cols, of_user, outcome.preempted, rhos, {}, got, entitled, {})
    return Shares(
        queues=queue_rows,
        users=user_rows,
        jain_queues=_jain(queue_rows),
        jain_users=_jain(user_rows),
        max_rho=float(rhos.max()),
        contended_s=contended_ms / 1000,
    )


def _weights_of(known: dict[str, Queue] | dict[str, User]) -> dict[str, int]:
    return {name: each.weight for name, each in known.items()}


def _tree(
    leaves: Sequence[tuple[str, str]],
    names: Sequence[tuple[str, str]],
    known: dict[str, Queue],
    people: dict[str, User],
) -> _Tree:
    parent, weight, depth = [0], [1], [0]
    place: dict[str, int] = {"": 0}

    def grow(name: str) -> int:
        if name not in place:
            queue = known.get(name, Queue(name=name))
            above = grow(queue.parent)
            place[name] = len(parent)
            parent.append(above)
            weight.append(queue.weight)
            depth.append(depth[above] + 1)
        return place[name]

    leaf: dict[tuple[str, str], int] = {}
    everybody = people.get(EVERYBODY, User(name=EVERYBODY))
    above = [grow(queue) for queue, _ in names]
    for (queue, user), at in zip(names, above, strict=True):
        leaf[queue, user] = len(parent)
        parent.append(at)
        weight.append(people.get(user, everybody).weight)
        depth.append(depth[at] + 1)
    return _Tree(
        np.array(parent, np.int64),
        np.array(weight, np.float64),
        np.array(depth, np.int64),
        [leaf[each] for each in leaves],
    )


def _accrued(cols: Columns, tree: _Tree, count: int) -> tuple[Numbers, Numbers, int]:
    """Return what each of the leaves (the last `count` of the tree) got and was entitled to, as
    parts of all use while somebody waited, and for how long that was, in ms."""
    first = len(tree.parent) - count
    which = np.array(tree.leaf_of, np.int64) - first
    at, leaf, here, waits, used = _changes(cols, which)
    active = np.zeros(count, np.int64)
    use = np.zeros(count, np.int64)
    got, entitled = np.zeros(count), np.zeros(count)
    waiting = contended = 0
    parts: dict[bytes, Numbers] = {}
    edges = np.flatnonzero(np.diff(at, prepend=at[0] - 1)).tolist()
    for begin, stop in zip(edges, [*edges[1:], len(at)], strict=True):
        for i in range(begin, stop):
            active[leaf[i]] += here[i]
            use[leaf[i]] += used[i]
            waiting += int(waits[i])
        if stop == len(at) or not waiting:
            continue
        span = int(at[stop] - at[begin])
        key = (active > 0).tobytes()
        if key not in parts:
            parts[key] = _parts(tree, active > 0, first)
        got += use * span
        entitled += parts[key] * (int(use.sum()) * span)
        contended += span
    total = float(got.sum()) or 1.0
    return got / total, entitled / total, contended


def _changes(cols: Columns, which: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    """Return what changes in time: when, whose, jobs there, jobs waiting, thousandths in use."""
    job, begun, ended = cols.pauses
    each = np.arange(len(cols.submit))
    one, none = np.ones(len(each), np.int64), np.zeros(len(each), np.int64)
    again, used = np.ones(len(job), np.int64), cols.used_milli
    parts = (
        (cols.submit, each, one, one, none),
        (cols.start, each, none, -one, used),
        (cols.end, each, -one, none, -used),
        (begun, job, 0 * again, again, -used[job]),
        (ended, job, 0 * again, -again, used[job]),
    )
    at, jobs, here, waits, use = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(at, kind="stable")
    return at[order], which[jobs[order]], here[order], waits[order], use[order]


def _parts(tree: _Tree, active: npt.NDArray[np.bool_], first: int) -> Numbers:
    """Return the part of each leaf where these have jobs."""
    alive = np.zeros(len(tree.parent), bool)
    alive[first:] = active
    deepest = int(tree.depth.max())
    for level in range(deepest, 0, -1):
        alive[tree.parent[(tree.depth == level) & alive]] = True
    weight = tree.weight * alive
    weight[0] = 0.0
    sums = np.bincount(tree.parent, weights=weight, minlength=len(tree.parent))
    part = np.zeros(len(tree.parent))
    part[0] = 1.0
    for level in range(1, deepest + 1):
        here = np.flatnonzero((tree.depth == level) & alive)
        above = tree.parent[here]
        part[here] = part[above] * weight[here] / sums[above]
    return part[first:]


def finish_time_fairness(outcome: Outcome, cols: Columns) -> Numbers:
    """Return each job's completion over its time with an nth of the cluster to itself, n being
    how many jobs there were on average while it was there (algorithms.md 4.6)."""
    ones = np.ones(len(cols.submit), np.int64)
    instants, there = steps(np.concatenate((cols.submit, cols.end)), np.concatenate((ones, -ones)))
    area = np.concatenate(([0], np.cumsum(there[:-1] * np.diff(instants)))).astype(np.float64)
    life = np.maximum(cols.end - cols.submit, 1)
    crowd = (np.interp(cols.end, instants, area) - np.interp(cols.submit, instants, area)) / life
    part = cols.used_milli * np.maximum(crowd, 1.0) / max(outcome.cluster.capacity_milli, 1)
    limits = [
        job.run_ms if job.spec.limit_ms is None else job.spec.limit_ms
        for job in outcome.workload.jobs
    ]
    run = np.maximum(np.minimum(cols.needed, np.array(limits, np.int64)), 1)
    rhos: Numbers = (cols.end - cols.submit) / (run * np.maximum(part, 1.0))
    return rhos


def _rows(
    cols: Columns,
    names: Sequence[str],
    preempted: Sequence[int],
    rhos: Numbers,
    leaves: dict[str, list[int]],
    got: Numbers,
    entitled: Numbers,
    weights: dict[str, int],
) -> list[ShareRow]:
    worst: dict[str, float] = {}
    stopped: dict[str, int] = {}
    for name, rho, times in zip(names, rhos.tolist(), preempted, strict=True):
        worst[name] = max(rho, worst.get(name, 0.0))
        stopped[name] = stopped.get(name, 0) + times
    rows = [
        ShareRow(
            name=name,
            weight=weights.get(name, weights.get(EVERYBODY, 1)),
            got_ratio=float(got[leaves[name]].sum()) if name in leaves else body["share_ratio"],
            entitled_ratio=float(entitled[leaves[name]].sum()) if name in leaves else None,
            preemptions=stopped[name],
            max_rho=worst[name],
            **body,
        )
        for name, body in grouped(cols, names)
    ]
    return sorted(rows, key=lambda row: (-row.got_ratio, row.name))


def _jain(rows: Sequence[ShareRow]) -> float | None:
    """Return Jain's index of what each got of its due; None where nobody was due anything."""
    parts = [row.got_ratio / row.entitled_ratio for row in rows if row.entitled_ratio]
    squares = sum(part * part for part in parts)
    return sum(parts) ** 2 / (len(parts) * squares) if squares else None
