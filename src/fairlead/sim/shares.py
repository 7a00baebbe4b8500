"""What queues and users got of a cluster, beside what their weights entitle them to.

Counted is the time in which somebody waits: while there is enough for all, who asks for little
gets little, and that is no unfairness. In that time all that is in use is due by weight, level by
level, users inside their queue; who has nothing waiting is due no more than it uses, and leaves
the rest to its siblings (weighted max-min).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.model.jobs import EVERYBODY, Queue, User
from fairlead.sim.metrics import Columns, Figures, columns, grouped, steps
from fairlead.sim.outcome import Outcome

ACCOUNTS_MAX = 200  # users of queues that are told apart; beyond, queues alone are
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

    parent: list[int]  # 0 is the root, its own parent
    weight: list[int]
    leaf_of: list[int]  # of each job


def shares_of(
    outcome: Outcome,
    queues: Sequence[Queue] = (),
    users: Sequence[User] = (),
    *,
    until_ms: int | None = None,
) -> Shares | None:
    """Return how a replay shared between queues and users; None where there is one queue alone.

    Queues that nobody set have weight 1. `until_ms`: what happens later plays no part in shares.
    O(jobs x (log + accounts with jobs)).
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
    got, entitled, contended_ms = _accrued(cols, tree, len(names), until_ms)
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
    parent, weight = [0], [1]
    place: dict[str, int] = {"": 0}

    def grow(name: str) -> int:
        if name not in place:
            queue = known.get(name, Queue(name=name))
            above = grow(queue.parent)
            place[name] = len(parent)
            parent.append(above)
            weight.append(queue.weight)
        return place[name]

    leaf: dict[tuple[str, str], int] = {}
    everybody = people.get(EVERYBODY, User(name=EVERYBODY))
    above = [grow(queue) for queue, _ in names]
    for (queue, user), at in zip(names, above, strict=True):
        leaf[queue, user] = len(parent)
        parent.append(at)
        weight.append(people.get(user, everybody).weight)
    return _Tree(parent, weight, [leaf[each] for each in leaves])


def _accrued(
    cols: Columns, tree: _Tree, count: int, until_ms: int | None
) -> tuple[Numbers, Numbers, int]:
    """Return what each of the leaves (the last `count` of the tree) got and was due, as parts of
    all use while somebody waited, and for how long that was, in ms."""
    first = len(tree.parent) - count
    which = np.array(tree.leaf_of, np.int64) - first
    at, leaf, waits, used = (column.tolist() for column in _changes(cols, which))
    waiting, use = [0] * count, [0] * count
    got, due = [0] * count, [0.0] * count
    hungry = contended = begin = 0
    while begin < len(at) and (until_ms is None or at[begin] < until_ms):
        stop = begin
        while stop < len(at) and at[stop] == at[begin]:
            waiting[leaf[stop]] += waits[stop]
            use[leaf[stop]] += used[stop]
            hungry += waits[stop]
            stop += 1
        if hungry and stop < len(at):
            span = (at[stop] if until_ms is None else min(at[stop], until_ms)) - at[begin]
            contended += span
            for each, amount in _dues(tree, first, waiting, use):
                due[each] += amount * span
            for each, amount in enumerate(use):
                if amount:
                    got[each] += amount * span
        begin = stop
    total = sum(got) or 1
    return np.array([each / total for each in got]), np.array(due) / total, contended


def _changes(cols: Columns, which: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    """Return what changes in time: when, whose, jobs waiting, thousandths in use."""
    job, begun, ended = cols.pauses
    each = np.arange(len(cols.submit))
    one, again, used = np.ones(len(each), np.int64), np.ones(len(job), np.int64), cols.used_milli
    parts = (
        (cols.submit, each, one, 0 * one),
        (cols.start, each, -one, used),
        (cols.end, each, 0 * one, -used),
        (begun, job, again, -used[job]),
        (ended, job, -again, used[job]),
    )
    at, jobs, waits, use = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(at, kind="stable")
    return at[order], which[jobs[order]], waits[order], use[order]


def _dues(
    tree: _Tree, first: int, waiting: Sequence[int], use: Sequence[int]
) -> list[tuple[int, float]]:
    """Return what each leaf is due of all that is in use: weighted max-min, level by level.

    Who has jobs that wait wants any amount, who has not wants what it uses.
    """
    wants: dict[int, float] = {}
    below: dict[int, list[int]] = {}
    linked: set[int] = set()
    for leaf, (waits, used) in enumerate(zip(waiting, use, strict=True)):
        if not (waits or used):
            continue
        node, want = first + leaf, float("inf") if waits else float(used)
        wants[node] = want
        while node:
            above = tree.parent[node]
            wants[above] = wants.get(above, 0.0) + want
            if node not in linked:
                linked.add(node)
                below.setdefault(above, []).append(node)
            node = above
    found: list[tuple[int, float]] = []
    shares = [(0, float(sum(use)))]
    while shares:
        node, amount = shares.pop()
        if node >= first:
            found.append((node - first, amount))
            continue
        shares += _filled(amount, [(each, tree.weight[each], wants[each]) for each in below[node]])
    return found


def _filled(amount: float, wanted: list[tuple[int, int, float]]) -> list[tuple[int, float]]:
    """Return (who, how much) of an amount that is shared by weight; nobody gets more than it
    wants while another wants more. Source: algorithms.md 4.1."""
    if len(wanted) == 1:
        return [(wanted[0][0], amount)]
    found: list[tuple[int, float]] = []
    weight = sum(each for _, each, _ in wanted)
    for who, mine, want in sorted(wanted, key=lambda each: each[2] / each[1]):
        part = min(want, amount * mine / weight)
        found.append((who, part))
        amount -= part
        weight -= mine
    return found


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
