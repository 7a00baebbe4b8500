"""The world's own truth, held against what the scheduler does, after every event.

Two sides are known here without asking the core: which processes really run (the machines say
so), and what is durable (the disk says so, decoded from what was written). The core's own
invariants are checked too, but a core that is consistently wrong passes those: the simulator
must check the world against the core, not the core against itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from fairlead.core.engine import Core
from fairlead.core.turn import Turn
from fairlead.model.base import JobId, Ms, NodeId
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    ForeignUsage,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    ReservationDeleted,
    Shrunk,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import FINAL, LIVE, Exit, JobSpec, Phase
from fairlead.model.messages import Desired, MemberKey
from fairlead.model.resources import Node, Shape, Slot
from fairlead.model.status import JobStatus
from fairlead.sim.faults.elastic import Elastic
from fairlead.sim.faults.foresight import Foresight
from fairlead.sim.faults.known import Attempt, KnownNode, Process, Violation
from fairlead.sim.faults.moves import Moves
from fairlead.sim.faults.named import Named
from fairlead.sim.faults.network import SLOW_MS, Answer, Ask, Cancel, Submit
from fairlead.sim.faults.sharing import Sharing
from fairlead.sim.faults.takings import Takings
from fairlead.sim.faults.truth import Load, close_enough

if TYPE_CHECKING:
    from fairlead.sim.faults.machine import Machine, Member
    from fairlead.sim.faults.world import World

COMPARE_TURNS = 64  # between comparisons of the core with the durable log
STRAGGLE_MS: Ms = 45_000  # the longest start and leftovers of the menu, and some seconds

LATE_MS: Ms = 130_000  # two periods of the service's timer, and some seconds


class Oracles:
    """All checks that are not the core's own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shadow = Core()  # the durable log, applied from its beginning
        self.specs: dict[JobId, JobSpec] = {}
        self.keys: dict[str, list[JobId]] = {}
        self.answers: dict[str, tuple[JobId, ...]] = {}
        self.final: dict[JobId, Phase] = {}
        self.attempts: dict[JobId, Attempt] = {}  # the last of each job
        self.live: dict[JobId, Attempt] = {}  # those with members not confirmed gone
        self.gone: set[MemberKey] = set()  # the log says that these are over
        self.cancelling: set[JobId] = set()  # somebody asked for it
        self.cancelled: set[JobId] = set()  # and was told yes
        self.nodes: list[KnownNode] = []
        self.processes: dict[MemberKey, Process] = {}  # every one ever started
        self.running: dict[MemberKey, Process] = {}
        self.running_of: dict[JobId, int] = {}
        self.loads: dict[str, Load] = {}
        self._turns = 0
        self.foresight = Foresight(self)
        self.sharing = Sharing(self)
        self.elastic = Elastic(self)
        self.takings = Takings(self)
        self.moves = Moves(self)
        self.named = Named(self)

    @property
    def submitted(self) -> int:
        """How many jobs the log knows."""
        return len(self.specs)

    # ---- machines -----------------------------------------------------------------------------

    def process_starts(self, machine: Machine, member: Member) -> None:
        """A member's command is executed."""
        key, launch = member.key, member.launch
        job, number, rank = key
        self.world.tell(job, "{}: process of {} starts", machine.name, key)
        if key in self.processes:
            raise Violation("started-twice", f"{key} on {machine.name}", job)
        if key in self.gone:
            raise Violation("started-after-its-end", f"{key} on {machine.name}", job)
        attempt = self.attempts.get(job)
        if attempt is None or number > attempt.number:
            raise Violation("started-before-durable", f"{key} on {machine.name}", job)
        if number == attempt.number:
            slot = attempt.slots[rank]
            where = self.nodes[slot.node].spec.name
            if where != machine.name or slot.devices != launch.devices:
                raise Violation("started-elsewhere", f"{key} on {machine.name}, not {where}", job)
        others = [other for other in self.running if other[0] == job and other[1] != number]
        if others:
            raise Violation("two-attempts-at-once", f"{key} while {others} run", job)
        self.processes[key] = self.running[key] = Process(machine)
        self.running_of[job] = self.running_of.get(job, 0) + 1
        load = self.loads.setdefault(machine.name, Load())
        sizes = [device.memory_mib for device in machine.spec.devices]
        load.add(launch.shape, launch.devices, sizes, 1)
        foreign, devices = self._foreign_since(machine.name, attempt.seq)
        excess = load.excess(machine.spec, launch.shape, launch.devices, foreign, devices)
        if excess:
            raise Violation("overcommitted", f"{machine.name} by {key}: {excess}", job)

    def _foreign_since(self, name: str, seq: int) -> tuple[tuple[int, ...], frozenset[int]]:
        """Return what others used all the time since an event, as far as the log knew."""
        node = next((node for node in self.nodes if node.spec.name == name), None)
        if node is None or not node.foreign:
            return (), frozenset()
        spans = [
            (amounts, devices)
            for index, (_, amounts, devices) in enumerate(node.foreign)
            if index + 1 == len(node.foreign) or node.foreign[index + 1][0] > seq
        ]
        if len(spans) == len(node.foreign) and node.foreign[0][0] > seq:
            return (), frozenset()  # there was a time without
        amounts = tuple(min(column) for column in zip(*(span[0] for span in spans), strict=True))
        return amounts, frozenset.intersection(*(span[1] for span in spans))

    def process_ends(self, machine: Machine, member: Member) -> None:
        """The last process of a member is gone."""
        key = member.key
        self.world.tell(key[0], "{}: processes of {} are gone: {}", machine.name, key, member.exit)
        process = self.running.pop(key)
        process.alive, process.exit = False, member.exit
        self.running_of[key[0]] -= 1
        sizes = [device.memory_mib for device in machine.spec.devices]
        launch = member.launch
        self.loads[machine.name].add(launch.shape, launch.devices, sizes, -1)

    # ---- the disk -----------------------------------------------------------------------------

    def durable(
        self, records: Sequence[tuple[int, Ms, AnyEvent]], statuses: Sequence[JobStatus]
    ) -> None:
        """These records and statuses are on the disk now."""
        telling = self.world.facts is not None
        for seq, at, event in records:
            if telling:
                text = msgspec.json.encode(event).decode()
                self.world.tell(getattr(event, "job", 0), "log {}: {}", seq, text[:300])
            self.foresight.before(at, event)
            self.sharing.before(event)
            self.named.before(seq, event)
            self._durable(seq, at, event)
            self.shadow.apply(at, event)
            self.elastic.after(event)
            self.foresight.after(event)
            self.takings.after(event)
        self.foresight.batch()
        self.takings.batch()
        self.shadow.forget_changes()
        for status in statuses:
            self._status(status)

    def _durable(self, seq: int, at: Ms, event: AnyEvent) -> None:
        match event:
            case Submitted():
                self._submitted(event)
            case Placed():
                self._placed(event, seq, at)
            case MemberStarted(job=job, attempt=number, rank=rank):
                attempt = self._current(job, number, rank)
                if attempt is not None:
                    if (job, number, rank) not in self.processes:
                        raise Violation("never-started", f"{event}", job)
                    attempt.start(rank, at)
            case MemberEnded(job=job, attempt=number, rank=rank, exit=how):
                attempt = self._current(job, number, rank)
                if attempt is not None:
                    if how.why not in ("lost", "cannot-start"):
                        attempt.start(rank, at)
                    self._ended(attempt, rank, how)
            case StopDecided(job=job, then=then, now=now):
                self._stop_decided(self.live[job], then, at)
                self.live[job].killed |= now
            case Grown():
                self.elastic.grown(event)
            case Shrunk():
                self.elastic.shrunk(event)
            case Cancelled(job=job):
                if job not in self.cancelling:
                    raise Violation("cancelled-by-nobody", f"job {job}", job)
            case NodeJoined(node=node, spec=spec):
                self._joined(node, spec)
            case NodeLost(node=node):
                self.nodes[node].up = False
                self._lost(node, event.because)
            case ForeignUsage(node=node, amounts=amounts, devices=devices):
                self.nodes[node].foreign.append((seq, amounts, frozenset(devices)))
            case _:
                pass  # policies, tenants and queues mean nothing physical

    def _submitted(self, event: Submitted) -> None:
        job, key = event.job, event.request
        if job != len(self.specs) + 1:
            raise Violation("job-ids", f"job {job} after {len(self.specs)} jobs", job)
        self.specs[job] = event.spec
        if not key:
            return
        ids = self.keys.setdefault(key, [])
        ids.append(job)
        if event.spec.name in {self.specs[other].name for other in ids[:-1]}:
            raise Violation("submitted-twice", f"job {job}, '{event.spec.name}', key {key}", job)

    def _placed(self, event: Placed, seq: int, at: Ms) -> None:
        job, spec = event.job, self.specs[event.job]
        before = self.attempts.get(job)
        if job in self.final or job in self.cancelled:
            raise Violation("placed-after-its-end", f"{event}", job)
        if job in self.live or event.attempt != (before.number if before else 0) + 1:
            raise Violation("two-attempts-at-once", f"{event}", job)
        if self.running_of.get(job):
            raise Violation("two-attempts-at-once", f"{event}: the last one still runs", job)
        if event.attempt > self._attempts_max(spec) + self.foresight.attempts_more(job):
            raise Violation("livelock", f"job {job} is placed for the {event.attempt}th time", job)
        if len(event.slots) != spec.shape.members:
            raise Violation("partial-gang", f"{event}", job)
        count = len({slot.node for slot in event.slots})
        spread = spec.shape.spread
        if (spread == "same-node" and count > 1) or (
            spread == "distinct-nodes" and count < len(event.slots)
        ):
            raise Violation("spread", f"{event}, asked for {spread}", job)
        if not close_enough(spec.shape, [self.nodes[slot.node].spec for slot in event.slots]):
            raise Violation("topology", f"{event}, asked for {spec.shape.within}", job)
        for rank, slot in enumerate(event.slots):
            self.check_slot(slot, spec.shape.of(rank), job)
        self.attempts[job] = self.live[job] = Attempt(event, seq, at)

    def _attempts_max(self, spec: JobSpec) -> int:
        """Return how often a job can be placed: each time but the first has a cause."""
        plan = self.world.plan
        own = len(plan.jobs[spec.name].fates) // spec.shape.members + spec.retries
        return own + len(plan.incidents) + 1

    def check_slot(self, slot: Slot, shape: Shape, job: JobId) -> None:
        """Raise Violation if a member of the job that asks for this may not be on a slot."""
        node = self.nodes[slot.node]
        if not node.up:
            raise Violation("placed-on-a-dead-node", f"job {job} on {node.spec.name}", job)
        if len(slot.devices) != shape.devices or len(set(slot.devices)) < shape.devices:
            raise Violation("devices", f"job {job}: {slot}", job)
        for device in slot.devices:
            offered = node.spec.devices[device]
            fits = not shape.gpu_models or offered.model in shape.gpu_models
            if not fits or offered.memory_mib < shape.gpu_memory_mib:
                raise Violation("devices", f"job {job}: {slot} has {offered}", job)
        load = Load()
        sizes = [device.memory_mib for device in node.spec.devices]
        load.add(shape, slot.devices, sizes, 1)
        for attempt in self.live.values():
            other = self.specs[attempt.job].shape
            for rank, taken in attempt.slots.items():
                if taken.node == slot.node and rank not in attempt.ended:
                    load.add(other.of(rank), taken.devices, sizes, 1)
        _, amounts, devices = node.foreign[-1] if node.foreign else (0, (), frozenset[int]())
        excess = load.excess(node.spec, shape, slot.devices, amounts, devices)
        if excess:
            raise Violation("placed-where-it-does-not-fit", f"job {job}: {excess}", job)

    def _current(self, job: JobId, number: int, rank: int) -> Attempt | None:
        attempt = self.live.get(job)
        if attempt is None or attempt.number != number or rank in attempt.ended:
            return None
        return attempt

    def _ended(self, attempt: Attempt, rank: int, how: Exit) -> None:
        key = (attempt.job, attempt.number, rank)
        process = self.processes.get(key)
        if process is not None and process.alive:
            raise Violation("ended-while-it-runs", f"{key}: {how}", attempt.job)
        if how.why == "cannot-start":
            true = process is None
        else:
            true = how.why == "lost" or (process is not None and process.exit == how)
        if not true:
            truth = process.exit if process else "it never started"
            raise Violation("untrue-end", f"{key}: logged {how}, true: {truth}", attempt.job)
        self._over(attempt, rank, how)

    def _over(self, attempt: Attempt, rank: int, how: Exit) -> None:
        if rank in attempt.leaving:
            self.gone.add((attempt.job, attempt.number, rank))
            self.elastic.left(attempt, rank)
            return
        attempt.ended[rank] = how
        self.gone.add((attempt.job, attempt.number, rank))
        if not how.ok and attempt.doomed is None:
            attempt.doomed = self.world.now
        self.settle(attempt)

    def settle(self, attempt: Attempt) -> None:
        """The attempt is over once every member is confirmed gone."""
        if len(attempt.ended) == len(attempt.slots):
            del self.live[attempt.job]

    def _stop_decided(self, attempt: Attempt, then: Phase, at: Ms) -> None:
        limit = self.specs[attempt.job].limit_ms
        if then is Phase.TIMEOUT and (limit is None or at - attempt.placed_ms < limit):
            raise Violation("early-timeout", f"job {attempt.job}, limit {limit}", attempt.job)
        if then is Phase.CANCELLED and attempt.job not in self.cancelling:
            raise Violation("cancelled-by-nobody", f"job {attempt.job}", attempt.job)
        attempt.leaving.clear()  # all of them have to
        if attempt.doomed is None:
            attempt.doomed = self.world.now

    def _joined(self, node: NodeId, spec: Node) -> None:
        if node == len(self.nodes):
            self.nodes.append(KnownNode(spec))
            return
        known = self.nodes[node]
        if known.spec.boot != spec.boot or known.spec.devices != spec.devices:
            self._lost(node, "started anew")
        known.spec, known.up = spec, True
        known.foreign.clear()

    def _lost(self, node: NodeId, because: str) -> None:
        how = Exit(why="lost", detail=because)
        for attempt in list(self.live.values()):
            for rank, slot in list(attempt.slots.items()):
                if slot.node == node and rank not in attempt.ended:
                    self._ended(attempt, rank, how)

    def _status(self, status: JobStatus) -> None:
        job, phase = status.id, status.phase
        before = self.final.get(job)
        if before is not None:
            raise Violation("final-phase-changed", f"job {job}: {before} to {phase}", job)
        if phase in LIVE:
            return
        if self.running_of.get(job):
            raise Violation("runs-without-resources", f"job {job} is {phase} but runs", job)
        if phase not in FINAL:
            return
        self.final[job] = phase
        self.foresight.final(job, phase)
        attempt = self.attempts.get(job)
        if phase is Phase.SUCCEEDED:
            exits = [
                process.exit
                for rank in (attempt.slots if attempt else ())
                if attempt and (process := self.processes.get((job, attempt.number, rank)))
            ]
            well = [how for how in exits if how is not None and how.ok]
            if len(well) < self.specs[job].shape.members:
                raise Violation("untrue-success", f"job {job}: really {exits}", job)
        if phase is Phase.CANCELLED and job not in self.cancelling:
            raise Violation("cancelled-by-nobody", f"job {job}", job)

    # ---- the service --------------------------------------------------------------------------

    def recovered(self, core: Core) -> None:
        """The scheduler has come back from the disk."""
        if core.digest() != self.shadow.digest():
            raise Violation(
                "recovery",
                f"recovered to event {core.seq}, the log has {self.shadow.seq}; "
                "not the state of the durable log",
            )

    def turned(self, turn: Turn, inbox: int, jobs: int) -> None:
        """A turn has become durable."""
        over = sum(isinstance(event, ReservationDeleted) for event in turn.events)
        decided = len(turn.events) - inbox - over
        if decided > 8 * (jobs + inbox):  # elastic jobs may grow by several members
            raise Violation("livelock", f"{decided} decisions after {inbox} events, {jobs} jobs")
        self._turns += 1
        if self._turns % COMPARE_TURNS == 0:
            self.recovered(self.world.service.core)

    def limits_kept(self, clock: Ms) -> None:
        """The service has been well for a while: nobody is far over the time limit."""
        for attempt in self.live.values():
            limit = self.specs[attempt.job].limit_ms
            if limit is None or attempt.running_ms is None or attempt.doomed is not None:
                continue
            over = clock - attempt.running_ms - limit
            if over > LATE_MS:
                raise Violation("limit-ignored", f"job {attempt.job}, by {over} ms", attempt.job)

    def sent(self, node: NodeId, desired: Desired) -> None:
        """A node's desire leaves the service."""
        if desired.version > self.shadow.seq:
            raise Violation(
                "acted-before-durable", f"desire {desired.version}, durable {self.shadow.seq}"
            )
        expected: dict[MemberKey, Attempt] = {}
        for attempt in self.live.values():
            for rank, slot in attempt.slots.items():
                if slot.node == node and rank not in attempt.ended:
                    expected[attempt.job, attempt.number, rank] = attempt
        for launch in desired.run:
            known = expected.get(launch.key)
            if known is None or known.slots[launch.rank].devices != launch.devices:
                raise Violation("wrong-launch", f"{launch}", launch.job)
        wanted = [launch.key for launch in desired.run] + list(desired.keep)
        for key in wanted:
            if key not in expected or _has_to_go(expected[key], key[2]):
                raise Violation("wanted-but-doomed", f"{key} on node {node}", key[0])
        for key in desired.stop:
            if key not in expected or not _has_to_go(expected[key], key[2]):
                raise Violation("stopped-for-nothing", f"{key} on node {node}", key[0])
        if set(desired.kill) != {key for key, attempt in expected.items() if attempt.killed}:
            raise Violation("wrong-kill", f"{desired}")
        if sorted([*wanted, *desired.stop]) != sorted(expected):
            raise Violation("incomplete-desire", f"{desired}, expected {sorted(expected)}")
        for key in desired.forget:
            if key in expected:
                raise Violation("forgotten-too-soon", f"{key}", key[0])

    def cancels(self, job: JobId) -> None:
        """Somebody is about to cancel a job."""
        self.cancelling.add(job)

    def answered(self, ask: Ask, answer: Answer) -> None:
        """An answer leaves the service."""
        if answer.refused:
            return
        if isinstance(ask, Cancel):
            for job in ask.ids:
                attempt = self.live.get(job)
                if job not in self.final and (attempt is None or attempt.doomed is None):
                    raise Violation("cancel-lost", f"job {job} was said to be cancelled", job)
                self.cancelled.add(job)
        if isinstance(ask, Submit):
            names = [self.specs[job].name for job in answer.ids if job in self.specs]
            if names != [spec.name for spec in ask.specs]:
                raise Violation("acted-before-durable", f"{answer} to {ask.key}: {names}")
            if ask.key and self.answers.setdefault(ask.key, answer.ids) != answer.ids:
                raise Violation("submitted-twice", f"{ask.key}: {answer.ids}", answer.ids[0])

    # ---- the end ------------------------------------------------------------------------------

    def no_orphans(self) -> None:
        """After the faults: whatever has to stop stops within its grace and a few reports."""
        world = self.world
        plan = world.plan
        settled = plan.until_ms + plan.weather.delay_max_ms + SLOW_MS
        for key, process in self.running.items():
            attempt = self.live.get(key[0])
            current = attempt is not None and attempt.number == key[1]
            told = attempt.doomed if attempt and current else 0
            if attempt and current and key[2] in attempt.leaving:
                told = told or attempt.leaving[key[2]]
            if told is None:
                continue
            since = max(settled, told)
            slack = STRAGGLE_MS + 3 * plan.heartbeat_ms
            if attempt is None or not attempt.killed:
                slack += self.specs[key[0]].grace_ms
            if world.now - since > slack:
                raise Violation("orphan", f"{key} runs on at {process.machine.name}", key[0])

    def at_the_end(self) -> None:
        """Everything is over: nothing was lost, nothing is left."""
        self.recovered(self.world.service.core)
        for job in self.specs:
            phase = self.final.get(job)
            status = self.world.disk.status_of(job)
            if phase is None or status is None or status.phase is not phase:
                raise Violation("lost-job", f"job {job}: {phase}, shown as {status}", job)
        for plan in self.world.plan.requests:
            ids = self.keys.get(plan.key, []) if plan.key else []
            if len(ids) not in (0, len(plan.jobs)):
                raise Violation("submitted-in-part", f"{plan.key}: {ids}", ids[0])
        for name, load in self.loads.items():
            if not load.idle:
                raise Violation("leaked", f"{name} carries {load.host} {load.milli}")
        self.named.at_the_end()


def _has_to_go(attempt: Attempt, rank: int) -> bool:
    return attempt.doomed is not None or rank in attempt.leaving
