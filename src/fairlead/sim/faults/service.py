"""The simulated shell of the service: inbox, turn, output commit, crash and recovery.

Mirrors service/shell.py: commands become events when a turn begins, reports are put through it,
and only what is durable is answered, sent, or forgotten. The desire of every node is sent again
now and then, since this network, unlike a connection, loses messages without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from fairlead.core.admission import admit
from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.reconcile import lost_node, reconcile
from fairlead.core.snapshot import digest
from fairlead.core.turn import Scheduler, Turn
from fairlead.model.base import JobId, Misuse, Ms, NodeId, StoreFailed
from fairlead.model.events import (
    AnyEvent,
    Asked,
    Cancelled,
    Forecasted,
    ForeignUsage,
    NodeJoined,
    Released,
    ReservationSet,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import Phase, Reservation
from fairlead.model.messages import Report
from fairlead.model.resources import Slot
from fairlead.policy.deadlock.settle import check_order
from fairlead.policy.registry import build
from fairlead.sim.faults.network import (
    Acquire,
    Answer,
    Ask,
    Cancel,
    Configure,
    GiveUp,
    Release,
    Reserve,
    Submit,
    Word,
    decode_ask,
    decode_word,
)
from fairlead.sim.faults.oracles import LATE_MS
from fairlead.sim.faults.plan import EPOCH_MS, ReservePlan
from fairlead.store.memory import Crashed

if TYPE_CHECKING:
    from fairlead.sim.faults.world import World

STORE_RETRY_MS: Ms = 5_000  # the real one asks a full disk more often; each time is a recovery
TIMER_MAX_MS: Ms = 60_000

Reply: TypeAlias = Callable[[bytes], None]


class Batch:
    """What has been planned so far for the next turn."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.next_job = core.next_job
        self.requests: dict[str, tuple[JobId, ...]] = {}
        self.stopped: set[JobId] = set()
        self.used: set[int] = set()  # calls for named resources
        self.asked: dict[JobId, list[tuple[str, int]]] = {}


class Service:
    """The scheduler's process, or its absence."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = False
        self.life = 0
        self.offset_ms: Ms = EPOCH_MS  # of the wall clock
        self.failing = False
        self.well_since: Ms = 0  # no crash, failed write or step of its clock since then
        self.scheduler: Scheduler
        self._inbox: list[tuple[Ask, Reply]] = []
        self._words: dict[str, Word] = {}  # the latest of each node
        self._fresh: set[str] = set()
        self._planned = False
        self._timer_at: Ms | None = None
        self._snapshot_seq = 0

    @property
    def core(self) -> Core:
        """Return the state as of the last turn."""
        return self.scheduler.core

    # ---- life and death -----------------------------------------------------------------------

    def start(self) -> None:
        """Start, from what the disk holds."""
        if self.up:
            return
        self.up, self.failing = True, False
        self.life += 1
        self.world.disk.crash()
        self._recover()
        self.world.tell(0, "the service starts at event {}", self.core.seq)
        self._snapshot_seq = next((seq for seq, _, _ in self.world.disk.snapshots()), 0)
        self._beat(self.life)
        self._set_timer()

    def die(self, for_ms: Ms) -> None:
        """The process is killed: whatever is not durable is forgotten."""
        if not self.up:
            return
        self.world.tell(0, "the service dies")
        self.up = False
        self._inbox.clear()
        self._words.clear()
        self._fresh.clear()
        self._planned = False
        self._timer_at = None
        self.world.at(for_ms, self.start)

    def heal(self) -> None:
        """No more faults."""
        self.start()

    def _recover(self) -> None:
        self.well_since = self.world.now
        self.scheduler = Scheduler.recover(build, self.world.disk)
        self._watch(self.scheduler.core)
        self.world.oracles.recovered(self.scheduler.core)

    def _watch(self, core: Core) -> None:
        """Check the whole core after every single event."""
        check(core)

        def apply(now: Ms, event: AnyEvent) -> None:
            Core.apply(core, now, event)
            check(core)

        setattr(core, "apply", apply)  # noqa: B010 - mypy forbids to assign to a method

    def step_clock(self, by_ms: Ms) -> None:
        """The wall clock jumps."""
        self.offset_ms += by_ms
        self.well_since = self.world.now

    # ---- in -----------------------------------------------------------------------------------

    def hear(self, body: bytes) -> None:
        """A word of an agent arrives."""
        if self.up:
            word = decode_word(body)
            self._words[word.report.node] = word
            self._fresh.add(word.report.node)
            self._wake()

    def ask(self, body: bytes, reply: Reply) -> None:
        """A call of a client arrives."""
        if self.up:
            self._inbox.append((decode_ask(body), reply))
            self._wake()

    def clock(self) -> Ms:
        """Return the wall clock."""
        return self.world.now + self.offset_ms

    def _wake(self) -> None:
        if not self._planned:
            self._planned = True
            delay = STORE_RETRY_MS if self.failing else int(self.world.rng.random() * 4)
            self.world.at(delay, self._turn, self.life)

    def _timer(self, at: Ms, life: int) -> None:
        if self.up and life == self.life and self._timer_at == at:
            self._timer_at = None
            self._wake()

    def _beat(self, life: int) -> None:
        if not self.up or life != self.life:
            return
        if self.world.now - self.well_since > LATE_MS:
            self.world.oracles.limits_kept(self.clock())
        for node in range(len(self.core.nodes)):
            self._send(node)
        self.world.at(self.world.plan.heartbeat_ms, self._beat, life)

    # ---- the turn -----------------------------------------------------------------------------

    def _turn(self, life: int) -> None:
        if not self.up or life != self.life:
            return
        self._planned = False
        inbox, self._inbox = self._inbox, []
        batch = Batch(self.core)
        events: list[AnyEvent] = []
        answers: list[tuple[Ask, Answer, Reply]] = []
        for ask, reply in inbox:
            try:
                planned, answer = self._plan(batch, ask)
            except Misuse as error:
                self._answer(reply, ask, Answer(number=ask.number, refused=error.message))
                continue
            events += planned
            answers.append((ask, answer, reply))
        names = sorted(self._fresh)
        self._fresh.clear()
        count = len(self.core.nodes)
        for name in names:
            heard = self._understand(self._words[name], count)
            count += sum(isinstance(e, NodeJoined) and e.node == count for e in heard)
            events += heard
        self._commit(events, answers, names)

    def _commit(
        self,
        events: Sequence[AnyEvent],
        answers: Sequence[tuple[Ask, Answer, Reply]],
        names: Sequence[str],
    ) -> None:
        """Run the turn; act on it only if it became durable."""
        jobs = len(self.core.jobs)
        try:
            turn = self.scheduler.turn(self.clock(), events)
        except StoreFailed:
            self.world.tell(0, "a turn did not become durable")
            self.failing = True
            self._recover()
            self._fresh = set(self._words)
            self._wake()
            return
        except Crashed as crashed:
            self.world.tell(0, "the service {}", crashed)
            self.die(self.world.rng.choice((10, 1_000, 30_000)))
            return
        self.failing = False
        self.world.oracles.turned(turn, len(events), jobs)
        for ask, answer, reply in answers:
            self._answer(reply, ask, answer)
        self._tell(turn, names)
        if self.core.seq - self._snapshot_seq >= self.world.plan.snapshot_events:
            self.snapshot()
        self._set_timer()

    def _plan(self, batch: Batch, ask: Ask) -> tuple[list[AnyEvent], Answer]:
        """Return the events of a call and its answer. Raises Misuse."""
        core, number = batch.core, ask.number
        if isinstance(ask, Submit):
            return self._plan_submit(batch, ask)
        if isinstance(ask, Cancel):
            return self._plan_cancel(batch, ask), Answer(number=number)
        if isinstance(ask, GiveUp):
            node = core.node_ids.get(ask.node)
            if node is None or _life(core.nodes[node].spec.boot) > _life(ask.boot):
                return [], Answer(number=number)  # a later life of it has come already
            return lost_node(core, ask.node, "switched off"), Answer(number=number)
        if isinstance(ask, Acquire | Release):
            return self._plan_use(batch, ask), Answer(number=number)
        if isinstance(ask, Reserve):
            return self._plan_reserve(core, ask.reservation), Answer(number=number)
        assert isinstance(ask, Configure)
        return [ask.event], Answer(number=number)

    def _plan_submit(self, batch: Batch, ask: Submit) -> tuple[list[AnyEvent], Answer]:
        known = batch.core.requests.get(ask.key) or batch.requests.get(ask.key)
        if ask.key and known:
            return [], Answer(number=ask.number, ids=tuple(known))
        for spec in ask.specs:
            admit(batch.core, spec)
        first = batch.next_job
        ids = tuple(range(first, first + len(ask.specs)))
        batch.next_job += len(ids)
        if ask.key:
            batch.requests[ask.key] = ids
        jobs: list[AnyEvent] = [
            Submitted(job=job, spec=spec, request=ask.key)
            for job, spec in zip(ids, ask.specs, strict=True)
        ]
        for job, spec in zip(ids, ask.specs, strict=True):
            forecast = self.world.plan.jobs[spec.name].forecast
            if forecast is not None:
                jobs.append(Forecasted(job=job, forecast=forecast))
        return jobs, Answer(number=ask.number, ids=ids)

    def _plan_reserve(self, core: Core, asked: ReservePlan) -> list[AnyEvent]:
        """Return the reservation on the nodes that are known and have the devices for it."""
        shape, start = asked.shape, max(self.clock(), core.now) + asked.after_ms
        known = [core.node_ids[name] for name in asked.nodes if name in core.node_ids]
        picks = 0 if shape is None else shape.gpus
        known = [node for node in known if len(core.nodes[node].spec.devices) >= picks]
        if not known:
            return []
        slots = tuple(Slot(node=node, devices=tuple(range(picks))) for node in known)
        reservation = Reservation(
            name=asked.name,
            start_ms=start,
            end_ms=None if asked.for_ms is None else start + asked.for_ms,
            tenants=asked.tenants,
            nodes=tuple(known) if shape is None else (),
            shape=shape,
            slots=() if shape is None else slots,
        )
        return [ReservationSet(reservation=reservation)]

    def _plan_use(self, batch: Batch, ask: Acquire | Release) -> list[AnyEvent]:
        """Return that a running job asks, within what it has declared, or gives back some."""
        core = batch.core
        holding = core.named.current(ask.job, ask.attempt)
        if holding is None or core.jobs[ask.job].phase is not Phase.RUNNING:
            return []
        if ask.job in batch.stopped or ask.number in batch.used:
            return []
        batch.used.add(ask.number)
        job, attempt, name, amount = ask.job, ask.attempt, ask.name, ask.amount
        if isinstance(ask, Release):
            return [Released(job=job, attempt=attempt, name=name, amount=amount)]
        mine = batch.asked.setdefault(ask.job, [])
        waiting = [each for each in core.named.waiting() if each.job == ask.job]
        names = [each.name for each in waiting] + [name for name, _ in mine]
        asked = [(each.name, each.amount) for each in waiting] + mine
        already = sum(amount for name, amount in asked if name == ask.name)
        already += holding.acquired.get(ask.name, 0)
        if already + ask.amount > dict(holding.spec.may_acquire).get(ask.name, 0):
            return []
        total = core.named.amount(ask.name)
        if holding.held().get(ask.name, 0) + ask.amount > total:
            return []
        check_order(core, core.policy, ask.job, ask.name, names)
        mine.append((ask.name, ask.amount))
        key = str(ask.number)
        return [Asked(job=job, attempt=attempt, name=name, amount=amount, key=key)]

    def _plan_cancel(self, batch: Batch, ask: Cancel) -> list[AnyEvent]:
        events: list[AnyEvent] = []
        for job_id in ask.ids:
            job = batch.core.jobs.get(job_id)
            if job is None or job_id in batch.stopped:
                continue
            if job.phase is Phase.PENDING:
                events.append(Cancelled(job=job_id, because="cancelled"))
            elif (
                job.phase is not Phase.STOPPING
                or job.then is Phase.PENDING
                or (ask.now and not job.kill)
            ):
                stop = StopDecided(
                    job=job_id,
                    attempt=job.attempt,
                    then=Phase.CANCELLED,
                    because="cancelled",
                    now=ask.now,
                )
                events.append(stop)
            else:
                continue
            batch.stopped.add(job_id)
        return events

    def _understand(self, word: Word, count: int) -> list[AnyEvent]:
        """Return what a word proves. Lives of a machine are ordered: an older one has no say."""
        core, report, spec = self.core, word.report, word.spec
        node = core.node_ids.get(report.node)
        if node is None:
            return [NodeJoined(node=count, spec=spec), *_foreign(count, word)] if spec else []
        known = core.nodes[node]
        lived, lives = _life(known.spec.boot), _life(report.boot)
        if lives < lived or (lives == lived and not known.up):
            return []
        if spec is not None and (lives > lived or known.spec != spec):
            return [NodeJoined(node=node, spec=spec), *_foreign(node, word)]
        events = reconcile(core, report)[0]
        amounts = tuple(core.ledger.foreign[:, node].tolist())
        devices = tuple(sorted(core.ledger.devices[node].foreign))
        if spec is not None and (amounts, devices) != (word.foreign, word.foreign_devices):
            events.append(
                ForeignUsage(node=node, amounts=word.foreign, devices=word.foreign_devices)
            )
        return events

    # ---- out ----------------------------------------------------------------------------------

    def _answer(self, reply: Reply, ask: Ask, answer: Answer) -> None:
        self.world.oracles.answered(ask, answer)
        self.world.network.send(answer, reply)

    def _tell(self, turn: Turn, names: Sequence[str]) -> None:
        core = self.core
        nodes = set(turn.nodes)
        for name in names:
            node = core.node_ids.get(name)
            if node is not None and _has_ended(self._words[name].report):
                nodes.add(node)
        for node in sorted(nodes):
            self._send(node)

    def _send(self, node: NodeId) -> None:
        """Send a node's desire, with what its agent may forget now."""
        core = self.core
        desired = core.desired(node)
        name = core.nodes[node].spec.name
        word = self._words.get(name)
        if word is not None and _has_ended(word.report):
            desired = replace(desired, forget=reconcile(core, word.report)[1])
        self.world.oracles.sent(node, desired)
        self.world.network.send(desired, self.world.machines[name].receive, name)

    def snapshot(self) -> None:
        """Save an image of the core."""
        core = self.core
        if not self.up or core.seq == self._snapshot_seq:
            return
        self._snapshot_seq = core.seq
        body = core.dump()
        try:
            self.world.disk.save_snapshot(core.seq, digest(body), body)
        except StoreFailed:
            self.world.tell(0, "a snapshot failed")
        except Crashed as crashed:
            self.world.tell(0, "the service {}, in a snapshot", crashed)
            self.die(self.world.rng.choice((10, 1_000, 30_000)))

    def _set_timer(self) -> None:
        deadline = self.scheduler.next_wake() if self.up else None
        if deadline is None:
            self._timer_at = None
            return
        delay = min(max(deadline - self.clock(), 0) + 1, TIMER_MAX_MS)
        at = self.world.now + delay
        if self._timer_at != at:
            self._timer_at = at
            self.world.at(delay, self._timer, at, self.life)


def _life(boot: str) -> int:
    return int(boot.rpartition(".")[2])


def _foreign(node: NodeId, word: Word) -> list[AnyEvent]:
    if not any(word.foreign) and not word.foreign_devices:
        return []
    return [ForeignUsage(node=node, amounts=word.foreign, devices=word.foreign_devices)]


def _has_ended(report: Report) -> bool:
    return any(member.exit is not None for member in report.members)
