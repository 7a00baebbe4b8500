"""AlloX: which job waits for which device model, so that jobs end soonest on the mean.

Le et al., EuroSys 2020. Who is the k-th from the end in the queue of a device is waited for by k
jobs, so it costs k times its run time there; the least sum is a matching of jobs and positions
(algorithms.md 9.3). Equal devices are one resource with a position for each. Positions far from
the end are taken together, which costs a few percent of exactness where nobody starts soon.
What runs stays: AlloX preempts nobody, so the next in a queue of a model whose devices are all
taken waits for as long as they run on the mean.

The paper's jobs have one device each. Here a job of w devices counts with w times its run time,
as if it took one for w times as long: with jobs of equal width that is the same order.
"""

from __future__ import annotations

import numpy as np

from fairlead.model.advice import WHOLE, Candidate, Question, Share
from fairlead.model.events import Advised
from fairlead.solve.advise.rates import Rates, in_words, kind_of, rates_of
from fairlead.solve.flow import flow
from fairlead.solve.problem import FORBIDDEN

FINE = 8  # positions from the end that stand for themselves
RATIO = 1.25  # how much farther those that are taken together reach
UNKNOWN_MS = 3_600_000  # the run time of a job of which nothing is known
MOST_MS = 10**12


class _Queue:
    """Devices of a model on which jobs can line up: free ones, or those that are taken."""

    def __init__(self, model: int, lanes: int, delay_ms: int, jobs: int) -> None:
        self.model, self.delay_ms = model, delay_ms
        self.positions: list[tuple[float, int]] = []  # (how many wait, so many places)
        low = 1
        while (low - 1) * lanes < jobs:
            high = low if low <= FINE else max(low, int(low * RATIO))
            self.positions.append(((low + high) / 2, lanes * (high - low + 1)))
            low = high + 1


def match(question: Question) -> Advised:
    """Return the order of starts, each with its model; what runs comes first and stays."""
    rates = rates_of(question)
    jobs = [job for job in question.jobs if job.on is None]
    jobs.sort(key=lambda job: (job.submitted_ms, job.job))
    running = [job for job in question.jobs if job.on is not None]
    times = _times(question, jobs, rates)
    able = [at for at in range(len(jobs)) if (times[at] < FORBIDDEN).any()]
    lanes = [amount // 1000 for amount in question.amounts_milli]
    taken = _taken(question, running, rates)
    free = sum(max(all_ - busy, 0) for all_, (busy, _) in zip(lanes, taken, strict=True))
    count = max(len(able) * question.part_percent // 100, min(free, len(able)))
    chosen, rest = able[:count], able[count:]
    queues = []
    for model, (all_, (busy, delay)) in enumerate(zip(lanes, taken, strict=True)):
        busy = min(busy, all_)
        if all_ > busy:
            queues.append(_Queue(model, all_ - busy, 0, count))
        if busy:
            queues.append(_Queue(model, busy, delay, count))
    order = _matched(times, chosen, queues)
    order += [(at, int(times[at].argmin())) for at in rest]
    plan = [Share((job.job,), ((job.on, WHOLE),)) for job in running if job.on is not None]
    for at, model in order:
        name = question.models[model]
        if plan and jobs[at].on is None and plan[-1].on[0][0] == name and plan[-1].jobs:
            plan[-1] = Share((*plan[-1].jobs, jobs[at].job), plan[-1].on)
        else:
            plan.append(Share((jobs[at].job,), ((name, WHOLE),)))
    because = f"matched {len(chosen)} of {len(jobs)} that wait; {in_words(question, rates)}"
    return Advised(adviser="allox", plan=tuple(plan), because=because)


def _times(
    question: Question, jobs: list[Candidate], rates: dict[tuple[object, ...], Rates]
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return device time by job and model in ms, FORBIDDEN where a job does not run."""
    found = np.full((len(jobs), len(question.models)), FORBIDDEN, np.int64)
    for row, job in zip(found, jobs, strict=True):
        for model, amount in enumerate(question.amounts_milli):
            ms = _run_ms(job, rates[kind_of(job)], model)
            if ms is not None and job.width_milli <= amount:
                row[model] = max(ms * max(job.width_milli, 1) // 1000, 1)
    return found


def _run_ms(job: Candidate, rates: Rates, model: int) -> int | None:
    """Return how long a job still runs on a model, None where it does not run."""
    speed = rates.at(model, job.members)
    if speed is None:
        return None
    if job.left:
        ms = 1000 * job.left / speed
    else:
        speeds = [rates.at(each, job.members) or 0.0 for each in range(len(rates.curves))]
        known = UNKNOWN_MS if job.expected_ms is None else job.expected_ms
        ms = known * max(speeds) / speed  # what was expected is believed of the fastest
    return min(round(ms), MOST_MS)


def _taken(
    question: Question, running: list[Candidate], rates: dict[tuple[object, ...], Rates]
) -> list[tuple[int, int]]:
    """Return by model how many devices are taken, and for how long on the mean."""
    found = []
    for number, model in enumerate(question.models):
        here = [job for job in running if job.on == model]
        wide = sum(job.width_milli // job.members * job.size for job in here)
        left = [_run_ms(job, rates[kind_of(job)], number) or 0 for job in here]
        found.append((-(-wide // 1000), sum(left) // len(left) if left else 0))
    return found


def _matched(
    times: np.ndarray[tuple[int, int], np.dtype[np.int64]],
    chosen: list[int],
    queues: list[_Queue],
) -> list[tuple[int, int]]:
    """Return (row of `times`, model) in the order of starts."""
    if not chosen:
        return []
    # The longest first: they take the last positions, and few have to make room for later ones.
    chosen = sorted(chosen, key=lambda at: (-int(times[at].min()), at))
    columns, capacity, of = [], [], []
    for queue in queues:
        mine = times[chosen, queue.model]
        allowed = mine < FORBIDDEN
        for many, places in queue.positions:
            cost = np.where(allowed, np.where(allowed, mine, 0) * many + queue.delay_ms, 0)
            columns.append(np.where(allowed, cost.astype(np.int64), FORBIDDEN))
            capacity.append(places)
            of.append(queue)
    plan = flow(np.stack(columns, axis=1), np.array(capacity, np.int64))
    assert plan is not None, "every queue has places for all"
    found = []
    for at, column in zip(chosen, plan.tolist(), strict=True):
        queue = of[column]
        found.append((queue.delay_ms > 0, int(times[at, queue.model]), at, queue.model))
    return [(at, model) for _, _, at, model in sorted(found)]
