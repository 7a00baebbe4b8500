"""When what runs is believed to end: what plans, backfilling and estimates go by.

A belief is the user's time limit or a prediction, as the policy says. A job that outlives its
prediction is believed to run up to its limit; without one up to the next quantile of its forecast,
and past all of them twice as long as it has run. The limit alone ever stops a job.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from typing import TypeAlias

from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Ms
from fairlead.model.jobs import FORECAST_PERCENTS, Phase, PolicyConfig

FAR: Ms = 2**60  # a time that never comes: nothing is known of when the job ends
MEDIAN = FORECAST_PERCENTS.index(50)
End: TypeAlias = tuple[Ms, JobId]


def believed_run_ms(job: Job, policy: PolicyConfig) -> Ms:
    """Return how long the next attempt of a job is believed to run, at least 1 ms; FAR: unknown.

    What earlier attempts have done is taken off a prediction, not off the limit, which holds for
    every attempt anew.
    """
    spec = job.spec
    limit = FAR if spec.limit_ms is None else spec.limit_ms
    if policy.estimate == "limit" and spec.limit_ms is not None:
        return limit
    total = total_run_ms(job)
    return limit if total is None else max(1, min(total - job.served_ms, limit))


def total_run_ms(job: Job) -> Ms | None:
    """Return how long all attempts of a job together are predicted to run; None: no prediction.

    What the job itself has said of its steps comes before any forecast.
    """
    if job.progress is not None and job.progress.total_ms is not None:
        return job.progress.total_ms
    return job.spec.expected_ms if job.forecast is None else job.forecast.expected_ms


def next_belief_ms(job: Job, ran_ms: Ms) -> Ms:
    """Return what to believe of an attempt that still runs after ran_ms, more than that.

    Its limit; without one the least of the forecast's upper quantiles that is longer, else double.
    Straight to the limit: a job that was believed too short has misled the plan once, and climbing
    quantile by quantile misleads it again at each step (docs/adr/0013 has the numbers).
    """
    if job.spec.limit_ms is not None and job.spec.limit_ms > ran_ms:
        return job.spec.limit_ms
    steps: list[Ms] = []
    if job.forecast is not None:
        steps = [run - job.served_ms for run in job.forecast.quantiles_ms[MEDIAN:]]
    return min((step for step in steps if step > ran_ms), default=2 * max(ran_ms, 500))


class Ends:
    """Live jobs by believed end. A change costs O(log n) and a move of memory."""

    def __init__(self) -> None:
        self.sorted: list[End] = []
        self.moves = 0  # how often another end was believed of a live job than before
        self._of: dict[JobId, Ms] = {}
        self._open: list[End] = []  # heap: beliefs that may be outlived, and some that were dropped

    def copy(self) -> Ends:
        """Return an independent copy."""
        other = Ends()
        other.sorted, other._open = self.sorted.copy(), self._open.copy()
        other._of = self._of.copy()
        return other

    def get(self, job: JobId) -> Ms:
        """Return the believed end of a live job."""
        return self._of[job]

    def set(self, job: JobId, end_ms: Ms, *, final: bool) -> None:
        """Believe this end of a live job from now on; final: it does not run longer."""
        known = self._of.get(job)
        if known != end_ms:
            if known is not None:
                self.moves += 1
                del self.sorted[bisect_left(self.sorted, (known, job))]
            self._of[job] = end_ms
            insort(self.sorted, (end_ms, job))
        if not final and end_ms < FAR:
            heapq.heappush(self._open, (end_ms, job))

    def drop(self, job: JobId) -> None:
        """Forget a job that holds nothing any more."""
        del self.sorted[bisect_left(self.sorted, (self._of.pop(job), job))]

    def outlived(self, now: Ms, jobs: dict[JobId, Job]) -> list[Job]:
        """Return the running jobs that have outlived what is believed of them, longest ago first.

        Those that are stopping, or have reached their limit, are none of them: they are ended.
        """
        found: list[End] = []
        while (first := self.next_open(jobs)) is not None and first[0] < now:
            found.append(heapq.heappop(self._open))
        for end in found:
            heapq.heappush(self._open, end)  # until the new belief is applied
        return [jobs[job] for _, job in dict.fromkeys(found)]

    def next_open(self, jobs: dict[JobId, Job]) -> End | None:
        """Return the first belief that a running job may outlive, None if there is none."""
        heap = self._open
        while heap:
            end, job_id = heap[0]
            job = jobs.get(job_id)
            if job is not None and job.phase is Phase.RUNNING and self._of.get(job_id) == end:
                return heap[0]
            heapq.heappop(heap)  # one that is still starting is pushed again when it runs
        return None
