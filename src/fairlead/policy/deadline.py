"""Deadlines: whether all of some jobs can be done in time, and what to say when they cannot.

m identical machines (GPUs), preemption and migration at no cost; a job of width w runs on w of
them at once or on none. Source: algorithms.md 6.4; Horn 1974 (feasibility as a flow); Dertouzos
1974 (EDF is optimal on one machine).

Everything is integers: times in ms, and a flow of integers is a schedule of whole ms.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias, TypeVar

from fairlead.model.base import Misuse, Ms, Record
from fairlead.model.units import format_duration
from fairlead.policy.maxflow import Network

Id: TypeAlias = int | str
Verdict: TypeAlias = Literal["feasible", "infeasible", "unknown"]


class Work(Record, frozen=True):
    """A job with a deadline: `size_ms` of run time within [release, deadline], all in ms."""

    id: Id
    release_ms: Ms
    size_ms: Ms
    deadline_ms: Ms
    width: int = 1


class Refusal(Record, frozen=True):
    """Why a job was not admitted, and what could be done; deadlines in the unit of the question.

    `earliest` is the earliest deadline it could be given with all else kept, None: there is none.
    `give_way` are admitted jobs without which the asked deadline holds, and of which none can be
    put back; None: not even all of them would help.
    """

    id: Id
    deadline: int
    earliest: int | None
    give_way: tuple[Id, ...] | None
    proven: bool = True  # False: no schedule was found, which does not mean that there is none


class Admission(Record, frozen=True):
    """What became of jobs that asked one after the other."""

    admitted: tuple[Id, ...]
    refused: tuple[Refusal, ...]


class _Named(Protocol):
    @property
    def id(self) -> Id: ...


Job = TypeVar("Job", bound=_Named)


def check(works: Sequence[Work], machines: int) -> None:
    """Raise Misuse for what cannot be: no machine, a negative size, a deadline before release."""
    if machines < 1:
        raise Misuse(f"{machines} machines can do nothing", field="machines", hint="1 or more")
    for work in works:
        if work.size_ms < 0:
            raise Misuse(f"job {work.id} has a negative size", field="size")
        if work.width < 1:
            raise Misuse(f"job {work.id} has a width of {work.width}", field="width", hint="1")
        if work.deadline_ms < work.release_ms:
            raise Misuse(f"the deadline of job {work.id} is before its release", field="deadline")


def demand_violation(works: Sequence[Work]) -> tuple[Ms, Ms] | None:
    """Return the first [t1, t2] with more work than time, earliest t1, then t2; None: none.

    What is released from t1 on and due by t2 must fit into t2 - t1; on one machine, for jobs of
    width 1, all is feasible iff it always does. O(n^2).
    """
    check(works, 1)
    due = sorted((work.deadline_ms, work.release_ms, work.size_ms) for work in works)
    for start in sorted({work.release_ms for work in works}):
        demand = 0
        for deadline, release, size in due:
            if release >= start:
                demand += size
                if demand > deadline - start:
                    # Others due at the same instant only add to it.
                    return start, deadline
    return None


def edf_misses(works: Sequence[Work], machines: int) -> list[Id]:
    """Return the ids that earliest deadline first ends late, in the order given.

    Ties go by release, then by id as text. What does not fit beside those before it is passed
    over; a late job goes on. Optimal on one machine only. O(n log n) for jobs of width 1.
    """
    check(works, machines)
    late = {n for n, work in enumerate(works) if work.width > machines and work.size_ms}
    order = sorted(
        (n for n, work in enumerate(works) if work.size_ms and n not in late),
        key=lambda n: (works[n].deadline_ms, works[n].release_ms, str(works[n].id), n),
    )
    urgency = {n: rank for rank, n in enumerate(order)}
    arrivals = sorted(order, key=lambda n: works[n].release_ms)
    left = [work.size_ms for work in works]
    ready: list[int] = []  # heap of ranks
    come, now = 0, 0
    while come < len(arrivals) or ready:
        if not ready:
            now = works[arrivals[come]].release_ms
        while come < len(arrivals) and works[arrivals[come]].release_ms <= now:
            heapq.heappush(ready, urgency[arrivals[come]])
            come += 1
        running, waiting = _first_that_fit(ready, order, works, machines)
        step = min(left[order[rank]] for rank in running)
        if come < len(arrivals):
            step = min(step, works[arrivals[come]].release_ms - now)
        now += step
        for rank in running:
            left[order[rank]] -= step
            if left[order[rank]]:
                waiting.append(rank)
            elif now > works[order[rank]].deadline_ms:
                late.add(order[rank])
        for rank in waiting:
            heapq.heappush(ready, rank)
    return [works[n].id for n in sorted(late)]


def _first_that_fit(
    ready: list[int], order: Sequence[int], works: Sequence[Work], machines: int
) -> tuple[list[int], list[int]]:
    """Take from the heap those that run now, and those passed over before the machines are full."""
    running, waiting, free = [], [], machines
    while ready and free:
        rank = heapq.heappop(ready)
        width = works[order[rank]].width
        if width <= free:
            running.append(rank)
            free -= width
        else:
            waiting.append(rank)
    return running, waiting


def flow_feasible(works: Sequence[Work], machines: int) -> bool:
    """Whether all can be done in time, each job on up to `width` machines at once, by a flow.

    Exact for jobs of width 1. For wider ones this lets a job run on fewer machines for longer:
    "no" stays no, "yes" may be too good. Arcs: jobs x intervals between releases and deadlines.
    """
    check(works, machines)
    instants = sorted({at for work in works for at in (work.release_ms, work.deadline_ms)})
    intervals = list(pairwise(instants))
    first = {at: number for number, at in enumerate(instants)}
    source, sink = 0, 1
    network = Network(2 + len(works) + len(intervals))
    for number, (start, end) in enumerate(intervals):
        network.connect(2 + len(works) + number, sink, machines * (end - start))
    needed = 0
    for place, work in enumerate(works):
        needed += work.size_ms * work.width
        network.connect(source, 2 + place, work.size_ms * work.width)
        for number in range(first[work.release_ms], first[work.deadline_ms]):
            start, end = intervals[number]
            most = min(work.width, machines) * (end - start)
            network.connect(2 + place, 2 + len(works) + number, most)
    return network.maximise(source, sink) == needed


def verdict(works: Sequence[Work], machines: int) -> Verdict:
    """Return whether all can be done in time; "unknown" only where jobs differ in width.

    One machine: EDF decides. Equal widths: the flow does. Else EDF finding a schedule means yes,
    and no flow means no.
    """
    check(works, machines)
    works = [work for work in works if work.size_ms]
    for work in works:
        if work.width > machines or work.release_ms + work.size_ms > work.deadline_ms:
            return "infeasible"
    if not edf_misses(works, machines):
        return "feasible"
    widths = {work.width for work in works}
    if len(widths) > 1:
        return "unknown" if flow_feasible(works, machines) else "infeasible"
    groups = machines // widths.pop()
    alone = [Work(w.id, w.release_ms, w.size_ms, w.deadline_ms) for w in works]
    return "feasible" if groups > 1 and flow_feasible(alone, groups) else "infeasible"


def refusal(asked: Work, admitted: Sequence[Work], machines: int) -> Refusal | None:
    """Return why a job cannot join those admitted, None if it can.

    Takes some 50 verdicts where few have to give way. Where widths differ, `earliest` is a
    deadline that holds, but an earlier one may hold too.
    """
    answer = verdict([*admitted, asked], machines)
    if answer == "feasible":
        return None
    return Refusal(
        id=asked.id,
        deadline=asked.deadline_ms,
        earliest=earliest_deadline(asked, admitted, machines),
        give_way=give_way(asked, admitted, lambda jobs: verdict(jobs, machines) == "feasible"),
        proven=answer == "infeasible",
    )


def earliest_deadline(asked: Work, admitted: Sequence[Work], machines: int) -> Ms | None:
    """Return the earliest deadline with which a job could join those admitted, all else kept.

    None if there is none: it is too wide, or those admitted cannot be done in time themselves.
    """

    def fits(deadline: Ms) -> bool:
        late = Work(asked.id, asked.release_ms, asked.size_ms, deadline, asked.width)
        return verdict([*admitted, late], machines) == "feasible"

    low = asked.release_ms + asked.size_ms
    # By then the others are done, and all machines are its own.
    high = max([asked.release_ms, *(work.deadline_ms for work in admitted)]) + asked.size_ms
    if not fits(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return high


def give_way(
    asked: Job, admitted: Sequence[Job], fits: Callable[[list[Job]], bool]
) -> tuple[Id, ...] | None:
    """Return admitted jobs without which the asked one fits, of which none can be put back.

    Those earlier in `admitted` are the last to give way. None: it does not fit even alone.
    Halves are put back together where they fit: 2 k log n tests if k have to give way.
    """
    if not fits([asked]):
        return None
    kept: list[Job] = []

    def put_back(jobs: list[Job]) -> list[Job]:
        """Keep those that fit, as if one after the other; return the rest."""
        if fits([*kept, *jobs, asked]):
            kept.extend(jobs)
            return []
        if len(jobs) == 1:
            return jobs
        middle = len(jobs) // 2
        return put_back(jobs[:middle]) + put_back(jobs[middle:])

    out = list(admitted)
    while out:
        still = put_back(out)
        if len(still) == len(out):
            break
        out = still  # a test that is not monotone may let in now what it refused before
    return tuple(job.id for job in out)


def admit(works: Sequence[Work], machines: int) -> Admission:
    """Return who is admitted when each job asks in turn: it is, if all admitted stay in time."""
    admitted: list[Work] = []
    refused = []
    for work in works:
        no = refusal(work, admitted, machines)
        if no is None:
            admitted.append(work)
        else:
            refused.append(no)
    return Admission(tuple(work.id for work in admitted), tuple(refused))


def words(no: Refusal, shown: Callable[[int], str] = format_duration) -> str:
    """Return a refusal in one sentence; `shown` writes a deadline."""
    what = f"job {no.id} cannot be done" if no.proven else f"no plan was found to end job {no.id}"
    ways = []
    if no.earliest is not None:
        ways.append(f"the earliest deadline that it could be given is {shown(no.earliest)}")
    if no.give_way:
        ways.append(f"{_listed(no.give_way)} would have to give way")
    rest = ", or ".join(ways) or "nothing that gives way would help"
    return f"{what} by {shown(no.deadline)}: {rest}"


def _listed(ids: Sequence[Id]) -> str:
    *most, last = map(str, ids)
    return f"{', '.join(most)} and {last}" if most else last
