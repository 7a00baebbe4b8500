"""ElasticFlow: deadlines of jobs that can use more or fewer GPUs, in slots of equal length.

A job is admitted iff progressive filling in order of deadlines still serves everybody: each job
gets the least level L such that min(L, free) GPUs in every slot, rounded down to a count that the
job can use, complete its work by its deadline. Source: algorithms.md 6.4; Gu et al., ASPLOS 2023.

Work and rates are integers in one unit of work; what restarts and failures cost has to be in them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from fairlead.model.base import Misuse, Record
from fairlead.model.limits import DEADLINE_SLOTS_MAX
from fairlead.policy.deadline import Id, Refusal, give_way

Plan: TypeAlias = dict[Id, tuple[int, ...]]  # GPUs in each slot, up to the job's deadline


class Elastic(Record, frozen=True):
    """A job of `work` units, due by the end of slot number `deadline_slot` (slots from 1).

    `rates` gives, per number of GPUs that it can use, the work done in a slot.
    """

    id: Id
    work: int
    deadline_slot: int
    rates: dict[int, int]


class ElasticAdmission(Record, frozen=True):
    """What became of jobs that asked one after the other, and the plan that keeps the promises."""

    admitted: tuple[Id, ...]
    refused: tuple[Refusal, ...]
    plan: Plan


def check(jobs: Sequence[Elastic], gpus: int) -> None:
    """Raise Misuse for what cannot be: no GPU, negative work, a deadline before the first slot."""
    if gpus < 1:
        raise Misuse(f"{gpus} GPUs can do nothing", field="gpus", hint="1 or more")
    for job in jobs:
        if job.work < 0:
            raise Misuse(f"job {job.id} has negative work", field="work")
        if job.deadline_slot < 0:
            raise Misuse(f"the deadline of job {job.id} is past", field="deadline_slot")
        if any(count < 1 or rate < 0 for count, rate in job.rates.items()):
            raise Misuse(f"job {job.id} has a rate that cannot be", field="rate")


def envelope(rates: dict[int, int], gpus: int) -> tuple[list[int], list[int]]:
    """Return the counts up to `gpus` worth using, rising, and their rates, rising.

    Left out is what is no faster than fewer GPUs: the upper envelope of the rates.
    """
    counts: list[int] = []
    speeds: list[int] = []
    for count, rate in sorted(rates.items()):
        if count <= gpus and rate > (speeds[-1] if speeds else 0):
            counts.append(count)
            speeds.append(rate)
    return counts, speeds


def minimum_share(job: Elastic, gpus: int) -> int | None:
    """Return the least constant number of GPUs that alone meets the deadline; None: none does."""
    if not job.work:
        return 0
    for count, rate in zip(*envelope(job.rates, gpus), strict=True):
        if rate * job.deadline_slot >= job.work:
            return count
    return None


def fill(jobs: Sequence[Elastic], gpus: int) -> Plan | None:
    """Return a plan that serves all by their deadlines by progressive filling; None: it fails.

    Equal deadlines keep the order given. O(slots x counts) per job.
    """
    check(jobs, gpus)
    free = [gpus] * max((job.deadline_slot for job in jobs), default=0)
    plan = _serve(sorted(jobs, key=lambda job: job.deadline_slot), gpus, free)
    return None if plan is None else {job.id: plan[job.id] for job in jobs}


def _serve(order: Sequence[Elastic], gpus: int, free: list[int]) -> Plan | None:
    """Serve jobs in this order from what is free, which is reduced; None: one cannot be."""
    plan: Plan = {}
    for job in order:
        given = _least(job, gpus, free)
        if given is None:
            return None
        for slot, count in enumerate(given):
            free[slot] -= count
        plan[job.id] = given
    return plan


def _least(job: Elastic, gpus: int, free: Sequence[int]) -> tuple[int, ...] | None:
    """Return what the least level that suffices gives a job in each slot; None: none suffices."""
    if not job.work:
        return (0,) * job.deadline_slot
    counts, speeds = envelope(job.rates, gpus)
    for level, rate in zip(counts, speeds, strict=True):
        if rate * job.deadline_slot < job.work:
            continue  # not even with all slots to itself
        left = job.work
        given = [0] * job.deadline_slot
        for slot in range(job.deadline_slot):
            at = bisect_right(counts, min(level, free[slot])) - 1
            if at >= 0:
                given[slot] = counts[at]
                left -= speeds[at]
                if left <= 0:
                    return tuple(given)
    return None


def admit(jobs: Sequence[Elastic], gpus: int) -> ElasticAdmission:
    """Return who is admitted when each job asks in turn, all before the first slot."""
    admitted: list[Elastic] = []
    refused = []
    for job in jobs:
        no = refusal(job, admitted, gpus)
        if no is None:
            admitted.append(job)
        else:
            refused.append(no)
    plan = fill(admitted, gpus)
    assert plan is not None, "those admitted can be served"
    return ElasticAdmission(tuple(job.id for job in admitted), tuple(refused), plan)


def refusal(asked: Elastic, admitted: Sequence[Elastic], gpus: int) -> Refusal | None:
    """Return why a job cannot join those admitted, None if it can; deadlines are slots."""
    if fill([*admitted, asked], gpus) is not None:
        return None
    return Refusal(
        id=asked.id,
        deadline=asked.deadline_slot,
        earliest=earliest_slot(asked, admitted, gpus),
        give_way=give_way(asked, admitted, lambda jobs: fill(jobs, gpus) is not None),
        proven=False,  # filling is a rule, not a search over all plans
    )


def earliest_slot(asked: Elastic, admitted: Sequence[Elastic], gpus: int) -> int | None:
    """Return the earliest deadline with which a job could join those admitted, all else kept.

    Tries one slot after the other: a later deadline also moves the job behind others, so that what
    fits need not fit later. None: it can use no number of GPUs that there is, or would need more
    than DEADLINE_SLOTS_MAX slots.
    """
    _, speeds = envelope(asked.rates, gpus)
    if not speeds:
        return None
    order = sorted(admitted, key=lambda job: job.deadline_slot)
    alone = -(-asked.work // speeds[-1])
    # Behind the last of the others all GPUs are its own.
    last = min((order[-1].deadline_slot if order else 0) + alone, DEADLINE_SLOTS_MAX)
    free = [gpus] * max(last, *(job.deadline_slot for job in order), 0)
    done = 0
    for slot in range(alone, last + 1):
        while done < len(order) and order[done].deadline_slot <= slot:
            if _serve(order[done : done + 1], gpus, free) is None:
                return None
            done += 1
        rest = free.copy()
        late = Elastic(asked.id, asked.work, slot, asked.rates)
        if _serve([late, *order[done:]], gpus, rest) is not None:
            return slot
    return None


def leftovers(jobs: Sequence[Elastic], gpus: int, plan: Plan) -> Plan:
    """Return the plan with the GPUs that it leaves free given where they gain most per GPU.

    Slot by slot; nobody gets less than the plan says while there is work left, so everybody is
    done no later. Ties go to the earlier deadline, then to the order given.
    """
    order = sorted(jobs, key=lambda job: job.deadline_slot)
    tables = {job.id: envelope(job.rates, gpus) for job in jobs}
    left = {job.id: job.work for job in jobs}
    more: dict[Id, list[int]] = {job.id: [] for job in jobs}
    for slot in range(max((job.deadline_slot for job in jobs), default=0)):
        open_ = [job for job in order if slot < job.deadline_slot]
        now = {job.id: plan[job.id][slot] if left[job.id] > 0 else 0 for job in open_}
        free = gpus - sum(now.values())
        while best := _best_gain(open_, tables, left, now, free):
            free -= best[1] - now[best[0]]
            now[best[0]] = best[1]
        for job in open_:
            more[job.id].append(now[job.id])
            left[job.id] -= _rate(tables[job.id], now[job.id])
    return {job.id: tuple(more[job.id]) for job in jobs}


def _rate(table: tuple[list[int], list[int]], count: int) -> int:
    at = bisect_right(table[0], count) - 1
    return table[1][at] if at >= 0 else 0


def _best_gain(
    jobs: Sequence[Elastic],
    tables: dict[Id, tuple[list[int], list[int]]],
    left: dict[Id, int],
    now: dict[Id, int],
    free: int,
) -> tuple[Id, int] | None:
    """Return who should get how many GPUs instead of what it has now, None: nobody gains.

    All larger counts are looked at, so that a rate which first rises slowly hides nothing.
    """
    best: tuple[Id, int] | None = None
    most = Fraction(0)
    for job in jobs:
        had, todo = now[job.id], left[job.id]
        done = min(_rate(tables[job.id], had), todo)
        for count, rate in zip(*tables[job.id], strict=True):
            if had < count <= had + free:
                gain = Fraction(min(rate, todo) - done, count - had)
                if gain > most:
                    best, most = (job.id, count), gain
    return best
