"""The local backend with real processes: what a job's owner relies on when things are killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from local_node import Node, launch, shell, wait_for

from fairlead.backends.local import cgroup, files, output, process
from fairlead.backends.local.launch import agent_pid, ensure_agent, publish_gpus
from fairlead.model.jobs import Exit
from fairlead.model.resources import Shape


def test_exit_codes_and_signals_are_exact(node: Node) -> None:
    assert node.run(
        launch(1, "true"),
        shell(2, "exit 75"),
        shell(3, "exit 255"),
        shell(4, "kill -SEGV $$"),
        shell(5, "kill -9 $$"),
    ) == [Exit(code=0), Exit(code=75), Exit(code=255), Exit(signal=11), Exit(signal=9)]


def test_a_command_that_cannot_start_says_why(node: Node, tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("no program")
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    found = node.run(
        launch(1, "no-such-command"),
        launch(2, str(plain)),
        launch(3, "true", workdir="/no/such/folder"),
        launch(4, str(script)),
        launch(5, "echo", "zero\0byte"),
    )
    assert [(end.why, end.code) for end in found] == [
        ("cannot-start", 127),
        ("cannot-start", 126),
        ("cannot-start", None),
        ("cannot-start", 127),
        ("cannot-start", None),
    ]
    assert found[0].detail == "no-such-command: command not found"
    assert found[1].detail == f"{plain}: permission denied"
    assert found[2].detail == "working directory /no/such/folder: no such file or directory"
    assert found[3].detail == f"{script}: its interpreter was not found"


def test_a_job_outlives_a_killed_agent_and_its_exact_code_is_reported(node: Node) -> None:
    node.send(run=(shell(1, "sleep 0.6; echo done; exit 42"), shell(2, "sleep 0.1; exit 7")))
    node.member((1, 1, 0), "running")
    node.member((2, 1, 0), "running", "ended")
    supervisor = node.supervisor((1, 1, 0))
    node.kill_agent()
    time.sleep(0.3)  # the second job ends while no agent lives
    node.start_agent()
    assert node.member((2, 1, 0), "ended").exit == Exit(code=7)
    assert node.member((1, 1, 0), "running", "ended").started_ms is not None
    assert node.member((1, 1, 0), "ended").exit == Exit(code=42)
    assert node.supervisor((1, 1, 0)) == supervisor
    assert node.printed((1, 1, 0)) == "done\n"


def test_a_stop_that_follows_the_start_at_once_is_not_lost(node: Node) -> None:
    jobs = tuple(launch(job, "sleep", "100") for job in range(1, 6))
    node.send(run=jobs)
    node.send(stop=tuple(job.key for job in jobs))
    for job in jobs:
        assert node.member(job.key, "ended").exit == Exit(signal=15)


def test_a_new_agent_can_stop_what_its_predecessor_started(node: Node) -> None:
    node.send(run=(launch(1, "sleep", "100"),))
    node.member((1, 1, 0), "running")
    node.kill_agent()
    node.start_agent()
    node.send(stop=((1, 1, 0),))
    assert node.member((1, 1, 0), "ended").exit == Exit(signal=15)


def test_sigterm_to_the_agent_leaves_jobs_running(node: Node) -> None:
    node.send(run=(shell(1, "sleep 0.4; exit 5"),))
    node.member((1, 1, 0), "running")
    os.kill(node.agent, signal.SIGTERM)
    wait_for(lambda: agent_pid(node.state) is None)
    node.start_agent()
    assert node.member((1, 1, 0), "ended").exit == Exit(code=5)


FORKER = textwrap.dedent(
    """
    import os, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:          # a daemon: new session, orphaned, output elsewhere
        os.setsid()
        if os.fork() == 0:
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 1); os.dup2(null, 2)
            time.sleep(100)
        os._exit(0)
    print("forked", flush=True)
    while True:
        time.sleep(1)
    """
)


def test_a_program_that_ignores_sigterm_and_daemonizes_is_gone_after_its_grace(node: Node) -> None:
    job = launch(1, sys.executable, "-S", "-c", FORKER, grace_ms=400)
    node.send(run=(job,))
    wait_for(lambda: "forked" in node.printed((1, 1, 0)))
    wait_for(lambda: len(node.processes()) == 2)
    began = time.monotonic()
    node.send(stop=((1, 1, 0),))
    time.sleep(0.2)
    node.send(stop=((1, 1, 0),))  # said again: the grace does not begin anew
    end = node.member((1, 1, 0), "ended")
    took = time.monotonic() - began
    assert end.exit == Exit(signal=9)
    assert 0.4 <= took < 2
    assert node.processes() == set()
    task = Path(files.task_folder(str(node.state), (1, 1, 0)))
    assert (task / "preempt").read_text() == "400\n"


def test_a_kill_ends_a_grace_that_has_begun(node: Node) -> None:
    job = launch(1, sys.executable, "-S", "-c", FORKER, grace_ms=3_600_000)
    node.send(run=(job,))
    wait_for(lambda: "forked" in node.printed((1, 1, 0)))
    node.send(stop=((1, 1, 0),))
    node.member((1, 1, 0), "stopping")
    node.send(stop=((1, 1, 0),), kill=((1, 1, 0),))
    assert node.member((1, 1, 0), "ended").exit == Exit(signal=9)
    assert node.processes() == set()


def test_leftover_processes_end_with_the_main_process(node: Node) -> None:
    assert node.run(shell(1, "setsid sleep 100 & sleep 100 & exit 0")) == [Exit(code=0)]
    assert node.processes() == set()


def test_the_grace_is_for_the_children_of_a_shell_that_dies_of_the_notice(node: Node) -> None:
    script = "sh -c 'trap \"sleep 0.3; echo saved; exit 0\" TERM; sleep 5 & echo up; wait'; exit 1"
    node.send(run=(shell(1, script, grace_ms=5000),))
    wait_for(lambda: "up" in node.printed((1, 1, 0)))
    node.send(stop=((1, 1, 0),))
    assert node.member((1, 1, 0), "ended").exit == Exit(signal=15)
    assert "saved" in node.printed((1, 1, 0))


def test_the_notice_is_the_signal_that_the_job_asked_for(node: Node) -> None:
    script = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    node.send(run=(shell(1, script, stop_signal=int(signal.SIGUSR1)),))
    wait_for(lambda: "up" in node.printed((1, 1, 0)))
    node.send(stop=((1, 1, 0),))
    assert node.member((1, 1, 0), "ended").exit == Exit(code=9)


def test_a_killed_supervisor_is_reported_lost_and_leaves_no_process(node: Node) -> None:
    # One process hides: no mark in its environment, another session.
    node.send(run=(shell(1, "env -i setsid sleep 100 & sleep 100 & sleep 100"),))
    node.member((1, 1, 0), "running")
    wait_for(lambda: len(family(node)) == 4)
    alive = family(node)
    os.kill(node.supervisor((1, 1, 0)), signal.SIGKILL)
    end = node.member((1, 1, 0), "ended").exit
    assert end is not None and end.why == "lost"
    assert alive & set(process.table()) == set()


def family(node: Node) -> set[int]:
    return process.descendants({node.supervisor((1, 1, 0))}, process.table())


def test_supervisor_and_agent_killed_together_leave_no_process(node: Node) -> None:
    node.send(run=(shell(1, "sleep 100 & setsid sleep 100 & sleep 100"),))
    node.member((1, 1, 0), "running")
    wait_for(lambda: len(node.processes()) == 4)
    supervisor = node.supervisor((1, 1, 0))
    node.kill_agent()
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: len(node.processes()) == 4)  # one that is just being executed does not count
    node.start_agent()
    end = node.member((1, 1, 0), "ended").exit
    assert end is not None and end.why == "lost"
    assert node.processes() == set()
    node.kill_agent()
    node.start_agent()
    assert node.member((1, 1, 0), "ended").exit == end


def test_repeated_and_stale_messages_start_a_job_once(node: Node, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    job = shell(1, f"echo x >> {marks}")
    for _ in range(3):
        node.send(version=1, run=(job,))
    node.member((1, 1, 0), "ended")
    node.send(version=2, run=(job,))
    node.send(version=3, forget=((1, 1, 0),))
    node.send(version=2, run=(job,))  # delayed
    node.kill_agent_after_seen(3)
    node.start_agent()
    node.send(version=2, run=(job,))
    node.send(version=4, run=(launch(2, "true"),))
    node.member((2, 1, 0), "ended")
    assert marks.read_text() == "x\n"
    assert node.last is not None and [m.job for m in node.last.members] == [2]


def test_a_forgotten_job_keeps_its_output_and_what_it_used(node: Node) -> None:
    node.run(shell(1, "echo kept"))
    node.send(forget=((1, 1, 0),))
    node.run(launch(2, "true"))
    assert not os.path.exists(files.journal_file(str(node.state), (1, 1, 0)))
    assert node.printed((1, 1, 0)) == "kept\n"
    ended = files.journal(str(node.state), (1, 1, 0)).ended
    assert ended is not None and ended.exit == Exit(code=0) and ended.max_rss_mib >= 1


def test_the_newest_connection_wins_and_gets_the_whole_state(node: Node) -> None:
    node.send(run=(launch(1, "sleep", "100"),))
    node.member((1, 1, 0), "running")
    old = node.socket
    node.start_agent()
    assert node.member((1, 1, 0), "running")
    old.settimeout(5)
    while old.recv(65536):
        pass  # reports from before; then the end


def test_garbage_closes_the_connection_and_harms_nothing(node: Node) -> None:
    node.send(run=(shell(1, "sleep 0.2; exit 3"),))
    node.member((1, 1, 0), "running")
    node.socket.sendall(b'{"kind":"desired","version":"many"}\n')
    node.start_agent()
    assert node.member((1, 1, 0), "ended").exit == Exit(code=3)


def test_a_second_agent_on_a_state_folder_exits_with_a_clear_message(node: Node) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "fairlead.backends.local.host", "--state", str(node.state)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 1
    assert f"an agent (process {node.agent}) serves" in second.stderr
    ensure_agent(node.state)  # is content with the one that lives
    assert agent_pid(node.state) == node.agent


def test_a_job_gets_the_users_umask(node: Node) -> None:
    node.run(shell(1, "umask"))
    assert int(node.printed((1, 1, 0)), 8) == int(subprocess.getoutput("umask"), 8)


def test_socket_and_files_are_the_owners_only(node: Node) -> None:
    node.run(shell(1, "echo secret"))
    agent = node.state / "agent"
    assert stat.S_IMODE((agent / "agent.sock").stat().st_mode) == 0o600
    task = Path(files.task_folder(str(node.state), (1, 1, 0)))
    assert stat.S_IMODE(task.stat().st_mode) == 0o700
    assert stat.S_IMODE((task / "000000000000.out").stat().st_mode) == 0o600


def test_an_idle_agent_ends_itself(tmp_path: Path) -> None:
    ensure_agent(tmp_path, idle_s=0.3)
    wait_for(lambda: agent_pid(tmp_path) is None)


def test_a_long_state_path_still_gets_a_socket(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 120)
    ensure_agent(state, idle_s=0.3)
    wait_for(lambda: agent_pid(state) is None)


def test_the_environment_of_a_running_job(node: Node) -> None:
    publish_gpus(node.state, ("GPU-aa", "GPU-bb"))
    base = shell(7, "env; ulimit -n; test -d $FAIRLEAD_CHECKPOINT_DIR && echo there", attempt=2)
    job = type(base)(
        job=7, attempt=2, rank=0, spec=base.spec, devices=(1,), nodes=("10.0.0.1", "10.0.0.2")
    )
    assert node.run(job) == [Exit(code=0)]
    printed = node.printed((7, 2, 0)).splitlines()
    assert "CUDA_VISIBLE_DEVICES=GPU-bb" in printed
    assert "FAIRLEAD_RESUME=1" in printed
    assert f"FAIRLEAD_CHECKPOINT_DIR={node.state}/jobs/7/checkpoint" in printed
    assert printed[-1] == "there"
    assert printed[-2] == subprocess.getoutput("ulimit -n")  # not the agent's raised limit


def test_a_gpu_that_the_agent_does_not_know_is_refused(node: Node) -> None:
    base = launch(1, "true")
    job = type(base)(job=1, attempt=1, rank=0, spec=base.spec, devices=(3,))
    assert node.run(job) == [
        Exit(why="cannot-start", detail="GPU 3 is not known to the agent of this machine")
    ]


def test_a_job_is_pinned_to_the_cores_it_was_given(node: Node) -> None:
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    job = launch(1, sys.executable, "-S", "-c", code, shape=Shape(cpu_milli=1000))
    assert node.run(job) == [Exit(code=0)]
    assigned = files.journal(str(node.state), (1, 1, 0)).assigned
    assert assigned is not None and len(assigned.cores) == 1
    assert node.printed((1, 1, 0)) == f"{list(assigned.cores)}\n"


EATER = "x = []\nwhile True: x.append(bytearray(1 << 20))"


def test_a_job_over_its_memory_is_an_oom_or_the_probe_says_it_is_not_enforced(node: Node) -> None:
    means = cgroup.probe().memory
    if not means.by:
        assert means.because  # doctor shows it; there is nothing to test beyond
        return
    job = launch(1, sys.executable, "-S", "-c", EATER, shape=Shape(memory_mib=64))
    (end,) = node.run(job)
    assert (end.why, end.signal) == ("oom", 9)
    assert end.detail.startswith("used more than its 64 MiB of memory")
    journal = files.journal(str(node.state), (1, 1, 0))
    assert journal.supervised is not None and journal.supervised.groups
    assert not any(os.path.exists(folder) for folder in journal.supervised.groups)


def test_a_tiny_memory_request_still_starts_or_is_an_oom(node: Node) -> None:
    ends = node.run(*(launch(job, "true", shape=Shape(memory_mib=1)) for job in range(1, 4)))
    assert {end.why for end in ends} <= {"", "oom"}


def test_output_over_its_limit_keeps_head_and_tail(node: Node) -> None:
    job = shell(1, "echo first; seq 1 20000; echo last >&2", output_bytes=4 * 8192)
    assert node.run(job) == [Exit(code=0)]
    folder = files.task_folder(str(node.state), (1, 1, 0))
    kept, after, gaps = output.read(folder, 0, 1 << 20)
    whole = b"first\n" + b"".join(b"%d\n" % i for i in range(1, 20001)) + b"last\n"
    assert after == len(whole)
    assert len(gaps) == 1 and gaps[0][0] == 8192
    assert kept == whole[: gaps[0][0]] + whole[gaps[0][1] :]
    assert len(kept) <= 4 * 8192
    assert output.tail(folder, 2) == (b"20000\nlast\n", len(whole))


@pytest.mark.parametrize("count", [60])
def test_many_short_jobs_at_once_all_end_well(node: Node, count: int) -> None:
    assert node.run(*(launch(job, "true") for job in range(1, count + 1))) == [Exit(code=0)] * count
