"""Taking back what was lent, and the place of lower-priority jobs in the own queue.

Last in a round: a waiting job that is first of its queue, and within the quota of the queue or of
one above it, takes back what others hold beyond theirs; with `within`, it may take the place of
jobs of strictly lower priority in its own queue. Borrowers go in this order (algorithms.md 4.5):
other queues first, lower priority, least work lost since the last checkpoint (without checkpoints:
the last that started), id; a queue that no longer borrows is skipped. Who turns out not to be
needed is spared. Nobody is stopped unless the job then fits, on the nodes too. Among jobs of the
own queue alone, those are chosen that lose least (algorithms.md 7.2; policy/victims.py).

What is freed is held for the job, by its id, until it starts (event `Promised` with `until_ms`):
without that somebody else would take the place of the victim that ends first, and the job would
preempt again, for ever. Each decision is applied before the next is made, so a second queue that
reclaims in the same round sees what the first was given.

Who is left alone: jobs that are not preemptible, that have run for less than min_run_ms, or that
the watchdog shields. Having been preempted preemptions_max times protects from the own queue's
jobs; a guarantee goes before that, so borrowers so protected only go last.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from fairlead.core import models, watch
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.shares import QUOTA
from fairlead.model.base import JobId, Ms
from fairlead.model.events import AnyEvent, Promised, StopDecided
from fairlead.model.jobs import LIVE, Phase, PolicyConfig
from fairlead.model.resources import Slot, width_milli
from fairlead.policy.firm import is_firm, is_held
from fairlead.policy.queue import Entry, Group
from fairlead.policy.reclaim_words import because
from fairlead.policy.room import Room, Tree, stopping
from fairlead.policy.victims import Candidate, choose, minimal

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

MARGIN_MS: Ms = 60_000  # after the last grace is over, for agents to say so
TRIES = 16  # nodes looked at one by one where the usual order frees nothing whole
Rank: TypeAlias = tuple[bool, int, Ms, Ms, JobId]
LOOKS_MAX = 1_000  # waiting jobs looked at in one round


def lost_ms(job: Job, config: PolicyConfig, now: Ms) -> Ms:
    """Return how long a job would have to run to be where it is now, if it were stopped now."""
    return job.unsaved_ms(now) + restart_ms(job, config)


def restart_ms(job: Job, config: PolicyConfig) -> Ms:
    """Return how long a job takes to start again."""
    return config.restart_ms if job.spec.restart_ms is None else job.spec.restart_ms


def lost_work(job: Job, config: PolicyConfig, now: Ms) -> int:
    """Return the same as work: ms times thousandths of a GPU (or of a core)."""
    return lost_ms(job, config, now) * width_milli(job.spec.shape)


class Scene:
    """The nodes and the quotas with some of the candidates gone: does the waiting job fit?"""

    def __init__(self, reclaim: Reclaim, job: Job, gone: Sequence[Job], model: str = "") -> None:
        core = reclaim.core
        self.core, self.job, self.model = core, job, model
        self.fit, self.gone = reclaim.pipeline.fit, gone
        self.tree = reclaim.tree(gone)
        shares = core.shares
        asked = dict(shares.asked(job))
        if model in shares.models:  # it takes several types, and here it is to have this one
            row, kinds = shares.models[model], models.flexible(job.spec.shape)
            asked[row] = asked.get(row, 0) + models.gpus_of(kinds)
        self.asked = [(row, amount) for row, amount in asked.items() if row in shares.governed]
        self.leaf = self.tree.branches[job.spec.queue]
        self.guaranteed = self.tree.entitled(job, self.asked) if self.asked else []
        self.candidates: list[Job] = []

    @cached_property
    def room(self) -> Room:
        """The nodes; made when they are asked for: most often the quotas alone say no."""
        return Room(self.core, self.fit, self.job, self.gone, self.model)

    def remove(self, place: int) -> None:
        """Think a candidate away."""
        self.tree.move(self.candidates[place], -1)
        self.room.move(self.candidates[place], 1)

    def restore(self, place: int) -> None:
        """Undo `remove`."""
        self.tree.move(self.candidates[place], 1)
        self.room.move(self.candidates[place], -1)

    def fits(self) -> bool:
        """Whether the job has both room and quota."""
        return self.within_quota() and self.room.fits()

    def within_quota(self) -> bool:
        """Whether nobody's quota keeps the job from starting."""
        return all(self.leaf.available(row) >= amount for row, amount in self.asked)

    def least(self, places: Sequence[int]) -> int:
        """Return a number of these of which surely none fewer have to go."""
        if self.fits():
            return 0
        if self.room.fits():
            return 1
        return self.room.least([self.candidates[place] for place in places])

    def borrows(self, queue: str) -> bool:
        """Whether a queue now uses what the waiting job is guaranteed.

        It and all above it, up to where the two part, use more than their own of something that
        the job asks for; and the job's side there is within its quota.
        """
        path = self.tree.branches[queue].above()
        mine = self.leaf.above()
        while len(path) > 1 and len(mine) > 1 and path[-2] is mine[-2]:
            path.pop()
            mine.pop()
        if len(mine) < 2 or len(path) < 2 or mine[-2] not in self.guaranteed:
            return False
        return any(all(each.borrowed(row) for each in path[:-1]) for row, _ in self.asked)

    def useful(self, job: Job) -> bool:
        """Whether a job is here still, and holds any of what is asked for and guaranteed."""
        if job.phase is Phase.STOPPING:
            return False
        held = self.core.shares.holdings(job, job.slots)
        return any(held[row] for row, _ in self.asked)


class Reclaim:
    """The part of a pipeline that takes back, last in a round."""

    core: Core

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.config = pipeline.config
        # A preemptive order decides by itself who takes whose place in a queue.
        self.within = self.config.within != "never" and not self.config.preempt
        self._failed: dict[JobId, int] = {}  # waiting job -> its token, while nothing changed
        self._stamp: tuple[object, ...] = ()
        # Of one moment in a round, until something is decided:
        self._tree: Tree | None = None
        self._going: list[Job] | None = None
        self._pool: dict[str, list[tuple[Rank, Job]]] | None = None

    def active(self, core: Core) -> bool:
        """Whether there could be anything to take back."""
        if not core.pending:
            return False
        takes_back = self.config.reclaim != "never" and bool(core.shares.governed)
        return takes_back or self.within

    def look_anew(self) -> None:
        """Forget what was found out of one moment."""
        self._tree, self._pool, self._going = None, None, None

    def tree(self, gone: Sequence[Job]) -> Tree:
        """Return the quotas with those gone; whoever tries something on them undoes it."""
        if self._tree is None or self._tree.core is not self.core:
            self._tree = Tree(self.core, gone)
        return self._tree

    def wake_at(self, core: Core) -> Ms | None:
        """Return when a job has run long enough to be taken back from, None if no time tells."""
        if not self.active(core):
            return None
        least, jobs, times = self.config.min_run_ms, core.jobs, []
        for _, job_id in core.ends.sorted:
            job = jobs[job_id]
            if not least and job.fruitless < watch.SPARE:
                continue
            started = job.placed_ms if job.started_ms is None else job.started_ms
            if not job.spec.preemptible or job.phase is Phase.STOPPING or started is None:
                continue
            times.append(started + max(least, watch.shield_ms(job)))
        return min((at for at in times if at > core.clock), default=None)

    def decide(self, core: Core, served: Collection[JobId] = ()) -> Iterator[AnyEvent]:
        """Yield stops, and for whom what they free is held.

        `served` are waiting jobs for which members of elastic jobs leave: nobody else has to.
        """
        if not self.active(core):
            return
        self.core = core
        self.pipeline.bind(core)
        self.pipeline.queue.sync(core)
        self._forget()
        self.look_anew()
        for job in islice(self._heads(), LOOKS_MAX):
            if job.id not in served:
                yield from self._for(job)

    def _forget(self) -> None:
        """Who could take back nothing can still not, while nothing has started, ended, changed."""
        core = self.core
        wake = self.wake_at(core)
        stamp = (core, core.ledger.changes, core.ledger.layout, core.wakeups, wake)
        if stamp != self._stamp:
            self._stamp = stamp
            self._failed.clear()

    # ---- who ----------------------------------------------------------------------------------

    def _heads(self) -> Iterator[Job]:
        """Yield the waiting jobs whose turn it is in their queues, the first in the order first.

        After a job that got what it asked for the next of its queue; where it did not, the next
        that asks for something else, unless the order does not let it overtake.
        """
        core, pipeline = self.core, self.pipeline
        heads: list[tuple[Entry, Group]] = []
        for group in pipeline.queue.groups.values():
            first = group.first(core)
            if first is not None:
                heads.append((first, group))
        shut: set[str] = set()
        for entry, group in sorted(heads, key=lambda head: head[0]):
            job = core.pending.get(entry[2])
            if job is None or job.spec.queue in shut:
                continue
            for _, each in group.waiting(core):
                if each.promise is not None and is_firm(each):
                    continue
                yield each
                if each.promise is not None and is_firm(each):
                    continue  # it was served: the next one of these
                if pipeline.protected(core.clock, each) and not self._gated(each):
                    shut.add(each.spec.queue)
                break

    def _gated(self, job: Job) -> bool:
        """Whether something else than what others hold keeps a job from starting."""
        core, pipeline = self.core, self.pipeline
        block = core.shares.block(job)
        if block is not None and block.code != QUOTA:
            return True
        if pipeline.block_of_tenant(core, job, job.spec.shape) is not None:
            return True
        return pipeline.gate.block(core, job) is not None or not pipeline.possible(core, job)

    def _for(self, job: Job) -> Iterator[AnyEvent]:
        """Take back for one waiting job, if that lets it start."""
        if self._failed.get(job.id) == job.token:
            return
        self._failed[job.id] = job.token
        if self._gated(job):
            return
        for model in self._variants(job):
            yield from self._for_model(job, self._gone(), model)
            if is_held(job):
                return

    def _gone(self) -> list[Job]:
        """Return the jobs that are on their way out."""
        if self._going is None:
            self._going = stopping(self.core)
        return self._going

    def _variants(self, job: Job) -> list[str]:
        """Return the GPU types that a job can be tried with, one by one; [""]: no need to."""
        shares = self.core.shares
        if not shares.models or not models.flexible(job.spec.shape):
            return [""]
        # Of different workers that take different types none is tried: no one type is for all.
        types = models.accepted(shares, job)
        return [model for model in types if models.narrowed(job.spec.shape, (model,))]

    def _for_model(self, job: Job, going: Sequence[Job], model: str) -> Iterator[AnyEvent]:
        core = self.core
        scene = Scene(self, job, going, model)
        if not scene.guaranteed and not self.within:
            return
        if scene.fits():  # no more need go
            if any(each.then is Phase.PENDING for each in going) and not self._fits_now(job):
                yield from self._hold(job, scene, going)
            return
        victims = self.victims(job, scene)
        while victims is not None:
            # Nobody is preempted while others have more than they need.
            shrunk = self.pipeline.resize.give_way(
                core, f"before others make room for job {job.id}"
            )
            if shrunk is None:
                break
            yield shrunk
            self._tree = self._going = None
            scene = Scene(self, job, going, model)
            if scene.fits():
                yield from self._hold(job, scene, going)
                return
            victims = self.victims(job, scene)
        if victims is None:
            return
        slots = scene.room.slots()
        if job.promise is not None and job.promise.start_ms <= self._ready(slots, victims, going):
            return  # it starts as early without
        self._tree = self._going = None
        for each in victims:
            words = because(self, job, each, scene, victims)
            yield StopDecided(
                job=each.id,
                attempt=each.attempt,
                then=Phase.PENDING,
                because=words,
                beneficiary=job.id,
            )
        yield self._promise(job, slots, [*victims, *going])

    def _fits_now(self, job: Job) -> bool:
        core = self.core
        if core.shares.block(job) is not None:
            return False
        return Room(core, self.pipeline.fit, job, ()).fits()

    def _hold(self, job: Job, scene: Scene, going: Sequence[Job]) -> Iterator[AnyEvent]:
        """Hold for a job what those leave that are on their way out, if it is to have it."""
        hold = self._promise(job, scene.room.slots(), going)
        if job.promise is not None and job.promise.start_ms <= hold.start_ms:
            return  # it starts as early without
        self._tree = self._going = None
        yield hold

    def _ready(self, slots: tuple[Slot, ...], victims: Sequence[Job], going: Sequence[Job]) -> Ms:
        """Return when the room is believed to be free if these are told to stop now."""
        core, nodes = self.core, {slot.node for slot in slots}
        ends = [(each, core.clock + each.spec.grace_ms) for each in victims]
        ends += [(each, core.ends.get(each.id)) for each in going]
        there = [end for each, end in ends if any(slot.node in nodes for slot in each.slots)]
        return max([core.clock, *there])

    def _promise(self, job: Job, slots: tuple[Slot, ...], going: Sequence[Job]) -> Promised:
        start = self._ready(slots, (), going)
        return Promised(
            job=job.id,
            start_ms=start,
            slots=slots,
            because="what others leave is held for it",
            until_ms=max([start, *(self.core.ends.get(each.id) for each in going)]) + MARGIN_MS,
        )

    # ---- whom ---------------------------------------------------------------------------------

    def victims(self, job: Job, scene: Scene) -> list[Job] | None:
        """Return who goes for a waiting job, in the order chosen; None: it would not fit."""
        own, others = self.candidates(job, scene)
        first = next(others, None)
        if first is None:
            return self._of_own(scene, own) if own else None
        chosen = self._classic(job, scene, chain([first], others, own))
        if chosen is None:
            own, others = self.candidates(job, scene)
            for order in self._by_node(scene, [*others, *own]):
                chosen = self._classic(job, scene, order)
                if chosen is not None:
                    break
        return chosen

    def candidates(self, job: Job, scene: Scene) -> tuple[list[Job], Iterator[Job]]:
        """Return who may go, in order: jobs of the own queue, and those that borrow from others."""
        config, priority = self.config, job.spec.priority
        own: list[Job] = []
        ranked: list[list[tuple[Rank, Job]]] = []
        for queue, its in self._running().items():
            if queue == job.spec.queue:
                lower = [each for _, each in its if each.spec.priority < priority]
                own = [each for each in lower if self.within and not tired(config, each)]
            elif config.reclaim != "never" and scene.borrows(queue):
                ranked.append(its)
        others = (
            each
            for _, each in heapq.merge(*ranked)
            if (config.reclaim == "any" or each.spec.priority < priority) and scene.useful(each)
        )
        return [each for each in own if each.phase is not Phase.STOPPING], others

    def _running(self) -> dict[str, list[tuple[Rank, Job]]]:
        """Return who may be stopped in this round, by queue, who goes first first."""
        if self._pool is None:
            self._pool = {}
            core, config = self.core, self.config
            for _, job_id in core.ends.sorted:
                each = core.jobs[job_id]
                if each.phase is not Phase.STOPPING and may_stop(core, config, each):
                    self._pool.setdefault(each.spec.queue, []).append((self.rank(each), each))
            for its in self._pool.values():
                its.sort(key=itemgetter(0))
        return self._pool

    def rank(self, job: Job) -> Rank:
        """Return a victim's place among candidates: who sorts first goes first."""
        config, now = self.config, self.core.clock
        placed = 0 if job.placed_ms is None else job.placed_ms
        lost = lost_ms(job, config, now)
        return (tired(config, job), job.spec.priority, lost, -placed, job.id)

    def _classic(self, job: Job, scene: Scene, order: Iterable[Job]) -> list[Job] | None:
        """Remove candidates in order until the job fits, then spare those that are not needed."""
        scene.candidates = []
        chosen: list[int] = []
        fits = False
        for each in order:
            if each.phase is Phase.STOPPING:
                continue
            if each.spec.queue != job.spec.queue and not scene.borrows(each.spec.queue):
                continue
            scene.candidates.append(each)
            chosen.append(len(chosen))
            scene.remove(chosen[-1])
            fits = scene.fits()
            if fits:
                break
        if not fits:
            for place in chosen:
                scene.restore(place)
            return None
        needed = minimal(chosen, scene)  # they stay away: the job's slots are chosen beside them
        return [scene.candidates[place] for place in needed]

    def _by_node(self, scene: Scene, order: Sequence[Job]) -> Iterator[list[Job]]:
        """Yield orders that clear one node after the other, for what the usual order scatters."""
        held: dict[int, int] = {}
        for each in order:
            for its, slots in self.core.shapes[each.shape_id].split(each.slots):
                width = width_milli(its.shape) // its.members
                for slot in slots:
                    held[slot.node] = held.get(slot.node, 0) + width
        nodes = sorted(held, key=lambda node: (-held[node], node))
        if scene.room.request.members > 1 and scene.room.request.shape.spread != "same-node":
            place = {node: at for at, node in enumerate(nodes)}
            yield sorted(order, key=lambda job: min(place[slot.node] for slot in job.slots))
            return
        for node in nodes[:TRIES]:
            yield [job for job in order if any(slot.node == node for slot in job.slots)]

    def _of_own(self, scene: Scene, own: list[Job]) -> list[Job] | None:
        """Of jobs of the own queue alone: those that lose least."""
        scene.candidates = own
        config, now = self.config, self.core.clock
        rated = [
            Candidate(
                each.id,
                each.spec.priority,
                lost_work(each, config, now),
                width_milli(each.spec.shape),
            )
            for each in own
        ]
        choice = choose(rated, scene)
        if choice is None:
            return None
        for place in choice.places:
            scene.remove(place)
        return [own[place] for place in choice.places]


def may_stop(core: Core, config: PolicyConfig, job: Job) -> bool:
    """Whether a live job may be stopped at all now, whoever asks for its place."""
    if not job.spec.preemptible or job.phase not in LIVE or watch.shielded(job, core.clock):
        return False
    started = job.placed_ms if job.started_ms is None else job.started_ms
    return started is None or core.clock - started >= config.min_run_ms


def tired(config: PolicyConfig, job: Job) -> bool:
    """Whether a job was preempted as often as it may be, but for what others are guaranteed."""
    return config.preemptions_max is not None and job.preemptions >= config.preemptions_max
