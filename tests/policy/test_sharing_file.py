"""The words of a cluster file: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest

from fairlead.model.base import Misuse
from fairlead.model.jobs import Queue, User
from fairlead.policy.registry import policy_config
from fairlead.policy.sharing_file import check_guarantees, in_words, read_sharing


def test_a_setting_for_another_policy_says_that_no_policy_was_named():
    with pytest.raises(Misuse, match="no effect") as wrong:
        read_sharing({"policy": {"half_life": "1h"}})
    assert "name: fair" in wrong.value.hint
    read_sharing({"policy": {"name": "fair", "half_life": "1h"}})


def test_a_user_who_is_named_twice_is_in_a_queue_once():
    said = read_sharing({"queues": {"nlp": {"users": ["ann", "bob", "ann"]}}})
    assert said.queues is not None
    assert said.queues[0].users == ("ann", "bob")


def test_a_file_says_queues_users_tenants_and_the_policy():
    said = read_sharing(
        {
            "policy": {"name": "priority-easy", "ageing_per_hour": 30},
            "queues": {
                "research": {"weight": 2, "quota": {"gpus": 16, "gpus/H100": "8"}},
                "vision": {
                    "parent": "research",
                    "borrow": {"gpus": 0.5},
                    "limit": {"memory": "2T"},
                    "priorities": "60-80",
                    "max_running": 20,
                    "time_limit": "1h",
                    "users": ["ada"],
                },
            },
            "users": {"*": {"limit": {"cpus": "500m"}, "max_pending": 7}},
            "tenants": {"nlp": {"quota": {"gpus": 4}}},
        }
    )
    assert said.queues == (
        Queue(name="research", weight=2, quota={"gpu_milli": 16_000, "gpu_milli/H100": 8_000}),
        Queue(
            name="vision",
            parent="research",
            borrow={"gpu_milli": 500},
            most={"memory_mib": 2 * 2**20},
            priority=60,  # nearest to the usual 50 that is allowed
            priority_min=60,
            priority_max=80,
            live_max=20,
            limit_ms=3_600_000,
            users=("ada",),
        ),
    )
    assert said.users == (User(name="*", most={"cpu_milli": 500}, pending_max=7),)
    assert said.tenants is not None
    assert said.tenants[0].quota == (None, None, None, 4_000, None)
    assert said.policy is not None
    assert (said.policy.backfill, said.policy.ageing_per_hour) == (1, 30)


def test_what_a_file_does_not_speak_of_is_not_the_same_as_none_of_it():
    said = read_sharing({"queues": {}, "policy": "sjf"})
    assert (said.queues, said.users, said.tenants) == ((), None, None)
    assert said.policy == policy_config("sjf")


@pytest.mark.parametrize(
    ("document", "field", "message", "hint"),
    [
        ({"queue": {"a": {"weihgt": 2}}}, "queue.a.weihgt", "unknown key", "weight"),
        ({"queues": {"a": {"weight": 0}}}, "queues.a.weight", "must be 1 or more", "weights"),
        ({"queues": {"a": {"max_running": 2**60}}}, "queues.a.max_running", "at most 1099", ""),
        ({"queues": {"a" * 250: {}}}, f"queues.{'a' * 250}", "cannot be a name", "1 to 200"),
        ({"queues": {"a": {"weight": "2"}}}, "queues.a.weight", "whole number", ""),
        ({"queues": {"a": {"quota": {"gpu": 2}}}}, "queues.a.quota.gpu", "no resource", "gpus"),
        ({"queues": {"a": {"lend": {"gpus/": 2}}}}, "queues.a.lend.gpus/", "no resource", "TYPE"),
        ({"queues": {"a": {"quota": {"memory": 2}}}}, "queues.a.quota.memory", "no unit", "2G"),
        ({"queues": {"a": {"borrow": {"gpus": -1}}}}, "queues.a.borrow.gpus", "negative", ""),
        ({"queues": {"a": {"priorities": "80-10"}}}, "queues.a.priorities", "lower first", "10-"),
        ({"queues": {"a": {"priorities": "high"}}}, "queues.a.priorities", "no range", "10-80"),
        (
            {"queues": {"a": {"priority": 5, "priorities": "10-20"}}},
            "queues.a.priority",
            "out of range",
            "10 to 20",
        ),
        ({"queues": {"b": {"parent": "bb"}}}, "queues.b.parent", "does not exist", "mean b"),
        (
            {"queues": {"a": {"quota": {"gpus": 4}, "limit": {"gpus": 2}}}},
            "queues.a.limit.gpus",
            "guaranteed gpus 4 and may use at most gpus 2",
            "raise",
        ),
        ({"users": {"ada": {"max_running": -1}}}, "users.ada.max_running", "0 or more", ""),
        ({"tenants": {"a": {"quota": {"cpus": "x"}}}}, "tenants.a.quota.cpus", "cannot read", ""),
        ({"policy": "priorty"}, "policy", "no policy", "priority"),
        ({"policy": {"name": "fifo", "overtke": 1}}, "policy.overtke", "no setting", "overtake"),
        ([1], "", "a cluster file is a table of keys", "queues"),
        ({"nodes": {}}, "nodes", "unknown key", ""),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_was_probably_meant(
    document, field, message, hint
):
    with pytest.raises(Misuse) as wrong:
        read_sharing(document)
    assert wrong.value.field == field
    assert message in wrong.value.message
    assert hint in wrong.value.hint


def test_a_circle_of_queues_is_told_as_a_circle():
    queues = {"a": {"parent": "c"}, "b": {"parent": "a"}, "c": {"parent": "b"}}
    with pytest.raises(Misuse, match=r"circle: a below c below b below a") as wrong:
        read_sharing({"queues": queues})
    assert wrong.value.field == "queues.a.parent"


def test_a_tree_that_is_too_deep_is_refused():
    queues = {f"q{n}": {"parent": f"q{n - 1}"} if n else {} for n in range(11)}
    with pytest.raises(Misuse, match="11 levels deep, at most 10"):
        read_sharing({"queues": queues})
    del queues["q10"]
    assert len(read_sharing({"queues": queues}).queues or ()) == 10


def test_more_is_guaranteed_than_there_is():
    queues = [
        Queue(name="a", quota={"gpu_milli": 6_000, "gpu_milli/A100": 1_000}),
        Queue(name="b", quota={"gpu_milli": 2_500}),
    ]
    check_guarantees(queues, {"gpu_milli": 8_500, "gpu_milli/A100": 1_000})
    with pytest.raises(Misuse, match=r"guaranteed gpus 8.5 .* than gpus 8$") as wrong:
        check_guarantees(queues, {"gpu_milli": 8_000, "gpu_milli/A100": 1_000})
    assert wrong.value.field == "queues.b.quota.gpus"
    with pytest.raises(Misuse, match=r"queue a is guaranteed gpus/A100 1,") as wrong:
        check_guarantees(queues, {"gpu_milli": 9_000, "gpu_milli/H100": 9_000})
    assert "gpus/H100" in wrong.value.hint


def test_an_amount_reads_as_it_was_written():
    assert in_words("memory_mib", 1536) == "memory 1.5GiB"
    assert in_words("gpu_milli/H100", 500) == "gpus/H100 0.5"
