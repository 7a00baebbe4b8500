"""Jobs that are moved by themselves, in a hostile world: no seed of the swarm draws that setting,
so that what the seeds were before they still are; here it is set."""

from __future__ import annotations

from types import SimpleNamespace

from msgspec.structs import replace

from crowded import Held, Host, core_of
from fairlead.core.engine import Core
from fairlead.model.events import MemberEnded, Promised, StopDecided, Submitted
from fairlead.model.jobs import Exit, JobSpec, Phase, PolicyConfig
from fairlead.model.resources import Shape, Slot
from fairlead.sim.faults.known import Violation
from fairlead.sim.faults.menu import draw
from fairlead.sim.faults.moves import Moves
from fairlead.sim.faults.plan import JobPlan, Plan
from fairlead.sim.faults.run import Failure, attempt
from fairlead.sim.faults.world import World


def willing(policy: PolicyConfig) -> PolicyConfig:
    if policy.preempt:
        return policy
    return replace(policy, defrag="when-worth", min_run_ms=0, reclaim="never", within="never")


def movable(job: JobPlan) -> JobPlan:
    free = {"preemptible": True, "deadline_ms": None, "members_max": 0}
    return replace(job, spec=replace(job.spec, counted=(), may_acquire=(), **free), takes=())


def world_of(seed: int) -> World:
    plan: Plan = draw(seed)
    incidents = tuple(
        each if each.policy is None else replace(each, policy=willing(each.policy))
        for each in plan.incidents
    )
    jobs = {name: movable(job) for name, job in plan.jobs.items()}
    return World(replace(plan, policy=willing(plan.policy), incidents=incidents, jobs=jobs))


def test_jobs_are_moved_whatever_fails_meanwhile_and_all_come_to_their_ends():
    moves = 0
    for seed in range(12):
        world = world_of(seed)
        outcome = attempt(world)
        assert not isinstance(outcome, Failure), f"seed {seed}: {outcome.name}: {outcome.message}"
        moves += world.oracles.moves.seen
    assert moves, "none of these seeds moves anybody"


def two_that_move() -> Core:
    """Job 1 is to go to where job 2 is, which goes to the third machine, for job 3."""
    hosts = {"a": Host(4, {"x": Held(3, 1)}), "b": Host(3, {"y": Held(2, 1)}), "c": Host(2, {})}
    core, _ = core_of(hosts)
    core.apply(0, Submitted(job=3, spec=JobSpec(shape=Shape(cpu_milli=0, gpus=4))))
    core.apply(0, Promised(3, 0, (Slot(0, (0, 1, 2, 3)),), "", 9))
    core.apply(0, Promised(1, 0, (Slot(1, (0, 1, 2)),), "", 9, move_for=3))
    core.apply(0, Promised(2, 0, (Slot(2, (0, 1)),), "", 9, move_for=3))
    return core


def stopped(core: Core, job: int, config: PolicyConfig) -> str:
    """What the oracle says of a stop, "" for nothing."""
    oracle = Moves(SimpleNamespace(shadow=core))  # type: ignore[arg-type]
    event = StopDecided(job=job, attempt=1, then=Phase.PENDING, beneficiary=3)
    assert oracle.is_move(event)
    try:
        oracle.judge(event, config)
    except Violation as violation:
        return violation.name
    assert oracle.seen == 1
    return ""


def test_the_oracle_sees_who_is_stopped_too_early_in_vain_or_against_the_policy():
    on = PolicyConfig(defrag="when-worth")
    core = two_that_move()
    assert stopped(core, 2, on) == ""
    assert stopped(core, 2, PolicyConfig()) == "moved-in-spite"
    core.apply(1, StopDecided(job=2, attempt=1, then=Phase.PENDING, beneficiary=3))
    assert stopped(core, 1, on) == "moved-too-early"
    core.apply(2, MemberEnded(job=2, attempt=1, exit=Exit(signal=15)))
    assert stopped(core, 1, on) == ""
    core.apply(3, Promised(3, 3, (), "given up"))
    assert stopped(core, 1, on) == "moved-in-vain"
