"""Waiting jobs are matched to kinds of hardware: stories with known answers."""

from __future__ import annotations

from msgspec.structs import replace
from test_paces import HOUR, cluster, run

from fairlead.core.advice import seen_of
from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.advice import WHOLE, Share
from fairlead.model.events import (
    Advised,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    PolicySet,
    Submitted,
    TenantSet,
)
from fairlead.model.jobs import Exit, JobSpec, Tenant
from fairlead.model.resources import Device, Node, Shape
from fairlead.policy.registry import build, policy_config
from fairlead.sim.advice import Advising
from fairlead.sim.cluster import Cluster
from fairlead.solve.extra import Missing

# The seed's example: three tasks, two resources, what each costs on each, in hours.
SEED = [[2, 3], [4, 1], [3, 2]]


def hours(first: int, second: int, **more: object) -> dict[str, object]:
    """Return a job that takes so many hours on the one model, and so many on the other."""
    rates = {"a": 60 / first, "b": 60 / second}
    steps = 60 * 3600
    return {"rates": rates, "total_steps": steps, "job_type": f"{first}-{second}", **more}


def test_the_seeds_example_run_as_jobs_starts_with_the_cheapest_pairs(tmp_path):
    found = run(tmp_path, cluster("a", "b"), "assignment", *(hours(*row) for row in SEED))
    # First 2 + 1, the least for two of three; the third, when "b" is free again, there.
    assert found.nodes == [(0,), (1,), (1,)]
    assert found.end_ms == [2 * HOUR, 1 * HOUR, 3 * HOUR]


def test_who_loses_least_elsewhere_leaves_the_fast_device_to_who_needs_it(tmp_path):
    jobs = [hours(1, 2), hours(1, 10)]
    found = run(tmp_path, cluster("a", "b"), "assignment", *jobs)
    assert found.end_ms == [2 * HOUR, 1 * HOUR]


def test_who_runs_is_not_moved_when_something_better_is_free(tmp_path):
    found = run(tmp_path, cluster("a", "b"), "assignment", hours(1, 1), hours(1, 4))
    assert found.end_ms == [1 * HOUR, 1 * HOUR]
    late = run(tmp_path, cluster("a", "b"), "assignment", hours(2, 9), hours(1, 9), hours(9, 1))
    assert late.nodes[1] == (0,) and late.preempted == [0, 0, 0]


def test_jobs_without_gpus_are_matched_to_nodes_without_gpus(tmp_path):
    nodes = (*cluster("a").nodes, Node(name="plain", cpu_milli=4000))
    found = run(
        tmp_path,
        Cluster(spec="test", nodes=nodes),
        "assignment",
        {"gpus": 0, "cpus": 4},
        {"gpus": 0, "cpus": 4},
        hours(1, 1),
    )
    assert found.nodes == [(1,), (0,), (0,)]  # what is too much goes where there is room


# ---- one turn after the other --------------------------------------------------------------------


class Turns:
    """A scheduler with two nodes of one GPU, models a and b, and what it was told."""

    def __init__(self, policy: str = "assignment") -> None:
        self.core = Core()
        self.scheduler = Scheduler(self.core, build)
        self.now = 0
        nodes = [
            NodeJoined(at, Node(name=model, cpu_milli=8000, devices=(Device(model=model),)))
            for at, model in enumerate("ab")
        ]
        self.turn(PolicySet(policy=policy_config(policy)), *nodes)

    def turn(self, *events, advise=None) -> dict[int, int]:
        """Return who was placed on which node."""
        self.now += 1000
        made = self.scheduler.turn(self.now, events, advise=advise).events
        return {each.job: each.slots[0].node for each in made if isinstance(each, Placed)}

    def ask(self, core: Core):
        """Answer as the simulator does."""
        return Advising(core.policy).ask(self.scheduler.policy, core)

    @property
    def rounds(self):
        return self.scheduler.policy.rounds


def job(number: int, **more) -> Submitted:
    return Submitted(job=number, spec=JobSpec(shape=Shape(gpus=1), **more))


def plan(**where: str) -> Advised:
    shares = [Share(jobs=(int(n[1:]),), on=((model, WHOLE),)) for n, model in where.items()]
    return Advised(adviser="assignment", plan=tuple(shares))


def test_while_a_plan_is_awaited_nobody_starts_without_one():
    turns = Turns()
    turns.rounds.awaited = True
    assert turns.turn(job(1), job(2)) == {}
    assert turns.turn(plan(_1="b", _2="a")) == {1: 1, 2: 0}


def test_who_comes_while_a_plan_is_made_waits_for_the_next_who_was_asked_for_does_not():
    turns = Turns()
    turns.rounds.awaited = True
    turns.turn(job(1), job(2))
    seen = seen_of(turns.core)
    assert turns.turn(job(3)) == {}
    late = replace(plan(_1="b"), seen=seen)
    assert turns.turn(late) == {1: 1, 2: 0}  # 2 had no place in it, 3 was not asked for
    gone = [
        event
        for each in (1, 2)
        for event in (MemberStarted(each, 1), MemberEnded(each, 1, Exit(code=0)))
    ]
    assert turns.turn(*gone) == {}  # 3 waits for the plan that is due
    assert turns.turn(plan(_3="b")) == {3: 1}


def test_a_plan_that_does_not_come_costs_its_quality_only():
    turns = Turns()
    turns.rounds.awaited = True
    assert turns.turn(job(1), job(2)) == {}
    turns.rounds.awaited = False  # the world gives up
    assert sorted(turns.turn()) == [1, 2]


def test_a_plan_that_does_not_fit_any_more_is_carried_out_as_far_as_it_goes():
    turns = Turns()
    turns.rounds.awaited = True
    assert turns.turn(job(1), job(2)) == {}
    # Meanwhile b is gone, and 7 was never there.
    assert turns.turn(NodeLost(node=1), plan(_1="b", _2="a", _7="a")) == {2: 0}
    assert turns.turn(NodeJoined(1, turns.core.nodes[1].spec)) == {1: 1}


def test_a_plan_that_was_made_for_another_policy_is_none():
    turns = Turns("gavel-maxmin")
    turns.turn(job(1, priority=1), advise=None)
    other = replace(plan(_2="b"), adviser="gavel-maxmin")
    turns.turn(PolicySet(policy=policy_config("assignment")), other)
    turns.rounds.awaited = True
    assert turns.turn(job(2)) == {} and turns.rounds.due(turns.core)
    assert turns.turn(plan(_2="b")) == {2: 1}


def test_a_plan_never_puts_a_job_on_a_model_that_it_does_not_take():
    turns = Turns()
    picky = JobSpec(shape=Shape(gpus=1, gpu_models=("b", "c")))
    only = JobSpec(shape=Shape(gpus=1, gpu_models=("b",)))
    assert turns.turn(Submitted(1, picky), plan(_1="a")) == {1: 1}
    assert turns.turn(Submitted(2, only), plan(_2="a")) == {}


def test_a_job_that_is_given_no_place_at_all_starts_beside_the_plan():
    turns = Turns()
    nowhere = Advised(adviser="assignment", plan=(Share(jobs=(1,), on=()),))
    assert sorted(turns.turn(job(1), nowhere)) == [1]


def test_the_next_plan_finds_what_has_been_freed():
    turns = Turns()
    turns.turn(job(1), job(2), job(3), advise=turns.ask)
    assert not turns.rounds.due(turns.core)  # nothing is free: nothing to ask
    here = next(each.id for each in turns.core.jobs.values() if each.slots)
    ended = MemberEnded(job=here, attempt=1, rank=0, exit=Exit(code=0))
    assert turns.turn(MemberStarted(job=here, attempt=1, rank=0), ended, advise=turns.ask) == {
        3: here - 1
    }


def test_whom_a_quota_keeps_waiting_is_in_no_question():
    turns = Turns()
    turns.turn(TenantSet(tenant=Tenant(name="poor", quota=(None, None, None, 0, None))))
    turns.rounds.awaited = True
    turns.turn(job(1, tenant="poor"), job(2))
    assert [each.job for each in turns.rounds.question(turns.core).jobs] == [2]


def test_without_the_solver_the_simulator_goes_on_greedily(tmp_path, monkeypatch):
    def absent(module: str, package: str):
        raise Missing("this needs a solver")

    monkeypatch.setattr("fairlead.solve.mip.need", absent)
    found = run(tmp_path, cluster("a", "b"), "assignment", hours(1, 2), hours(1, 10))
    assert found.end_ms == [1 * HOUR, 10 * HOUR]
