"""`ps`, `history`, `show`, `why`, `cancel`, `nodes`: what is asked, and what is shown."""

from __future__ import annotations

import json
import time

import pytest
from fake_service import NOW, Problem, job, rows

from fairlead.cli.client import me


def test_ps_shows_state_reason_and_times_aligned(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(
        job(9, reason="Resources: 4 nodes: memory", name="sweep", array=7, array_index=2),
        job(10, "RUNNING", limit_ms=7_200_000, gpus_milli=500, nodes=["n1", "n2", "n1"]),
        job(1000, "FAILED", because="exit 3", memory_mib=0, user="bartholomew"),
    )
    lines = cli("ps").out.splitlines()
    assert " ".join(lines[0].split()) == (
        "ID NAME USER TENANT STATE PRIO CPUS MEM GPUS WAIT TIME/LIMIT REASON"
    )
    assert " ".join(lines[1].split()) == (
        "9 sweep[2] ann nlp PENDING 50 2 4GiB - 1h - Resources: 4 nodes: memory"
    )
    assert lines[2].split(None, 11)[8:] == ["0.5", "50m", "10m/2h", "n1, n2"]
    assert lines[3].split(None, 11)[7:] == ["-", "-", "50m", "9m", "exit 3"]
    assert len({line.index(" ann ") for line in lines[1:3]}) == 1  # aligned
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b" not in "".join(lines)  # no colour in a pipe


def eta(early: int, likely: int, late: int, made: int = 0) -> dict[str, object]:
    """An estimate, in minutes from now."""
    times = {"earliest_ms": early, "likely_ms": likely, "latest_ms": late, "made_ms": -made}
    return {name: NOW + 60_000 * minutes for name, minutes in times.items()} | {"sure": True}


def test_ps_shows_between_when_and_when_a_waiting_job_starts(cli, service, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    unknown = {"earliest_ms": None, "likely_ms": None, "latest_ms": None, "made_ms": NOW}
    service.answers["GET /api/v1/jobs"] = lambda _: rows(
        job(1, reason="Resources: x", eta=eta(10, 20, 60)),
        job(2, reason="Resources: x", eta=eta(-5, 0, 0)),
        job(3, reason="Resources: x", eta=eta(12 * 60, 24 * 60, 30 * 60)),
        job(4, reason="Resources: x", eta=unknown),
        job(5, "RUNNING"),
    )
    lines = cli("ps").out.splitlines()
    start = lines[0].index("ETA")
    assert lines[0][start:].split() == ["ETA", "REASON"]
    shown = [line[start : lines[0].index("REASON")].strip() for line in lines[1:]]
    assert shown == ["08:10–09:00", "soon", "20:00–Sat 14:00", "", ""]  # now: Fri 08:00


def test_why_says_how_old_an_estimate_is_and_how_often_others_were_right(cli, service):
    found = {"id": 7, "phase": "PENDING", "reason": "Resources", "summary": "1 node: CPU"}
    more = {"eta": eta(10, 20, 60, made=2), "now_ms": NOW, "promised_ms": None}
    measured = {"compared": 40, "inside": 33}
    service.answers["GET /api/v1/jobs/7/explain"] = lambda _: (
        found | more | {"eta_measured": measured}
    )
    line = cli("why", "7").out.splitlines()[-1]
    assert "starts in about 20m (" in line
    assert "worked out 2m ago; 80 % band" in line
    assert "33 of 40 earlier estimates were right" in line


def test_ps_without_jobs_is_a_header_and_quiet_nothing(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows()
    assert cli("ps").out.startswith("ID  NAME")
    assert cli("ps", "-q").out == ""
    assert json.loads(cli("ps", "--json").out) == {"jobs": [], "now_ms": NOW}


def test_ps_as_json_has_every_field(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(9))
    (only,) = json.loads(cli("ps", "--json").out)["jobs"]
    assert only["id"] == 9
    assert only["started_ms"] is None
    assert {"reason", "phase", "nodes", "array"} <= set(only)


def test_filters_and_selectors_become_the_query(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows()
    cli("ps", "--state", "pending,running", "--tenant", "a&b", "--all", "12-15", "20", "@me")
    query = service.requests[-1].query
    assert query["state"] == "pending,running"
    assert query["tenant"] == "a&b"
    assert (query["all"], query["ids"], query["user"]) == ("1", "12-15,20", me())
    assert query["format"] == "rows"


def test_several_pages_are_one_listing_in_order_of_ids(cli, service):
    pages = {None: rows(job(3), job(5), following=5), "5": rows(job(6), job(1))}
    service.answers["GET /api/v1/jobs"] = lambda request: pages[request.query.get("after")]
    assert cli("ps", "-q").out == "1\n3\n5\n6\n"


@pytest.mark.parametrize("word", ["x", "12-", "-", "1,,2", "9" * 19, "1.5"])
def test_what_selects_nothing_is_a_misuse_and_nothing_is_asked(cli, service, word):
    result = cli("cancel", "--", word)
    assert result.code == 2
    assert "no job id" in result.err
    assert "12-15" in result.err
    assert service.requests == []


def test_an_empty_range_another_user_and_a_range_for_one_job_are_misuses(cli, service):
    assert "the range 15-12 is empty" in cli("cancel", "15-12").err
    assert "--user bob" in cli("ps", "@bob").err
    assert "here one is shown" in cli("show", "1-2").err


def test_since_needs_a_unit(cli, service):
    result = cli("history", "--since", "5")
    assert result.code == 2
    assert "--since: the duration 5 has no unit" in result.err
    service.answers["GET /api/v1/history"] = lambda _: rows(job(5, "SUCCEEDED"))
    assert cli("history", "-q", "--since", "2h", "-n", "7").out == "5\n"
    assert service.requests[-1].query["limit"] == "7"
    assert int(service.requests[-1].query["since_ms"]) > 0


def full(number: int, phase: str, **fields):
    spec = {
        "command": ["sh", "-c", "echo hi"],
        "workdir": "/home/ann",
        "shape": {"memory_mib": 4096, "gpus": 2, "gpu_models": ["A100"], "members": 3},
        "labels": [["exp", "3"]],
    }
    events = [
        {"seq": 1, "at_ms": NOW, "kind": "submitted", "job": number},
        {"seq": 4, "at_ms": NOW, "kind": "placed", "attempt": 1, "because": "best-fit"},
        {"seq": 5, "at_ms": NOW, "kind": "stop-decided", "attempt": 1, "then": "PENDING"},
        {"seq": 9, "at_ms": NOW, "kind": "ended", "attempt": 1, "rank": 2, "exit": {"signal": 9}},
    ]
    return job(number, phase, **fields) | {"spec": spec, "events": events, "now_ms": NOW}


def test_show_tells_everything_and_the_history(cli, service):
    service.answers["GET /api/v1/jobs/12"] = lambda _: full(12, "FAILED", exit_signal=9, members=3)
    out = cli("show", "12").out
    for text in (
        "state:      FAILED signal 9",
        "command:    sh -c 'echo hi'",
        "asks for:   1 CPU, 4GiB memory, 2 A100 GPUs, each, 3 members",
        "waited:     50m",
        "ran:        9m",
        "labels:     exp=3",
        "placed attempt 1 (best-fit)",
        "stop-decided attempt 1 then PENDING",
        "ended attempt 1 rank 2 signal 9",
    ):
        assert text in out
    assert json.loads(cli("show", "12", "--json").out)["spec"]["workdir"] == "/home/ann"


def test_an_unknown_job_is_no_misuse_but_a_failure(cli, service):
    def absent(_):
        raise Problem(404, "there is no job 99", code="not-found", hint="fairlead ps")

    service.answers["GET /api/v1/jobs/99"] = absent
    result = cli("show", "99")
    assert (result.code, result.err) == (1, "fairlead: there is no job 99\n  hint: fairlead ps\n")


def test_why_prints_summary_and_each_test(cli, service):
    service.answers["GET /api/v1/jobs/last/explain"] = lambda _: {
        "id": 12,
        "phase": "PENDING",
        "reason": "Resources",
        "summary": "1 node: CPU",
        "lines": ["quota: ok", "nodes: 1 too small"],
    }
    assert cli("why", "last").out == (
        "job 12 is PENDING (Resources): 1 node: CPU\n  quota: ok\n  nodes: 1 too small\n"
    )
    assert json.loads(cli("why", "--json", "last").out)["reason"] == "Resources"


def test_cancel_is_one_call_and_says_what_became_of_each(cli, service):
    service.answers["POST /api/v1/jobs:cancel"] = lambda _: {
        "jobs": [
            *({"id": n, "phase": "CANCELLED"} for n in (12, 13, 14)),
            {"id": 20, "phase": "STOPPING"},
            {"id": 21, "phase": "SUCCEEDED"},
        ],
        "missing": [],
    }
    result = cli("cancel", "12-14", "20,21", "--reason", "wrong data", "--now")
    assert result.code == 0
    assert result.out == (
        "jobs 12-14 cancelled\njob 20 being stopped\njob 21 had ended already: SUCCEEDED\n"
    )
    asked = {"ids": "12-14,20,21", "reason": "wrong data", "now": True}
    assert service.requests[-1].body == asked


def test_cancelling_what_does_not_exist_fails_after_cancelling_the_rest(cli, service):
    service.answers["POST /api/v1/jobs:cancel"] = lambda _: {
        "jobs": [{"id": 1, "phase": "CANCELLED"}],
        "missing": [77],
    }
    result = cli("cancel", "1", "77")
    assert result.code == 1
    assert result.out == "job 1 cancelled\n"
    assert "there is no job 77" in result.err


def test_cancel_at_me_is_all_of_mine_and_may_be_none(cli, service):
    listed = [job(4), job(6, "RUNNING")]
    service.answers["GET /api/v1/jobs"] = lambda _: rows(*listed)
    service.answers["POST /api/v1/jobs:cancel"] = lambda request: {
        "jobs": [{"id": 4, "phase": "CANCELLED"}] if request.body["ids"] else [],
        "missing": [],
    }
    cli("cancel", "@me")
    assert service.requests[-1].body["ids"] == "4,6"
    assert service.requests[-2].query["user"] == me()
    listed.clear()
    result = cli("cancel", "@me")
    assert (result.code, result.out) == (0, "")
    assert "nothing to cancel" in result.err


def test_nodes_show_what_is_free_of_how_much(cli, service):
    amounts = {"cpu_milli": 8000, "memory_mib": 65_536, "disk_mib": 0, "gpu_milli": 1000}
    used = {"cpu_milli": 2500, "memory_mib": 1024, "disk_mib": 0, "gpu_milli": 1000}
    gpu = {"index": 0, "model": "A100", "memory_mib": 81_920, "uuid": "GPU-1", "jobs": [7]}
    node = {
        **{"name": "vm", "up": True, "labels": {}, "capacity": amounts, "used": used},
        **{"foreign": {"memory_mib": 1024}, "devices": [gpu], "jobs": [7, 9]},
    }
    down = {**node, "name": "gone", "up": False, "devices": [], "jobs": []}
    service.answers["GET /api/v1/nodes"] = lambda _: {"nodes": [node, down]}
    lines = cli("nodes").out.splitlines()
    assert lines[1].split("  ")[0] == "vm"
    assert "5.5 of 8" in lines[1]
    assert "62GiB of 64GiB" in lines[1]
    assert "0 of 1" in lines[1]
    assert lines[1].endswith("7,9")
    assert "down" in lines[2]
    assert lines[3] == "vm GPU 0: A100, 80GiB, job 7"
    assert cli("nodes", "-q").out == "vm\ngone\n"
    assert len(json.loads(cli("nodes", "--json").out)["nodes"]) == 2
