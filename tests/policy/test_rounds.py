"""Rounds of decisions over random histories: what every policy owes, and what each promises."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from fairlead.core.admission import counted
from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.jobs import Job
from fairlead.core.turn import Scheduler
from fairlead.model.events import AnyEvent, Placed
from fairlead.model.jobs import PolicyConfig
from fairlead.model.resources import Shape, Slot
from fairlead.policy.explain import PENDING_EVALUATION, explain, reasons
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.place.fit import Fit
from fairlead.policy.registry import build, policy_config
from strategies import POLICIES, SPREADS, History, end


class Watched:
    """A long-lived pipeline whose every round is compared with that of a fresh one."""

    def __init__(self, config: PolicyConfig) -> None:
        self.pipeline = build(config)
        self.decisions = 0

    def decide(self, core: Core) -> Iterator[AnyEvent]:
        expected = from_scratch(core)
        digest = core.digest()
        decided = []
        for decision in self.pipeline.decide(core):
            if not decided:
                assert core.digest() == digest, "deciding changed the core"
            decided.append(decision)
            assert decided == expected[: len(decided)]
            yield decision
        assert decided == expected
        self.decisions += len(decided)


def from_scratch(core: Core) -> list[AnyEvent]:
    """Return the decisions of a fresh pipeline on a copy of the core."""
    twin = Core.load(core.dump())
    decisions = []
    for decision in build(twin.policy).decide(twin):
        twin.apply(twin.now, decision)
        decisions.append(decision)
    return decisions


def watched(seed: int, policy: str) -> History:
    history = History(seed, policy)
    scheduler = Scheduler(history.core, Watched)
    history.scheduler = scheduler
    return history


def key(core: Core, job: Job):
    return (*build(core.policy).order(job), job.token)


def may_start(core: Core, job: Job) -> bool:
    """Whether only room keeps a job: it is within its quota, and the nodes up could take it."""
    pipeline = Pipeline(core.policy)
    pipeline.bind(core)
    return not over_quota(core, job) and pipeline.possible(core, job)


def over_quota(core: Core, job: Job) -> bool:
    tenant = core.tenants.get(job.spec.tenant)
    if tenant is None or not tenant.quota:
        return False
    usage = core.usage.get(tenant.name, [0] * 5)
    asked = counted(core, tenant, job.spec.shape)
    return any(
        most is not None and used + amount > most
        for most, used, amount in zip(tenant.quota, usage, asked, strict=True)
    )


def fits_now(core: Core, job: Job) -> bool:
    return (
        Fit(core.ledger, Pipeline(core.policy).scorer).gang(core.shapes[job.shape_id]) is not None
    )


def lives(policy: str, seeds: int = 4, steps: int = 80) -> Iterator[tuple[Core, list[AnyEvent]]]:
    """Yield the core and the events after each turn of some random histories."""
    for seed in range(seeds):
        history = History(seed, policy)
        for _ in range(steps):
            events = history.step()
            yield history.core, events


def first_stuck(core: Core) -> Job | None:
    waiting = [job for job in core.pending.values() if may_start(core, job)]
    stuck = [job for job in waiting if not fits_now(core, job)]
    return min(stuck, key=lambda job: key(core, job), default=None)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_round_is_what_a_fresh_pipeline_would_decide(policy):
    decisions = 0
    for seed in range(4):
        history = watched(seed, policy)
        for _ in range(60):
            history.step()
            check(history.core)
        decisions += history.scheduler.policy.decisions
    assert decisions > 60


@pytest.mark.parametrize("policy", POLICIES)
def test_after_a_round_every_waiting_job_has_a_reason(policy):
    history = History(21, policy)
    waited = set()
    for _ in range(60):
        history.step()
        core, pipeline = history.core, history.scheduler.policy
        told = reasons(core, pipeline)
        assert told.keys() == core.pending.keys()
        for words in told.values():
            code, _, summary = words.partition(": ")
            assert code != PENDING_EVALUATION and summary
            waited.add(code)
        for job_id in list(core.pending)[:3]:
            story = explain(core, pipeline, job_id)
            assert f"{story.reason}: {story.summary}" == told[job_id]
            assert story.ahead == sum(
                key(core, other) < key(core, core.jobs[job_id]) for other in core.pending.values()
            )
    assert {"Resources"} <= waited


@pytest.mark.parametrize("policy", [name for name in POLICIES if "-skip" in name])
def test_after_a_round_of_a_skipping_policy_nothing_that_waits_would_fit(policy):
    for core, _ in lives(policy, seeds=2, steps=60):
        fitting = {job.shape_id: fits_now(core, job) for job in core.pending.values()}
        for job in core.pending.values():
            assert over_quota(core, job) or not fitting[job.shape_id]


@pytest.mark.parametrize("policy", ["fifo", "sjf", "priority-strict"])
def test_a_strict_policy_lets_nobody_start_before_one_that_is_ahead(policy):
    started = 0
    for core, events in lives(policy):
        # A gang that lost a member has first claim on the room that it left.
        placed = [
            core.jobs[event.job]
            for event in events
            if isinstance(event, Placed) and "held for it" not in event.because
        ]
        waiting = [job for job in core.pending.values() if may_start(core, job)]
        for job in placed:
            assert all(sooner(core, job, other) for other in waiting)
        started += len(placed)
    assert started > 60


def sooner(core: Core, job: Job, other: Job) -> bool:
    order = build(core.policy).order
    return order(job) < order(other)


def test_a_job_that_is_first_and_has_waited_long_is_overtaken_no_more():
    overtaken = held = 0
    for core, events in lives("priority"):
        stuck = first_stuck(core)
        if stuck is None:
            continue
        protected = core.now - stuck.submitted_ms >= 15 * 60_000
        for event in events:
            if isinstance(event, Placed) and sooner(core, stuck, core.jobs[event.job]):
                assert not protected
                assert f"job {stuck.id}, which is before it, does not fit" in event.because
                overtaken += 1
        held += protected
    assert overtaken > 5 and held > 50


@pytest.mark.parametrize("policy", POLICIES)
def test_the_first_decision_changes_nothing_until_it_is_applied(policy):
    for core, _ in lives(policy, seeds=1, steps=30):
        twin = Core.load(core.dump())
        for job in list(twin.jobs.values()):
            if job.phase.value == "RUNNING":
                end(twin, job)
        before = twin.digest()
        first = [next(iter(build(twin.policy).decide(twin)), None) for _ in range(2)]
        assert twin.digest() == before
        assert first[0] == first[1], "the same view, the same decision"


def test_a_placement_says_why():
    words = {
        event.because
        for _, events in lives("fifo-skip")
        for event in events
        if isinstance(event, Placed)
    }
    assert "fifo, best-fit" in words
    assert any("which is before it, does not fit" in because for because in words)


def check_slots(core: Core, shape: Shape, slots: tuple[Slot, ...]) -> None:
    where = [slot.node for slot in slots]
    assert len(where) == shape.members
    if shape.spread == "same-node":
        assert len(set(where)) == 1
    if shape.spread == "distinct-nodes":
        assert len(set(where)) == len(where)
    given = [core.nodes[slot.node].spec.devices[index] for slot in slots for index in slot.devices]
    if shape.gpu_models:
        assert {device.model for device in given} <= set(shape.gpu_models)


def test_placements_keep_the_spread_rule_and_the_models_asked_for():
    seen = set()
    for core, events in lives("priority-skip", seeds=6):
        for event in events:
            if isinstance(event, Placed):
                shape = core.jobs[event.job].spec.shape
                check_slots(core, shape, event.slots)
                if shape.members > 1:
                    seen.add(shape.spread)
    assert seen == set(SPREADS)


def test_a_config_survives_the_log():
    config = policy_config("priority+l2")
    assert msgspec.json.decode(msgspec.json.encode(config), type=PolicyConfig) == config
