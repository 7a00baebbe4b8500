"""The real thing: service, agent, supervisors and jobs as processes, killed in the middle."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from service_harness import alive, until

from fairlead.cli.errors import Failure
from fairlead.service.places import Places

# Appends a line when it starts and one when it ends, so that running twice would show.
TWICE = "echo start >> log; sleep {0}; echo end >> log; exit 7"


def test_a_job_is_submitted_runs_and_its_exit_code_and_output_are_exact(world):
    world.up()
    job = world.submit("echo out; echo err >&2; exit 42")
    found = world.ended(job)
    assert (found["phase"], found["exit_code"], found["exit_signal"]) == ("FAILED", 42, None)
    assert world.output(job) == "out\nerr\n"
    assert [event["kind"] for event in found["events"]] == [
        "submitted",
        "forecast",
        "placed",
        "started",
        "ended",
    ]
    killed = world.ended(world.submit("kill -9 $$"))
    assert (killed["phase"], killed["exit_code"], killed["exit_signal"]) == ("FAILED", None, 9)


def test_everything_belongs_to_its_owner_alone(world):
    world.up()
    assert stat.S_IMODE(world.state.stat().st_mode) == 0o700
    assert stat.S_IMODE(world.places.socket.stat().st_mode) == 0o600
    for path in (world.places.database, world.places.log, world.places.pid):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_without_a_folder_of_ones_own_everything_lies_where_xdg_says(world):
    base, run = world.state.parent / "x", world.state.parent / "r"
    del world.environ["FAIRLEAD_STATE"]
    world.environ |= {"XDG_STATE_HOME": str(base), "XDG_RUNTIME_DIR": str(run)}
    world.adopt(Places.find(world.environ))
    world.up()
    assert str(world.client.get("/status")["socket"]) == f"{run}/fairlead/socket"
    assert (base / "fairlead" / "fairlead.db").exists()
    assert world.fairlead("run", "--", "echo", "hello").out == "hello\n"
    assert world.fairlead("down").code == 0


def test_a_second_up_says_that_it_runs_already(world):
    world.up()
    again = world.fairlead("up")
    assert (again.code, f"runs already (process {world.pid})" in again.out) == (0, True)
    assert again.err == ""
    other = world.fairlead("up", "--policy", "fair")
    assert other.code == 0 and "--policy fair counts only at a start" in other.err
    foreground = world.fairlead("up", "--foreground", "--json")
    assert foreground.code == 0
    assert json.loads(foreground.out)["already"] is True


def test_a_service_killed_in_the_middle_loses_nothing_and_runs_nothing_twice(world):
    world.up()
    running = world.submit(TWICE.format(1.2))
    world.runs(running)
    waiting = world.client.post("/jobs", {"jobs": [{"run": "exit 0"}] * 5})["ids"]
    world.kill_service()
    assert world.places.socket.exists(), "a stale socket is part of this test"
    world.up()
    assert world.ended(running)["exit_code"] == 7
    assert [world.ended(job)["phase"] for job in waiting] == ["SUCCEEDED"] * 5
    assert (world.state / "log").read_text() == "start\nend\n"
    assert world.show(running)["attempt"] == 1


def test_a_job_that_ends_while_the_service_is_dead_keeps_its_exit_code(world):
    world.up()
    job = world.submit(TWICE.format(0.3))
    world.runs(job)
    world.kill_service()
    until(lambda: world.written("log") == "start\nend\n")
    world.up()
    assert world.ended(job)["exit_code"] == 7


def test_service_and_agent_killed_together_lose_nothing_and_run_nothing_twice(world):
    world.up()
    job = world.submit(TWICE.format(1.0))
    world.runs(job)
    world.kill_service()
    world.kill_agent()
    world.up()
    found = world.ended(job)
    assert (found["exit_code"], found["attempt"]) == (7, 1)
    assert (world.state / "log").read_text() == "start\nend\n"


def test_an_agent_that_dies_is_started_again_and_its_jobs_go_on(world):
    world.up()
    job = world.submit(TWICE.format(0.8))
    world.runs(job)
    world.kill_agent()
    assert world.ended(job)["exit_code"] == 7
    assert world.ended(world.submit("true"))["phase"] == "SUCCEEDED"
    assert (world.state / "log").read_text() == "start\nend\n"


def test_down_with_running_jobs_asks_what_to_do_with_them(world):
    world.up()
    job = world.submit("sleep 60")
    world.runs(job)
    refused = world.fairlead("down")
    assert refused.code == 1
    assert "--keep-jobs" in refused.err and "--cancel-jobs" in refused.err
    assert world.pid
    kept = world.fairlead("down", "--keep-jobs")
    assert (kept.code, world.pid) == (0, None), kept.err
    assert world.agent
    world.up()
    assert world.show(job)["phase"] == "RUNNING"
    cancelled = world.fairlead("down", "--cancel-jobs")
    assert (cancelled.code, world.pid) == (0, None), cancelled.err
    until(lambda: world.agent is None)
    world.up()
    assert world.show(job)["phase"] == "CANCELLED"


def test_down_without_jobs_stops_everything_and_may_be_repeated(world):
    world.up()
    assert world.ended(world.submit("true"))["phase"] == "SUCCEEDED"
    assert world.fairlead("down").code == 0
    assert (world.pid, world.agent) == (None, None)
    assert not world.places.socket.exists()
    again = world.fairlead("down")
    assert (again.code, "no service" in again.out) == (0, True)


def test_waiting_jobs_stay_in_the_queue_over_down_and_up(world):
    world.up("--cpus", "1")
    job = world.submit("sleep 0.5")
    waiting = world.submit("true")
    world.runs(job)
    assert world.fairlead("down", "--keep-jobs").code == 0
    world.up("--cpus", "1")
    assert world.ended(waiting)["phase"] == "SUCCEEDED"


def test_waiting_and_running_jobs_are_cancelled(world):
    world.up("--cpus", "1")
    running = world.submit("sleep 60")
    waiting = world.submit("echo never >> log")
    world.runs(running)
    world.client.post("/jobs:cancel", {"ids": [waiting, running]})
    assert world.show(waiting)["phase"] == "CANCELLED"
    assert world.ended(running)["phase"] == "CANCELLED"
    assert not (world.state / "log").exists()


def test_a_time_limit_ends_the_job_as_timeout(world):
    world.up()
    job = world.submit("sleep 60", time_limit="200ms")
    found = world.ended(job)
    assert (found["phase"], found["exit_signal"]) == ("TIMEOUT", 15)
    assert 200 <= found["ended_ms"] - found["started_ms"] < 5000


def test_a_program_that_ignores_sigterm_and_forks_is_gone_after_its_grace(world):
    world.up()
    script = (
        "trap '' TERM; (trap '' TERM; echo $$ >> pids; exec setsid sleep 61) & "
        "sleep 62 & echo $! $$ >> pids; wait"
    )
    job = world.submit(script, preempt={"grace": "300ms"})
    world.runs(job)
    until(lambda: len(world.written("pids").split()) == 3)
    world.client.post(f"/jobs/{job}/cancel", {})
    found = world.ended(job)
    assert (found["phase"], found["exit_signal"]) == ("CANCELLED", 9)
    assert not any(alive(int(pid)) for pid in (world.state / "pids").read_text().split())


def test_an_impatient_user_cuts_a_long_grace_short(world):
    world.up()
    script = "trap '' TERM; echo up; while :; do sleep 0.1; done"
    job = world.submit(script, preempt={"grace": "1h"})
    until(lambda: world.output(job) == "up\n")
    assert world.fairlead("cancel", str(job)).code == 0
    assert world.show(job)["phase"] == "STOPPING"
    assert world.fairlead("cancel", "--now", str(job)).code == 0
    found = world.ended(job)
    assert (found["phase"], found["exit_signal"]) == ("CANCELLED", 9)


def test_a_gang_starts_whole_and_is_stopped_whole_when_one_member_fails(world):
    world.up("--cpus", "2")
    run = "echo $FAIRLEAD_RANK >> ranks; test $FAIRLEAD_RANK = 0 || sleep 0.2 || exit 1; exit 0"
    job = world.submit(run, members=2)
    assert world.ended(job)["phase"] == "SUCCEEDED"
    assert sorted((world.state / "ranks").read_text().split()) == ["0", "1"]
    bad = world.submit("test $FAIRLEAD_RANK = 0 && exit 5; sleep 60", members=2)
    found = world.ended(bad)
    assert (found["phase"], found["exit_code"]) == ("FAILED", 5)


def test_output_can_be_followed_while_the_job_waits_and_runs(world):
    world.up("--cpus", "1")
    first = world.submit("sleep 0.4")
    job = world.submit("for n in 1 2 3; do echo $n; sleep 0.1; done")
    begin = time.monotonic()
    assert world.output(job, follow=1) == "1\n2\n3\n"
    assert time.monotonic() - begin > 0.5
    assert world.output(job, offset=2) == "2\n3\n"
    assert world.output(job, tail=1) == "3\n"
    assert world.ended(first)["phase"] == "SUCCEEDED"


def test_the_log_of_events_streams(world):
    world.up()
    reply = world.client.stream("/events", {"after": 0})
    pieces = reply.pieces()
    text = next(pieces)
    job = world.submit("true")
    while b'"kind":"ended"' not in text:
        text += next(pieces)
    reply.close()
    assert b"event: submitted" in text and b'"job":%d' % job in text


def raw(world, data: bytes) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.connect(str(world.places.socket))
    connected.sendall(data)
    return connected


def test_clients_that_vanish_in_the_middle_harm_nothing(world):
    world.up()
    head = b"POST /api/v1/jobs HTTP/1.1\r\nHost: f\r\nContent-Length: %d\r\n\r\n"
    body = b'{"run": "echo ran >> log", "workdir": "%s"}' % str(world.state).encode()
    for _ in range(5):
        raw(world, head % 10_000 + body).close()  # half a request
        raw(world, b"GET /api/v1/eve").close()
        raw(world, b"GET /api/v1/events HTTP/1.1\r\nHost: f\r\n\r\n").close()
    whole = raw(world, head % len(body) + body)
    whole.close()  # it does not wait for the answer, but the request was complete
    until(lambda: (world.state / "log").exists())
    assert world.client.get("/jobs", {"all": 1})["jobs"][0]["id"] == 1
    garbage = raw(world, b"\x00\xff not http\r\n\r\n")
    assert garbage.recv(100).startswith(b"HTTP/1.1 400")
    garbage.close()
    assert world.ended(world.submit("true"))["phase"] == "SUCCEEDED"


def test_a_full_disk_refuses_new_work_keeps_what_runs_and_heals(world):
    """A limit on the size of files stands in for the disk: SQLite cannot tell."""
    megabyte = 2**20

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (megabyte, resource.RLIM_INFINITY))

    world.up(limits=limit)
    job = world.submit("sleep 1; exit 3")
    world.runs(job)
    with pytest.raises(Failure) as refused:
        for _ in range(100):
            world.client.post("/jobs", {"jobs": [{"run": "true", "name": "n" * 200}] * 200})
    assert refused.value.code == "store-failed"
    assert "nothing was changed" in refused.value.message
    assert world.show(job)["phase"] == "RUNNING"
    assert not world.client.get("/status")["ready"]
    known = world.client.get("/jobs", {"limit": 1, "all": 1})["jobs"][0]["id"]
    time.sleep(1.2)
    resource.prlimit(world.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert world.ended(job)["exit_code"] == 3
    assert world.submit("true") == known + 1


def test_a_state_folder_that_cannot_be_written_is_said_in_words(world):
    world.state.parent.joinpath("s").write_text("a file where the folder should be")
    done = world.fairlead("up")
    assert done.code == 2
    assert "cannot keep state in" in done.err and "FAIRLEAD_STATE" in done.err
    world.state.unlink()


def test_a_socket_path_that_is_too_long_is_said_in_words(world):
    done = world.fairlead("up", "--state", f"{world.state}/{'x' * 100}")
    assert done.code == 2 and "107" in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--policy", "pririty"], "priority"),
        (["--cpus", "4000"], "more than this machine has"),
        (["--memory", "5"], "unit"),
    ],
)
def test_wrong_options_of_up_are_refused_before_anything_starts(world, words, says):
    done = world.fairlead("up", *words)
    assert done.code == 2 and says in done.err
    assert not world.places.database.exists()


def test_a_damaged_database_says_what_can_be_saved_and_is_left_alone(world):
    world.up()
    jobs = [{"run": "true", "name": f"job-{n}" * 20} for n in range(200)]
    ids = world.client.post("/jobs", {"jobs": jobs})["ids"]
    world.ended(ids[-1])
    assert world.fairlead("down").code == 0
    damaged = bytearray(world.places.database.read_bytes())
    middle = len(damaged) // 8192 * 4096
    damaged[middle:] = os.urandom(len(damaged) - middle)
    world.places.database.write_bytes(damaged)
    done = world.fairlead("up")
    assert done.code != 0
    assert "damaged" in done.err and "saved" in done.err, done.err
    assert "store rebuild" in done.err
    assert world.places.database.read_bytes() == bytes(damaged)
    world.places.database.unlink()


def test_a_database_older_than_what_the_agent_saw_is_not_used(world):
    world.up()
    world.runs(world.submit("sleep 30"))
    world.kill_service()
    for path in world.state.glob("fairlead.db*"):
        path.unlink()
    world.fairlead("up")
    until(lambda: world.pid is None)
    assert "older than the jobs that run here" in world.places.log.read_text()
    os.kill(world.agent, signal.SIGTERM)
    for journal in (world.state / "agent" / "members").iterdir():
        text = journal.read_text()
        for pid in {json.loads(line).get("pid") for line in text.splitlines() if line.strip()}:
            if pid and alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_doctor_looks_at_the_machine_with_and_without_a_service(world):
    before = world.fairlead("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(before.out)["checks"]}
    assert checks["service"]["detail"].startswith("not running")
    assert {"state", "disk", "flush", "clock", "cores", "memory", "kill"} <= set(checks)
    world.up()
    after = world.fairlead("doctor")
    assert after.code == 0, after.out
    assert f"process {world.pid}" in after.out and "writes are durable" in after.out


def test_another_process_may_not_look_into_the_environment_of_the_service_by_log(world):
    """Nothing that a job was given, its environment least of all, is written to service.log."""
    world.up()
    world.ended(world.submit("true", env={"HF_TOKEN": "hunter2"}))
    assert "hunter2" not in Path(world.places.log).read_text()


PLANTED = """
from fairlead.cli.main import main
from fairlead.core.turn import Scheduler
from fairlead.model.events import Submitted

real = Scheduler.turn

def turn(self, now, inbox):
    assert not any(isinstance(event, Submitted) for event in inbox), "planted"
    return real(self, now, inbox)

Scheduler.turn = turn
main(["up", "--foreground"])
"""


def test_a_contradiction_ends_the_service_with_70_names_the_event_and_it_starts_again(world):
    world.up()
    job = world.submit("sleep 1; exit 3")
    world.runs(job)
    world.kill_service()
    broken = subprocess.Popen(
        [sys.executable, "-c", PLANTED], env=world.environ, stderr=subprocess.PIPE, text=True
    )
    until(lambda: world.answers())
    with pytest.raises(Failure):
        world.submit("true")
    _, said = broken.communicate(timeout=20)
    assert broken.returncode == 70
    assert "planted" in said and "Submitted(job=2" in said
    world.up()
    assert world.ended(job)["exit_code"] == 3
    assert world.submit("true") == job + 1
