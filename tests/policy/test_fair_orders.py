"""Fair orders in worlds: who starts when, by the tree, quotas and the past; and the same again."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Watched, gpu_nodes, gpu_shape, pool

from fairlead.core.turn import Scheduler
from fairlead.model.base import Misuse
from fairlead.model.events import MemberEnded, MemberStarted, QueueSet, Submitted, UserSet
from fairlead.model.jobs import Exit, JobSpec, Queue, User
from fairlead.model.resources import Shape
from fairlead.policy.explain import explain
from fairlead.policy.fair.hdrf import Share, launch
from fairlead.policy.fair.standing import standing
from fairlead.policy.registry import build, policy_config
from fairlead.policy.settings import override
from fairlead.sim.workload import SimJob
from strategies import cluster, node

HOUR = 3_600_000
NAMES = ("fair", "hdrf", "usage", "drf", "maxmin", "multifactor", "fairtree")
MODES = ("", "-strict", "-skip", "-easy", "-backfill4", "-conservative")


def job(number, at=0, run=10, user="ann", queue="default", cpus=1, **more):
    spec = JobSpec(shape=Shape(cpu_milli=1000 * cpus), user=user, queue=queue, limit_ms=run, **more)
    return SimJob(number, at, run, spec)


def world(jobs, size, policy, queues=(), users=()):
    setup = [QueueSet(queue=each) for each in queues] + [UserSet(user=each) for each in users]
    return Watched(jobs, pool(size), policy, setup=setup)


@pytest.mark.parametrize("name", [name for name in NAMES if name in ("fair", "hdrf")])
def test_queues_get_shares_by_their_weights_and_users_inside_them(name):
    queues = [Queue(name="a", weight=2), Queue(name="b", weight=1)]
    jobs = [job(i, user=f"u{i % 2}", queue="ab"[i // 2 % 2]) for i in range(120)]
    seen = world(jobs, 12, name, queues).done()
    now = [each for each, at in zip(seen.jobs, seen.start_ms, strict=True) if at == 0]
    held = {
        key: sum((j.spec.queue, j.spec.user) == key for j in now)
        for key in (("a", "u0"), ("a", "u1"), ("b", "u0"), ("b", "u1"))
    }
    assert held == {("a", "u0"): 4, ("a", "u1"): 4, ("b", "u0"): 2, ("b", "u1"): 2}


def test_side_by_side_users_count_by_their_own_weight_and_their_queues():
    users = [User(name="ann", weight=3)]
    jobs = [job(i, user=("ann", "bob")[i % 2]) for i in range(40)]
    seen = world(jobs, 8, "drf", users=users).done()
    now = [each.spec.user for each, at in zip(seen.jobs, seen.start_ms, strict=True) if at == 0]
    assert (now.count("ann"), now.count("bob")) == (6, 2)


@pytest.mark.parametrize("name", ["fair", "usage", "multifactor", "fairtree"])
def test_who_had_the_cluster_before_waits_for_who_had_not(name):
    jobs = [job(i, user="ann", run=HOUR) for i in range(16)]  # two hours of it all
    jobs += [job(16 + i, at=1 + i, user="bob", run=HOUR) for i in range(4)]
    seen = world(jobs, 8, name).done()
    second = [
        each.spec.user for each, at in zip(seen.jobs, seen.start_ms, strict=True) if at == HOUR
    ]
    assert second.count("bob") == 4


def test_of_present_use_alone_the_past_is_forgotten():
    jobs = [job(i, user="ann", run=HOUR) for i in range(8)]
    jobs += [job(8, at=HOUR + 1, user="ann"), job(9, at=HOUR + 1, user="bob")]
    jobs += [job(10, at=HOUR, user="cat", cpus=8, run=HOUR)]  # so that both wait
    for name, first in (("hdrf", "ann"), ("usage", "bob")):
        seen = world(jobs[:8] + jobs[10:] + jobs[8:10], 8, name).done()
        both = {
            each.spec.user: at
            for each, at in zip(seen.jobs, seen.start_ms, strict=True)
            if each.id in (8, 9)
        }
        # Both fit at once; with one core only, the order shows.
        assert both["ann"] == both["bob"]
        seen = world(
            [
                job(0, user="ann", run=HOUR),
                job(1, at=1, user="cat", run=2 * HOUR),
                job(2, at=2, user="ann"),
                job(3, at=2, user="bob"),
            ],
            1,
            name,
        ).done()
        last = {
            each.spec.user: at for each, at in zip(seen.jobs[2:], seen.start_ms[2:], strict=True)
        }
        assert min(last, key=last.get) == (first if name == "hdrf" else "bob")


def test_a_queue_out_of_quota_is_passed_over_and_the_others_go_on():
    queues = [
        Queue(name="a", quota={"cpu_milli": 2000}, borrow={"cpu_milli": 0}),
        Queue(name="b", quota={"cpu_milli": 6000}),
    ]
    jobs = [job(i, queue="a") for i in range(6)] + [job(6 + i, queue="b") for i in range(6)]
    seen = world(jobs, 8, "hdrf", queues).done()
    now = [each.spec.queue for each, at in zip(seen.jobs, seen.start_ms, strict=True) if at == 0]
    assert (now.count("a"), now.count("b")) == (2, 6)


def test_the_farthest_below_its_entitlement_is_next():
    queues = [Queue(name="a", quota={"cpu_milli": 6000}), Queue(name="b")]
    jobs = [job(i, queue="ab"[i % 2], user="ab"[i % 2]) for i in range(40)]
    seen = world(jobs, 8, "maxmin", queues).done()
    now = [each.spec.queue for each, at in zip(seen.jobs, seen.start_ms, strict=True) if at == 0]
    assert (now.count("a"), now.count("b")) == (7, 1)  # 6 guaranteed, and the rest by halves


@pytest.mark.parametrize("name", NAMES)
def test_a_wide_job_among_small_ones_of_others_gets_its_turn(name):
    minute = 60_000
    small = [
        job(i, at=i * minute, run=6 * minute, user=f"u{i % 5}", priority=100) for i in range(600)
    ]
    wide = job(600, at=30 * minute, run=minute, user="wide", cpus=4, priority=100)
    jobs = sorted([*small, wide], key=lambda each: each.submit_ms)
    at = jobs.index(wide)
    bound = (30 + 15 + 6 * 5 + 60) * minute
    assert world(jobs, 4, name).done().start_ms[at] <= bound
    passed = world(jobs, 4, f"{name}-skip").done()
    assert passed.start_ms[at] > bound


@st.composite
def workloads(draw) -> list[SimJob]:
    rng = Random(draw(st.integers(0, 2**32)))
    at, made = 0, []
    for number in range(draw(st.integers(1, 30))):
        at += rng.choice([0, 0, 1, 5, 20])
        limit = rng.randint(1, 60)
        run = rng.choice([limit, rng.randint(1, limit)])
        spec = JobSpec(
            shape=gpu_shape(rng),
            limit_ms=limit,
            expected_ms=run,
            user=rng.choice("xyz"),
            queue=rng.choice(["a", "b", "b.c"]),
            priority=rng.choice([10, 50]),
        )
        made.append(SimJob(number, at, run, spec))
    return made


TREE = [
    Queue(name="a", weight=2, most={"gpu_milli": 4000}),
    Queue(name="b", quota={"gpu_milli": 3000}),
    Queue(name="b.c", parent="b", live_max=2),
]


@pytest.mark.parametrize("name", [f"{name}{mode}" for name in NAMES for mode in MODES])
@settings(max_examples=6)
@given(jobs=workloads())
def test_a_scheduler_that_forgets_all_but_its_core_decides_the_same(name, jobs):
    def run(forget: bool) -> Watched:
        setup = [QueueSet(queue=each) for each in TREE]
        seen = Watched(jobs, gpu_nodes(), name, setup=setup)
        seen.forget = forget
        return seen.done()

    assert run(True).schedule == run(False).schedule


@st.composite
def flat_trees(draw):
    """Draw queues with users, and what one task of each user asks for."""
    found = []
    for queue in range(draw(st.integers(1, 3))):
        for user in range(draw(st.integers(1, 3))):
            cpu, memory = draw(st.integers(1, 3)), draw(st.integers(0, 3))
            found.append((f"q{queue}", f"q{queue}u{user}", cpu, memory))
    weights = draw(st.lists(st.integers(1, 3), min_size=3, max_size=3))
    return found, weights


@settings(max_examples=50)
@given(flat_trees())
def test_while_there_is_room_hdrf_launches_what_its_definition_says(case):
    found, weights = case
    core = cluster(node("n0", cpus=512, memory=512), policy="hdrf-skip")
    queues = sorted({queue for queue, *_ in found})
    for queue in queues:
        core.apply(core.now, QueueSet(queue=Queue(name=queue, weight=weights[int(queue[1])])))
    for queue, user, cpu, memory in found:
        for _ in range(17):
            spec = JobSpec(
                shape=Shape(cpu_milli=1000 * cpu, memory_mib=memory), queue=queue, user=user
            )
            core.apply(core.now, Submitted(job=core.next_job, spec=spec))
    decided = Scheduler(core, build).turn(core.now, []).events
    order = [core.jobs[event.job].spec.user for event in decided if hasattr(event, "slots")]
    tree = Share(
        "root",
        below=tuple(
            Share(
                queue,
                weights[int(queue[1])],
                tuple(
                    Share(user, demand={"cpu": 1000 * cpu, "memory": memory}, most=17)
                    for of, user, cpu, memory in found
                    if of == queue
                ),
            )
            for queue in queues
        ),
    )
    assert order == launch({"cpu": 512_000, "memory": 512}, tree)


def test_why_names_every_term():
    for name, words in {
        "multifactor": [
            "term age",
            "term fair",
            "term size",
            "term queue",
            "term priority",
            "term gpu",
            "points",
        ],
        "fairtree": ["rank: 1 of 1", "level of queue default", "level of user"],
        "maxmin": ["entitlement of queue default", "entitlement of user ann", "holds now"],
        "fair": ["share of user ann in queue default", "share of queue default", "on average"],
        "drf": ["share of user ann in queue default"],
    }.items():
        core = cluster(node("n0", cpus=2), policy=name)
        for _ in range(3):
            spec = JobSpec(shape=Shape(cpu_milli=1000), user="ann")
            core.apply(core.now, Submitted(job=core.next_job, spec=spec))
        scheduler = Scheduler(core, build)
        scheduler.turn(core.now, [])
        story = explain(core, scheduler.policy, 3)
        text = "\n".join(story.lines)
        assert [each for each in words if each not in text] == [], text


@pytest.mark.parametrize("name", ["fair", "hdrf", "drf"])
def test_why_ranks_by_shares_also_when_nothing_is_free(name):
    core = cluster(node("n0", cpus=2), policy=name)
    for user in ("ann", "ann", "ann", "bob"):  # ann has all, and waited first
        spec = JobSpec(shape=Shape(cpu_milli=1000), user=user)
        core.apply(core.now, Submitted(job=core.next_job, spec=spec))
        scheduler = Scheduler(core, build)
        scheduler.turn(core.now, [])
    stories = {job: explain(core, scheduler.policy, job).lines for job in (3, 4)}
    assert "order: 0 before it of 2 waiting" in stories[4], stories[4]
    assert "order: 1 before it of 2 waiting" in stories[3], stories[3]
    assert "holds now: 2 cpus" in stories[3]
    assert not any(
        line.startswith("share of user ann") and ": 0.0 %" in line for line in stories[3]
    )


def test_settings_of_fair_orders_are_checked_in_words():
    fair, sums = policy_config("fair"), policy_config("multifactor")
    assert override(fair, {"history": "20"}).history_percent == 20
    assert override(sums, {"weights": "age:5,gpu:7"}).weights == (5, 0, 0, 0, 0, 7)
    for config, given_, words in (
        (fair, {"half_life": "0s"}, "half-life of zero"),
        (fair, {"preempt": "true"}, "not preemptive"),
        (fair, {"weights": "age:1"}, "no effect"),
        (sums, {"weights": "aeg:1"}, "no term"),
        (sums, {"history": "10"}, "no effect"),
        (policy_config("fifo"), {"half_life": "1h"}, "no effect"),
    ):
        with pytest.raises(Misuse, match=words):
            override(config, given_)
    with pytest.raises(Misuse, match="no policy"):
        policy_config("fair-preempt")


def test_standing_says_who_borrows_what_from_whom():
    queues = [
        Queue(name="lab", quota={"cpu_milli": 2000}),
        Queue(name="prod", quota={"cpu_milli": 4000}),
        Queue(name="lab.nlp", parent="lab"),
    ]
    said: list = []
    seen = world([job(i, queue="lab.nlp", run=HOUR) for i in range(9)], 8, "hdrf", queues)
    seen.run(None, lambda now, core: said.append(standing(core, core.policy)) if not said else None)
    told = {(each.queue, each.user): each for each in said[0]}
    assert told["lab", ""].borrowed == {"cpu_milli": 6000}
    assert [(each.lender, each.amount) for each in told["lab", ""].loans] == [
        ("", 2000),
        ("prod", 4000),
    ]
    assert told["lab.nlp", "ann"].entitled == {"cpu_milli": 8000}
    assert (told["lab", ""].waiting, told["lab", ""].live) == (1, 8)
    assert [each.depth for each in said[0] if each.queue.startswith("lab")] == [0, 1, 2]


@settings(max_examples=30)
@given(workloads(), st.sampled_from(NAMES))
def test_nothing_that_could_start_is_left_waiting_when_all_may_pass(jobs, name):
    setup = [QueueSet(queue=each) for each in TREE]
    seen = Watched(jobs, gpu_nodes(), f"{name}-skip", setup=setup)

    def look(now, core):
        pipeline = seen.scheduler.policy
        for waiting in core.pending.values():
            fits = pipeline.fit.gang(core.shapes[waiting.shape_id]) is not None
            assert not fits or pipeline.over_quota(core, waiting), f"{waiting.id} at {now}"

    seen.run(None, look)
    seen.check_conservation()


def test_that_a_cluster_is_full_again_is_known_after_one_job_that_does_not_fit():
    core = cluster(node(cpus=8), node("n1", cpus=8), policy="fair")
    scheduler = Scheduler(core, build)
    sizes = [Shape(cpu_milli=1000, memory_mib=1 + i) for i in range(10)]
    for i in range(100):  # ten users, of each ten jobs of shapes of their own
        spec = JobSpec(shape=sizes[i // 10], user=f"u{i % 10}")
        core.apply(1, Submitted(job=core.next_job, spec=spec))
    scheduler.turn(2, [])
    assert len(core.pending) == 84
    turns, tried = scheduler.policy.turns, []
    place = turns._place
    turns._place = lambda core, job, plain: tried.append(job) or place(core, job, plain)
    for now in range(3, 20):
        done = next(iter(core.jobs.values()))
        core.apply(now, MemberStarted(job=done.id, attempt=1, rank=0))
        core.apply(now, MemberEnded(job=done.id, attempt=1, rank=0, exit=Exit(code=0)))
        before = len(core.pending)
        scheduler.turn(now, [])
        assert before - len(core.pending) == 1
        assert len(tried) == 2, "one that starts, and one that does not fit"
        tried.clear()
