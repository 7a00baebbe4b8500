"""When elastic jobs grow and shrink: stories of small clusters, and what must always hold."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.invariants import check
from fairlead.core.ledger import Request
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    Cancelled,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeLost,
    Placed,
    PolicySet,
    QueueSet,
    Shrunk,
    StopDecided,
    Submitted,
    TenantSet,
    UserSet,
)
from fairlead.model.jobs import LIVE, Phase, Queue, Tenant, User
from fairlead.policy.explain import explain
from fairlead.policy.plan import Plan, Shadow
from fairlead.policy.registry import build, policy_config
from strategies import LOST, OK, TERMINATED, cluster, node, spec

P = Phase
DEFAULT = "fifo-skip"
POLICIES = (
    "fifo",
    "fifo-skip",
    "priority",
    "easy",
    "conservative",
    "fifo-backfill2",
    "las",
    "srtf",
)


class World:
    """Nodes of 4 cores, jobs of one core a member; what is decided happens, but for ends."""

    def __init__(self, *cpus: int, policy: str = DEFAULT, gpus: int = 0, **settings):
        self.core = cluster(*(node(f"n{i}", cpus=each, gpus=gpus) for i, each in enumerate(cpus)))
        self.scheduler = Scheduler(self.core, build)
        self.now, self.log = 0, []
        config = msgspec.structs.replace(policy_config(policy), **settings)
        self.turn(PolicySet(policy=config))

    def turn(self, *inbox):
        """Let the scheduler decide until nothing more follows; return what it decided."""
        decided = []
        while True:
            events = self.scheduler.turn(self.now, inbox).events
            self.log += events
            decided += events[len(inbox) :]
            inbox = self.started(events[len(inbox) :])
            check(self.core)
            if not inbox:
                return decided

    def started(self, decisions):
        """Return the reports that all have started that were told to."""
        jobs = {each.job for each in decisions if isinstance(each, Placed | Grown)}
        return [
            MemberStarted(job=job.id, attempt=job.attempt, rank=rank)
            for job in (self.core.jobs[job_id] for job_id in sorted(jobs))
            for rank in job.ranks
            if rank not in job.started and job.phase is not P.STOPPING
        ]

    def submit(self, members=1, most=0, **more):
        more.setdefault("cpus", 1)
        asked = spec(members=members, members_max=most, **more)
        self.turn(Submitted(job=self.core.next_job, spec=asked))
        return self.core.jobs[self.core.next_job - 1]

    def wait(self, seconds=60):
        self.now += 1000 * seconds
        return self.turn()

    def gone(self, job, exit=OK):
        """Report the end of all of a job that are there."""
        ends = [
            MemberEnded(job=job.id, attempt=job.attempt, rank=rank, exit=exit)
            for rank in job.ranks
            if rank not in job.exits
        ]
        return self.turn(*ends)

    def left(self, job):
        """Report that those who were told to leave have left."""
        leaving = sorted(job.team.leaving)
        return self.turn(
            *(
                MemberEnded(job=job.id, attempt=job.attempt, rank=rank, exit=TERMINATED)
                for rank in leaving
            )
        )

    def why(self, job):
        return explain(self.core, self.scheduler.policy, job.id, self.now)


def sizes(*jobs):
    return [job.team.size if job.team else len(job.slots) for job in jobs]


@pytest.mark.parametrize("policy", POLICIES)
def test_an_elastic_job_starts_at_its_least_and_grows_at_once_into_an_idle_cluster(policy):
    world = World(4, 4, policy=policy)
    job = world.submit(2, 6)
    (placed,) = [each for each in world.log if isinstance(each, Placed)]
    assert len(placed.slots) == 2
    assert sizes(job) == [6]


@pytest.mark.parametrize("policy", POLICIES)
def test_it_gives_back_what_a_rigid_job_needs_and_no_more_when_one_arrives(policy):
    world = World(4, 4, policy=policy)
    wide = world.submit(2, 8, limit_ms=10**7)
    assert sizes(wide) == [8]
    rigid = world.submit(3, limit_ms=10**6)
    assert (sizes(wide), len(wide.team.leaving)) == ([5], 3)
    assert rigid.phase is P.PENDING, "nobody is gone yet"
    assert not any(isinstance(each, Shrunk) for each in world.turn()), "who leaves is asked once"
    world.left(wide)
    assert rigid.phase is P.RUNNING
    assert sizes(wide, rigid) == [5, 3]
    assert not any(isinstance(event, StopDecided) for event in world.log)


@pytest.mark.parametrize("policy", POLICIES)
def test_it_never_goes_below_its_least_for_anybody(policy):
    world = World(4, policy=policy)
    wide = world.submit(2, 4, limit_ms=10**6, priority=90)
    big = world.submit(4, limit_ms=10**7)
    assert sizes(wide) == [4], "its room would not be enough, so nobody has to leave"
    assert big.phase is P.PENDING


def test_who_leaves_is_told_with_the_reason_and_the_program_of_the_job_goes_on():
    world = World(4)
    wide = world.submit(1, 4)
    rigid = world.submit(2)
    assert wide.phase is P.RUNNING
    assert wide.because == f"job {rigid.id} needs the room"


def test_who_waits_for_members_to_leave_is_told_whose_and_until_when():
    world = World(4)
    world.submit(1, 4, grace_ms=30_000)
    rigid = world.submit(2)
    words = world.why(rigid).summary
    assert words.endswith("job 1 gets smaller by 2 members in 30s at the latest"), words


def test_the_lowest_priority_gives_first_and_then_the_one_with_most():
    world = World(12, policy="priority-skip")
    high = world.submit(1, 4, priority=90)
    low = world.submit(1, 3, priority=10)
    other = world.submit(1, 5, priority=90)
    assert sizes(high, low, other) == [4, 3, 5]
    world.submit(2)
    assert sizes(high, low, other) == [4, 1, 5]
    world.submit(1)
    assert sizes(high, low, other) == [4, 1, 4]


def test_only_those_leave_whose_room_is_of_use():
    world = World(4, 8)
    low = world.submit(1, 4, priority=10, spread="same-node")
    wide = world.submit(2, 8, priority=90, spread="same-node")
    assert sizes(low, wide) == [4, 8]
    world.submit(6, spread="same-node")
    assert sizes(low, wide) == [4, 2], "the node of the lower one is too small"


def test_a_job_grows_again_when_the_rigid_one_has_gone_but_not_before_its_time():
    world = World(4)
    wide = world.submit(1, 4)
    rigid = world.submit(2)
    world.left(wide)
    world.gone(rigid)
    assert sizes(wide) == [2]
    assert world.scheduler.next_wake() == 60_000
    assert "may be again in 60 s" in world.why(wide).lines[1]
    world.wait(60)
    assert sizes(wide) == [4]
    assert "as many members as it may" in world.why(wide).lines[1]


def test_a_job_that_lost_members_waits_ever_longer_before_it_grows():
    world = World(4)
    wide = world.submit(1, 4)
    for lost, until in ((1, 120), (2, 240)):
        gone = MemberEnded(job=1, attempt=1, rank=wide.team.numbers[-1], exit=LOST)
        world.turn(gone)
        assert sizes(wide) == [3]
        assert world.scheduler.next_wake() == world.now + 1000 * until
        world.wait(until)
        assert (wide.team.lost, sizes(wide)) == (lost, [4])


def test_nobody_grows_into_what_a_waiting_job_could_use():
    world = World(4)
    rigid = world.submit(3)
    wide = world.submit(1, 4)
    big = world.submit(4)
    world.gone(rigid)
    assert (sizes(wide), big.phase) == ([1], P.PENDING)
    assert "kept for jobs that wait" in world.why(wide).lines[1]
    world.turn(Cancelled(job=big.id))
    assert sizes(wide) == [4]


def test_it_grows_on_nodes_that_no_waiting_job_could_use():
    world = World(4, 1)
    rigid = world.submit(4, spread="same-node")
    wide = world.submit(1, 3)
    assert wide.slots[0].node == 1
    world.submit(4, spread="same-node", cpus=1, memory_mib=20_000)
    assert sizes(wide) == [1]
    assert rigid.phase is P.RUNNING


def test_beside_jobs_that_cannot_start_anyway_it_grows_if_that_is_asked_for():
    world = World(4, elastic="beside")
    rigid = world.submit(2)
    wide = world.submit(1, 4)
    big = world.submit(3)
    assert (sizes(wide), big.phase) == ([2], P.PENDING), "1 free and 1 beyond the least: not 3"
    world.gone(rigid)
    assert sizes(wide) == [1]
    assert world.wait(80) == [], "nobody takes what another is waiting for"
    world.left(wide)
    assert big.phase is P.RUNNING


def test_with_never_a_job_stays_as_it_is():
    world = World(4, elastic="never")
    wide = world.submit(1, 4)
    assert sizes(wide) == [1]
    assert "elastic = never" in world.why(wide).lines[1]


def test_the_free_room_goes_to_the_fewest_members_by_weight():
    world = World(9)
    world.turn(UserSet(user=User(name="ann", weight=2)))
    hold = world.submit(7)
    asked = [spec(members_max=9, user=user) for user in ("ann", "bob")]
    world.turn(Submitted(job=2, spec=asked[0]), Submitted(job=3, spec=asked[1]))
    ann, bob = world.core.jobs[2], world.core.jobs[3]
    assert sizes(ann, bob) == [1, 1]
    world.gone(hold)
    assert sizes(ann, bob) == [6, 3]


@pytest.mark.parametrize("limit", ["queue", "tenant", "user", "quota"])
def test_nobody_grows_beyond_a_limit_and_what_is_beyond_makes_room_under_it(limit):
    world = World(16)
    most = {"cpu_milli": 4000}
    if limit == "queue":
        world.turn(QueueSet(queue=Queue(name="default", most=most)))
    elif limit == "quota":
        world.turn(QueueSet(queue=Queue(name="default", quota=most, borrow={"cpu_milli": 0})))
    elif limit == "user":
        world.turn(UserSet(user=User(name="", most=most)))
    else:
        world.turn(TenantSet(tenant=Tenant(name="default", quota=(4000,) + (None,) * 4)))
    wide = world.submit(1, 8)
    assert sizes(wide) == [4]
    assert "at most 4" in world.why(wide).lines[1] or "quota" in world.why(wide).lines[1]
    rigid = world.submit(2)
    assert (sizes(wide), rigid.phase) == ([2], P.PENDING)
    world.left(wide)
    assert rigid.phase is P.RUNNING
    world.gone(rigid)
    world.wait()
    assert sizes(wide) == [4]


def test_a_limit_on_the_number_of_jobs_is_no_reason_to_leave_a_cluster_idle():
    world = World(8)
    world.turn(UserSet(user=User(name="ann", live_max=1)))
    wide = world.submit(1, 8, user="ann")
    world.submit(1, user="ann")
    assert sizes(wide) == [8]


def test_members_go_to_nodes_of_their_own_where_the_job_asks_for_that():
    world = World(4, 4, 4)
    wide = world.submit(1, 8, spread="distinct-nodes")
    assert sorted(slot.node for slot in wide.slots) == [0, 1, 2]
    one = world.submit(1, 3, spread="same-node")
    assert len({slot.node for slot in one.slots}) == 1


@pytest.mark.parametrize("policy", ["priority-preempt", "srtf", "edf"])
def test_what_is_beyond_the_least_goes_before_anybody_is_preempted(policy):
    world = World(8, policy=policy)
    low = world.submit(2, priority=1, expected_ms=10**7)
    wide = world.submit(1, 6, priority=2, expected_ms=10**6)
    assert sizes(low, wide) == [2, 6]
    first = world.submit(5, priority=90, expected_ms=1000, deadline_ms=10**9)
    assert low.phase is P.RUNNING
    assert sizes(wide) == [1]
    world.left(wide)
    assert first.phase is P.RUNNING
    second = world.submit(1, priority=90, expected_ms=1000, deadline_ms=10**9)
    assert [low.phase, wide.phase].count(P.STOPPING) == 1, "now there is nothing beyond"
    assert second.phase is P.PENDING


@pytest.mark.parametrize("policy", POLICIES)
def test_what_leaves_is_held_for_whom_it_leaves(policy):
    """Bit by bit it comes free, and smaller jobs would fit in: by its id it is the wide one's."""
    world = World(4, policy=policy)
    wide = world.submit(1, 3, limit_ms=10**8, grace_ms=30_000)
    assert sizes(wide) == [3]
    head = world.submit(3, limit_ms=1000)
    assert sizes(wide) == [1]
    long = world.submit(1, limit_ms=10**7)
    assert long.phase is P.PENDING
    first, second = sorted(wide.team.leaving)
    for rank in (second, first):
        assert (head.phase, long.phase) == (P.PENDING, P.PENDING)
        world.turn(MemberEnded(job=1, attempt=1, rank=rank, exit=TERMINATED))
    assert (head.phase, long.phase) == (P.RUNNING, P.PENDING)


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_plan_knows_when_those_are_gone_who_leave(nodes, gpus):
    world = World(*[12 // nodes] * nodes, gpus=12 // nodes)
    wide = world.submit(3, 12, limit_ms=10**7, gpus=gpus, grace_ms=20_000)
    world.wait(5)
    world.turn(Shrunk(job=1, attempt=1, members=4))
    assert len(wide.leaving) == 8
    pipeline = world.scheduler.policy
    for members, at in ((1, 25_000), (8, 25_000), (9, 10**7), (12, 10**7)):
        request = Request(spec(members=members, gpus=gpus).shape)
        found = Plan(world.core, pipeline.fit).earliest(request, 1000)
        assert found is not None
        assert (found[0], len(found[1])) == (at, members)
        assert Shadow(Plan(world.core, pipeline.fit), request, 1000).start_ms == at
        plan = Plan(world.core, pipeline.fit)
        for node_id in range(nodes):
            plan.line(node_id)
        assert plan.earliest(request, 1000)[0] == at


@pytest.mark.parametrize("policy", POLICIES)
def test_a_lost_node_costs_an_elastic_job_its_members_there_and_it_grows_elsewhere(policy):
    world = World(2, 2, 2, policy=policy)
    wide = world.submit(2, 4, limit_ms=10**7)
    lost = wide.slots[-1].node
    here = sum(slot.node == lost for slot in wide.slots)
    world.turn(NodeLost(node=lost))
    assert (wide.phase, wide.attempt, sizes(wide)) == (P.RUNNING, 1, [4 - here])
    world.wait(2**4 * 60)
    assert sizes(wide) == [4]


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(1, 4), st.integers(0, 4), st.integers(0, 2)),
        min_size=5,
        max_size=25,
    ),
    st.sampled_from(POLICIES),
    st.sampled_from(["idle", "beside"]),
)
def test_two_half_gangs_never_happen_and_waiting_comes_first(steps, policy, elastic):
    world = World(4, 4, policy=policy, elastic=elastic)
    for kind, members, more, priority in steps:
        jobs = [job for job in world.core.jobs.values() if job.phase in LIVE]
        job = jobs[members % len(jobs)] if jobs else None
        if kind < 3 or job is None:
            most = members + more if more else 0
            world.submit(members, most, priority=40 * priority, limit_ms=10**6, expected_ms=10**5)
        elif kind == 3:
            world.gone(job, TERMINATED if job.phase is P.STOPPING else OK)
        elif kind == 4:
            world.wait()
        elif job.team is not None and job.team.leaving:
            world.left(job)
        for each in world.core.jobs.values():
            if each.phase is P.RUNNING:
                assert sizes(each)[0] >= each.spec.shape.members, "a gang has its least, always"
        nobody_waits_while_others_have_more_than_they_need(world)


def nobody_waits_while_others_have_more_than_they_need(world):
    """The first that waits does not fit, even if all gave back what is beyond their least."""
    core = world.core
    pipeline = world.scheduler.policy
    waiting = pipeline.queue.in_order(core)
    if not waiting or any(job.phase is P.STOPPING for job in core.jobs.values()):
        return
    leaving = sum(len(job.leaving) for job in core.jobs.values())
    beyond = sum(
        job.team.size - job.spec.shape.members
        for job in core.elastic.values()
        if not job.exits and job.phase is P.RUNNING
    )
    room = sum(core.ledger.room[0, index] for index in range(2)) // 1000
    needs = waiting[0].spec.shape.members
    assert needs > room + beyond or needs <= room + leaving, (needs, room, leaving, beyond)
