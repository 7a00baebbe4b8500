"""`resource`, `acquire`, `release`: what they ask the service for, what they show, wrong input."""

from __future__ import annotations

import pytest
from fake_service import Hangup, Problem


def resource(**more):
    made = {"name": "db", "kind": "lock", "amount": 2, "held": 1, "free": 1, "over": 0}
    made |= {"holders": [{"job": 3, "amount": 1}], "asking": [], "waiting": [], "never": []}
    return made | more


def granted(**more):
    made = {"id": 7, "name": "db", "amount": 1, "granted": True, "waiting": False, "held": 1}
    return made | {"because": "", "runs": True} | more


@pytest.fixture
def inside(monkeypatch):
    """As in the first attempt of job 7."""
    monkeypatch.setenv("FAIRLEAD_JOB_ID", "7")
    monkeypatch.setenv("FAIRLEAD_RESTART_COUNT", "0")


def test_create_edit_list_and_delete(cli, service):
    service.answers["POST /api/v1/resources"] = lambda request: resource()
    done = cli("resource", "create", "db", "--kind", "lock", "--amount", "2")
    assert (done.code, done.out) == (0, "lock db: there are 2\n")
    assert service.requests[-1].body == {"name": "db", "kind": "lock", "amount": 2}
    over = resource(amount=1, held=3, over=2, never=[8, 9])
    service.answers["POST /api/v1/resources/db"] = lambda request: over
    done = cli("resource", "edit", "db", "--amount", "1")
    assert service.requests[-1].body == {"amount": 1}
    assert done.out.splitlines() == [
        "lock db: there are 1, 3 held",
        "  2 more are held than there are, until jobs end: jobs 3 (1)",
        "  jobs that wait for more than there are: 8-9",
    ]
    waits = resource(asking=[{"job": 4, "amount": 2}], waiting=[{"job": 5, "amount": 1}])
    service.answers["GET /api/v1/resources"] = lambda request: {"resources": [waits]}
    header, row = cli("resource", "list").out.splitlines()
    assert header.split() == ["NAME", "KIND", "AMOUNT", "HELD", "HOLDERS", "WAITING"]
    assert row.split() == ["db", "lock", "2", "1", "3", "(1)", "4", "(2),", "5", "(1)"]
    service.answers["GET /api/v1/resources"] = lambda request: {"resources": []}
    assert "fairlead resource create" in cli("resource", "list").out
    service.answers["DELETE /api/v1/resources/db"] = lambda request: resource()
    assert cli("resource", "delete", "db").out == "deleted lock db: there were 2\n"
    assert cli("resource", "edit", "db").code == 2


def test_acquire_asks_for_the_job_that_it_runs_in(cli, service, inside):
    service.answers["POST /api/v1/jobs/7/acquire"] = lambda request: granted(amount=2, held=2)
    done = cli("acquire", "db", "2", "--wait", "1m")
    assert (done.code, done.out) == (0, "job 7 holds 2 db\n")
    body = service.requests[-1].body
    assert (body["name"], body["amount"], body["attempt"]) == ("db", 2, 1)
    assert 59 < body["wait_s"] <= 60 and len(body["key"]) == 32
    service.answers["POST /api/v1/jobs/8/acquire"] = lambda request: granted(id=8)
    assert cli("acquire", "db", "--job", "8").code == 0
    assert "attempt" not in service.requests[-1].body


def test_acquire_that_is_not_granted_in_time_says_why_and_exits_with_1(cli, service, inside):
    no = granted(granted=False, because="0 of 1 db free, asks for 1; held by job 3 (1)")
    service.answers["POST /api/v1/jobs/7/acquire"] = lambda request: no
    done = cli("acquire", "db", "--wait", "0s")
    assert done.code == 1 and "1 db not granted: 0 of 1 db free" in done.err
    assert service.requests[-1].body["wait_s"] == 0


def test_acquire_asks_again_with_the_same_key_when_the_service_went_away(cli, service, inside):
    calls = []

    def answer(request):
        calls.append(request.body["key"])
        if len(calls) == 1:
            raise Hangup
        return granted()

    service.answers["POST /api/v1/jobs/7/acquire"] = answer
    assert cli("acquire", "db").code == 0
    assert len(calls) == 2 and calls[0] == calls[1]


def test_release_gives_back_some_or_all(cli, service, inside):
    answer = {"id": 7, "name": "db", "released": 2, "held": 1}
    service.answers["POST /api/v1/jobs/7/release"] = lambda request: answer
    assert cli("release", "db").out == "job 7 released 2 db, holds 1\n"
    assert service.requests[-1].body == {"name": "db", "attempt": 1}
    cli("release", "db", "2")
    assert service.requests[-1].body == {"name": "db", "amount": 2, "attempt": 1}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("acquire", "db"), "this does not run in a job of Fairlead"),
        (("release", "db"), "this does not run in a job of Fairlead"),
        (("acquire", "db", "two", "--job", "7"), "not a valid integer"),
        (("acquire", "db", "--wait", "soon", "--job", "7"), "--wait"),
        (("acquire", "db", "--job", "7-9"), "may be several jobs"),
        (("resource", "create", "db", "--kind", "licens"), "--kind"),
        (("submit", "--license", "=2", "--", "true"), "--license =2: a name and a whole number"),
        (("submit", "--may-acquire", "db=x", "--", "true"), "--may-acquire db=x"),
    ],
)
def test_wrong_input_is_named_before_the_service_is_asked(cli, service, words, says, monkeypatch):
    monkeypatch.delenv("FAIRLEAD_JOB_ID", raising=False)
    done = cli(*words)
    assert done.code == 2 and says in done.err
    assert service.requests == []


def test_a_refusal_of_the_service_is_shown_with_its_hint(cli, service, inside):
    def refuse(request):
        hint = "submit it with may_acquire: {db: 1}"
        raise Problem(409, "job 7 did not say that it may acquire db", field="name", hint=hint)

    service.answers["POST /api/v1/jobs/7/acquire"] = refuse
    done = cli("acquire", "db")
    assert done.code == 1 and "hint: submit it with may_acquire" in done.err


def test_licences_of_a_job_on_the_command_line(cli, service):
    words = ("--license", "matlab=2", "--license", "fluent", "--may-acquire", "db=4")
    assert cli("submit", *words, "--", "true").code == 0
    spec = service.submitted[0]
    assert spec.counted == (("fluent", 1), ("matlab", 2)) and spec.may_acquire == (("db", 4),)
