"""What would be free if members of elastic jobs left: who could start then, and who has to go.

A copy of the nodes that it concerns, with what is leaving already thought away. Waiting jobs are
given room on it one after the other, so that no room is counted twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import UP, Request
from fairlead.core.reserve import limit_of
from fairlead.model.base import JobId, NodeId
from fairlead.model.jobs import Phase
from fairlead.model.resources import Slot
from fairlead.policy.fence import Fence
from fairlead.policy.given import Given
from fairlead.policy.place.seats import seat, take
from fairlead.policy.place.trial import Trial

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

Step: TypeAlias = tuple[Job, Slot]  # one member that could leave


def may_resize(job: Job) -> bool:
    """Whether a live elastic job can be resized now: it runs, and no member has come to its end."""
    return job.phase is Phase.RUNNING and not job.exits and job.team is not None


def excess(job: Job) -> int:
    """Return how many members more than its least a job has that could be told to leave."""
    if not may_resize(job) or job.team is None:
        return 0
    return job.team.size - job.spec.shape.members


def steps(core: Core) -> list[Step]:
    """Return the members that could leave, one by one: of the lowest priority first, then of the
    job that has most beyond its least, then of the latest; of each job the last member first."""
    heap = [
        (job.spec.priority, -excess(job), -job.id) for job in core.elastic.values() if excess(job)
    ]
    heapq.heapify(heap)
    left: dict[JobId, list[Slot]] = {-job_id: [] for _, _, job_id in heap}
    for job_id in left:
        left[job_id] = list(core.jobs[job_id].staying)
    found: list[Step] = []
    while heap:
        priority, more, job_id = heap[0]
        found.append((core.jobs[-job_id], left[-job_id].pop()))
        if more + 1:
            heapq.heapreplace(heap, (priority, more + 1, job_id))
        else:
            heapq.heappop(heap)
    return found


class Needed(NamedTuple):
    """What it takes that a waiting job fits: who leaves, how many of each, and where it starts."""

    counts: dict[JobId, int]
    slots: tuple[Slot, ...]


class Roomier:
    """The nodes as they would be, for one pass."""

    def __init__(self, core: Core, pipeline: Pipeline) -> None:
        self.core, self.pipeline = core, pipeline
        self.steps = steps(core)
        self.leaving: list[Step] = [
            (job, slot) for job in core.elastic.values() for slot in job.leaving
        ]
        self.trials: dict[NodeId, Trial] = {}
        self._give(self.trials, self.leaving)

    def _give(self, trials: dict[NodeId, Trial], gone: Sequence[Step]) -> None:
        for job, slot in gone:
            trial = trials.get(slot.node)
            if trial is None:
                trial = trials[slot.node] = Trial.now(self.core.ledger, slot.node)
            trial.move(self.core.shapes[job.shape_id], slot.devices, 1)

    def needed(self, job: Job) -> Needed | None:
        """Return how many members of which jobs have to leave so that a waiting job fits.

        Nobody: it fits as soon as those are gone who leave already. None: it does not fit anyhow.
        What it is given counts as taken from here on.
        """
        everybody = len(self.steps)
        if not self._fits(job, self.steps):
            return None
        least, most = 0, everybody
        while least < most:
            middle = (least + most) // 2
            if self._fits(job, self.steps[:middle]):
                most = middle
            else:
                least = middle + 1
        counts: dict[JobId, int] = {}
        for victim, _ in self.steps[:least]:
            counts[victim.id] = counts.get(victim.id, 0) + 1
        self._spare(job, counts)
        gone = self._of(counts)
        slots = self._slots(job, gone)
        assert slots is not None
        self._give(self.trials, gone)
        self.leaving += gone
        self.steps = [step for step in self.steps if step not in gone]
        for its, those in self.core.shapes[job.shape_id].split(slots):
            for slot in those:
                trial = self.trials.get(slot.node)
                if trial is None:
                    trial = self.trials[slot.node] = Trial.now(self.core.ledger, slot.node)
                trial.move(its, slot.devices, -1)
        return Needed(counts, slots)

    def _spare(self, job: Job, counts: dict[JobId, int]) -> None:
        """Let members stay whose leaving is of no use: they are on other nodes, or of others."""
        for victim in reversed(list(counts)):
            least, most = 0, counts[victim]
            while least < most:
                counts[victim] = (least + most) // 2
                if self._fits(job, self._of(counts)):
                    most = counts[victim]
                else:
                    least = counts[victim] + 1
            counts[victim] = least
            if not least:
                del counts[victim]

    def _of(self, counts: dict[JobId, int]) -> list[Step]:
        left, found = dict(counts), []
        for step in self.steps:
            if left.get(step[0].id):
                left[step[0].id] -= 1
                found.append(step)
        return found

    def _fits(self, job: Job, gone: Sequence[Step]) -> bool:
        return not self._blocked(job, gone) and self._slots(job, gone) is not None

    def _blocked(self, job: Job, gone: Sequence[Step]) -> bool:
        """Whether a quota or limit still keeps a job from starting when these have left too."""
        core, pipeline = self.core, self.pipeline
        if not pipeline.over_quota(core, job):
            return False
        given = Given(core)
        for other, slot in (*self.leaving, *gone):
            given.move(other, (slot,), -1, 0)
        return pipeline.block(core, job, given) is not None

    def _slots(self, job: Job, gone: Sequence[Step]) -> tuple[Slot, ...] | None:
        """Return slots for a waiting job when these have left too, None: there are too few."""
        trials = {node: trial.copy() for node, trial in self.trials.items()}
        self._give(trials, gone)
        request = self.core.shapes[job.shape_id]
        if request.parts:
            usable = chain(*(self._nodes(job, part, trials) for part in request.parts))
            return seat(self.pipeline.fit, request, dict(usable))
        spread, members = request.shape.spread, request.members
        if request.tree:
            states = {node: trial.copy() for node, trial in self._nodes(job, request, trials)}
            return seat(self.pipeline.fit, request, states)
        slots: list[Slot] = []
        for node, trial in self._nodes(job, request, trials):
            most = 1 if spread == "distinct-nodes" else members
            here = list(take(request, node, trial, most))
            if spread != "same-node" or len(here) == members:
                slots += here[: members - len(slots)]
            if len(slots) == members:
                return tuple(slots)
        return None

    def _nodes(
        self, job: Job, request: Request, trials: dict[NodeId, Trial]
    ) -> Iterator[tuple[NodeId, Trial]]:
        """Yield what a job may use of each node: first where nobody leaves."""
        core = self.core
        fence = Fence(core, job, min(core.clock + limit_of(job), FAR))
        for node in self.pipeline.fit.in_order(request):
            if node not in trials and node not in fence.closed:
                yield node, fence.within(node, Trial.now(core.ledger, node))
        for node, trial in sorted(trials.items()):
            if core.ledger.room.item(UP, node) and node not in fence.closed:
                yield node, fence.within(node, trial)
