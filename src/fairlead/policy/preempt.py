"""Preemptive orders: who comes first runs, and whoever has no room left is stopped and waits again.

In every pass all that may be preempted is thought away, then all jobs are gone through in order:
each takes what fits, those that do not fit are passed over (algorithms.md 2.1). What runs keeps
its slots where it can. Jobs that were left without are stopped; jobs that got their slots start as
soon as these are free. Nothing is remembered between passes: while a stopped job takes its time to
go, every pass comes to the same choice, and nobody else is given what it leaves.

Against thrashing: a job that has run for less than min_run_ms in this attempt stays, and so does
one that was preempted preemptions_max times or is not preemptible.

Cost: O(running + waiting jobs looked at) per pass; groups of equal requests that do not fit are
passed over whole.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.future import SERVICES_KEPT
from fairlead.core.jobs import Job
from fairlead.core.ledger import UP, Request
from fairlead.core.reserve import limit_of
from fairlead.core.tree import Domain, level_of
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.events import AnyEvent, Placed, Promoted, StopDecided
from fairlead.model.jobs import Phase, PolicyConfig
from fairlead.model.resources import CPU, GPU, GPU_MEMORY, WHOLE_GPU_MILLI, Slot, width_milli
from fairlead.policy import finish, order, themis
from fairlead.policy.draft_kinds import slots_of_kinds
from fairlead.policy.fence import Fence
from fairlead.policy.gittins import GittinsTable
from fairlead.policy.given import Given
from fairlead.policy.order import Key, Order
from fairlead.policy.place.seats import close, take
from fairlead.policy.place.trial import Trial
from fairlead.policy.queue import Entry, GroupId, Queue

if TYPE_CHECKING:
    from fairlead.policy.pipeline import Pipeline

# Members that fit on a node: its score, or how few of those who hold it may stay (negative).
Crowd: TypeAlias = tuple[int, NodeId, list[Slot]]

LEARN_EVERY = 64  # ended jobs between two looks at the services of the past
LEARNT_MAX = SERVICES_KEPT - LEARN_EVERY  # so many the core remembers at least at each look
INDEX_BITS = 60
KIND_BITS = 300  # above any index


class Preempt:
    """The part of a pipeline that lets jobs take the place of others."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.gittins = GittinsOrder() if pipeline.config.order == "gittins" else None
        self._queued = 0  # how many services the queue was sorted by

    def order_at(self, core: Core) -> Order:
        """Return the order of all jobs, running ones too, as of now."""
        config, now = self.pipeline.config, core.clock
        match config.order:
            case "srtf":
                return order.remaining_first(now)
            case "srsf":
                return order.service_first(now)
            case "las":
                return order.least_attained(now, config.levels_gpu_ms)
            case "gittins":
                assert self.gittins is not None
                return self.gittins.order_at(now)
            case "ftf":
                return finish.worst_first(core, config.lease_ms)
            case "themis":
                return themis.order_of(core, config, stoppable(core, config))
            case _:
                return self.pipeline.order

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield promotions, stops and placements."""
        yield from self._promotions(core)
        pipeline = self.pipeline
        if self.gittins is not None:
            self.gittins.learn(core)
            if self.gittins.learnt != self._queued:
                self._queued = self.gittins.learnt
                pipeline.queue = Queue(pipeline.order)  # what is known of services has changed
        queue = pipeline.queue
        queue.order = self.order_at(core)
        queue.sync(core)
        if pipeline.config.order in finish.LEASED:
            queue.resort(core)  # whoever waits is worse off than it was
        yield from pipeline.resize.make_room(core)
        draft, victims = self._draft(core)
        while victims:
            # Nobody is preempted while others have more than they need.
            shrunk = pipeline.resize.give_way(core, f"before job {victims[0].id} is preempted")
            if shrunk is None:
                break
            yield shrunk
            draft, victims = self._draft(core)
        winners = ", ".join(str(job.id) for job, _ in draft.chosen[:3]) or "jobs that came before"
        for job in victims:
            because = f"preempted: {pipeline.config.order} puts {winners} before it"
            yield StopDecided(job=job.id, attempt=job.attempt, then=Phase.PENDING, because=because)
        for job, slots in draft.chosen:
            if pipeline.gate.block(core, job) is not None:
                continue  # another that was chosen has taken what it needs
            if free_now(core, core.shapes[job.shape_id], slots, self.fence(core, job)):
                yield Placed(
                    job=job.id, attempt=job.attempt + 1, slots=slots, because=pipeline.because
                )
            else:
                pipeline.resize.coming = True

    def _draft(self, core: Core) -> tuple[Draft, list[Job]]:
        """Return what every job would get in its turn, and who runs but would get nothing."""
        draft, victims = Draft(core, self.pipeline), list[Job]()
        for _, job in self._in_order(core, draft):
            if job.phase is Phase.PENDING:
                draft.offer(job)
            elif not draft.keep(job):
                victims.append(job)
        return draft, victims

    def fence(self, core: Core, job: Job) -> Fence:
        """Return what reservations keep from a job that would start now."""
        return Fence(core, job, min(core.clock + limit_of(job), FAR))

    def _in_order(self, core: Core, draft: Draft) -> Iterator[tuple[Entry, Job]]:
        """Yield what runs and may be preempted, and what waits, best first."""
        queue = self.pipeline.queue
        waiting = []
        for group_id, group in queue.groups.items():
            if group.first(core) is not None:
                waiting.append(_until_closed(group.waiting(core), group_id, draft))
        return heapq.merge(draft.preemptible, *waiting)

    def _promotions(self, core: Core) -> Iterator[AnyEvent]:
        config = self.pipeline.config
        if config.order != "las":
            return
        for job in list(core.pending.values()):
            due = order.promoted_at(config, job)
            if due is not None and due <= core.clock:
                yield Promoted(job=job.id)

    def wake_at(self, core: Core) -> Ms | None:
        """Return when an order changes by the clock alone: a level is reached, a promotion is due,
        a job has run long enough to be preempted."""
        config, now = self.pipeline.config, core.clock
        if config.order in finish.LEASED:
            return finish.next_round(core, config, core.ends.sorted)
        if config.order not in ("las", "gittins") and not (config.min_run_ms and core.pending):
            return None
        if self.gittins is not None:
            self.gittins.learn(core)  # this may be asked before anything was decided
        times: list[Ms] = []
        for _, job_id in core.ends.sorted:
            job = core.jobs[job_id]
            if job.phase is not Phase.RUNNING or job.started_ms is None:
                continue
            if core.pending and now < job.started_ms + config.min_run_ms:
                times.append(job.started_ms + config.min_run_ms)
            if config.order == "las":
                times += _next_level(config, job, now)
            elif self.gittins is not None:
                times += self.gittins.next_fall(job, now)
        if config.order == "las":
            for job in core.pending.values():
                due = order.promoted_at(config, job)
                if due is not None:
                    times.append(max(due, now + 1))
        return min(times, default=None)


def _next_level(config: PolicyConfig, job: Job, now: Ms) -> list[Ms]:
    """Return when a running job reaches its next level, [] if there is none."""
    attained, width = order.attained_milli(job, now), width_milli(job.spec.shape)
    for limit in config.levels_gpu_ms:
        missing = limit * WHOLE_GPU_MILLI - attained
        if missing > 0 and width:
            return [now - (-missing // width)]
    return []


def _until_closed(
    jobs: Iterable[tuple[Entry, Job]], group: GroupId, draft: Draft
) -> Iterator[tuple[Entry, Job]]:
    for item in jobs:
        if group in draft.closed:
            return
        yield item


def free_now(
    core: Core, request: Request, slots: tuple[Slot, ...], fence: Fence | None = None
) -> bool:
    """Whether a job fits now, with all who still hold on: members on one node count together."""
    trials: dict[NodeId, Trial] = {}
    for its, those in request.split(slots):
        if not all(core.ledger.has_room(slot.node, its, slot.devices) for slot in those):
            return False
        if len(slots) == 1 and not fence:
            return True
        for slot in those:
            trial = trials.get(slot.node)
            if trial is None:
                free = Trial.now(core.ledger, slot.node)
                trial = trials[slot.node] = fence.within(slot.node, free) if fence else free
            if not trial.has_room(its, slot.devices):
                return False
            trial.move(its, slot.devices, -1)
    return True


class Draft:
    """The nodes, with those who may be preempted holding on until their turn has come.

    `solid` is what is free while all of them hold on, less what was given to waiting jobs: below
    zero where somebody will have to go. Who has to go is decided by looking from the worst of
    those whose turn is yet to come.
    """

    def __init__(self, core: Core, pipeline: Pipeline) -> None:
        self.core, self.pipeline = core, pipeline
        self.solid: dict[NodeId, Trial] = {}
        self.lack: dict[NodeId, list[int]] = {}  # what others, not Fairlead, use beyond what is
        self.holders: dict[NodeId, list[Job]] = {}  # whose turn is yet to come, best first
        self.taken: dict[NodeId, set[int]] = {}  # rows that were given to waiting jobs
        self.stopping: set[JobId] = set()
        self.chosen: list[tuple[Job, tuple[Slot, ...]]] = []
        self.closed: set[GroupId] = set()
        self.given = Given(core)
        for _, job_id in core.ends.sorted:
            job = core.jobs[job_id]
            if job.phase is Phase.STOPPING:
                self._move(job, job.slots, 1)
                self.stopping.add(job.id)
            else:
                self._move(job, job.leaving, 1)
        running = stoppable(core, pipeline.config)
        for node, trial in self.solid.items():
            self.lack[node] = [min(amount, 0) for amount in trial.free]
        entry = pipeline.queue.entry
        self.preemptible = sorted((entry(job), job) for job in running)
        for _, job in self.preemptible:
            for node in {slot.node for slot in job.staying}:
                self.holders.setdefault(node, []).append(job)

    def node(self, node: NodeId) -> Trial:
        """Return what is left of a node while all others hold on."""
        trial = self.solid.get(node)
        if trial is None:
            trial = self.solid[node] = Trial.now(self.core.ledger, node)
            self.lack[node] = [min(amount, 0) for amount in trial.free]
        return trial

    def sound(self, node: NodeId, trial: Trial) -> bool:
        """Whether nobody is to get what others still hold."""
        devices = trial.devices
        if devices.size and (min(devices.milli) < 0 or min(devices.memory) < 0):
            return False
        taken = self.taken.get(node, ())
        return all(
            have >= (0 if row in taken else lack)
            for row, (have, lack) in enumerate(zip(trial.free, self.lack[node], strict=True))
        )

    def _move(self, job: Job, slots: tuple[Slot, ...], sign: int) -> None:
        for its, those in self.core.shapes[job.shape_id].split(slots):
            for slot in those:
                self.node(slot.node).move(its, slot.devices, sign)

    def keep(self, job: Job) -> bool:
        """Whether a running job keeps its slots: those before it have left them. Its turn is over.

        Where it shares a node with others whose turn is yet to come, those make room first.
        """
        for node in {slot.node for slot in job.staying}:
            self.holders[node].remove(job)
        for node in {slot.node for slot in job.staying}:
            trial = self.node(node)
            if not self.sound(node, trial):
                trial = trial.copy()
                for other in self.holders[node]:
                    self.give_back(trial, other, node)
                if not self.sound(node, trial):
                    self._move(job, job.staying, 1)
                    return False
        return True

    def give_back(self, trial: Trial, job: Job, node: NodeId) -> None:
        """Add to what is free on a node what a job holds there."""
        for its, those in self.core.shapes[job.shape_id].split(job.staying):
            for slot in those:
                if slot.node == node:
                    trial.move(its, slot.devices, 1)

    def offer(self, job: Job) -> None:
        """Give a waiting job slots if it fits, where nobody has to go for it or only the worst."""
        core, pipeline = self.core, self.pipeline
        group = pipeline.queue.group_of(job)
        if group in self.closed:
            return
        request = self.given.shares.request(job)
        assert pipeline.preempt is not None
        fence = pipeline.preempt.fence(core, job)
        block = pipeline.block(core, job, self.given)
        if block is not None:
            slots = None
        else:
            slots = (
                slots_of_kinds(self, request, fence)
                if request.parts
                else self._slots(request, fence)
            )
        if slots is None:
            if not fence and not core.promises:  # else another of the group may be let in
                self.closed.add(group)
            return
        for its, those in request.split(slots):
            rows = {row for row, _ in its.held} | ({GPU, GPU_MEMORY} if its.picks else set())
            for slot in those:
                self.node(slot.node).move(its, slot.devices, -1)
                self.taken.setdefault(slot.node, set()).update(rows)
        self.chosen.append((job, slots))
        self.given.add(job, slots)

    def _crowd(
        self,
        node: NodeId,
        request: Request,
        most: int,
        least: int,
        fence: Fence,
        besides: Sequence[Slot] = (),
    ) -> list[Crowd]:
        """Return members that fit on a node if its worst holders go, with how few may then stay.

        One after the other; `least` together where the spread rule wants all on one node. `besides`
        are members that fit there as it is.
        """
        found: list[Crowd] = []
        trial, holders = self.node(node).copy(), self.holders.get(node, [])
        for slot in besides:
            trial.move(request, slot.devices, -1)
        gone = self.stopping.copy()
        for kept in range(len(holders) - 1, -1, -1):
            self.give_back(trial, holders[kept], node)
            gone.add(holders[kept].id)
            while len(found) < most and self.sound(node, trial):
                free = fence.within(node, trial.copy(), gone)
                here = list(take(request, node, free, least))
                if len(here) < least:
                    break
                for slot in here:
                    trial.move(request, slot.devices, -1)
                found.append((-kept, node, here))
                if least > 1:
                    return found
        return found

    def _slots(self, request: Request, fence: Fence) -> tuple[Slot, ...] | None:
        """Return slots for all members: on nodes with room, best first; then where it costs the
        worst jobs their place."""
        ledger, fit = self.core.ledger, self.pipeline.fit
        spread, members = request.shape.spread, request.members
        roomy: list[Crowd] = []
        crowded: list[Crowd] = []
        most = 1 if spread == "distinct-nodes" else members
        least = members if spread == "same-node" else 1
        for node in range(ledger.count):
            if not ledger.room.item(UP, node) or node in fence.closed:
                continue
            sound = self.sound(node, self.node(node))
            trial = fence.within(node, self.node(node).copy(), self.stopping)
            here = list(take(request, node, trial, most)) if sound else []
            if len(here) >= least:
                roomy.append((fit.score(request, node, trial.free), node, here))
            else:
                here = []
            if len(here) < most:
                crowded += self._crowd(node, request, most - len(here), least, fence, here)
        if request.tree and (slots := self._close(request, roomy)) is not None:
            return slots
        if not request.shape.within:
            found = _first(members, roomy, crowded)
            return None if found is None else found[1]
        domains: dict[Domain, tuple[list[Crowd], list[Crowd]]] = {}
        for at, crowds in enumerate((roomy, crowded)):
            for item in crowds:
                domain = level_of(ledger, request.shape.within, item[1])
                domains.setdefault(domain, ([], []))[at].append(item)
        ways = [(_first(members, *domains[domain]), domain) for domain in sorted(domains)]
        best = min((way for way, _ in ways if way is not None), key=itemgetter(0), default=None)
        return None if best is None else best[1]

    def _close(self, request: Request, roomy: list[Crowd]) -> tuple[Slot, ...] | None:
        """Return slots close together where nobody has to go."""
        here = {node: slots for _, node, slots in roomy}
        states = {node: self.node(node).free[GPU if request.picks else CPU] for node in here}
        counts = {node: len(slots) for node, slots in here.items()}
        split = close(self.pipeline.fit, request, counts, states)
        if split is None:
            return None
        return tuple(slot for node, count in split.items() for slot in here[node][:count])


def _first(
    members: int, roomy: list[Crowd], crowded: list[Crowd]
) -> tuple[int, tuple[Slot, ...]] | None:
    """Return the best of both, those with room first, and how few of the holders of a node may
    stay at the worst; None: too few."""
    slots: list[Slot] = []
    for cost, crowds in ((False, roomy), (True, crowded)):
        for key, _, here in sorted(crowds, key=itemgetter(0, 1)):
            slots += here[: members - len(slots)]
            if len(slots) == members:
                return (key if cost else -FAR), tuple(slots)
    return None


def stoppable(core: Core, config: PolicyConfig) -> list[Job]:
    """Return the live jobs that may be preempted now."""
    live = (core.jobs[job_id] for _, job_id in core.ends.sorted)
    going = (job for job in live if job.phase is not Phase.STOPPING)
    return [job for job in going if _may_stop(core, config, job)]


def _may_stop(core: Core, config: PolicyConfig, job: Job) -> bool:
    """Whether a live job may be preempted now."""
    if not job.spec.preemptible:
        return False
    if config.preemptions_max is not None and job.preemptions >= config.preemptions_max:
        return False
    started = job.placed_ms if job.started_ms is None else job.started_ms
    if config.order in finish.LEASED and not finish.lease_over(config, started, core.clock):
        return False
    return started is None or core.clock - started >= config.min_run_ms


def learnt_of(seen: int) -> int:
    """Return how many of the jobs that have ended are known: powers of two, then in steps."""
    return seen // LEARN_EVERY * LEARN_EVERY if seen >= LEARN_EVERY else 1 << seen.bit_length() >> 1


class GittinsOrder:
    """Highest Gittins index first, over the services of jobs that have ended lately.

    Needs no estimate of the job itself. Without any history it is least attained service first, in
    levels that double: two jobs that share a place change it a few times, not at every event.
    """

    def __init__(self) -> None:
        self._table = GittinsTable(())
        self.learnt = 0

    def learn(self, core: Core) -> None:
        """Take in what has ended since the last time, not at every end.

        What is known follows from the core alone, however long this policy has been at work.
        """
        learnt = learnt_of(core.services_seen)
        if learnt == self.learnt:
            return
        known = len(core.services) - (core.services_seen - learnt)
        self.learnt = learnt
        self._table = GittinsTable(core.services[max(0, known - LEARNT_MAX) : known])

    def next_fall(self, job: Job, now: Ms) -> list[Ms]:
        """Return when the index of a running job may fall next, [] if it does not."""
        width = width_milli(job.spec.shape)
        attained = job.attained_ms(now) * width // WHOLE_GPU_MILLI
        at = self._table.falls_after(attained) if width else None
        if at is None:
            return []
        return [now + max(1, -((attained - at) * WHOLE_GPU_MILLI // width))]

    def order_at(self, now: Ms) -> Order:
        """Return the order as of now."""

        def key(job: Job) -> Key:
            attained = job.attained_ms(now) * width_milli(job.spec.shape) // WHOLE_GPU_MILLI
            if not self._table.values:
                return (attained.bit_length(), job.submitted_ms, job.id)
            kind, index = self._table.key(attained)
            # An integer that sorts as the exact fraction does, to 60 bits.
            rank = (kind << KIND_BITS) + (index.numerator << INDEX_BITS) // index.denominator
            return (rank, job.submitted_ms, job.id)

        return key
