"""One round: order -> admit -> place (-> reserve -> preempt: their seam is `decide`).

`decide` yields decisions one at a time; each is applied before the next is asked for, so a round
needs no copy of the ledger, and a gang is placed whole or not at all because one decision holds
all of its slots. Cost: O(1) when nothing changed that could start a job; else O(log groups) per
decision plus one look per group that does not fit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from fairlead.core.admission import counted
from fairlead.core.ends import FAR, believed_run_ms
from fairlead.core.engine import Core
from fairlead.core.fits import members_that_fit
from fairlead.core.jobs import Job
from fairlead.core.ledger import HOST, Columns, Request
from fairlead.core.shares import QUOTA, Block, plus
from fairlead.core.speeds import NOWHERE
from fairlead.model.amounts import of, show
from fairlead.model.base import Ms, NodeId
from fairlead.model.events import AnyEvent, Placed
from fairlead.model.jobs import Phase, PolicyConfig
from fairlead.model.resources import DIMENSIONS, Shape, Slot
from fairlead.policy import order
from fairlead.policy.assigned import ASSIGNMENT, Assigned
from fairlead.policy.backfill import Backfill
from fairlead.policy.beside import find
from fairlead.policy.deadlock.gate import Gate
from fairlead.policy.deadlock.settle import settle
from fairlead.policy.defrag import Defrag, take_steps
from fairlead.policy.fair.orders import NAMES as FAIR
from fairlead.policy.fair.turns import Turns
from fairlead.policy.fence import Fence
from fairlead.policy.firm import due, is_firm, is_held, kept_of_quota
from fairlead.policy.given import Given
from fairlead.policy.grants import narrowed
from fairlead.policy.ordered import PLANS, Ordered
from fairlead.policy.place import score
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.least_fragments import LiveShapes
from fairlead.policy.place.named import placing
from fairlead.policy.plan import Plans, next_claim
from fairlead.policy.preempt import Preempt
from fairlead.policy.question import SIZING
from fairlead.policy.queue import Entry, Group, Queue
from fairlead.policy.reclaim import Reclaim
from fairlead.policy.repair import hold
from fairlead.policy.reserved import closed_nodes
from fairlead.policy.resize import Resize
from fairlead.policy.rounds import Rounds
from fairlead.policy.together import Together


def _earlier(one: Ms | None, other: Ms | None) -> Ms | None:
    """Return the earlier of two times, None if there is neither."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _rounds(pipeline: Pipeline) -> Rounds | Ordered | None:
    """Return what carries out the plans of a policy, None if it has none."""
    plan = pipeline.config.plan
    if not plan:
        return None
    if plan in PLANS:
        return Ordered(pipeline)
    return (Assigned if plan == ASSIGNMENT else Rounds)(pipeline)


def _one_gpu(request: Request, each: Collection[tuple[int, ...]]) -> bool:
    """Whether a member takes one whole GPU, and of a node no more than its part per GPU."""
    if request.gpus != 1 or request.picks > 1 or request.memory or request.shape.spread != "any":
        return False
    host = request.host[:HOST]
    return all(need <= most for part in each for need, most in zip(host, part, strict=True))


RUN_MIN = 8  # below this many equal jobs in a row, one by one is quicker
RUN_MAX = 4096


class Pipeline:
    """A policy made of an order, the admission by quota, and a placement."""

    def __init__(self, config: PolicyConfig) -> None:
        self.config = config
        self.order = order.build(config)
        self.scorer = score.build(config.placement)
        self.overtake_ms = config.overtake_ms
        self._core: Core | None = None
        self.turns = Turns(self) if config.order in FAIR else None
        self.queue = self._queue(self.order)
        self.fit: Fit
        self._layout = -1
        self._possible: dict[tuple[int, frozenset[NodeId]], bool] = {}  # for this layout
        self.because = f"{config.order}, {config.placement}"
        self.preempt = Preempt(self) if config.preempt else None
        self.backfill = Backfill(self) if config.backfill != 0 and not config.preempt else None
        self.rounds = _rounds(self)
        self.sizing = config.plan in SIZING
        self.together = Together(self) if config.share != "any" else None
        self.resize = Resize(self)
        self.reclaim = Reclaim(self)
        self.defrag = Defrag(self)
        self._plans: Plans | None = None
        self.gate = Gate(self)  # to named resources
        self._interchangeable: tuple[tuple[int, int], bool] = ((-1, -1), False)
        self._nodes_of: tuple[int, Mapping[str, Columns]] = (-1, {})
        self._on_model: dict[tuple[Shape, str], Request] = {}

    def bind(self, core: Core) -> None:
        """Read from this core from now on; what was derived from another is dropped."""
        if self._core is not core:
            self._core = core
            self.queue = self._queue(self.order)
            gpus_last = self.config.cpu_only == "last"
            self.fit = placing(
                self.config.placement,
                core.ledger,
                LiveShapes(core),
                lambda: core.seq,
                gpus_last=gpus_last,
            )
            self._layout, self._plans = -1, None
            self._nodes_of, self._interchangeable = (-1, {}), ((-1, -1), False)
            self.gate = Gate(self)
        if self.config.order == "priority" and self.config.ageing_cap is not None:
            ranked = order.capped_ageing(
                self.config.ageing_per_hour, self.config.ageing_cap, core.clock
            )
            self.queue = self._queue(ranked)

    def _queue(self, ranked: order.Order) -> Queue:
        """Return an empty queue; one for backfilling knows how long each job is believed to run."""
        if self.turns is not None:
            return self.turns.queue()
        if self.config.backfill == 0:
            return Queue(ranked)
        return Queue(ranked, lambda job: believed_run_ms(job, self.config))

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        """Yield placements, best first. Reads only; the caller applies each at once."""
        self.bind(core)
        yield from settle(core, self.config)
        if core.broken:
            yield from hold(core, self.config.rebuild_ms)
        yield from self._due(core)
        if core.moving or core.reservations:
            yield from take_steps(core, self.config)
        yield from self._place_all(core)
        if self.together is not None:
            yield from self.together.decide(core)
        if self.preempt is None and not self.sizing:  # one that preempts asks them first
            yield from self.resize.make_room(core)
        yield from self.reclaim.decide(core, self.resize.served)
        yield from self.defrag.decide(core)
        if not self.sizing:
            yield from self.resize.grow(core)

    def _place_all(self, core: Core) -> Iterator[AnyEvent]:
        """Yield placements, and what makes room for them."""
        if self.rounds is not None:
            yield from self.rounds.decide(core)
            return
        if self.preempt is not None:
            yield from self.preempt.decide(core)
            return
        if self.backfill is not None:
            yield from self.backfill.decide(core)
            return
        if self.turns is not None:
            yield from self.turns.decide(core)
            return
        queue = self.queue
        queue.sync(core)
        stuck = queue.first_stuck() if queue.stuck else None
        while (found := queue.best(core)) is not None:
            entry, group = found
            if stuck is not None and entry > stuck and self._must_not_overtake(core, stuck):
                return
            first = core.pending[entry[2]]
            if self.over_quota(core, first):
                queue.park(entry, group, queue.gated)
                continue
            because = self.because
            if stuck is not None and entry > stuck:
                because = f"{because}; job {stuck[2]}, which is before it, does not fit"
            placed = 0
            for job, slots in self.place(core, first, group):
                placed += 1
                yield Placed(job=job.id, attempt=job.attempt + 1, slots=slots, because=because)
            if placed:
                continue
            if self.possible(core, first) and not self.aside(core, first):
                queue.park(entry, group, queue.stuck)
                stuck = entry if stuck is None else min(stuck, entry)
            else:
                queue.park(entry, group, queue.gated)

    def _due(self, core: Core) -> Iterator[AnyEvent]:
        """Start the jobs that were promised to start by now, before all others."""
        for job in due(core):
            slots = None if self.over_quota(core, job) else self.beside_claims(core, job)
            if slots is not None:
                why = "promised for its deadline" if not is_held(job) else "room was held for it"
                because = f"{self.because}; {why}"
                yield Placed(job=job.id, attempt=job.attempt + 1, slots=slots, because=because)

    def place(self, core: Core, job: Job, group: Group) -> Iterator[tuple[Job, tuple[Slot, ...]]]:
        """Yield the first job of a group with its slots; a run of equal jobs is found at once."""
        request = core.shares.request(job)
        if core.reservations or core.promises:
            slots = self.beside_claims(core, job)
            if slots is not None:
                yield job, slots
            return
        if request.members > 1 or group.id[1] or len(group.entries) - group.start < RUN_MIN:
            slots = self.fit.gang(request)
            if slots is not None:
                yield job, slots
            return
        slot = self.fit.one(request)
        if slot is None:
            return
        run = self._run(core, group)
        if len(run) < RUN_MIN:
            yield job, (slot,)
            return
        for each, its in zip(run, self.fit.run(request, len(run)), strict=False):
            yield each, (its,)

    def beside_claims(
        self, core: Core, job: Job, request: Request | None = None
    ) -> tuple[Slot, ...] | None:
        """Return slots where the job can start now and end before what others have claimed.

        The caller starts it there: its slots count as taken from here on. `request`: what to look
        for, by default what the job asks for.
        """
        plans = self.plans(core)
        run_ms = believed_run_ms(job, self.config)
        until = min(core.clock + run_ms, FAR)
        request = request or core.shares.request(job)
        plans.withdraw(job.id)
        free_until = until
        if job.promise is not None and job.promise.start_ms < core.clock:
            # Its turn has come, and we are late: it may end as late, but not beside reservations.
            late = not Fence(core, job, until)
            free_until = max(min(until, job.promise.end_ms), core.clock + 1) if late else until
        slots = find(self.fit, request, plans.view(job), free_until)
        if slots is not None:
            plans.occupy(job, slots, until)
        elif job.promise is not None:
            plans.promise(job, job.promise)
        return slots

    def on_model(self, core: Core, job: Job, model: str) -> Request:
        """Return what a job asks for on one device model alone, "" for nodes without GPUs."""
        request = core.shares.request(job)
        if not model or request.shape.kinds or request.shape.gpu_models == (model,):
            return request
        if request.models and model not in request.models:
            model = NOWHERE[0]  # it takes no such GPUs, or no quota is open for them now
        key = (request.shape, model)
        narrow = self._on_model.get(key)
        if narrow is None:
            narrow = self._on_model[key] = narrowed(request, model)
        return narrow

    def start_on(
        self, core: Core, jobs: Iterable[tuple[Job, str]], because: str
    ) -> Iterator[AnyEvent]:
        """Yield the start of each job that fits on its device model, in this order."""
        full: set[tuple[int, str]] = set()
        for job, model in jobs:
            if job.phase is not Phase.PENDING or (job.shape_id, model) in full:
                continue
            if self.over_quota(core, job):
                continue
            request = self.on_model(core, job, model)
            if core.reservations or core.promises:
                slots = self.beside_claims(core, job, request)
            else:
                slots = self.fit.gang(request)
                if slots is None:
                    full.add((job.shape_id, model))
            if slots is not None:
                why = f"{because}, {self.because}"
                yield Placed(job=job.id, attempt=job.attempt + 1, slots=slots, because=why)

    def nodes_of(self, core: Core) -> Mapping[str, Columns]:
        """Return the nodes that are up by their device model, "" for those without devices.

        A node of several models counts by its first, as in questions to advisers.
        """
        if self._nodes_of[0] != core.ledger.layout:
            found: dict[str, list[int]] = {}
            for index, node in enumerate(core.nodes):
                if node.up:
                    devices = node.spec.devices
                    found.setdefault(devices[0].model if devices else "", []).append(index)
            nodes = {model: np.array(at, np.int64) for model, at in found.items()}
            self._nodes_of = (core.ledger.layout, nodes)
        return self._nodes_of[1]

    def interchangeable(self, core: Core) -> bool:
        """Whether a free GPU is as good as any other of its model for all jobs there ever were.

        Then what fits by counting fits: each member takes one whole GPU, and so little of a node
        that its GPUs are all taken first.
        """
        known = (core.ledger.layout, len(core.shapes))
        if self._interchangeable[0] != known:
            nodes = [node.spec for node in core.nodes if node.up]
            each = {
                (spec.cpu_milli // gpus, spec.memory_mib // gpus, spec.disk_mib // gpus)
                for spec in nodes
                if (gpus := len(spec.devices)) and len(set(spec.devices)) == 1
            }
            same = all(len(set(spec.devices)) == 1 for spec in nodes)
            self._interchangeable = (
                known,
                same and all(_one_gpu(request, each) for request in core.shapes),
            )
        return self._interchangeable[1]

    def plans(self, core: Core) -> Plans:
        """Return the future as of now: beside reservations and the promises to waiting jobs."""
        if self._plans is None or self._plans.core is not core or not self._plans.stands():
            self._plans = Plans(core, self.fit)
        self._plans.sync()
        return self._plans

    def _run(self, core: Core, group: Group) -> list[Job]:
        """Return the jobs of a group that come before any other job that could be next."""
        until = self.queue.until(core)
        run: list[Job] = []
        for entry in group.entries[group.start : group.start + RUN_MAX]:
            if until is not None and entry > until:
                break
            job = core.pending.get(entry[2])
            if job is not None and job.token == entry[3]:
                run.append(job)
        return run

    def wake_at(self, core: Core) -> Ms | None:
        """Return when there is something to decide that no event brings, None if never."""
        at = next_claim(core)
        others = _earlier(self.reclaim.wake_at(core), self.resize.wake_at(core))
        if self.together is not None:
            others = _earlier(others, self.together.wake_at(core))
        if self.rounds is not None:
            others = _earlier(others, self.rounds.wake_at(core))
        if self.preempt is not None:
            others = _earlier(others, self.preempt.wake_at(core))
            if not core.promises:
                return others
        at = at if others is None else min(at, others)
        return at if at < FAR else None

    def over_quota(self, core: Core, job: Job) -> bool:
        """Whether a quota or a limit keeps the job from starting, whatever is free."""
        return self.other_block(core, job) is not None or self.gate.shut(core, job)

    def block(self, core: Core, job: Job, given: Given | None = None) -> Block | None:
        """Return the quota or limit that keeps the job from starting, None if none does.

        Or what it lacks of a named resource. `given`: as in other_block.
        """
        return self.other_block(core, job, given) or self.gate.block(core, job, given)

    def other_block(self, core: Core, job: Job, given: Given | None = None) -> Block | None:
        """Return the quota or limit that keeps the job from starting, whatever else it needs.

        `given`: what a pass has given to others, and has not told the core yet.
        """
        shares = core.shares if given is None else given.shares
        return self.block_of_tenant(core, job, job.spec.shape, given) or shares.block(job)

    def block_of_tenant(
        self, core: Core, job: Job, shape: Shape, given: Given | None = None
    ) -> Block | None:
        """Return the quota of its tenant that keeps a job from holding so much (more)."""
        tenant = core.tenants.get(job.spec.tenant)
        if tenant is None or not tenant.quota:
            return None
        usage = core.usage.get(tenant.name) or [0] * len(tenant.quota)
        if given is not None and tenant.name in given.usage:
            usage = plus(usage, given.usage[tenant.name])
        asked = counted(core, tenant, shape)
        if core.promises and not is_firm(job):
            kept = kept_of_quota(core, tenant, job)
            asked = tuple(a + k for a, k in zip(asked, kept, strict=True))
        rows = zip(DIMENSIONS, tenant.quota, usage, asked, strict=True)
        for name, most, used, amount in rows:
            if most is not None and used + amount > most:
                return Block(
                    QUOTA,
                    f"tenant {tenant.name} holds {of(name, used)} of at most {show(name, most)}: "
                    f"there is no room in its quota for {show(name, amount)} more",
                )
        return None

    def possible(self, core: Core, job: Job) -> bool:
        """Whether the nodes that are up could ever take the job.

        Admission has seen to it, but nodes go down, come back smaller, or are drained. A job that
        waits for one to come back holds nobody else up.
        """
        return self.fits_up(core, job, closed_nodes(core, job.spec.tenant))

    def aside(self, core: Core, job: Job) -> bool:
        """Whether a job that does not start holds up nobody, since only a reservation keeps it out.

        Those that overtake it end before the reservation begins, so they cost it nothing; else all
        would stand idle before every window. A strict order stays strict. One that was promised a
        start for its deadline has no need to hold up anybody.
        """
        if is_firm(job):
            return True
        if not self.overtake_ms or not core.reservations:
            return False
        return self.fit.gang(core.shares.request(job)) is not None

    def fits_up(self, core: Core, job: Job, without: frozenset[NodeId]) -> bool:
        """Whether the nodes that are up could ever take the job, without some of them."""
        if self._layout != core.ledger.layout:
            self._layout = core.ledger.layout
            self._possible.clear()
        known = self._possible.get((job.shape_id, without))
        if known is None:
            request = core.shapes[job.shape_id]
            fitting = members_that_fit(
                core.ledger, request, empty=True, up_only=True, without=without
            )
            known = self._possible[job.shape_id, without] = fitting >= request.members
        return known

    def _must_not_overtake(self, core: Core, stuck: Entry) -> bool:
        return self.protected(core.clock, core.pending.get(stuck[2]))

    def protected(self, now: Ms, job: Job | None) -> bool:
        """Whether a job that is first in the order but does not fit may be overtaken no more."""
        if job is None or self.overtake_ms is None:
            return False
        return now - job.submitted_ms >= self.overtake_ms
