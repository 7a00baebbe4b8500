"""`run`, `logs`, `wait`: the job's output, and an exit code that can be trusted."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from fake_service import FakeService, Hangup, job, rows

from fairlead.cli import follow


def ends(service, phase="SUCCEEDED", pieces=(b"hello\n",), **fields):
    """Let job 12 print and end so."""
    service.answers["GET /api/v1/jobs/12/logs"] = lambda _: iter(pieces)
    service.answers["GET /api/v1/jobs/12"] = lambda _: job(12, phase, **fields)
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(12, phase, **fields))


@pytest.mark.parametrize(
    ("phase", "code", "signal", "expected"),
    [
        ("SUCCEEDED", 0, None, 0),
        ("FAILED", 3, None, 3),
        ("FAILED", None, 9, 137),
        ("FAILED", 127, None, 127),
        ("TIMEOUT", None, 15, 124),
        ("OOM", None, 9, 137),
        ("CANCELLED", None, 15, 143),
        ("CANCELLED", None, None, 125),
        ("CANCELLED", 0, None, 125),
        ("NODE_FAIL", None, None, 125),
    ],
)
def test_run_exits_as_the_job_did(cli, service, phase, code, signal, expected):
    ends(service, phase, exit_code=code, exit_signal=signal, because="so it was")
    result = cli("run", "--", "true")
    assert result.code == expected
    assert result.out == "hello\n"
    assert "job 12 waits: Resources: 1 node: CPU" in result.err
    assert (f"job 12 {phase}: so it was" in result.err) == (phase != "SUCCEEDED")


def test_run_of_a_refused_job_exits_2_and_of_a_lost_service_125(cli, service):
    assert cli("run", "-t", "30", "--", "true").code == 2

    def broken(_):
        raise Hangup

    service.answers["POST /api/v1/jobs"] = broken
    assert cli("run", "--", "true").code == 125


def test_run_of_an_array_points_to_wait(cli, service):
    result = cli("run", "--array", "0-1", "--", "true")
    assert result.code == 2
    assert "jobs 12-13" in result.err
    assert "fairlead wait" in result.err


def test_run_as_json_prints_the_ended_job_and_no_output(cli, service):
    ends(service, "FAILED", exit_code=4)
    result = cli("run", "--json", "--", "true")
    assert result.code == 4
    assert json.loads(result.out)["exit_code"] == 4


def test_logs_copies_bytes_exactly(cli, service, state):
    ends(service, pieces=(b"caf\xc3", b"\xa9\n\xff\n"))
    done = subprocess.run(
        [sys.executable, "-m", "fairlead", "logs", "12", "--tail", "3", "--rank", "2"],
        capture_output=True,
        timeout=60,
    )
    assert done.stdout == b"caf\xc3\xa9\n\xff\n"
    assert service.requests[-1].query == {"tail": "3", "rank": "2"}
    pieces = [json.loads(line) for line in cli("logs", "12", "--json").out.splitlines()]
    assert "".join(piece["text"] for piece in pieces) == "café\n�\n"
    assert [piece["offset"] for piece in pieces] == [0, 4]


def test_logs_that_follow_exit_as_the_job_did(cli, service):
    ends(service, "FAILED", exit_code=5)
    result = cli("logs", "-f", "12")
    assert (result.code, result.out) == (5, "hello\n")
    assert service.requests[-2].query["follow"] == "1"


def test_following_survives_a_restart_of_the_service_and_repeats_nothing(cli, service, monkeypatch):
    monkeypatch.setattr(follow, "RECONNECT_PAUSE_S", 0.01)
    phase = {"now": "RUNNING"}

    def first(_):
        yield b"one\n"
        raise Hangup

    def logs(request):
        if request.query.get("offset") == "4":
            phase["now"] = "SUCCEEDED"
            return iter([b"two\n"])
        return first(request)

    ends(service)
    service.answers["GET /api/v1/jobs/12"] = lambda _: job(12, phase["now"])
    service.answers["GET /api/v1/jobs/12/logs"] = logs
    result = cli("run", "--", "true")
    assert (result.code, result.out) == (0, "one\ntwo\n")
    assert "the connection to the service broke" in result.err


def test_a_service_that_comes_back_later_is_waited_for(cli, state, monkeypatch):
    monkeypatch.setattr(follow, "RECONNECT_PAUSE_S", 0.01)
    path = str(state / "api.sock")
    first = FakeService(path)

    def vanish(_):
        first.server.server_close()
        os.unlink(path)
        back.append(FakeService(path + ".new"))
        ends(back[0], "FAILED", exit_code=6)
        back[0].answers["GET /api/v1/status"] = lambda _: {}
        real_sleep(0.1)
        raise Hangup

    back: list[FakeService] = []
    ends(first)
    first.answers["GET /api/v1/jobs/12/logs"] = vanish

    def appear(pause):
        real_sleep(pause)
        if back and not os.path.exists(path):
            os.rename(path + ".new", path)

    real_sleep = time.sleep
    monkeypatch.setattr(follow.time, "sleep", appear)
    result = cli("run", "--", "true")
    first.server.shutdown()
    back[0].close()
    assert result.code == 6
    assert "waiting for it to come back" in result.err


def test_a_service_that_stays_away_is_given_up(cli, service, monkeypatch):
    monkeypatch.setattr(follow, "RECONNECT_S", 0.05)
    monkeypatch.setattr(follow, "RECONNECT_PAUSE_S", 0.01)

    def gone(_):
        raise Hangup

    ends(service)
    service.answers["GET /api/v1/jobs/12/logs"] = gone
    service.answers["GET /api/v1/jobs/12"] = gone
    assert cli("run", "--", "true").code == 125


def test_wait_returns_the_first_bad_code_and_names_each(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(
        job(3, "SUCCEEDED"), job(5, "FAILED", exit_code=4), job(4, "SUCCEEDED")
    )
    result = cli("wait", "3-5")
    assert result.code == 4
    assert result.out == "jobs 3-4 SUCCEEDED exit 0\njob 5 FAILED exit 4\n"
    assert [each["id"] for each in json.loads(cli("wait", "3-5", "--json").out)["jobs"]] == [
        3,
        4,
        5,
    ]


def test_wait_asks_again_until_the_last_has_ended(cli, service):
    phases = ["PENDING", "RUNNING", "SUCCEEDED"]
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(12, phases.pop(0)))
    service.answers["GET /api/v1/jobs/12"] = lambda _: job(12, "RUNNING")
    assert cli("wait", "12").code == 0
    waits = [each.query["wait"] for each in service.requests if each.path.endswith("/12")]
    assert waits == ["55.000", "55.000"]


def test_wait_gives_up_at_its_timeout_with_125(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows(job(12, "RUNNING"))
    service.answers["GET /api/v1/jobs/12"] = lambda _: time.sleep(0.02) or job(12, "RUNNING")
    result = cli("wait", "12", "--timeout", "50ms")
    assert result.code == 125
    assert "1 job has not ended" in result.err
    assert "has no unit" in cli("wait", "12", "--timeout", "5").err


def test_wait_for_a_job_that_does_not_exist_fails(cli, service):
    service.answers["GET /api/v1/jobs"] = lambda _: rows()
    result = cli("wait", "99")
    assert result.code == 125
    assert "there is no job 99" in result.err


def endless(service):
    """Let job 12 print forever until it is cancelled."""
    cancelled = []

    def cancel(request):
        cancelled.append(request.body["ids"])
        return {"jobs": [{"id": 12, "phase": "STOPPING"}], "missing": []}

    def pieces():
        for _ in range(400):
            yield b"tick\n"
            time.sleep(0.05)
            if cancelled:
                return

    ends(service)
    service.answers["GET /api/v1/jobs/12/logs"] = lambda _: pieces()
    service.answers["GET /api/v1/jobs/12"] = lambda _: job(
        12, "CANCELLED" if cancelled else "RUNNING", exit_code=None, exit_signal=15
    )
    service.answers["POST /api/v1/jobs:cancel"] = cancel
    return cancelled


def test_ctrl_c_without_a_terminal_cancels(service, state):
    cancelled = endless(service)
    running = subprocess.Popen(
        [sys.executable, "-m", "fairlead", "run", "--", "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "tick\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert cancelled == [[12]]
    assert "being stopped" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("answer", "code", "cancels"), [(b"d\n", 0, 0), (b"c\n", 130, 1)])
def test_ctrl_c_at_a_terminal_asks(service, state, answer, code, cancels):
    cancelled = endless(service)
    mine, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "fairlead", "run", "--", "true"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"tick" not in seen:
        seen += os.read(mine, 1000)
    running.send_signal(signal.SIGINT)
    while b"[d]etach" not in seen:
        seen += os.read(mine, 1000)
    os.write(mine, answer)
    assert running.wait(30) == code
    os.close(mine)
    assert len(cancelled) == cancels
