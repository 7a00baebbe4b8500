"""The single writer: collects what was asked and reported, and puts it through turns.

Everything here runs in one asyncio thread. A turn is synchronous, its commit included: whatever
is read between two turns is durable, and requests that arrive meanwhile wait in the kernel and
become the next turn together (group commit). Nothing is answered or sent before it is durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.reconcile import reconcile
from fairlead.core.snapshot import digest
from fairlead.core.turn import Policy, Scheduler, Store, Turn
from fairlead.model.base import JobId, Misuse, Ms, NodeId, StoreFailed
from fairlead.model.events import AnyEvent, MemberEnded, NodeJoined, NodeLost
from fairlead.model.jobs import PolicyConfig
from fairlead.model.messages import Desired, Progress, Report
from fairlead.service.commands import Batch, Command
from fairlead.service.forecasts import Forecasts

EXIT_BUG = 70  # EX_SOFTWARE: the core contradicts itself; running jobs do not need the service
SNAPSHOT_EVENTS = 50_000  # replayed in a quarter of a second
STORE_RETRY_S = 1.0
TIMER_MAX_S = 60.0  # wake up at least this often while a deadline is open: wall clocks step

Asked: TypeAlias = tuple[Command, "asyncio.Future[Any]"]

log = logging.getLogger("fairlead.service")


def wall_ms() -> Ms:
    """Return the wall clock in ms since the epoch. It may step; turns clamp it."""
    return time.time_ns() // 1_000_000


class Shell:
    """Owns the scheduler. `ask` and `reported` feed it; `poke` says that a node's desire changed.

    A contradiction in the core ends the process with EXIT_BUG: a wrong ledger is worse than a
    stopped scheduler, and the log up to the last turn is sound.
    """

    def __init__(
        self,
        store: Store,
        build: Callable[[PolicyConfig], Policy],
        poke: Callable[[NodeId], None],
        clock: Callable[[], Ms] = wall_ms,
        forecasts: Forecasts | None = None,
    ) -> None:
        self.store, self.clock = store, clock
        self.forecasts = Forecasts() if forecasts is None else forecasts
        self.scheduler = Scheduler.recover(build, store)
        self.failing = ""  # why the last write failed, "" when it did not
        self.turns = 0
        self.stopped = False
        # Told of the events of every durable turn; what they do must be quick and never fail.
        self.listeners: list[Callable[[Core, Sequence[AnyEvent]], None]] = []
        self.over: list[Callable[[Core, Job], None]] = []  # told of every job that has ended
        self.timed: list[Callable[[float], None]] = []  # told how many seconds a turn took
        self._build, self._poke = build, poke
        self._inbox: list[Asked] = []
        self._reports: dict[str, Report] = {}  # the latest of each node, for ever
        self._fresh: set[str] = set()  # nodes whose latest report was not put through a turn
        self._waiters: dict[JobId, set[asyncio.Future[None]]] = {}
        self._watchers: set[asyncio.Future[None]] = set()
        self._planned = False
        self._timer: asyncio.TimerHandle | None = None
        self._snapshot_seq = next((seq for seq, _, _ in store.snapshots()), 0)

    @property
    def core(self) -> Core:
        """Return the state as of the last durable turn. Read only, and not across an await."""
        return self.scheduler.core

    @property
    def now(self) -> Ms:
        """Return the wall clock, clamped so that it never falls behind the log."""
        return max(self.clock(), self.core.now)

    # ---- in -----------------------------------------------------------------------------------

    async def ask(self, command: Command) -> Any:
        """Put a command through the next turn; return its answer once that is durable.

        Raises Misuse when the command makes no sense, StoreFailed when it did not become durable.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._inbox.append((command, future))
        self._wake()
        return await future

    def reported(self, report: Report) -> None:
        """Take in an agent's report. Only the latest counts: each says everything."""
        self._reports[report.node] = report
        self._fresh.add(report.node)
        self._wake()

    def desired(self, node: NodeId) -> Desired:
        """Return all that should be on the node, and what its agent may forget (it is durable)."""
        core = self.core
        desired = core.desired(node)
        report = self._reports.get(core.nodes[node].spec.name)
        if report is None or not any(member.exit for member in report.members):
            return desired
        forget = reconcile(core, report)[1]
        return msgspec.structs.replace(desired, forget=forget)

    def said(self, job: Job) -> Progress | None:
        """Return what the first member of a live job has said last of how far it is."""
        rank = job.ranks[0]
        report = self._reports.get(self.core.nodes[job.slot(rank).node].spec.name)
        key = (job.id, job.attempt, rank)
        members = () if report is None else report.members
        return next((each.progress for each in members if each.key == key), None)

    def planned(self, command: Command) -> list[AnyEvent]:
        """Return the events that a command would become now; nothing comes of it. Raises Misuse."""
        now = self.now
        return self.forecasts.attach(now, self.core, command.plan(Batch(self.core, now)))

    # ---- out ----------------------------------------------------------------------------------

    async def ended(self, job: JobId, timeout_s: float) -> bool:
        """Wait until the job has left the table for good; False when the time is over first."""
        if job not in self.core.jobs:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job, set()).add(waiter)
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            return job not in self.core.jobs
        finally:
            waiters = self._waiters.get(job)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[job]
        return True

    async def changed(self, seq: int, timeout_s: float) -> bool:
        """Wait until the log is longer than `seq`; False when the time is over first."""
        if self.core.seq > seq:
            return True
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.add(watcher)
        try:
            await asyncio.wait_for(watcher, timeout_s)
        except TimeoutError:
            return False
        finally:
            self._watchers.discard(watcher)
        return True

    def snapshot(self) -> None:
        """Save an image of the core, so that the next start need not replay the whole log."""
        core = self.core
        if core.seq == self._snapshot_seq:
            return
        self._snapshot_seq = core.seq  # also when it fails: the log alone serves as well
        body = core.dump()
        try:
            self.store.save_snapshot(core.seq, digest(body), body)
        except StoreFailed as error:
            log.warning("no snapshot at %d: %s", core.seq, error)

    def stop(self) -> None:
        """Run no more turns: refuse what still waits, let waiters go."""
        self.stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for _, future in self._inbox:
            if not future.done():
                future.set_exception(StoreFailed("the service stops"))
        self._inbox.clear()
        for waiter in (*self._watchers, *(w for ws in self._waiters.values() for w in ws)):
            if not waiter.done():
                waiter.set_result(None)

    # ---- the turn -----------------------------------------------------------------------------

    def _wake(self) -> None:
        """Run a turn as soon as this round of the event loop has been heard out."""
        if not self._planned and not self.stopped:
            self._planned = True
            loop = asyncio.get_running_loop()
            if self.failing:  # a full disk is asked once a second, not once per request
                loop.call_later(STORE_RETRY_S, self._turn)
            else:
                loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Run one turn; anything but a failed write that goes wrong in it is our own bug."""
        self._planned = False
        if self.stopped:
            return
        events: list[AnyEvent] = []
        try:
            self._run_turn(events)
        except Exception as error:
            log.critical("stopped at event %d: %r", self.core.seq, error, exc_info=error)
            log.critical("the batch was: %r", events)
            raise SystemExit(EXIT_BUG) from error

    def _run_turn(self, events: list[AnyEvent]) -> None:
        began = time.perf_counter()
        inbox, self._inbox = self._inbox, []
        asked = self._plan(inbox, events)
        reports = [self._reports[name] for name in sorted(self._fresh)]
        self._fresh.clear()
        for report in reports:
            events += reconcile(self.core, report)[0]
        ending = self._ending(events)
        try:
            turn = self.scheduler.turn(self.clock(), events)
        except StoreFailed as error:
            self._store_failed(error, asked)
            return
        self.turns += 1
        self.failing = ""
        for command, future in asked:
            if not future.done():  # its client may be gone
                future.set_result(command.answer(self.core))
        for job in ending:
            if job.id not in self.core.jobs:
                self.forecasts.ended(self.core.now, job)
                for hear in self.over:
                    hear(self.core, job)
        self._tell(turn, reports)
        if self.core.seq - self._snapshot_seq >= SNAPSHOT_EVENTS:
            self.snapshot()
        for observe in self.timed:
            observe(time.perf_counter() - began)
        self._set_timer()

    def _plan(self, inbox: Sequence[Asked], events: list[AnyEvent]) -> list[Asked]:
        """Add the events of what was asked; answer at once what makes no sense."""
        batch = Batch(self.core, self.now)
        asked: list[Asked] = []
        for command, future in inbox:
            if future.done():
                continue  # the client left before anything was done for it
            try:
                batch.events += command.plan(batch)
            except Misuse as error:
                future.set_exception(error)
            else:
                asked.append((command, future))
        events += self.forecasts.attach(self.now, self.core, batch.events)
        return asked

    def _ending(self, events: Sequence[AnyEvent]) -> list[Job]:
        """Return the jobs that may be over after these events."""
        jobs, nodes = self.core.jobs, self.core.nodes
        found: dict[JobId, Job] = {}
        for event in events:
            if isinstance(event, MemberEnded) and event.job in jobs:
                found[event.job] = jobs[event.job]
            elif isinstance(event, NodeLost | NodeJoined) and event.node < len(nodes):
                found |= {job.id: job for job in nodes[event.node].members.values()}
        return list(found.values())

    def _tell(self, turn: Turn, reports: Iterable[Report]) -> None:
        """Send nodes their new desire, wake whoever waits."""
        core = self.core
        nodes = set(turn.nodes)
        for report in reports:
            node = core.node_ids.get(report.node)
            if node is not None and any(member.exit for member in report.members):
                nodes.add(node)  # there is something it may forget
        for node in sorted(nodes):
            self._poke(node)
        if not turn.events:
            return
        for listener in self.listeners:
            listener(core, turn.events)
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)
        if self._waiters:
            self._wake_waiters(turn.events)

    def _wake_waiters(self, events: Sequence[AnyEvent]) -> None:
        jobs = self.core.jobs
        touched: Iterable[JobId]
        if any(isinstance(event, NodeLost | NodeJoined) for event in events):
            touched = list(self._waiters)
        else:
            touched = {job for event in events if (job := getattr(event, "job", None)) is not None}
        for job in touched:
            if job not in jobs:
                for waiter in self._waiters.get(job, ()):
                    if not waiter.done():
                        waiter.set_result(None)

    def _store_failed(self, error: StoreFailed, asked: Sequence[Asked]) -> None:
        """The core is ahead of the log: throw it away, and put what agents said through again."""
        if not self.failing:
            log.error("a turn did not become durable: %s", error)
        self.failing = str(error) or "the store failed"
        self.scheduler = Scheduler.recover(self._build, self.store)
        self._fresh = set(self._reports)
        for _, future in asked:
            if not future.done():
                future.set_exception(error)
        self._wake()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.scheduler.next_wake()
        if deadline is not None:
            delay = min(max(deadline - self.clock(), 0) / 1000 + 0.001, TIMER_MAX_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)
