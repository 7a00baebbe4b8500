"""The fault simulation finds bugs planted in plans, promises, reservations and preemption."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from fairlead.core.cohort import Branch
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.shares import Shares
from fairlead.model.events import Promised, StopDecided
from fairlead.model.jobs import Phase
from fairlead.policy import backfill, plan, preempt
from fairlead.policy.fence import Fence
from fairlead.policy.given import Given
from fairlead.policy.place.trial import Trial
from fairlead.policy.plan import Plans
from fairlead.policy.preempt import Draft
from fairlead.policy.registry import policy_config
from fairlead.sim.faults.menu import draw
from fairlead.sim.faults.run import Failure, run_plan

SEEDS_MAX = 150
Plant = Callable[[pytest.MonkeyPatch], None]
PLANTS: dict[str, tuple[Plant, tuple[str, ...], str]] = {}


def plant(*checks: str, policy: str = "") -> Callable[[Plant], Plant]:
    """Register a bug and what finds it; `policy` rules all the time, where it is of one kind."""

    def register(function: Plant) -> Plant:
        PLANTS[function.__name__] = function, checks, policy
        return function

    return register


@plant("reserved")
def plans_ignore_reservations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(plan, "keep_out", lambda *_: None)


@plant("reserved")
def preemption_ignores_reservations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fence, "within", lambda self, node, trial, gone=(): trial)


@plant("promise-later")
def promises_do_not_stand_when_others_are_made(patch: pytest.MonkeyPatch) -> None:
    """The whole future is planned anew in the order of the queue: the classic mistake."""
    original = backfill.Backfill._planned

    def anew(self, core, fresh, again):
        for job in list(core.promises.values()):
            yield Promised(job=job.id, start_ms=core.clock, because="")
        yield from original(self, core, fresh, True)

    patch.setattr(backfill.Backfill, "_planned", anew)
    # Only what is promised then is looked at, as a user would.
    from fairlead.sim.faults.foresight import Foresight

    promised = Foresight._promised
    patch.setattr(
        Foresight, "_promised", lambda self, at, event: event.slots and promised(self, at, event)
    )


@plant("promise-later", "promise-in-the-past", policy="conservative")
def claims_of_others_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Plans, "sync", lambda self: None)


@plant("promise-broken")
def a_promise_is_taken_back_without_a_word(patch: pytest.MonkeyPatch) -> None:
    original = backfill.Backfill._start_or_promise

    def silent(self, core, job):
        for event in original(self, core, job):
            broken = isinstance(event, Promised) and not event.slots
            yield replace(event, because="") if broken else event

    patch.setattr(backfill.Backfill, "_start_or_promise", silent)


@plant("preempted-in-spite")
def jobs_that_are_not_preemptible_are_stopped(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(preempt, "_may_stop", lambda core, config, job: True)


@plant("preempted-too-soon")
def the_least_run_time_is_not_kept(patch: pytest.MonkeyPatch) -> None:
    original = preempt._may_stop
    patch.setattr(
        preempt,
        "_may_stop",
        lambda core, config, job: original(core, replace(config, min_run_ms=0), job),
    )


@plant("preempted-too-often")
def the_most_preemptions_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    original = preempt._may_stop
    patch.setattr(
        preempt,
        "_may_stop",
        lambda core, config, job: original(core, replace(config, preemptions_max=None), job),
    )


@plant("preempted-in-vain", policy="srtf")
def foreign_use_stops_running_jobs(patch: pytest.MonkeyPatch) -> None:
    """The bug that this check has found in its first hour."""

    def strict(self, node: int, trial: Trial) -> bool:
        return min(trial.free) >= 0

    patch.setattr(Draft, "sound", strict)


@plant("preempted-for-good")
def a_preempted_job_counts_as_failed(patch: pytest.MonkeyPatch) -> None:
    original = Core._stop_decided

    def final(self, event: StopDecided):
        original(self, event)
        if event.then is Phase.PENDING:
            self.jobs[event.job].then = Phase.FAILED

    patch.setattr(Core, "_stop_decided", final)


@plant("livelock", "liveness", policy="las")
def a_job_that_was_stopped_comes_first_again(patch: pytest.MonkeyPatch) -> None:
    """The service that a preempted job has had is forgotten."""
    original = Core._wait

    def forgetful(self, job: Job):
        job.served_ms = 0
        original(self, job)

    patch.setattr(Core, "_wait", forgetful)


@plant("over-quota")
def what_is_lent_counts_for_the_lender_too(patch: pytest.MonkeyPatch) -> None:
    """What a queue lends to nobody stays its own; here those above it may lend it out as well."""
    original = Branch.settle

    def generous(self):
        original(self)
        self.local = [0] * len(self.local)

    patch.setattr(Branch, "settle", generous)


@plant("over-quota")
def limits_on_borrowing_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    original = Branch.available

    def available(self, row):
        borrow, self.borrow = self.borrow, [None] * len(self.borrow)
        try:
            return original(self, row)
        finally:
            self.borrow = borrow

    patch.setattr(Branch, "available", available)


@plant("over-quota")
def a_preemptive_pass_forgets_what_it_has_given(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Given, "add", lambda self, job, slots: None)


@plant("over-quota")
def a_gang_counts_as_one_member(patch: pytest.MonkeyPatch) -> None:
    original = Shares.ask
    patch.setattr(Shares, "ask", lambda self, shape: original(self, replace(shape, members=1)))


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_of_a_policy_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_it, checks, policy = PLANTS[name]
    plant_it(monkeypatch)
    others: dict[str, int] = {}
    for seed in range(SEEDS_MAX):
        plan = draw(seed)
        if policy:
            rest = [each for each in plan.incidents if each.kind != "policy"]
            rules = replace(policy_config(policy), reclaim="never")
            if rules.levels_gpu_ms:
                rules = replace(rules, levels_gpu_ms=(10_000, 60_000))
            plan = replace(plan, policy=rules, incidents=tuple(rest))
        result = run_plan(plan)
        if isinstance(result, Failure):
            if result.name in checks:
                print(f"{name}: found at seed {seed}: {result.name}: {result.message[:100]}")
                return
            others[result.name] = seed
    raise AssertionError(f"'{name}' escaped {SEEDS_MAX} seeds; found instead: {others}")
