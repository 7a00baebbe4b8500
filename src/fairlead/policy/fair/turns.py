"""Starting jobs in the order of a walk: the part of a pipeline that fair orders bring.

A pass makes a walk over the leaves that wait, goes to the next leaf, tries its first job, and tells
the walk. What does not fit is passed over, but a job that has waited too long to be overtaken ends
the pass, wherever the walk meets it: as what its user holds ends, its share falls below everybody
else's, so that it is met first.

Before a pass all shapes that wait are tried; one that comes not to fit in its course is known when
it is tried next, and users with nothing else to start count as idle from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

from fairlead.core.ends import believed_run_ms
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import Ms, ShapeId
from fairlead.model.events import AnyEvent, Placed
from fairlead.model.resources import Slot
from fairlead.policy.fair.orders import Fair, walk
from fairlead.policy.fair.queue import FairQueue, LeafKey
from fairlead.policy.queue import Entry, Group, GroupId, merged

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

Ranked: TypeAlias = tuple[Entry, Job]
First: TypeAlias = tuple[Entry, Job, Group]
Ends: TypeAlias = Callable[[Job], bool]  # whether a job that does not fit ends the pass


class Turns:
    """Lets leaves start jobs, one after another."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        # Shapes that fit nowhere, while nothing frees anything.
        self._closed: set[ShapeId] = set()
        self._waiting: set[ShapeId] = set()  # of all that wait
        self.met: Entry | None = None  # the job that does not fit and has ended the last pass
        self._core: Core | None = None
        self._wakeups = self._layout = -1

    def queue(self) -> FairQueue:
        """Return an empty queue."""
        pipeline, config = self.pipeline, self.pipeline.config
        run_of: Callable[[Job], Ms] | None = None
        if config.backfill != 0:
            run_of = lambda job: believed_run_ms(job, config)  # noqa: E731
        apart = config.order == "multifactor"
        return FairQueue(pipeline.order, run_of, self.all_in_order, apart=apart)

    @property
    def _queue(self) -> FairQueue:
        return cast(FairQueue, self.pipeline.queue)

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield placements, best first."""
        self._queue.sync(core)
        overtake_ms = self.pipeline.overtake_ms
        since = -1 if overtake_ms is None else core.clock - overtake_ms
        yield from self.launches(core, lambda job: job.submitted_ms <= since)

    def launches(self, core: Core, ends: Ends) -> Iterator[AnyEvent]:
        """Yield placements until nobody can start anything, or a job that does not fit ends it.

        That job's entry is then in `met`.
        """
        self.met = None
        pipeline, queue = self.pipeline, self._queue
        plain = not core.reservations and not core.promises
        closed = self._ready(core, plain, ends)
        if closed is None:
            return
        because = pipeline.because
        nexts = {key: self._next(core, key, closed, ends) for key in sorted(queue.leaves)}
        firsts = {key: found for key, found in nexts.items() if found is not None}
        turns = walk(core, {key: job for key, (_, job, _) in firsts.items()}, pipeline.config)

        def following(leaf: LeafKey) -> Job | None:
            found = self._next(core, leaf, closed, ends)
            if found is None:
                return None
            firsts[leaf] = found
            return found[1]

        while (leaf := turns.best()) is not None:
            key = cast(LeafKey, leaf.key)
            entry, job, group = firsts[key]
            if job.id != leaf.tie[1]:  # its first job has been closed out since
                turns.passed(leaf, job)
                continue
            fits = job.shape_id not in closed
            if fits and pipeline.over_quota(core, job):
                queue.park(entry, group, queue.gated)
                turns.passed(leaf, following(key))
                continue
            slots = self._place(core, job, plain) if fits else None
            if slots is not None:
                yield Placed(job=job.id, attempt=job.attempt + 1, slots=slots, because=because)
                turns.launched(leaf, following(key))
                continue
            if self._stops(core, entry, group, job, ends):
                self.met = entry
                return
            if plain:
                closed.add(job.shape_id)
                if self.pipeline.backfill is None and self._all_closed(core, closed):
                    return
                if closed >= self._waiting:
                    return  # nothing that waits fits
            turns.passed(leaf, following(key))
            for other in [each for each in turns.leaves if firsts[each][1].shape_id in closed]:
                if following(other) is None:
                    turns.drop(other)

    def _ready(self, core: Core, plain: bool, ends: Ends) -> set[ShapeId] | None:
        """Return the shapes that fit nowhere, None where nothing can start.

        What did not fit before is looked at again if its shape fits now, or if it may be in the
        way of those behind it.
        """
        queue = self._queue
        stands = self._core is core and self._wakeups == core.wakeups
        if not stands or self._layout != core.ledger.layout:
            self._core, self._wakeups, self._layout = core, core.wakeups, core.ledger.layout
            self._closed.clear()
        if not plain:
            queue.unpark(core, (), ends)
            return set() if queue.leaves else None
        closed = self._closed
        self._waiting = {group[0] for group in queue.groups}
        fits = self.pipeline.fit.tester()
        for shape in sorted(self._waiting - closed):
            if not fits(core.shapes[shape]):
                closed.add(shape)
        if closed >= self._waiting and self.pipeline.backfill is None:
            return None
        queue.unpark(core, closed, ends)
        return closed

    def _all_closed(self, core: Core, closed: set[ShapeId]) -> bool:
        """Whether nothing that waits fits any more, now that one shape has come not to fit.

        All that fitted are tried again, so that a full cluster is known at once, and not shape by
        shape. What fits no more, beside something that does, still waits for its turn to be tried:
        until then its users count as busy.
        """
        rest = self._waiting - closed
        fits = self.pipeline.fit.tester()
        if any(fits(core.shapes[shape]) for shape in rest):
            return False
        closed |= rest
        return True

    def _place(self, core: Core, job: Job, plain: bool) -> tuple[Slot, ...] | None:
        if plain:
            return self.pipeline.fit.gang(core.shares.request(job))
        return self.pipeline.beside_claims(core, job)

    def _next(self, core: Core, leaf: LeafKey, closed: set[ShapeId], ends: Ends) -> First | None:
        """Return the first job of a leaf that may start or end the pass; pass over the others."""
        queue = self._queue
        while (found := queue.first(core, leaf)) is not None:
            entry, group = found
            job = core.pending[entry[2]]
            if job.shape_id in closed and not ends(job):
                queue.park(entry, group, queue.stuck)
            elif core.shares.limited and self.pipeline.over_quota(core, job):
                queue.park(entry, group, queue.gated)
            else:
                return entry, job, group
        return None

    def _stops(self, core: Core, entry: Entry, group: Group, job: Job, ends: Ends) -> bool:
        """Whether a job that does not fit ends the pass; if not, its group is set aside."""
        pipeline, queue = self.pipeline, self._queue
        if not ends(job):
            queue.park(entry, group, queue.stuck)
            return False
        gated = pipeline.over_quota(core, job)
        if not gated and pipeline.possible(core, job) and not pipeline.aside(core, job):
            return True
        queue.park(entry, group, queue.gated)
        return False

    # ---- one after another, whatever fits ------------------------------------------------------

    def candidates(
        self, core: Core, closed: Collection[GroupId], refused: Mapping[GroupId, Ms]
    ) -> Iterator[Ranked]:
        """Yield the waiting jobs of all groups that are not closed, in the order of a walk.

        Whoever asks for the next one has started this one, promised it a start, or passed over it;
        only the first two count as use.
        """
        return self._listed(core, closed, refused, all_start=False)

    def all_in_order(self, core: Core) -> Iterator[Ranked]:
        """Yield all waiting jobs in the order in which they would start if all fitted."""
        return self._listed(core, (), {}, all_start=True)

    def _listed(
        self,
        core: Core,
        closed: Collection[GroupId],
        refused: Mapping[GroupId, Ms],
        *,
        all_start: bool,
    ) -> Iterator[Ranked]:
        queue = self._queue
        groups: dict[LeafKey, list[tuple[GroupId, Group]]] = {}
        for group_id, group in queue.groups.items():
            if group_id not in closed:
                group.compact(core)
                groups.setdefault(queue.leaf_of(group_id), []).append((group_id, group))
        rest = {key: merged(core, groups[key], closed, refused) for key in sorted(groups)}
        heads = {key: first for key, its in rest.items() if (first := next(its, None))}
        turns = walk(core, {key: job for key, (_, job) in heads.items()}, self.pipeline.config)
        if all_start and isinstance(turns, Fair):
            turns.count_all()  # what is used up now comes free before they start
        while (leaf := turns.best()) is not None:
            key = cast(LeafKey, leaf.key)
            entry, job = heads[key]
            yield entry, job
            after = next(rest[key], None)
            if after is not None:
                heads[key] = after
            waits = job.id in core.pending
            if waits and not all_start and job.promise is None:
                turns.passed(leaf, after[1] if after else None)
            else:
                turns.launched(leaf, after[1] if after else None, as_if=job if waits else None)
