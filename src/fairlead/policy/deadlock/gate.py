"""Whether a waiting job may have the named resources that it needs to start.

They are granted with its placement or not at all. It waits behind requests of running jobs for the
same resource, and behind jobs that come before it in the order and have waited so long for theirs
that nobody may overtake them any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.shares import Block
from fairlead.model.base import JobId
from fairlead.policy.deadlock.settle import hopeless, jobs_in_words, short, unsafe_start

if TYPE_CHECKING:
    from fairlead.policy.given import Given
    from fairlead.policy.pipeline import Pipeline

LICENSES = "Licenses"  # a reason code of `why`, in the word of Slurm


class Gate:
    """The part of a pipeline that sees to named resources. Remembers who waits for which."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._read = 0
        self._wanting: dict[str, dict[JobId, Job]] = {}  # waiting jobs by resource

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
        if spec.counted and core.policy.deadlock == "avoid":
            others = unsafe_start(core, spec)
            if others is not None:
                return Block(LICENSES, _unsafe(core, job, others))
        return self._kept(core, job)

    def _kept(self, core: Core, job: Job) -> Block | None:
        """Return for whom a resource is kept that would be free."""
        pipeline = self.pipeline
        if pipeline.overtake_ms is None or not job.spec.counted:
            return None
        self._sync(core)
        place = pipeline.queue.entry(job)
        for name, _ in job.spec.counted:
            for other in list(self._wanting[name].values()):
                if core.pending.get(other.id) is not other:
                    del self._wanting[name][other.id]
                elif pipeline.queue.entry(other) < place and self._goes_first(core, other, name):
                    words = f"{name} is kept for job {other.id}, which may not be overtaken"
                    return Block(LICENSES, words)
        return None

    def _goes_first(self, core: Core, job: Job, name: str) -> bool:
        """Whether only this resource keeps a job from starting, and it has waited long enough."""
        pipeline = self.pipeline
        if core.named.free(name) >= dict(job.spec.counted)[name]:
            return False
        if dict(job.spec.counted)[name] > core.named.amount(name):
            return False  # there is not so much any more
        return (
            pipeline.protected(core.clock, job)
            and pipeline.other_block(core, job) is None
            and pipeline.possible(core, job)
        )

    def _sync(self, core: Core) -> None:
        """Take in the jobs that have come since the last time."""
        if self._read < core.arrivals_forgotten:
            self._read = core.arrivals_forgotten
            self._wanting.clear()
        place = self._read - core.arrivals_forgotten
        for job_id in core.arrivals[place:]:
            job = core.pending.get(job_id)
            for name, _ in job.spec.counted if job is not None else ():
                assert job is not None
                self._wanting.setdefault(name, {})[job_id] = job
        self._read = core.arrivals_forgotten + len(core.arrivals)


def _unsafe(core: Core, job: Job, others: list[JobId]) -> str:
    held = ", ".join(f"{amount} {name}" for name, amount in job.spec.counted)
    if not others:
        return f"{held}: there is not so much any more that it could ask for all it may"
    return f"to hold {held} and ask for more could end in a deadlock with {jobs_in_words(others)}"
