"""Whether a waiting job may have the named resources that it needs to start.

They are granted with its placement or not at all. It waits behind requests of running jobs for the
same resource, and behind jobs that come before it in the order and have waited so long for theirs
that nobody may overtake them any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.shares import Block
from fairlead.model.base import JobId
from fairlead.policy.deadlock.settle import Claims, hopeless, jobs_in_words, short

if TYPE_CHECKING:
    from fairlead.policy.given import Given
    from fairlead.policy.pipeline import Pipeline

LOOKED_AT = 64  # jobs that ask for the same amount: the others have their turn after them
COMPACT_MIN = 1024  # entries of jobs that wait no more, which may be carried along
LICENSES = "Licenses"  # a reason code of `why`, in the word of Slurm


class Gate:
    """The part of a pipeline that sees to named resources. Remembers who waits for which."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._read = self._known = 0
        # Waiting jobs by resource and amount, in the order in which they came.
        self._wanting: dict[str, dict[int, dict[JobId, Job]]] = {}

    def block(self, core: Core, job: Job, given: Given | None = None) -> Block | None:
        """Return why a job may not have what it needs now, None if it may.

        `given`: what a pass has given to others, and has not told the core yet.
        """
        spec = job.spec
        if not spec.counted and not spec.may_acquire:
            return None
        named = core.named
        for name, _ in spec.may_acquire:
            if name not in named.resources:
                return Block(LICENSES, short(core, name, 0))
        for name, amount in named.in_order(spec.counted):
            if named.free(name) - (given.named.get(name, 0) if given else 0) < amount:
                return Block(LICENSES, short(core, name, amount))
            for ask in named.waiting():
                if ask.name == name and not hopeless(core, ask):
                    words = f"job {ask.job}, which runs, waits for {ask.amount} {name} before it"
                    return Block(LICENSES, words)
        # One that asks for no more while it runs surely ends, and gives back what it has.
        if spec.counted and spec.may_acquire and core.policy.deadlock == "avoid":
            others = Claims(core).unsafe_start(spec)
            if others is not None:
                return Block(LICENSES, _unsafe(core, job, others))
        return self._kept(core, job)

    def shut(self, core: Core, job: Job) -> bool:
        """Whether a job may not have what it needs now; quicker than in words."""
        spec = job.spec
        if not spec.counted and not spec.may_acquire:
            return False
        if any(core.named.free(name) < amount for name, amount in spec.counted):
            return True
        return self.block(core, job) is not None

    def _kept(self, core: Core, job: Job) -> Block | None:
        """Return for whom a resource is kept that would be free."""
        pipeline = self.pipeline
        if pipeline.overtake_ms is None or not job.spec.counted:
            return None
        self._sync(core)
        place, free = pipeline.queue.entry(job), core.named.free
        for name, _ in job.spec.counted:
            for amount, jobs in self._wanting.get(name, {}).items():
                if not free(name) < amount <= core.named.amount(name):
                    continue  # it may start, or there are not so many any more
                for other in islice(self._alive(core, jobs), LOOKED_AT):
                    if pipeline.queue.entry(other) < place and self._goes_first(core, other):
                        words = f"{name} is kept for job {other.id}, which may not be overtaken"
                        return Block(LICENSES, words)
        return None

    def _goes_first(self, core: Core, job: Job) -> bool:
        """Whether a job has waited long enough, and nothing else keeps it from starting."""
        pipeline = self.pipeline
        return (
            pipeline.protected(core.clock, job)
            and pipeline.other_block(core, job) is None
            and pipeline.possible(core, job)
        )

    def _alive(self, core: Core, jobs: dict[JobId, Job]) -> Iterator[Job]:
        """Yield those that still wait, in the order in which they came; forget the others."""
        for job_id in list(islice(jobs, 2 * LOOKED_AT)):
            if core.pending.get(job_id) is jobs[job_id]:
                yield jobs[job_id]
            else:
                del jobs[job_id]

    def _sync(self, core: Core) -> None:
        """Take in the jobs that have come since the last time."""
        place = self._read - core.arrivals_forgotten
        if place < 0 or self._known > 2 * len(core.pending) + COMPACT_MIN:
            self._known, place = 0, 0
            self._wanting.clear()
            fresh = list(core.pending)
        else:
            fresh = core.arrivals[place:]
        for job_id in fresh:
            job = core.pending.get(job_id)
            if job is not None:
                for name, amount in job.spec.counted:
                    self._wanting.setdefault(name, {}).setdefault(amount, {})[job_id] = job
                    self._known += 1
        self._read = core.arrivals_forgotten + len(core.arrivals)


def _unsafe(core: Core, job: Job, others: list[JobId]) -> str:
    held = ", ".join(f"{amount} {name}" for name, amount in job.spec.counted)
    if not others:
        return f"{held}: there is not so much any more that it could ask for all it may"
    return f"to hold {held} and ask for more could end in a deadlock with {jobs_in_words(others)}"
