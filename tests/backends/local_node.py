"""A real agent on a temporary state folder, and a client that speaks to it as the service does."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from fairlead.backends.local import files, output, process
from fairlead.backends.local.launch import agent_pid, connect, ensure_agent
from fairlead.model.jobs import Exit, JobSpec
from fairlead.model.messages import Desired, Launch, MemberKey, MemberState, Report
from fairlead.model.resources import Shape

WAIT_S = 20.0


def launch(
    job: int, *command: str, attempt: int = 1, shape: Shape | None = None, **spec: object
) -> Launch:
    """A member of one, on no control group unless `shape` asks for one."""
    made = JobSpec(shape=shape or Shape(cpu_milli=0), command=command, **spec)
    return Launch(job=job, attempt=attempt, rank=0, spec=made, nodes=("127.0.0.1",))


def shell(job: int, script: str, **more: object) -> Launch:
    return launch(job, "/bin/sh", "-c", script, **more)


class Node:
    """The agent of one state folder and the connection to it."""

    def __init__(self, state: Path) -> None:
        self.state, self.version = state, 0
        self.placed: dict[MemberKey, int] = {}  # the version that first asked for a member
        self.start_agent()

    def start_agent(self) -> None:
        ensure_agent(self.state, node="n0", idle_s=60)
        self.socket = connect(self.state)
        self._rest = b""
        self.last: Report | None = None

    @property
    def agent(self) -> int:
        pid = agent_pid(self.state)
        assert pid is not None
        return pid

    def kill_agent(self) -> None:
        pid = self.agent
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: agent_pid(self.state) is None)
        self.socket.close()

    def kill_agent_after_seen(self, version: int) -> None:
        while self.last is None or self.last.seen < version:
            assert self.report() is not None
        self.kill_agent()

    def send(self, **desired: object) -> None:
        """Send the desired state as a newer version unless `version` is given."""
        self.version = int(desired.pop("version", self.version + 1))
        desired["run"] = tuple(
            replace(each, placed=self.placed.setdefault(each.key, self.version))
            for each in desired.get("run", ())
        )
        message = Desired(version=self.version, **desired)
        self.socket.sendall(msgspec.json.encode(message) + b"\n")

    def report(self, wait_s: float = WAIT_S) -> Report | None:
        while b"\n" not in self._rest:
            if not select.select([self.socket], [], [], wait_s)[0]:
                return None
            data = self.socket.recv(1 << 20)
            assert data, "the agent hung up"
            self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        self.last = msgspec.json.decode(lines[-1], type=Report)
        return self.last

    def member(self, key: MemberKey, *states: str) -> MemberState:
        """Wait until the member is reported in one of these states."""
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until:
            for state in self.last.members if self.last else ():
                if state.key == key and state.state in states:
                    return state
            self.report(max(0.0, until - time.monotonic()))
        raise AssertionError(f"{key} is not {states}: {self.last}")

    def run(self, *launches: Launch) -> list[Exit]:
        self.send(run=launches)
        ends = [self.member(launch.key, "ended").exit for launch in launches]
        return [end for end in ends if end is not None]

    def printed(self, key: MemberKey) -> str:
        return output.read(files.task_folder(str(self.state), key), 0, 1 << 20)[0].decode()

    def supervisor(self, key: MemberKey) -> int:
        journal = files.journal(str(self.state), key)
        assert journal.supervised is not None
        return journal.supervised.pid

    def processes(self) -> set[int]:
        """Every live process that carries the mark of a member of this state folder."""
        mark = f"FAIRLEAD_TASK_DIR={self.state}/".encode()
        found = set()
        for pid in process.table():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes():
                    found.add(pid)
        return found

    def close(self) -> None:
        self.socket.close()
        pid = agent_pid(self.state)
        family = process.descendants({pid}, process.table()) if pid else set()
        for one in family | self.processes():
            process.kill(one)
        if pid:
            time.sleep(0.02)  # it removes the control groups of what was just lost
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda: agent_pid(self.state) is None)


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.005)
