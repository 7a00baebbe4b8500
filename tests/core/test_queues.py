"""Which trees of queues are refused, in which words; and what is asked of jobs at submission."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.admission import admit, check_room
from fairlead.core.capacity import above, there_is
from fairlead.core.invariants import check
from fairlead.core.queues import Sharing, changes, current
from fairlead.model import limits
from fairlead.model.base import Misuse, Refused
from fairlead.model.events import NodeJoined, NodeLost, QueueDeleted, QueueSet, UserSet
from fairlead.model.jobs import Queue, Tenant, User
from fairlead.model.resources import Device
from strategies import cluster, end, node, place, spec, start, submit

GPU = 1000


def wish(core, *queues: Queue, **more) -> Sharing:
    """What is wanted: these queues beside those there are."""
    known = {**core.queues, **{each.name: each for each in queues}}
    return current(core)._replace(queues=known, **more)


def make(core, *queues: Queue, **more) -> None:
    for event in changes(core, wish(core, *queues, **more)):
        core.apply(core.now, event)
    check(core)


def refusal(core, *queues: Queue, **more) -> Misuse:
    before = core.digest()
    with pytest.raises(Misuse) as no:
        changes(core, wish(core, *queues, **more))
    assert core.digest() == before
    return no.value


def gpus(count: float) -> dict[str, int]:
    return {"gpu_milli": int(GPU * count)}


@pytest.fixture
def core():
    """8 GPUs of model A and 16 cores."""
    return cluster(node("n0", cpus=8, gpus=4), node("n1", cpus=8, gpus=4))


# ---- the tree ----------------------------------------------------------------------------------


def test_a_tree_is_made_parents_first_whatever_the_order(core):
    events = changes(
        core,
        wish(core, Queue(name="a", parent="b"), Queue(name="b", parent="c"), Queue(name="c")),
    )
    assert [event.queue.name for event in events] == ["c", "b", "a"]


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_any_tree_becomes_any_other_without_a_cycle_on_the_way(first, second):
    core = cluster(node())
    for order in (first, second):
        chain = [
            Queue(name=f"q{each}", parent=f"q{order[at - 1]}" if at % 4 else "")
            for at, each in enumerate(order)
        ]
        for event in changes(core, wish(core, *chain)):
            core.apply(core.now, event)
            for name in core.queues:
                path = above(core.queues, name)
                assert core.queues[path[-1]].parent not in path


def test_a_cycle_is_refused_with_its_chain(core):
    make(core, Queue(name="a"), Queue(name="b", parent="a"), Queue(name="c", parent="b"))
    no = refusal(core, Queue(name="a", parent="c"))
    assert no.message == "a cycle of queues: a under c under b under a"
    assert no.field == "queues.a.parent"
    assert "cycle" in refusal(core, Queue(name="self", parent="self")).message


def test_a_parent_that_there_is_not_is_answered_with_the_nearest(core):
    make(core, Queue(name="research"))
    no = refusal(core, Queue(name="nlp", parent="reserch"))
    assert no.message == "there is no queue 'reserch'" and no.hint == "did you mean 'research'?"


def test_the_depth_of_the_tree_is_bounded(core):
    names = [f"q{at}" for at in range(limits.QUEUE_DEPTH_MAX + 1)]
    chain = [Queue(name=name, parent=names[at - 1] if at else "") for at, name in enumerate(names)]
    make(core, *chain[:-1])
    assert "11 deep, of at most 10" in refusal(core, chain[-1]).message


def test_the_default_queue_stays_a_leaf_and_stays(core):
    assert "nothing can be below it" in refusal(core, Queue(name="a", parent="default")).message
    with pytest.raises(Refused, match="cannot be deleted"):
        changes(core, current(core)._replace(queues={}))


def test_a_queue_with_jobs_gets_no_queues_below_it_and_is_not_deleted(core):
    make(core, Queue(name="nlp"))
    waits, runs = submit(core, queue="nlp"), submit(core, queue="nlp")
    place(core, runs, 0)
    no = refusal(core, Queue(name="child", parent="nlp"))
    assert "has jobs of its own (1 job waits and 1 runs)" in no.message
    assert isinstance(no, Refused) and no.code == "has-jobs"
    without = {name: each for name, each in core.queues.items() if name != "nlp"}
    with pytest.raises(Refused, match="queue 'nlp' has jobs: 1 job waits and 1 runs"):
        changes(core, current(core)._replace(queues=without))
    for job in (runs, waits):
        if job is waits:
            place(core, job, 0)
        start(core, job)
        end(core, job)
    assert changes(core, current(core)._replace(queues=without)) == [QueueDeleted(name="nlp")]


def test_a_queue_with_queues_below_it_is_not_deleted_but_goes_with_them(core):
    make(core, Queue(name="a"), Queue(name="b", parent="a"))
    only = {"default": core.queues["default"]}
    with pytest.raises(Refused, match="has queues below it: b"):
        changes(core, current(core)._replace(queues={**only, "b": core.queues["b"]}))
    events = changes(core, current(core)._replace(queues=only))
    assert events == [QueueDeleted(name="b"), QueueDeleted(name="a")]


def test_what_is_so_already_is_no_change(core):
    make(core, Queue(name="a", quota=gpus(8)), users={"ann": User(name="ann")})
    assert changes(core, current(core)) == []


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "field", "says"),
    [
        ({"weight": 0}, "weight", "no share at all"),
        ({"weight": -1}, "weight", "the weight -1"),
        ({"live_max": 0}, "max_running", "nothing would ever start"),
        ({"pending_max": 0}, "max_pending", "nobody could submit"),
        ({"quota": gpus(-1)}, "quota.gpus", "is -1"),
        ({"quota": gpus(0)}, "quota.gpus", "no effect"),
        ({"priority": 90, "priority_max": 80}, "priority", "takes priorities 0-80, but gives 90"),
        ({"priority_min": 60, "priority_max": 40}, "priorities", "are 60-40"),
        ({"limit_ms": 0}, "time_limit", "no job could run"),
        ({"users": ("ann", "")}, "users", "cannot be a name"),
        ({"lend": gpus(1)}, "lend.gpus", "would lend 1 gpu without a quota"),
        ({"quota": gpus(2), "lend": gpus(3)}, "lend.gpus", "would lend 3 gpus of 2"),
        ({"borrow": gpus(1)}, "borrow.gpus", "nobody is guaranteed any gpus"),
        ({"quota": gpus(4), "borrow": gpus(5)}, "borrow.gpus", "the others have 4 to lend"),
        ({"quota": gpus(4), "most": gpus(2)}, "limit.gpus", "guaranteed 4 gpus, but may use at mo"),
        ({"quota": gpus(9)}, "quota.gpus", "is guaranteed 9 gpus, but there are 8"),
        ({"quota": {"gpu_milli/A": 9000}}, "quota.gpus/A", "guaranteed 9 gpus/A, but there are 8"),
        ({"quota": {"gpu_milli/a": 1000}}, "quota.gpus/a", "there is no GPU type 'a'"),
        ({"most": {"gpu_milli/H100": 1000}}, "limit.gpus/H100", "there is no GPU type 'H100'"),
        (
            {"quota": {"gpu_milli/A": 4000, "gpu_milli": 2000}},
            "quota.gpus",
            "guaranteed 4 GPUs of single types, but 2 gpus in all",
        ),
    ],
)
def test_settings_that_are_wrong_or_idle_are_refused_in_words(core, settings, field, says):
    no = refusal(core, Queue(name="nlp", **settings))
    assert says in no.message and no.field == f"queues.nlp.{field}" and no.hint


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a,b", "none", "-x", "x" * 201, "a\nb", "*"])
def test_names_that_could_not_be_named_again_are_refused(core, name):
    assert "cannot be a name" in refusal(core, Queue(name=name)).message


def test_names_in_any_script_are_fine(core):
    make(core, Queue(name="Überwachung"), Queue(name="研究", parent="Überwachung"))


def test_guarantees_add_up_over_the_tree_against_all_machines_also_those_that_are_down(core):
    core.apply(0, NodeLost(node=1))
    make(core, Queue(name="a", quota=gpus(3)), Queue(name="b", parent="a", quota=gpus(4)))
    no = refusal(core, Queue(name="c", quota=gpus(2)))
    assert no.message == "the guarantees add up to 9 gpus, but there are 8"
    assert "others are guaranteed 7, so at most 1 is left for 'c'" in no.hint
    make(core, Queue(name="c", quota=gpus(1)))


def test_who_is_promised_too_much_already_may_change_everything_else(core):
    make(core, Queue(name="a", quota=gpus(8)))
    core.apply(0, NodeJoined(node=1, spec=node("n1", boot="2")))  # the GPUs were taken out
    assert there_is(core)["gpu_milli"] == 4000
    make(core, Queue(name="a", quota=gpus(8), weight=3))
    make(core, Queue(name="a", quota=gpus(5)))
    assert "add up" in refusal(core, Queue(name="b", quota=gpus(1))).message


def test_a_cluster_without_machines_yet_may_be_shared_out():
    core = cluster()
    make(core, Queue(name="a", quota=gpus(8), borrow=gpus(4)), Queue(name="b", quota=gpus(8)))


def test_limits_below_idle_ones_above_are_refused(core):
    make(core, Queue(name="a", most=gpus(4), live_max=5, priority_max=60))
    assert (
        "'a' above it at most 4" in refusal(core, Queue(name="b", parent="a", most=gpus(5))).message
    )
    assert "may run 6 jobs" in refusal(core, Queue(name="b", parent="a", live_max=6)).message
    no = refusal(core, Queue(name="b", parent="a", priority=70))
    assert "'a' above it takes 0-60" in no.message and no.hint == "such as 60"
    make(core, Queue(name="b", parent="a", most=gpus(4), live_max=5))


def test_users_and_tenants_are_checked_too_but_need_not_be_known(core):
    assert "no share" in refusal(core, users={"ann": User(name="ann", weight=0)}).message
    assert "no share" in refusal(core, tenants={"t": Tenant(name="t", weight=0)}).message
    no = refusal(core, users={"*": User(name="*", most={"gpu_milli/B": 1})})
    assert no.message == "there is no GPU type 'B'"
    make(core, users={"*": User(name="*", live_max=3)})
    assert core.users["*"].live_max == 3


# ---- at submission -----------------------------------------------------------------------------


def told(core, **asked) -> Misuse:
    with pytest.raises(Misuse) as no:
        admit(core, spec(**asked))
    return no.value


def test_jobs_go_to_leaves_and_an_inner_queue_names_its_own(core):
    make(
        core,
        Queue(name="research"),
        Queue(name="nlp", parent="research"),
        Queue(name="cv", parent="research"),
        Queue(name="cv-fast", parent="cv"),
    )
    no = told(core, queue="research")
    assert "takes no jobs: it has queues below it" in no.message
    assert no.hint == "submit to one of: cv-fast, nlp"
    assert told(core, queue="nlpp").hint == "did you mean 'nlp'?"
    admit(core, spec(queue="nlp"))


def test_only_its_users_may_submit_to_a_queue_and_those_of_the_nearest_above(core):
    make(
        core,
        Queue(name="research", users=("ann", "cara")),
        Queue(name="nlp", parent="research"),
        Queue(name="open", parent="research", users=("bob",)),
    )
    no = told(core, queue="nlp", user="bob")
    assert no.message == "user bob may not submit to queue 'nlp'; it is for: ann, cara"
    assert no.code == "forbidden" and no.hint == "queues that take your jobs: default, open"
    admit(core, spec(queue="nlp", user="ann"))
    admit(core, spec(queue="open", user="bob"))


def test_priorities_have_to_lie_in_those_of_the_queue_and_of_all_above(core):
    make(
        core,
        Queue(name="low", priority_max=60),
        Queue(name="lower", parent="low", priority=20, priority_max=40),
    )
    no = told(core, queue="lower", priority=50)
    assert no.message == "queue 'lower' takes priorities 0 to 40, this job asks for 50"
    assert no.hint == "ask for 40, or leave it out to get 20"
    admit(core, spec(queue="lower", priority=40))


def test_the_time_limit_of_a_queue_above_holds_below(core):
    make(core, Queue(name="a", limit_ms=60_000), Queue(name="b", parent="a"))
    assert "takes jobs of at most 60 s" in told(core, queue="b").message
    admit(core, spec(queue="b", limit_ms=60_000))


def test_pending_jobs_are_bounded_in_each_queue_above_and_per_user(core):
    make(
        core,
        Queue(name="a", pending_max=2),
        Queue(name="b", parent="a"),
        Queue(name="c", parent="a"),
        users={"*": User(name="*", pending_max=3), "vip": User(name="vip")},
    )
    submit(core, queue="b", user="ann")
    check_room(core, {("c", "ann"): 1})
    with pytest.raises(Refused, match="queue 'a' has room for 1 more jobs, not for 2"):
        check_room(core, {("c", "ann"): 1, ("b", "bob"): 1})
    with pytest.raises(Refused, match="queue 'a' is full: 2 jobs wait in it"):
        check_room(core, {("c", "ann"): 1}, {("b", "bob"): 1})
    for _ in range(2):
        submit(core, user="ann")
    no = told(core, user="ann")
    assert no.message == "user ann is full: 3 jobs wait, of at most 3" and no.code == "queue-full"
    admit(core, spec(user="vip"))


def test_what_a_queue_or_user_could_never_hold_is_refused_with_who_can(core):
    make(
        core,
        Queue(name="small", quota=gpus(2), borrow=gpus(1)),
        Queue(name="big", quota=gpus(4)),
        Queue(name="capped", most=gpus(2)),
        Queue(name="below", parent="capped"),
        users={"eve": User(name="eve", most=gpus(1))},
    )
    no = told(core, queue="small", gpus=4)
    assert "with its quota and all that it may borrow, may use at most 3 gpus" in no.message
    assert no.hint == "ask for at most 3 gpus, or submit to a queue that may: big, default"
    assert "queue 'capped' may use at most 2 gpus" in told(core, queue="below", gpus=3).message
    assert "user eve may use at most 1 gpu" in told(core, user="eve", gpus=2).message
    admit(core, spec(queue="small", gpus=3))
    core.apply(0, NodeLost(node=1))
    admit(core, spec(queue="small", gpus=3))  # when the machine is back it can run


def test_a_quota_of_one_gpu_type_bounds_jobs_that_ask_for_it():
    core = cluster(
        node("n0", cpus=8, devices=tuple(Device(model=model) for model in "AABB")),
    )
    core.apply(
        0, QueueSet(queue=Queue(name="a", quota={"gpu_milli/A": 1000}, borrow={"gpu_milli/A": 0}))
    )
    assert "at most 1 gpus/A" in told(core, queue="a", gpus=2, gpu_models=("A",)).message
    admit(core, spec(queue="a", gpus=2, gpu_models=("B",)))


def test_a_copy_of_a_core_has_users_of_its_own(core):
    copy = core.clone()
    copy.apply(0, UserSet(user=User(name="ann")))
    assert "ann" in copy.users and "ann" not in core.users


@given(st.data())
def test_whatever_is_accepted_promises_no_more_than_there_is(data):
    core = cluster(node("n0", cpus=4, gpus=2))
    names = ["a", "b", "c", "d"]
    for _ in range(data.draw(st.integers(1, 6))):
        name = data.draw(st.sampled_from(names))
        amounts = st.dictionaries(
            st.sampled_from(["gpu_milli", "cpu_milli", "gpu_milli/A"]), st.integers(0, 3000)
        )
        queue = Queue(
            name=name,
            parent=data.draw(st.sampled_from(["", *names])),
            weight=data.draw(st.integers(0, 3)),
            quota=data.draw(amounts),
            borrow=data.draw(amounts),
            lend=data.draw(amounts),
            most=data.draw(amounts),
        )
        try:
            make(core, queue)
        except Misuse:
            continue
    there = there_is(core)
    for resource in ("gpu_milli", "cpu_milli", "gpu_milli/A"):
        assert sum(q.quota.get(resource, 0) for q in core.queues.values()) <= there[resource]
    assert all(queue.weight for queue in core.queues.values())
