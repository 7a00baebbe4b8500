"""Why a job waits: reason, counts, what is before it, and until when."""

from __future__ import annotations

import pytest
from hypothesis import given

from fairlead.core.admission import describe_lack
from fairlead.core.engine import Core
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    PolicySet,
    Submitted,
    TenantSet,
    UserSet,
)
from fairlead.model.jobs import Exit, JobSpec, Phase, Tenant, User
from fairlead.model.resources import Node, Shape, Slot
from fairlead.policy.explain import explain, reasons
from fairlead.policy.registry import build, policy_config
from strategies import (
    cluster,
    clusters,
    end,
    node,
    place,
    shapes,
    spec,
    start,
    stop,
    submit,
)


def told(core, job_id, policy=None):
    """Return the explanation after a round of the core's policy, or of a fresh pipeline."""
    scheduler = Scheduler(core, build)
    scheduler.turn(core.now, [])
    return explain(core, scheduler.policy, job_id)


def test_the_counts_say_how_many_nodes_lack_what():
    core = cluster(
        *(node(f"m{n}", memory=1000, gpus=1) for n in range(4)),
        *(node(f"g{n}", memory=64_000) for n in range(2)),
        node("big", memory=64_000, gpus=1),
        policy="fifo",
    )
    place(core, submit(core, gpus=1), Slot(node=6, devices=(0,)))
    job = submit(core, memory_mib=8000, gpus=1)
    story = told(core, job.id)
    assert (story.reason, story.summary) == ("Resources", "4 nodes: memory; 3 nodes: GPUs")
    assert story.nodes == {"memory": 4, "GPUs": 3}


@given(clusters(2, 5), shapes(members=1), shapes(members=1))
def test_the_counts_are_those_of_a_look_at_each_node(specs, held, wanted):
    core = cluster(*specs, policy="fifo-skip")
    scheduler = Scheduler(core, build)
    inbox = [Submitted(job=n, spec=JobSpec(shape=held)) for n in (1, 2, 3)]
    scheduler.turn(0, [*inbox, Submitted(job=4, spec=JobSpec(shape=wanted))])
    if 4 not in core.pending:
        return
    story = explain(core, scheduler.policy, 4)
    assert sum(story.nodes.values()) == len(specs)
    for row, name in ((0, "CPU"), (1, "memory"), (2, "disk")):
        asked = wanted.amounts()[row]
        short = sum(0 < asked > core.ledger.room[row, n] for n in range(len(specs)))
        said = sum(count for lack, count in story.nodes.items() if name in lack.split(" and "))
        assert said == short
    assert describe_lack(story.nodes) in story.summary


def test_a_gang_says_how_many_members_fit_now():
    core = cluster(node("n0"), node("n1"), policy="fifo")
    place(core, submit(core, 6), 0)
    job = submit(core, 4, members=3)
    assert told(core, job.id).summary == "2 of 3 members fit now; 1 node: CPU"


def test_a_job_that_fits_but_must_not_overtake_says_whom():
    core = cluster(node(), policy="fifo")
    place(core, submit(core, 5), 0)
    stuck, small = submit(core, 4), submit(core, 1)
    story = told(core, small.id)
    assert (story.reason, story.behind_job, story.ahead) == ("Priority", stuck.id, 1)
    assert f"job {stuck.id} is before it and must not be overtaken" in story.summary
    assert told(core, stuck.id).reason == "Resources"
    assert reasons(core, build(core.policy)) == {
        stuck.id: "Resources: 1 node: CPU",
        small.id: f"Priority: {story.summary}",
    }


def test_a_tenant_over_its_quota_waits_for_quota_and_holds_up_nobody():
    core = cluster(node(), policy="fifo")
    core.apply(0, TenantSet(tenant=Tenant(name="t", quota=(2000, None, None, None, None))))
    place(core, submit(core, 2, tenant="t"), 0)
    waits, other = submit(core, 1, tenant="t"), submit(core, 1, tenant="u")
    story = told(core, waits.id)
    assert (story.reason, other.phase) == ("WaitingForQuota", Phase.STARTING)
    assert "quota of tenant t: would be exceeded" in story.lines
    assert story.summary.startswith("tenant t holds 2 cpus of at most 2: ")


def test_a_limit_of_its_user_is_not_told_as_the_quota_of_its_tenant():
    core = cluster(node(), policy="fifo")
    core.apply(0, TenantSet(tenant=Tenant(name="t", quota=(3000, None, None, None, None))))
    core.apply(0, UserSet(user=User(name="ann", most={"cpu_milli": 2000})))
    place(core, submit(core, 2, tenant="t", user="ann"), 0)
    story = told(core, submit(core, 1, tenant="t", user="ann").id)
    assert story.reason == "QOSMaxResourcesPerUser"
    assert "quota of tenant t: ok" in story.lines


def test_a_job_for_which_only_nodes_that_are_down_are_large_enough_says_so():
    core = cluster(node("n0"), node("n1", cpus=16), node("n2"), policy="fifo")
    core.apply(0, NodeLost(node=1))
    large, small = submit(core, 12), submit(core, 1)
    story = told(core, large.id)
    assert story.reason == "ReqNodeNotAvail"
    assert small.phase is Phase.STARTING  # it is not held up


def test_nodes_that_are_down_do_not_explain_a_job_that_waits_for_others():
    core = cluster(node("g0", gpus=1), node("n1"), node("n2"), policy="fifo")
    place(core, submit(core, gpus=1), Slot(node=0, devices=(0,)))
    core.apply(0, NodeLost(node=1))
    core.apply(0, NodeLost(node=2))
    assert told(core, submit(core, gpus=1).id).reason == "Resources"


def test_the_bound_and_what_is_ahead_are_told():
    core = cluster(node(), policy="priority")
    place(core, submit(core, 8), 0)
    first = submit(core, 8, priority=90)
    job = submit(core, 1, priority=40)
    story = told(core, job.id)
    assert (story.ahead, story.protected_after_ms) == (1, 60 * 60_000)
    assert "bound: no job that arrives later than 3600 s from now is ordered before it" in (
        story.lines
    )
    assert f"job {first.id} is the first that does not fit; it may be overtaken" in story.lines
    core.now = 15 * 60_000
    assert f"job {first.id} is the first that does not fit; it must not be overtaken" in (
        told(core, job.id).lines
    )


def test_a_shortest_first_queue_has_no_bound_to_tell():
    core = cluster(node(cpus=1), policy="sjf")
    place(core, submit(core), 0)
    story = told(core, submit(core).id)
    assert story.protected_after_ms is None
    assert any(line.startswith("bound: none") for line in story.lines)


def test_who_holds_what_is_missing_is_told():
    core = cluster(node(), policy="fifo")
    held = submit(core, 8, limit_ms=60_000, tenant="t")
    place(core, held, 0)
    start(core, held)
    job = submit(core, 1)
    assert "in use by job 1 of t (cpus: 8): ends within 60 s by its time limit" in (
        told(core, job.id).lines
    )
    stop(core, held)
    assert "in use by job 1 of t (cpus: 8): it is stopping" in told(core, job.id).lines


def test_a_job_that_ran_before_says_why_it_waits_again():
    core = cluster(node(cpus=1), policy="fifo")
    job = submit(core)
    place(core, job, 0)
    core.apply(0, NodeLost(node=0, because="no heartbeat"))
    lines = told(core, job.id).lines
    assert any("ran before (1 attempt)" in line and "no heartbeat" in line for line in lines)


def test_a_running_job_says_why_it_was_placed_and_an_unknown_one_nothing():
    core = cluster(node(), policy="fifo")
    job = submit(core)
    story = told(core, job.id)
    assert (story.phase, story.reason, story.summary) == (Phase.STARTING, "", "fifo, best-fit")
    end(core, job)
    assert told(core, job.id) is None


@pytest.mark.parametrize("asked", [{"cpus": 3}, {"cpus": 1, "members": 3}])
def test_before_the_first_round_a_job_that_fits_has_not_been_looked_at(asked):
    core = cluster(node(), policy="fifo")
    core.apply(0, Submitted(job=1, spec=spec(**asked)))
    assert explain(core, build(core.policy), 1).reason == "PendingEvaluation"


def test_a_job_that_would_fit_but_delay_the_head_is_told_which_promise_it_could_break():
    core = Core()
    scheduler = Scheduler(core, build)
    box = Node(name="box", cpu_milli=4000)
    scheduler.turn(0, [PolicySet(policy=policy_config("easy")), NodeJoined(node=0, spec=box)])

    def come(now, cpus, limit_s):
        asked = JobSpec(shape=Shape(cpu_milli=1000 * cpus), limit_ms=1000 * limit_s)
        scheduler.turn(now, [Submitted(job=core.next_job, spec=asked)])
        return core.next_job - 1

    running = come(1000, 3, 3600)
    scheduler.turn(1000, [MemberStarted(job=running, attempt=1)])
    head = come(2000, 4, 600)
    long = come(3000, 1, 7200)
    assert come(4000, 1, 60) not in core.pending, "a short one is backfilled"

    answer = explain(core, scheduler.policy, head, 61_000)
    assert answer.reason == "Resources"
    assert "promised a start within 59m, if what runs ends by its time limits" in answer.lines
    answer = explain(core, scheduler.policy, long, 61_000)
    assert (answer.reason, answer.behind_job) == ("Resources", None), "the short one has its core"
    scheduler.turn(65_000, [MemberEnded(job=4, attempt=1, exit=Exit(code=0))])
    answer = explain(core, scheduler.policy, long, 65_000)
    assert (answer.reason, answer.behind_job) == ("Priority", head)
    assert f"when job {head}, which is before it, is to start" in answer.summary
