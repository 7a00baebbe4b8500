"""The fault simulation finds bugs that are planted in the real code, within 100 seeds each.

A simulation that finds nothing proves nothing unless it is known what it would find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import pytest

from fairlead.backends.local.agent import Agent
from fairlead.core import machines, snapshot, turn
from fairlead.core.engine import Core
from fairlead.model.base import Ms, StoreFailed
from fairlead.model.events import AnyEvent, MemberEnded, NodeLost, StopDecided, Submitted
from fairlead.model.jobs import Exit, Phase
from fairlead.model.messages import Desired, Report
from fairlead.sim.faults import disk, service
from fairlead.sim.faults.run import Failure, run_seed
from fairlead.store.memory import MemoryStore

SEEDS_MAX = 100
BROKEN = ("AttributeError", "TypeError", "NameError", "ImportError", "KeyError")

Plant = Callable[[pytest.MonkeyPatch], None]
PLANTS: dict[str, Plant] = {}


def plant(function: Plant) -> Plant:
    PLANTS[function.__name__] = function
    return function


# ---- the five that the design names ---------------------------------------------------------


@plant
def resources_leak_when_a_node_is_lost(patch: pytest.MonkeyPatch) -> None:
    original = Core._release

    def leaky(self, job, event):
        if not isinstance(event, NodeLost):
            return original(self, job, event)
        patched = pytest.MonkeyPatch()
        patched.setattr(self.ledger, "give", lambda *_: None)
        original(self, job, event)
        patched.undo()

    patch.setattr(Core, "_release", leaky)


@plant
def a_repeated_submission_is_accepted(patch: pytest.MonkeyPatch) -> None:
    original = Core._submitted

    def forgetful(self, event: Submitted):
        original(self, msgspec.structs.replace(event, request=""))

    patch.setattr(Core, "_submitted", forgetful)


@plant
def the_rest_of_a_failed_gang_runs_on(patch: pytest.MonkeyPatch) -> None:
    original = Core._ended

    def lax(self, job, rank, exit, event):
        before = job.phase
        original(self, job, rank, exit, event)
        if job.phase is Phase.STOPPING:
            job.phase = before

    patch.setattr(Core, "_ended", lax)


@plant
def the_end_of_an_older_attempt_counts(patch: pytest.MonkeyPatch) -> None:
    original = service.reconcile

    def hasty(core, report: Report):
        members = tuple(
            msgspec.structs.replace(member, attempt=core.jobs[member.job].attempt)
            if member.state == "ended" and member.job in core.jobs
            else member
            for member in report.members
        )
        return original(core, msgspec.structs.replace(report, members=members))

    patch.setattr(service, "reconcile", hasty)


@plant
def the_service_acts_though_the_commit_failed(patch: pytest.MonkeyPatch) -> None:
    original = disk.Disk.append

    def hopeful(self, records: Sequence[tuple[Ms, AnyEvent]], statuses=()):
        try:
            return original(self, records, statuses)
        except StoreFailed:
            return self.seq + len(records)

    patch.setattr(disk.Disk, "append", hopeful)


@plant
def the_service_sends_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    original = disk.Disk.append
    shell: list[service.Service] = []
    recover = service.Service._recover

    def remember(self):
        shell[:] = [self]
        recover(self)

    def eager(self, records, statuses=()):
        for node in sorted(shell[0].core._dirty) or range(min(1, len(shell[0].core.nodes))):
            shell[0]._send(node)
        return original(self, records, statuses)

    patch.setattr(service.Service, "_recover", remember)
    patch.setattr(disk.Disk, "append", eager)


# ---- the core -------------------------------------------------------------------------------


@plant
def a_job_that_stops_gives_its_resources_back_already(patch: pytest.MonkeyPatch) -> None:
    stop, release = Core._stop_decided, Core._release

    def early(self, event: StopDecided):
        stop(self, event)
        job = self.jobs[event.job]
        for slot in job.slots:
            self.ledger.give(slot.node, self.shapes[job.shape_id], slot.devices)

    def late(self, job, event):
        if job.phase is Phase.STOPPING:
            for slot in job.slots:
                self.ledger.take(slot.node, self.shapes[job.shape_id], slot.devices)
        release(self, job, event)

    patch.setattr(Core, "_stop_decided", early)
    patch.setattr(Core, "_release", late)
    # Consistently wrong, with the core's own check blind to it: only the world can tell.
    patch.setattr(service, "check", lambda core: None)


@plant
def a_cancel_of_a_starting_job_is_lost(patch: pytest.MonkeyPatch) -> None:
    original = Core._stop_decided

    def deaf(self, event: StopDecided):
        if self.jobs[event.job].phase is not Phase.STARTING:
            original(self, event)

    patch.setattr(Core, "_stop_decided", deaf)


@plant
def a_cancelled_job_runs_again_when_its_node_is_lost(patch: pytest.MonkeyPatch) -> None:
    original = machines.lose

    def zealous(core, node, event, because):
        for job in core.nodes[node].members.values():
            if job.phase is Phase.STOPPING:
                job.then = Phase.PENDING
        original(core, node, event, because)

    patch.setattr(machines, "lose", zealous)


@plant
def a_lost_member_counts_as_a_good_end(patch: pytest.MonkeyPatch) -> None:
    original = Core._member_ended

    def kind(self, event: MemberEnded):
        if event.exit.why == "lost":
            event = msgspec.structs.replace(event, exit=Exit(code=0))
        original(self, event)

    patch.setattr(Core, "_member_ended", kind)


@plant
def absence_in_a_report_from_before_the_launch_counts_as_lost(patch: pytest.MonkeyPatch) -> None:
    original = service.reconcile
    patch.setattr(
        service,
        "reconcile",
        lambda core, report: original(core, msgspec.structs.replace(report, seen=core.seq)),
    )


@plant
def a_report_of_an_earlier_life_of_the_node_counts(patch: pytest.MonkeyPatch) -> None:
    original = service.reconcile

    def gullible(core, report: Report):
        node = core.nodes[core.node_ids[report.node]]
        return original(core, msgspec.structs.replace(report, boot=node.spec.boot))

    patch.setattr(service, "reconcile", gullible)
    patch.setattr(service, "_life", lambda boot: 0)


# ---- recovery -------------------------------------------------------------------------------


@plant
def recovery_loses_the_tail(patch: pytest.MonkeyPatch) -> None:
    original = MemoryStore.replay

    def hasty(self, after=0):
        rows = list(original(self, after))
        return iter(rows[:-1] if after else rows)

    patch.setattr(MemoryStore, "replay", hasty)


@plant
def recovery_trusts_a_damaged_snapshot(patch: pytest.MonkeyPatch) -> None:
    def trusting(store):
        core = Core()
        for _, _, body in store.snapshots():
            try:
                core = Core.load(body)
                break
            except (msgspec.MsgspecError, AssertionError, LookupError):
                continue
        for _, at, event in store.replay(core.seq):
            core.apply(at, event)
        core.forget_changes()
        return core

    patch.setattr(turn, "recover", trusting)


@plant
def a_snapshot_forgets_who_has_ended(patch: pytest.MonkeyPatch) -> None:
    original = snapshot._restore

    def forgetful(core, item):
        original(core, msgspec.structs.replace(item, exits=()))

    patch.setattr(snapshot, "_restore", forgetful)


@plant
def a_snapshot_forgets_time_limits(patch: pytest.MonkeyPatch) -> None:
    original = snapshot._restore

    def forgetful(core, item):
        original(core, item)
        core.limits.clear()

    patch.setattr(snapshot, "_restore", forgetful)


@plant
def the_core_goes_on_after_a_failed_write(patch: pytest.MonkeyPatch) -> None:
    original = service.Service._recover

    def lazy(self):
        if not self.failing:
            original(self)

    patch.setattr(service.Service, "_recover", lazy)


@plant
def idempotency_keys_are_forgotten_in_recovery(patch: pytest.MonkeyPatch) -> None:
    original = turn.recover

    def forgetful(store):
        core = original(store)
        core.requests.clear()
        return core

    patch.setattr(turn, "recover", forgetful)
    patch.setattr(service.Service, "_watch", lambda self, core: None)
    patch.setattr("fairlead.sim.faults.oracles.Oracles.recovered", lambda self, core: None)


# ---- the agent ------------------------------------------------------------------------------


@plant
def an_agent_heeds_old_messages(patch: pytest.MonkeyPatch) -> None:
    original = Agent.desired

    def heedless(self, message: Desired):
        self.seen = min(self.seen, message.version)
        return original(self, message)

    patch.setattr(Agent, "desired", heedless)


@plant
def an_agent_forgets_results_before_they_are_acknowledged(patch: pytest.MonkeyPatch) -> None:
    original = Agent.report

    def forgetful(self):
        report = original(self)
        for member in report.members:
            if member.state == "ended":
                del self.members[member.key]
        return report

    patch.setattr(Agent, "report", forgetful)


@plant
def an_agent_starts_again_what_its_predecessor_has_started(patch: pytest.MonkeyPatch) -> None:
    original = Agent.__init__

    def blank(self, node, boot, cores, known=(), seen=0):
        original(self, node, boot, cores, (), 0)

    patch.setattr(Agent, "__init__", blank)


@plant
def an_agent_starts_what_its_predecessor_had_seen_placed(patch: pytest.MonkeyPatch) -> None:
    original = Agent.__init__

    def unaware(self, node, boot, cores, known=(), seen=0):
        original(self, node, boot, cores, known, seen)
        self._unseen = 0

    patch.setattr(Agent, "__init__", unaware)


@plant
def an_agent_heeds_messages_to_an_earlier_life_of_the_machine(patch: pytest.MonkeyPatch) -> None:
    original = Agent.desired
    patch.setattr(
        Agent,
        "desired",
        lambda self, message: original(self, msgspec.structs.replace(message, boot="")),
    )


@plant
def an_agent_says_ended_while_processes_remain(patch: pytest.MonkeyPatch) -> None:
    original = Agent.report

    def hasty(self):
        report = original(self)
        members = tuple(
            msgspec.structs.replace(member, state="ended", exit=Exit(signal=15))
            if member.state == "stopping"
            else member
            for member in report.members
        )
        return msgspec.structs.replace(report, members=members)

    patch.setattr(Agent, "report", hasty)


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[name](monkeypatch)
    for seed in range(SEEDS_MAX):
        result = run_seed(seed)
        if isinstance(result, Failure):
            # The plant itself must work, so that it is what was found.
            assert not result.name.startswith(BROKEN), result.where
            print(f"{name}: found at seed {seed}: {result.name}: {result.message[:100]}")
            return
    raise AssertionError(f"'{name}' escaped {SEEDS_MAX} seeds")
