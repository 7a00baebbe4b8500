"""Backfilling: who may start before its turn, because those before it lose nothing by it.

The first `depth` jobs that do not fit get a promised start: the earliest time at which the plan of
the future has room for them. Others may start now if they end before what is promised, or leave
room for it. Depth 1 is EASY (Lifka 1995), all jobs is conservative (Mu'alem and Feitelson, TPDS
2001; algorithms.md 6.1, 6.2). A promise is a decision: it is logged, and only moves earlier, since
it is given back and made anew in the order of the queue while all others stand.

With depth 1 and no other claims the head's start need not be remembered: it follows from what
runs, and cannot move later while beliefs hold. That path asks one state per node (plan.Shadow).

Cost: nothing where nothing changed. Where something ended, O(waiting jobs of shapes that fit now)
and one sweep of the believed ends for each promise. A job that came is looked at alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from fairlead.core.ends import FAR, believed_run_ms
from fairlead.core.engine import Core
from fairlead.core.jobs import Job, Promise
from fairlead.core.reserve import limit_of
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent, Placed, Promised
from fairlead.model.resources import Slot
from fairlead.policy.beside import left_alone
from fairlead.policy.firm import firm, is_firm, window
from fairlead.policy.plan import Plan, Shadow, next_claim
from fairlead.policy.queue import ANY, Entry, Group, GroupId, merged

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

Ranked: TypeAlias = tuple[Entry, Job]


def _shortest(item: Ranked) -> tuple[Ms, Ms, JobId]:
    entry, job = item
    return (entry[4], job.submitted_ms, job.id)


class Backfill:
    """The part of a pipeline that lets jobs start before their turn."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.depth = pipeline.config.backfill
        self.head: Entry | None = None  # the first that does not fit, in its turn
        self.shadow: Shadow | None = None  # where it has been promised a start
        self._core: Core | None = None
        self._wakeups = -1
        self._layout = -1
        self._stands_until: Ms = -1
        # While nothing frees anything: groups that do not fit now, and the least run time that
        # was refused to a job of a group.
        self._closed: set[GroupId] = set()
        self._refused: dict[GroupId, Ms] = {}

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield placements and promises, best first."""
        queue = self.pipeline.queue
        queue.keep_fresh = True
        queue.sync(core)
        fresh, queue.fresh = queue.fresh, []
        ranked = [
            (queue.entry(core.pending[job]), core.pending[job])
            for job in dict.fromkeys(fresh)
            if job in core.pending
        ]
        # In a walk time alone changes who is before whom.
        again = self._stale(core) or self.pipeline.turns is not None
        if self.depth == 1 and not core.reservations and not core.promises:
            yield from self._easy(core, ranked, again)
        else:
            yield from self._planned(core, ranked, again)

    def _stale(self, core: Core) -> bool:
        """Whether something happened since the last pass that may let any job start."""
        stale = (
            self._core is not core
            or self._wakeups != core.wakeups
            or self._layout != core.ledger.layout
            or core.clock >= self._stands_until
        )
        if stale:
            self._core, self._wakeups, self._layout = core, core.wakeups, core.ledger.layout
            self._stands_until = next_claim(core)
            self._closed.clear()
            self._refused.clear()
        return stale

    # ---- depth 1 ------------------------------------------------------------------------------

    def _easy(self, core: Core, fresh: list[Ranked], again: bool) -> Iterator[AnyEvent]:
        if again or (self.head is not None and self._before(fresh, self.head)):
            self.head = self.shadow = None
        if self.head is not None:
            yield from self._candidates(core, self._in_turn(fresh))
            return
        yield from self._heads(core)
        if self.head is not None:
            self._closed.clear()
            self._refused.clear()
            yield from self._candidates(core, self._all(core))

    def _before(self, fresh: list[Ranked], head: Entry) -> bool:
        """Whether any of these may come before the head. In a walk any may."""
        return bool(fresh) if self.pipeline.turns else any(entry < head for entry, _ in fresh)

    def _heads(self, core: Core) -> Iterator[AnyEvent]:
        """Start jobs in their turn until one does not fit: that is the head."""
        turns = self.pipeline.turns
        if turns is not None:
            yield from turns.launches(core, lambda job: True)
            if turns.met is not None:
                self._lead(core, turns.met)
            return
        pipeline, queue = self.pipeline, self.pipeline.queue
        while (found := queue.best(core)) is not None:
            entry, group = found
            job = core.pending[entry[2]]
            if pipeline.over_quota(core, job):
                queue.park(entry, group, queue.gated)
                continue
            placed = 0
            for each, slots in pipeline.place(core, job, group):
                placed += 1
                yield self._place(each, slots, pipeline.because)
            if placed:
                continue
            if not pipeline.possible(core, job):
                queue.park(entry, group, queue.gated)
                continue
            self._lead(core, entry)
            return

    def start_of(self, core: Core, job: Job) -> Ms:
        """Return when a job that does not fit is known to start at the latest; FAR: nobody knows.

        Who ends before that may start before it.
        """
        start = promised_start(core, self.pipeline, job.id)
        return FAR if start is None else start

    def _lead(self, core: Core, head: Entry) -> None:
        """This is the first job that does not fit: see when it can start."""
        job, pipeline = core.pending[head[2]], self.pipeline
        self.head = head
        plan = Plan(core, pipeline.fit)
        run_ms = believed_run_ms(job, pipeline.config)
        self.shadow = Shadow(plan, core.shares.request(job), run_ms)

    def _place(self, job: Job, slots: tuple[Slot, ...], because: str) -> Placed:
        return Placed(job=job.id, attempt=job.attempt + 1, slots=slots, because=because)

    def _candidates(self, core: Core, ranked: Iterable[Ranked]) -> Iterator[AnyEvent]:
        """Start what fits now and does not delay the head."""
        assert self.head is not None and self.shadow is not None
        pipeline, shadow, fit = self.pipeline, self.shadow, self.pipeline.fit
        group_of, clock = pipeline.queue.group_of, core.clock
        because = f"{pipeline.because}; backfilled beside job {self.head[2]}"
        if shadow.start_ms >= FAR and pipeline.protected(clock, core.pending.get(self.head[2])):
            return  # nobody knows when the head may start, and it has waited long enough
        for entry, job in ranked:
            group, run_ms = group_of(job), entry[4]
            if (
                group in self._closed
                or run_ms >= self._refused.get(group, ANY)
                or (entry == self.head)
            ):
                continue
            if pipeline.over_quota(core, job):
                self._closed.add(group)
                continue
            request = core.shares.request(job)
            slots = fit.gang(request)
            if slots is None:
                self._closed.add(group)
                continue
            slots = left_alone(fit, request, slots, shadow, clock + run_ms)
            if slots is None:
                # So is every job of the group that would run beyond the promised start.
                self._refused[group] = shadow.start_ms - clock + 1
                continue
            shadow.take(request, slots, clock + run_ms)
            yield self._place(job, slots, because)

    def _in_turn(self, ranked: list[Ranked]) -> list[Ranked]:
        """Return candidates in the order in which they are tried."""
        if not self.pipeline.config.shortest:
            return sorted(ranked, key=lambda item: item[0])
        return sorted(ranked, key=_shortest)

    def _all(self, core: Core) -> Iterator[Ranked]:
        """Yield the waiting jobs that could start, in the order in which to try them.

        Of groups that fit now, jobs that are shorter than the shortest refused of their group.
        """
        queue, fits, shapes = self.pipeline.queue, self.pipeline.fit.tester(), core.shapes
        groups: list[tuple[GroupId, Group]] = []
        for group_id, group in queue.groups.items():
            if group_id in queue.gated:
                continue
            if not fits(shapes[group_id[0]]):
                self._closed.add(group_id)
            else:
                group.compact(core)
                groups.append((group_id, group))
        if self.pipeline.config.shortest:
            yield from self._in_turn([item for _, group in groups for item in group.waiting(core)])
            return
        if self.pipeline.turns is not None:
            yield from self.pipeline.turns.candidates(core, self._closed, self._refused)
        else:
            yield from merged(core, groups, self._closed, self._refused)

    # ---- any depth ----------------------------------------------------------------------------

    def _planned(self, core: Core, fresh: list[Ranked], again: bool) -> Iterator[AnyEvent]:
        """Go through the jobs in order: start, else promise while the depth allows, else pass."""
        queue = self.pipeline.queue
        self.head = self.shadow = None
        promised = sorted(queue.entry(job) for job in core.promises.values() if not is_firm(job))
        if fresh and self.depth is not None and promised:
            again = again or self._before(fresh, promised[-1])
        ranked = self._ranked(core) if again else sorted(fresh)
        rest: list[Ranked] = []
        count = 0 if again else len(promised)
        for entry, job in ranked:
            if job.id not in core.pending or self._gated(core, job):
                continue
            if is_firm(job):  # it keeps its promise, and starts earlier where it can
                slots = self.pipeline.beside_claims(core, job)
                if slots is not None:
                    yield self._place(job, slots, self.pipeline.because)
                continue
            if self.depth is not None and count >= self.depth and job.spec.deadline_ms is None:
                if job.promise is not None:
                    yield Promised(job=job.id, start_ms=core.clock, because="jobs came before it")
                rest.append((entry, job))
                continue
            yield from self._start_or_promise(core, job)
            count += job.promise is not None
        for _, job in self._in_turn(rest):
            yield from self._start(core, job)
        self._stands_until = next_claim(core)

    def _ranked(self, core: Core) -> Iterable[Ranked]:
        """Return all waiting jobs in the order of the policy."""
        if self.pipeline.turns is not None:
            return self.pipeline.turns.candidates(core, (), {})
        return sorted((self.pipeline.queue.entry(job), job) for job in core.pending.values())

    def _gated(self, core: Core, job: Job) -> bool:
        return self.pipeline.over_quota(core, job) or not self.pipeline.possible(core, job)

    def _start(self, core: Core, job: Job) -> Iterator[AnyEvent]:
        """Start a job beside all claims, if it fits."""
        group = self.pipeline.queue.group_of(job)
        run_ms = believed_run_ms(job, self.pipeline.config)
        if group in self._closed or run_ms >= self._refused.get(group, ANY):
            return
        if self.pipeline.over_quota(core, job):
            return  # by those that have started since it was looked at
        slots = self.pipeline.beside_claims(core, job)
        if slots is not None:
            yield self._place(job, slots, f"{self.pipeline.because}; backfilled")
        elif self.pipeline.fit.gang(core.shares.request(job)) is None:
            self._closed.add(group)
        else:
            self._refused[group] = run_ms

    def _start_or_promise(self, core: Core, job: Job) -> Iterator[AnyEvent]:
        """Start a job if it fits beside all claims; else promise it the earliest start that does.

        Its own promise is given back first: what it held is still free, so the new one is not
        later, unless a node has gone or what was believed of others was wrong.
        """
        pipeline, old = self.pipeline, job.promise
        slots = pipeline.beside_claims(core, job)
        if slots is not None:
            yield self._place(job, slots, pipeline.because)
            return
        plans = pipeline.plans(core)
        request = core.shares.request(job)
        run_ms = believed_run_ms(job, pipeline.config)
        plans.withdraw(job.id)
        found = plans.view(job).earliest(request, run_ms)
        if found is None:
            if old is not None:
                yield Promised(job=job.id, start_ms=core.clock, because="its nodes are gone")
            return
        start, slots = found
        same = old is not None and (start, run_ms) == (old.start_ms, old.run_ms)
        if same or _pushes(core, job, Promise(start, slots, run_ms)):
            if old is not None:
                plans.promise(job, old)
            return
        late = old is not None and start > old.start_ms
        why = "a node has changed, or others run longer than was believed" if late else ""
        yield Promised(job=job.id, start_ms=start, slots=slots, because=why)


def _pushes(core: Core, job: Job, promise: Promise) -> bool:
    """Whether a firm promise would push aside others that stand before it.

    It fits behind them by what is believed of them, but whoever could still be there by its limit
    would have to wait for it: so it does not move there.
    """
    if not firm(job, promise):
        return False
    nodes, (begins, _) = {slot.node for slot in promise.slots}, window(job, promise)
    others = (each for each in core.promises.values() if each is not job and not is_firm(each))
    return any(
        other.promise is not None
        and other.promise.start_ms < promise.start_ms
        and other.promise.start_ms + limit_of(other) > begins
        and any(slot.node in nodes for slot in other.promise.slots)
        for other in others
    )


def promised_start(core: Core, pipeline: Pipeline, job: JobId) -> Ms | None:
    """Return when a waiting job starts at the latest by what is believed, None where unknown."""
    waiting = core.pending.get(job)
    if waiting is not None and waiting.promise is not None:
        return waiting.promise.start_ms
    backfill = pipeline.backfill
    if backfill is None or backfill.head is None or backfill.shadow is None:
        return None
    known = backfill.head[2] == job and backfill.shadow.start_ms < FAR
    return backfill.shadow.start_ms if known else None
