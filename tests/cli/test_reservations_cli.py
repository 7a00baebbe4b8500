"""`reservation` and `node`: what they ask the service for, what they show, wrong input."""

from __future__ import annotations

import time

import pytest
from fake_service import NOW, Problem

from fairlead.cli.errors import Failure
from fairlead.cli.times import localised, moment, parse_time_ms
from fairlead.model.base import Misuse

HOUR = 3_600_000


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def reserved(**more):
    made = {"name": "kernel", "start_ms": NOW, "end_ms": NOW + HOUR, "tenants": [], "nodes": ["vm"]}
    made |= {"gpus": 0, "gpu_type": [], "cpu_milli": 0, "memory_mib": 0, "slots": []}
    return made | {"drain": False, "active": False, "user": "ann", "reason": ""} | more


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", NOW),
        ("now+2h", NOW + 2 * HOUR),
        ("+90m", NOW + 90 * 60_000),
        ("2026-12-01T09:00", 1_796_112_000_000),
        ("2026-12-01 09:00", 1_796_112_000_000),
        ("2026-07-01T10:00", 1_782_892_800_000),  # summer time
        ("2026-12-01T09:00+00:00", 1_796_115_600_000),
        ("2026-12-01T09:00Z", 1_796_115_600_000),
    ],
)
def test_times_are_read_in_local_time_unless_they_name_a_zone(text, ms):
    assert parse_time_ms(text, NOW, "--start") == ms


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("5", "write for example 2026-12-01T09:00, now or now+2h"),
        ("1796112000", "seconds since the epoch are not read"),
        ("10:30", "T10:30, or now+2h"),
        ("2h", "now+2h"),
        ("01.12.2026 09:00", "write 2026-12-01T09:00"),
        ("01.12.2026", "write 2026-12-01T00:00"),
        ("2026/12/01", "write 2026-12-01T00:00"),
        ("tomorrow", "write for example"),
        ("", "write for example"),
        ("2026-02-30T10:00", "write for example"),
        ("9999-12-31T23:59", "write for example"),
        ("now+3", '"3s" (seconds)'),
    ],
)
def test_times_that_cannot_be_read_are_answered_with_the_nearest_that_can(text, hint):
    with pytest.raises((Failure, Misuse)) as wrong:
        parse_time_ms(text, NOW, "--start")
    assert wrong.value.field == "--start" and hint in wrong.value.hint


def test_moments_of_the_service_are_shown_in_local_time():
    text = localised("kept, 2026-12-01 08:00 UTC to 2026-12-01 08:00:05 UTC")
    assert text == "kept, 2026-12-01 09:00 to 2026-12-01 09:00:05"
    assert moment(None) == "-"


def test_create_sends_what_was_asked_for_and_says_what_was_made(cli, service):
    service.answers["POST /api/v1/reservations"] = lambda request: reserved()
    words = ("--start", "2026-12-01T09:00", "--for", "3h", "--node", "vm", "--tenant", "nlp")
    done = cli("reservation", "create", "kernel", *words)
    assert (done.code, done.out) == (
        0,
        f"reserved vm, for nobody, {moment(NOW)} to {moment(NOW + HOUR)}\n",
    )
    body = service.requests[-1].body
    assert body["start_ms"] == 1_796_112_000_000 and body["duration"] == "3h"
    assert (body["nodes"], body["tenants"], body["all_nodes"]) == (["vm"], ["nlp"], False)
    assert not {"end_ms", "gpus", "cpus", "memory"} & set(body)
    cli("reservation", "create", "x", "--gpus", "2", "--gpu-type", "A, B", "--end", "now+1h")
    body = service.requests[-1].body
    assert (body["gpus"], body["gpu_type"]) == (2, ["A", "B"])
    assert "start_ms" not in body and body["end_ms"] > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--start", "5"), "--start: 5 is a bare number"),
        (("--end", "now+1h", "--for", "1h"), "--end and --for say the same thing"),
        (("--gpus", "0"), "--gpus"),
        (("--nod", "vm"), "--node"),
    ],
)
def test_wrong_options_are_named(cli, service, words, says):
    done = cli("reservation", "create", "kernel", *words)
    assert done.code == 2 and says in done.err and "hint" in done.err
    assert service.requests == []


def test_a_refusal_names_the_option_and_shows_local_times(cli, service):
    def refuse(request):
        hint = "the earliest start that works: 2026-12-01 08:00 UTC (in 2h)"
        raise Problem(409, "it overlaps", field="start", hint=hint, code="overlaps")

    service.answers["POST /api/v1/reservations"] = refuse
    done = cli("reservation", "create", "kernel", "--all-nodes")
    assert done.code == 1 and "--start: it overlaps" in done.err
    assert "works: 2026-12-01 09:00 (in 2h)" in done.err


def test_list_and_delete(cli, service):
    gpus = reserved(name="demo", nodes=[], gpus=2, tenants=["nlp"], cpu_milli=4000, reason="demo")
    gpus["slots"] = [{"node": "a", "devices": [0]}, {"node": "a", "devices": [1]}]
    body = {"reservations": [reserved(end_ms=None), gpus], "now_ms": NOW - 1}
    service.answers["GET /api/v1/reservations"] = lambda request: body
    service.answers["DELETE /api/v1/reservations/kernel"] = lambda request: reserved()
    lines = cli("reservation", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "FROM", "TO", "FOR", "WHAT", "REASON"]
    assert "to come" in lines[1] and lines[1].split()[-3:] == ["nobody", "vm", "-"]
    assert "2 GPUs, 4 CPUs on a" in lines[2] and "nlp" in lines[2]
    assert cli("reservation", "delete", "kernel").out == "deleted kernel: vm, for nobody\n"
    assert cli("reservation", "delete", "nope").code == 1
    service.answers["GET /api/v1/reservations"] = lambda request: {"reservations": [], "now_ms": 0}
    assert cli("reservation", "list").out == "nothing is reserved\n"


def test_drain_and_resume_say_what_they_did(cli, service):
    service.answers["POST /api/v1/nodes/vm/drain"] = lambda request: {"jobs": [3, 4]}
    service.answers["POST /api/v1/nodes/vm/resume"] = lambda request: {"was_drained": True}
    done = cli("node", "drain", "vm", "--reason", "fan")
    assert done.out == "vm is drained: nothing new starts there; jobs 3, 4 may end\n"
    assert service.requests[-1].body == {"reason": "fan"}
    assert cli("node", "resume", "vm").out == "vm takes jobs again\n"


def test_nodes_show_what_is_drained_or_reserved_and_until_when(cli, service):
    def node(name, jobs, *reservations):
        amounts = dict.fromkeys(("cpu_milli", "memory_mib", "disk_mib", "gpu_milli"), 0)
        its = {"name": name, "up": True, "jobs": jobs, "devices": [], "capacity": amounts}
        return its | {"used": amounts, "foreign": amounts, "reserved": list(reservations)}

    entry = {"name": "kernel", "tenants": [], "whole": True, "drain": False, "reason": "new"}
    entry |= {"start_ms": NOW, "end_ms": NOW + HOUR}
    drain = {**entry, "name": "drain-b", "drain": True, "end_ms": None, "reason": "fan"}
    part = {**entry, "name": "demo", "whole": False, "tenants": ["nlp"]}
    those = [node("a", [], entry), node("b", [], drain), node("c", [1], drain), node("d", [], part)]
    service.answers["GET /api/v1/nodes"] = lambda request: {"nodes": those, "now_ms": NOW}
    out = cli("nodes").out
    assert [line.split()[1] for line in out.splitlines()[1:5]] == [
        *("reserved", "drained", "draining", "up")
    ]
    assert f"a: kernel, all of it for nobody, {moment(NOW)} to {moment(NOW + HOUR)} (new)" in out
    assert f"b: drained since {moment(NOW)} (fan)" in out
    assert "d: demo, a part of it for nlp" in out
