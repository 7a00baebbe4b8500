"""Queues, users and tenants through the API: changed live, all or nothing, shown, restarted."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.turn import recover
from fairlead.model.document import convert
from fairlead.model.jobs import PolicyConfig, Queue, Tenant, User
from fairlead.model.resources import Node
from fairlead.policy.sharing_words import queue_table, tenant_table, user_table
from fairlead.service.commands import Configure
from fairlead.service.sharing import KINDS

HOUR = 3_600_000


def run(story) -> None:
    asyncio.run(asyncio.wait_for(story, 30))


async def queue(desk, name: str, method: str = "PUT", query: str = "", **settings):
    return await desk.call(method, f"/api/v1/queues/{name}{query}", settings)


async def submit(desk, **asked):
    return await desk.call("POST", "/api/v1/jobs", {"run": "true", **asked})


def test_a_queue_is_made_shown_edited_and_deleted_and_each_is_an_event(desk):
    async def story():
        await desk.start(4000)
        made = await queue(desk, "nlp", quota={"cpus": 2}, weight=2, users=["ann", "bob"])
        assert made.status == 200
        assert made.json["changes"] == ["+ queue nlp (weight 2, quota cpus=2, users ann,bob)"]
        assert made.json["queue"]["settings"] == {
            **{"weight": 2, "quota": {"cpus": "2"}, "users": ["ann", "bob"]}
        }
        again = await queue(desk, "nlp", **made.json["queue"]["settings"])
        assert again.json["changes"] == []
        seq = desk.shell.core.seq
        edited = await queue(
            desk, "nlp", "PATCH", weight=None, quota={"memory": "1G"}, users="none"
        )
        assert desk.shell.core.seq == seq + 1
        assert edited.json["changes"] == [
            "~ queue nlp: weight 2 -> 1, quota cpus=2 -> cpus=2,memory=1GiB, users ann,bob -> none"
        ]
        shown = await desk.call("GET", "/api/v1/queues/nlp")
        assert shown.json["available"] == {"cpu_milli": 4000, "memory_mib": 1024}
        listed = (await desk.call("GET", "/api/v1/queues")).json["queues"]
        assert [each["name"] for each in listed] == ["default", "nlp"]
        gone = await desk.call("DELETE", "/api/v1/queues/nlp")
        assert gone.json["changes"] == ["- queue nlp (quota cpus=2,memory=1GiB)"]
        assert (await desk.call("DELETE", "/api/v1/queues/nlp")).status == 404
        assert (await queue(desk, "nlp", "PATCH", weight=2)).status == 404

    run(story())


def test_what_a_queue_could_have_is_within_its_limit_and_those_above_it(desk):
    async def story():
        await desk.start(4000)
        await queue(desk, "lab", quota={"cpus": 2}, limit={"cpus": 3})
        await queue(desk, "nlp", parent="lab")
        await queue(desk, "cv", parent="lab", limit={"cpus": 1})
        for name, most in (("lab", 3000), ("nlp", 3000), ("cv", 1000)):
            shown = await desk.call("GET", f"/api/v1/queues/{name}")
            assert shown.json["available"] == {"cpu_milli": most}, name

    run(story())


def test_a_new_one_does_not_replace_another_but_may_come_twice(desk):
    async def story():
        await desk.start()
        assert (await queue(desk, "a", query="?new=1", weight=2)).status == 200
        assert (await queue(desk, "a", query="?new=1", weight=2)).json["changes"] == []
        other = await queue(desk, "a", query="?new=1", weight=3)
        assert other.status == 409 and other.json["error"]["code"] == "exists"
        assert "there is a queue 'a' already (weight 2)" in other.json["error"]["message"]

    run(story())


@pytest.mark.parametrize(
    ("settings", "status", "field", "says"),
    [
        ({"weigth": 2}, 422, "weigth", "unknown key weigth"),
        ({"weight": "2"}, 422, "weight", "expected a whole number"),
        ({"weight": 2**70}, 422, "weight", ""),
        ({"quota": {"gpu": 1}}, 422, "quota.gpu", "no resource gpu"),
        ({"quota": {"memory": 5}}, 422, "quota.memory", "no unit"),
        ({"quota": {"cpus": -1}}, 422, "quota.cpus", "negative"),
        ({"quota": {"cpus": "9" * 50}}, 422, "quota.cpus", ""),
        ({"quota": {"cpus": 3}}, 409, "quota.cpus", "is guaranteed 3 cpus, but there are 1"),
        ({"quota": 3}, 422, "quota", "table of keys"),
        ({"priorities": "high"}, 422, "priorities", "no range"),
        ({"time_limit": 60}, 422, "time_limit", "no unit"),
        ({"parent": "nobody"}, 422, "parent", "no queue 'nobody'"),
        ({"parent": 7}, 422, "parent", "expected text"),
        ({"users": ["a b"]}, 422, "users", "cannot be a name"),
    ],
)
def test_wrong_settings_are_refused_with_their_key_and_change_nothing(
    desk, settings, status, field, says
):
    async def story():
        await desk.start()
        seq = desk.shell.core.seq
        no = await queue(desk, "nlp", **settings)
        error = no.json["error"]
        assert (no.status, error["field"]) == (status, field) and says in error["message"]
        assert desk.shell.core.seq == seq

    run(story())


def test_jobs_are_asked_at_submission_for_rights_size_and_place(desk):
    async def story():
        await desk.start(4000)
        await queue(desk, "research", quota={"cpus": 2}, borrow={"cpus": 1})
        await queue(desk, "nlp", parent="research", users=["nobody-else"])
        await queue(desk, "cv", parent="research", priorities="0-40", priority=30, time_limit="1h")
        inner = await submit(desk, queue="research")
        assert inner.status == 409 and "submit to one of: cv, nlp" in inner.json["error"]["hint"]
        rights = await submit(desk, queue="nlp")
        assert rights.status == 403
        assert "it is for: nobody-else" in rights.json["error"]["message"]
        high = await submit(desk, queue="cv", priority=50)
        assert high.json["error"]["field"] == "priority"
        large = await submit(desk, queue="cv", resources={"cpus": 4})
        assert "may use at most 3 cpus at once" in large.json["error"]["message"]
        good = (await submit(desk, queue="cv")).json["jobs"][0]
        assert good["priority"] == 30 and good["limit_ms"] == HOUR

    run(story())


def test_what_comes_in_one_turn_is_asked_one_after_the_other(desk):
    """Many clients at the same moment: whoever is second is answered as if it came later."""

    async def story():
        await desk.start(4000)
        answers = await asyncio.gather(
            queue(desk, "a", quota={"cpus": 3}),
            queue(desk, "b", quota={"cpus": 2}),
            queue(desk, "c", parent="a"),
            submit(desk, queue="c"),
            queue(desk, "a", "PATCH", parent="c"),
            queue(desk, "d", parent="c"),
            desk.call("DELETE", "/api/v1/queues/c"),
            submit(desk, queue="a"),
        )
        assert [each.status for each in answers] == [200, 409, 200, 201, 422, 409, 409, 409]
        assert "has jobs of its own" in answers[5].json["error"]["message"]
        assert "has jobs" in answers[6].json["error"]["message"]
        assert "takes no jobs" in answers[7].json["error"]["message"]
        assert set(desk.shell.core.queues) == {"default", "a", "c"}

    run(story())


def test_edits_of_different_settings_at_the_same_time_are_both_kept(desk):
    async def story():
        await desk.start(4000)
        await queue(desk, "a")
        await asyncio.gather(
            *(queue(desk, "a", "PATCH", **each) for each in ({"weight": 3}, {"max_running": 5})),
            *(queue(desk, "a", "PATCH", quota={word: "1G"}) for word in ("memory",)),
            queue(desk, "a", "PATCH", quota={"cpus": 2}),
        )
        made = desk.shell.core.queues["a"]
        assert (made.weight, made.live_max) == (3, 5)
        assert made.quota == {"memory_mib": 1024, "cpu_milli": 2000}

    run(story())


def test_a_quota_cut_below_use_stops_nothing_and_is_shown_until_it_is_over(desk):
    async def story():
        await desk.start(4000)
        await queue(desk, "a", quota={"cpus": 4})
        job = (await submit(desk, queue="a", resources={"cpus": 3})).json["ids"][0]
        cut = await queue(desk, "a", "PATCH", quota={"cpus": 1})
        assert "uses 3 cpus, 2 more than its quota now: nothing is stopped" in cut.json["notes"][0]
        assert desk.shell.core.jobs[job].phase == "STARTING"
        await queue(desk, "b", quota={"cpus": 3})
        limited = await queue(desk, "a", "PATCH", borrow={"cpus": 0})
        note = "a uses 3 cpus, 2 more than its quota and what it may borrow: nothing is stopped"
        assert limited.json["notes"][0].startswith(note)
        shown = (await desk.call("GET", "/api/v1/queues/a")).json
        assert shown["borrowed"] == {"cpu_milli": 2000} and shown["notes"][0].startswith(note)
        waits = (await submit(desk, queue="a")).json["jobs"][0]
        assert waits["reason"].startswith("WaitingForQuota: queue a holds 3 cpus (quota 1")

    run(story())


def test_a_job_that_waits_and_could_never_run_after_a_cut_is_named(desk):
    async def story():
        await desk.start(4000)
        await submit(desk, resources={"cpus": 4})
        job = (await submit(desk, resources={"cpus": 3})).json["ids"][0]
        cut = await queue(desk, "default", "PATCH", limit={"cpus": 2})
        said = f"job {job} in default asks for more than the queue could ever have"
        assert said in cut.json["notes"]

    run(story())


FILE = {
    "queues": {
        "vision": {"parent": "research", "weight": 2},
        "research": {"quota": {"cpus": 2}},
    },
    "users": {"*": {"max_pending": 10}},
    "tenants": {"t": {"quota": {"cpus": 1}}},
    "policy": "fifo",
}


async def apply(desk, document, **more):
    return await desk.call("POST", "/api/v1/apply", {"document": document, **more})


def test_a_file_is_planned_then_applied_whole_and_again_changes_nothing(desk):
    async def story():
        await desk.start(4000)
        seq = desk.shell.core.seq
        plan = (await apply(desk, FILE, dry_run=True)).json
        assert plan["applied"] is False and desk.shell.core.seq == seq
        assert plan["changes"][:4] == [
            "+ queue research (quota cpus=2)",
            "+ queue vision (parent research, weight 2)",
            "+ user * (max_pending 10)",
            "+ tenant t (quota cpus=1)",
        ]
        assert "~ policy: order priority -> fifo" in plan["changes"]
        turns = desk.shell.turns
        done = (await apply(desk, FILE, plan=plan["changes"])).json
        assert done["changes"] == plan["changes"] and desk.shell.turns == turns + 1
        assert "write it there, too" in done["notes"][0]
        assert (await apply(desk, FILE)).json["changes"] == []

    run(story())


def test_what_a_file_does_not_name_stays_and_goes_with_prune(desk):
    async def story():
        await desk.start(4000)
        await apply(desk, FILE)
        only = {"queues": {"research": {"quota": {"cpus": 1}}}}
        kept = (await apply(desk, only)).json["changes"]
        assert kept == ["~ queue research: quota cpus=2 -> cpus=1"]
        pruned = (await apply(desk, only, prune=True)).json["changes"]
        assert pruned == ["- queue vision (parent research, weight 2)"]
        assert set(desk.shell.core.queues) == {"default", "research"}
        assert "*" in desk.shell.core.users and "t" in desk.shell.core.tenants

    run(story())


def test_a_file_with_one_mistake_changes_nothing_at_all(desk):
    async def story():
        await desk.start(4000)
        await queue(desk, "old")
        await submit(desk, queue="old")
        seq = desk.shell.core.seq
        for document, field, more in (
            ({**FILE, "queues": {**FILE["queues"], "x": {"parent": "x"}}}, "queues.x.parent", {}),
            ({**FILE, "queues": {"x": {"quota": {"cpus": 9}}}}, "queues.x.quota.cpus", {}),
            ({**FILE, "users": {"ann": {"weight": 0}}}, "users.ann.weight", {}),
            ({**FILE, "tenants": {"t": {"quota": {"cpu": 1}}}}, "tenants.t.quota.cpu", {}),
            ({**FILE, "policy": "fare"}, "policy", {}),
            ({**FILE, "quueues": {}}, "quueues", {}),
            (FILE, "queues.old", {"prune": True}),
        ):
            no = await apply(desk, document, **more)
            assert no.status in (409, 422) and no.json["error"]["field"] == field, no.json
        assert desk.shell.core.seq == seq

    run(story())


def test_a_plan_that_is_no_longer_what_would_happen_is_not_carried_out(desk):
    async def story():
        await desk.start(4000)
        plan = (await apply(desk, FILE, dry_run=True)).json["changes"]
        await queue(desk, "research", weight=7)
        no = await apply(desk, FILE, plan=plan)
        assert no.status == 409 and no.json["error"]["code"] == "changed-meanwhile"
        assert desk.shell.core.queues["research"].weight == 7

    run(story())


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"document": {}, "dry_run": "yes"}, {"document": {}, "plan": "x"}, {"doc": {}}],
)
def test_a_body_that_is_no_file_is_misuse(desk, body):
    async def story():
        await desk.start()
        no = await desk.call("POST", "/api/v1/apply", body)
        assert no.status == 422 and no.json["error"]["message"]

    run(story())


def test_it_all_survives_a_restart_from_the_log_and_from_a_snapshot(desk):
    async def story():
        await desk.start(4000)
        await apply(desk, FILE)
        await desk.call("DELETE", "/api/v1/users/*")
        core = desk.shell.core
        again = recover(desk.store)
        assert (again.queues, again.users, again.tenants) == (core.queues, {}, core.tenants)
        desk.shell.snapshot()
        assert recover(desk.store).digest() == core.digest()

    run(story())


def test_shares_say_who_is_entitled_to_what_and_borrows_it_from_whom(desk):
    async def story():
        await desk.start(4000)
        await queue(desk, "lender", quota={"cpus": 3})
        await queue(desk, "borrower", quota={"cpus": 1})
        await submit(desk, queue="borrower", resources={"cpus": 3})
        shares = (await desk.call("GET", "/api/v1/shares")).json["shares"]
        (mine,) = [each for each in shares if each["queue"] == "borrower" and not each["user"]]
        assert mine["using"] == {"cpu_milli": 3000} and mine["borrowed"] == {"cpu_milli": 2000}
        assert mine["loans"] == [{"resource": "cpu_milli", "lender": "lender", "amount": 2000}]
        some = (await desk.call("GET", "/api/v1/shares?queue=borrower")).json["shares"]
        assert {each["queue"] for each in some} == {"borrower"}
        user = next(each["user"] for each in some if each["user"])
        theirs = (await desk.call("GET", f"/api/v1/shares?user={user}")).json["shares"]
        assert [(each["queue"], each["user"]) for each in theirs] == [
            ("borrower", ""),
            ("borrower", user),
        ]
        no = await desk.call("GET", "/api/v1/shares?queue=borower")
        assert no.status == 404 and "did you mean 'borrower'?" in no.json["error"]["hint"]

    run(story())


def test_why_shows_the_chain_of_queues_and_who_borrows(desk):
    async def story():
        await desk.start(4000)
        await desk.shell.ask(Configure([], [], [], PolicyConfig(reclaim="never")))
        await queue(desk, "research", quota={"cpus": 2})
        await queue(desk, "nlp", parent="research", borrow={"cpus": 2})
        await queue(desk, "other", quota={"cpus": 1})
        await submit(desk, queue="other", resources={"cpus": 4})
        waits = (await submit(desk, queue="nlp")).json["ids"][0]
        why = (await desk.call("GET", f"/api/v1/jobs/{waits}/explain")).json
        assert why["reason"] == "WaitingForQuota"
        assert "queue nlp: 0 cpus in use, quota 0, may borrow 2, 0 more now" in why["lines"]
        assert "queue research: 0 cpus in use, quota 2, 0 more now" in why["lines"]
        assert "queue other borrows 1 cpu that nobody is guaranteed" in why["lines"]
        assert "queue other borrows 2 cpus of queue research" in why["lines"]

    run(story())


def test_usage_counts_what_was_held_in_the_window_also_by_those_that_still_run(desk_at):
    now = [1_000_000_000_000]
    desk = desk_at(lambda: now[0])

    async def story():
        await desk.start(4000)
        begin = now[0]
        now[0] += HOUR
        await queue(desk, "nlp")
        await submit(desk, queue="nlp", tenant="t", resources={"cpus": 2})
        now[0] += HOUR
        await submit(desk, resources={"cpus": 1})
        now[0] += HOUR
        path = f"/api/v1/usage?since_ms={begin}"
        found = (await desk.call("GET", path)).json
        assert [(row["queue"], row["cpu_milli_ms"], row["jobs"]) for row in found["rows"]] == [
            ("default", 1000 * HOUR, 1),
            ("nlp", 4000 * HOUR, 1),
        ]
        assert found["together"]["cpu_milli_ms"] == 5000 * HOUR
        middle = f"{path}&until_ms={begin + HOUR + HOUR // 2}&by=tenant"
        assert (await desk.call("GET", middle)).json["rows"] == [
            {
                **{"tenant": "t", "cpu_milli_ms": 1000 * HOUR, "memory_mib_ms": 0},
                **{"gpu_milli_ms": 0, "gpu_memory_mib_ms": 0, "jobs": 1, "preemptions": 0},
            }
        ]
        assert (await desk.call("GET", f"{path}&by=colour")).status == 422
        assert (await desk.call("GET", f"/api/v1/usage?since_ms={now[0] + 1}")).status == 422

    run(story())


# ---- the configuration at the start ------------------------------------------------------------


def test_the_configuration_is_in_force_at_the_start_and_deletes_nothing(desk):
    async def story():
        await desk.start(4000)
        await queue(desk, "live", weight=5)
        await queue(desk, "nlp", weight=5)
        config = Configure([], [], [Queue(name="nlp", parent="live")], None, [User(name="ann")])
        assert await desk.shell.ask(config) is None
        core = desk.shell.core
        assert core.queues["nlp"] == Queue(name="nlp", parent="live") and "ann" in core.users
        assert core.queues["live"].weight == 5

    run(story())


def test_a_configuration_that_does_not_go_with_what_was_set_since_says_so_and_the_rest_runs(desk):
    async def story():
        await desk.start(4000)
        await queue(desk, "live", quota={"cpus": 3})
        there = Node(name="there", cpu_milli=1000)
        config = Configure([there], [], [Queue(name="nlp", quota={"cpu_milli": 3000})], None)
        wrong = await desk.shell.ask(config)
        assert wrong.message == "the guarantees add up to 6 cpus, but there are 5"
        assert "nlp" not in desk.shell.core.queues and "there" in desk.shell.core.node_ids

    run(story())


# ---- tables ------------------------------------------------------------------------------------

names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=5)
amounts = st.dictionaries(
    st.sampled_from(["cpu_milli", "memory_mib", "disk_mib", "gpu_milli", "gpu_milli/H100 SXM"]),
    st.integers(0, 2**40),
)
counts = st.none() | st.integers(1, 10**9)


@st.composite
def queues(draw) -> Queue:
    low = draw(st.integers(0, 100))
    high = draw(st.integers(low, 100))
    return Queue(
        name="q",
        parent=draw(st.just("") | names),
        weight=draw(st.integers(1, 10**6)),
        quota=draw(amounts),
        borrow=draw(amounts),
        lend=draw(amounts),
        most={},
        live_max=draw(counts),
        pending_max=draw(st.integers(1, 10**6)),
        priority=draw(st.integers(low, high)),
        priority_min=low,
        priority_max=high,
        limit_ms=draw(st.none() | st.integers(1, 10**10)),
        users=tuple(draw(st.lists(names, unique=True, max_size=3))),
    )


def back(key: str, name: str, table):
    (kind,) = [kind for kind in KINDS if kind.key == key]
    return kind.of(name, convert(table, kind.level))


@given(queues())
def test_the_table_of_a_queue_makes_the_same_queue(made):
    assert back("queues", "q", queue_table(made)) == made


@given(st.builds(User, name=st.just("u"), weight=st.integers(1, 9), most=amounts, live_max=counts))
def test_the_table_of_a_user_makes_the_same_user(made):
    assert back("users", "u", user_table(made)) == made


@given(st.tuples(*[st.none() | st.integers(0, 2**40)] * 5))
def test_the_table_of_a_tenant_makes_the_same_tenant(quota):
    made = Tenant(name="t", weight=3, quota=quota if any(q is not None for q in quota) else ())
    assert back("tenants", "t", tenant_table(made)) == made
