"""`queue`, `user`, `tenant`, `apply`, `share`, `usage`: what they ask for and show, wrong input."""

from __future__ import annotations

import json

import pytest
from fake_service import NOW, Problem, job, rows

HOUR = 3_600_000
QUEUES = "GET /api/v1/queues"


def shown(name: str, parent: str = "", **more):
    made = {"name": name, "parent": parent, "settings": {}, "children": [], "users": []}
    made |= {"priority": 50, "priority_min": 0, "priority_max": 100, "limit_ms": None}
    made |= {"using": {}, "borrowed": {}, "available": {}, "running": 0, "waiting": 0, "notes": []}
    return made | more


def changed(word: str, *lines: str, notes=()):
    return lambda request: {"changes": lines, "notes": notes, word: None, "now_ms": NOW}


def test_create_sends_every_setting_and_says_what_was_made(cli, service):
    line = "+ queue nlp (parent research, weight 2)"
    service.answers["PUT /api/v1/queues/nlp"] = changed("queue", line, notes=["mind this"])
    options = {
        **{"--parent": "research", "--weight": "2", "--quota": "gpus=8,cpus=64"},
        **{"--borrow": "gpus=4", "--lend": "gpus=2", "--limit": "gpus/H100=4"},
        **{"--max-running": "10", "--max-pending": "100", "--priority": "40"},
        **{"--priorities": "10-80", "--time-limit": "4h", "--users": "ann,bob"},
    }
    words = [word for pair in options.items() for word in pair]
    done = cli("queue", "create", "nlp", *words, "--quota", "memory=256G")
    assert (done.code, done.out) == (0, f"created {line[2:]}\nnote: mind this\n")
    assert service.requests[-1].query == {"new": "1"}
    assert service.requests[-1].body == {
        **{"parent": "research", "weight": 2, "borrow": {"gpus": "4"}, "lend": {"gpus": "2"}},
        **{"quota": {"gpus": "8", "cpus": "64", "memory": "256G"}, "limit": {"gpus/H100": "4"}},
        **{"max_running": 10, "max_pending": 100, "priority": 40, "priorities": "10-80"},
        **{"time_limit": "4h", "users": "ann,bob"},
    }


def test_edit_sends_only_what_is_to_change_and_none_clears(cli, service):
    service.answers["PATCH /api/v1/queues/nlp"] = changed("queue")
    done = cli("queue", "edit", "nlp", "--quota", "none", "--weight", "none", "--users", "none")
    assert done.out == "queue nlp is so already\n"
    assert service.requests[-1].body == {"quota": None, "weight": None, "users": "none"}
    cli("queue", "edit", "nlp", "--limit", "gpus=none")
    assert service.requests[-1].body == {"limit": {"gpus": "none"}}


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        (("--quota", "gpus"), "--quota: 'gpus' is no RESOURCE=AMOUNT", "gpus=8,memory=256G"),
        (("--quota", "gpus=1,gpus=2"), "--quota: gpus is given twice", "once"),
        (("--weight", "two"), "--weight: 'two' is no whole number", "such as 2"),
        (("--weight", "1.5"), "--weight: '1.5' is no whole number", "such as 2"),
        (("--wieght", "2"), "no such option", "--weight"),
        ((), "it does not say what to change", "queue edit --help"),
    ],
)
def test_options_that_cannot_be_read_are_misuse_and_nothing_is_sent(
    cli, service, words, says, hint
):
    done = cli("queue", "edit", "nlp", *words)
    assert done.code == 2 and says in done.err.lower().replace("resource=amount", "RESOURCE=AMOUNT")
    assert hint in done.err and not service.requests


def test_the_answer_of_the_service_names_the_option(cli, service):
    def refuse(request):
        raise Problem(409, "there are 8", field="quota.gpus", hint="lower it", code="over-capacity")

    service.answers["PUT /api/v1/queues/nlp"] = refuse
    done = cli("queue", "create", "nlp", "--quota", "gpus=9")
    assert (done.code, done.err) == (1, "fairlead: --quota: there are 8\n  hint: lower it\n")
    as_json = cli("queue", "create", "nlp", "--quota", "gpus=9", "--json")
    assert json.loads(as_json.err)["error"]["field"] == "--quota"


def test_queue_without_a_command_lists_them_and_tree_draws_them(cli, service):
    found = [
        shown("default", using={"cpu_milli": 2000}, running=2),
        shown("research", settings={"quota": {"gpus": "8"}, "weight": 2}),
        shown("cv", "research", borrowed={"gpu_milli": 1000}, waiting=3),
        shown("fast", "cv", notes=["fast is over"]),
        shown("nlp", "research"),
    ]
    service.answers[QUEUES] = lambda _: {"queues": found, "now_ms": NOW}
    assert cli("queue") == cli("queue", "list")
    listed = cli("queue").out.splitlines()
    assert listed[0].split() == [
        *("QUEUE", "PARENT", "WEIGHT", "QUOTA", "USING", "BORROWED", "RUN", "WAIT"),
    ]
    assert listed[2].split() == ["research", "-", "2", "gpus=8", "-", "-", "0", "0"]
    assert listed[-1] == "note: fast is over"
    drawn = [line.split("  ")[0].rstrip() for line in cli("queue", "tree").out.splitlines()]
    names = [line[:14].rstrip() for line in cli("queue", "tree").out.splitlines()[1:6]]
    assert names == ["├─ default", "└─ research", "   ├─ cv", "   │  └─ fast", "   └─ nlp"]
    assert drawn[0] == "QUEUE"
    assert json.loads(cli("queue", "--json").out)["queues"] == found


def test_show_says_what_holds_for_a_queue(cli, service):
    service.answers["GET /api/v1/queues/nlp"] = lambda _: shown(
        "nlp",
        "research",
        settings={"quota": {"gpus": "2"}},
        limit_ms=4 * HOUR,
        available={"gpu_milli": -1000},
        users=["ann"],
        notes=["nlp uses 3 gpus"],
    )
    lines = [line.split(":", 1) for line in cli("queue", "show", "nlp").out.splitlines()]
    said = {name: value.strip() for name, value in lines}
    assert said["parent"] == "research" and said["quota"] == "gpus=2" and said["users"] == "ann"
    assert said["could have"] == "gpus=0 more now" and said["time limit"] == "4h"
    assert said["note"] == "nlp uses 3 gpus"


def test_users_and_tenants_are_made_and_listed(cli, service):
    service.answers["PUT /api/v1/users/%2A"] = changed("user", "+ user * (limit gpus=4)")
    assert cli("user", "create", "*", "--limit", "gpus=4").out == "created user * (limit gpus=4)\n"
    service.answers["DELETE /api/v1/tenants/t"] = changed("tenant", "- tenant t")
    assert cli("tenant", "delete", "t").out == "deleted tenant t\n"
    each = {"name": "ann", "settings": {"weight": 2, "limit": {"gpus": "4"}, "max_running": 3}}
    each |= {"using": {"gpu_milli": 1000}, "running": 1, "waiting": 0}
    service.answers["GET /api/v1/users"] = lambda _: {"users": [each]}
    assert cli("user").out.splitlines()[1].split("  ")[-1] == "limit gpus=4, max_running 3"
    service.answers["GET /api/v1/users/ann"] = lambda _: each
    assert "limit:        gpus=4" in cli("user", "show", "ann").out
    service.answers["GET /api/v1/tenants"] = lambda _: {"tenants": []}
    assert cli("tenant").out == "nothing is set for any tenant, and none has jobs\n"


# ---- apply -------------------------------------------------------------------------------------

PLAN = {"changes": ["+ queue nlp", "~ queue cv: weight 1 -> 2"], "notes": [], "applied": False}


@pytest.fixture
def file(state):
    path = state / "cluster.yaml"
    path.write_text("queues:\n  nlp: {weight: 2}\n  cv:\n    weight: 0\n")
    return path


def test_a_dry_run_shows_the_plan_and_says_by_its_code_whether_anything_would_change(
    cli, service, file
):
    service.answers["POST /api/v1/apply"] = lambda _: PLAN
    done = cli("apply", "-f", str(file), "--dry-run")
    assert (done.code, done.out.splitlines()) == (3, [*PLAN["changes"], "2 changes would be made"])
    assert service.requests[-1].body["dry_run"] is True
    assert service.requests[-1].body["document"] == {
        "queues": {"nlp": {"weight": 2}, "cv": {"weight": 0}}
    }
    service.answers["POST /api/v1/apply"] = lambda _: {**PLAN, "changes": []}
    assert cli("apply", "-f", str(file), "--dry-run") == (0, "nothing to change\n", "")


def test_what_is_applied_is_the_plan_that_was_seen(cli, service, file):
    service.answers["POST /api/v1/apply"] = lambda _: PLAN
    done = cli("apply", "-f", str(file), "--yes", "--prune")
    assert (done.code, done.out.splitlines()[-1]) == (0, "2 changes made")
    assert service.requests[-1].body["plan"] == PLAN["changes"]
    assert service.requests[-1].body["prune"] is True


def test_without_a_terminal_nobody_can_be_asked(cli, service, file):
    service.answers["POST /api/v1/apply"] = lambda _: PLAN
    done = cli("apply", "-f", str(file))
    assert done.code == 2 and "nobody to ask" in done.err and "--yes" in done.err
    assert [request.body.get("dry_run") for request in service.requests] == [True]


def test_a_mistake_in_a_file_is_told_with_its_line(cli, service, file):
    def refuse(request):
        raise Problem(422, "a weight of zero", field="queues.cv.weight", hint="1 or more")

    service.answers["POST /api/v1/apply"] = refuse
    done = cli("apply", "-f", str(file), "--yes")
    assert done.code == 2
    assert done.err.splitlines()[0] == f"fairlead: {file}:4: queues.cv.weight: a weight of zero"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("queues: [1", "not YAML"),
        ("", "no documents"),
        ("a: 1\n---\nb: 2\n", "2 documents"),
        ("\xff\xfe", ""),
    ],
)
def test_what_is_no_cluster_file_is_misuse(cli, service, file, text, says):
    file.write_bytes(text.encode("latin-1"))
    done = cli("apply", "-f", str(file), "--yes")
    assert done.code == 2 and says in done.err and not service.requests


# ---- share and usage ---------------------------------------------------------------------------


def stand(queue: str, user: str = "", **more):
    made = {"queue": queue, "user": user, "depth": 1 if user else 0, "weight": 1, "loans": []}
    made |= {"resource": "gpu_milli", "share_milli": 250, "average_milli": 125, "live": 1}
    made |= {"entitled": {"gpu_milli": 4000}, "using": {"gpu_milli": 2000}, "waiting": 3}
    made |= {"average": {"gpu_milli": 1500, "cpu_milli": 8000}, "quota": {}, "borrowed": {}}
    return made | more


def test_share_shows_the_tree_with_who_borrows_from_whom(cli, service):
    loans = [{"resource": "gpu_milli", "lender": "cv", "amount": 1000}]
    loans += [{"resource": "gpu_milli", "lender": "", "amount": 500}]
    found = [stand("nlp", loans=loans), stand("nlp", "ann")]
    service.answers["GET /api/v1/shares"] = lambda _: {"shares": found, "now_ms": NOW}
    lines = cli("share", "--queue", "nlp").out.splitlines()
    assert lines[1].endswith("1 gpu from cv, 0.5 gpus from the cluster")
    assert lines[2].split() == [
        *("ann", "(user)", "1", "4", "gpus", "2", "gpus", "1.5", "gpus", "25.0%", "12.5%"),
        *("1", "3", "-"),
    ]
    assert service.requests[-1].query == {"queue": "nlp"}
    assert "8 cpus" in cli("share", "--resource", "cpus").out
    assert "there is no resource 'gpu'" in cli("share", "--resource", "gpu").err
    service.answers["GET /api/v1/shares"] = lambda _: {"shares": []}
    assert cli("share").out == "nobody has jobs or a past there\n"


def used(**more):
    figures = {"gpu_milli_ms": 3 * 1000 * HOUR // 2, "gpu_memory_mib_ms": 40 * 1024 * HOUR}
    figures |= {"cpu_milli_ms": 8000 * HOUR, "memory_mib_ms": 0, "jobs": 2, "preemptions": 1}
    return figures | more


def test_usage_shows_hours_and_what_was_reserved_for_nothing(cli, service):
    kept = [{"name": "demo", "tenants": ["t"], "unused_gpu_milli_ms": 2000 * HOUR}]
    kept += [{"name": "fix", "tenants": [], "unused_gpu_milli_ms": 500 * HOUR}]
    answer = {"rows": [{"user": "a,b", **used()}], "together": used(), "reserved": kept}
    service.answers["GET /api/v1/usage"] = lambda _: answer
    lines = cli("usage", "--since", "2d", "--until", "1d", "--by", "user").out.splitlines()
    assert lines[0].split() == [
        *("USER", "GPU-HOURS", "GPU-GIB-HOURS", "CORE-HOURS", "JOBS", "PREEMPTIONS"),
    ]
    assert lines[1].split() == ["a,b", "1.50", "40.00", "8.00", "2", "1"]
    assert lines[3:] == [
        "reserved and unused: 2.00 GPU-hours of 'demo' (for t)",
        "reserved and unused: 0.50 GPU-hours of 'fix' (for nobody)",
    ]
    query = service.requests[-1].query
    assert int(query["until_ms"]) - int(query["since_ms"]) == 24 * HOUR and query["by"] == "user"
    assert cli("usage", "--by", "user", "--csv").out.splitlines() == [
        "user,gpu_hours,gpu_gib_hours,core_hours,jobs,preemptions",
        '"a,b",1.500000,40.000000,8.000000,2,1',
    ]
    assert json.loads(cli("usage", "--json").out) == answer
    assert cli("usage", "--json", "--csv").code == 2
    assert "no unit" in cli("usage", "--since", "7").err


def test_ps_shows_queues_once_one_is_named(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(1))
    assert "QUEUE" not in cli("ps").out
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(1), job(2, queue="nlp"))
    lines = cli("ps").out.splitlines()
    at = lines[0].index("QUEUE")
    assert [line[at : at + 7].strip() for line in lines[1:]] == ["default", "nlp"]
