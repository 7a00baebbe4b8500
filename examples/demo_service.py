"""The demo's hand on its own service: the command line, the API, SIGKILL, and cleaning up."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from fairlead.cli.client import Client

PATIENCE_S = 15


class Failed(Exception):
    """The demo found something that must not be."""


def cores_here() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Service:
    """One service with its own state folder; `workdir` is where commands and jobs run.

    `cores`: how many of this machine's it lends out.
    """

    def __init__(self, state: Path, workdir: Path, cores: int) -> None:
        self.state, self.workdir, self.cores = state, workdir, cores
        self.api = Client(str(state / "api.sock"))
        os.environ["FAIRLEAD_STATE"] = str(state)

    def fairlead(self, *words: str) -> dict:
        """Run a command as a user would; return its JSON. Raises Failed with its own words."""
        done = subprocess.run(
            [sys.executable, "-m", "fairlead", *words],
            cwd=self.workdir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise Failed(f"fairlead {' '.join(words)}: exit code {done.returncode}: {said}")
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def up(self) -> None:
        """Start the service in the background; returns when it answers."""
        self.fairlead("up", "--cpus", str(self.cores), "--json")

    def down(self) -> None:
        """Stop the service and its agent."""
        self.fairlead("down", "--json")

    def kill(self) -> int:
        """SIGKILL the service; return the process id once it is gone."""
        pid = int((self.state / "service.pid").read_text().split()[0])
        service = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        service.wait(PATIENCE_S)
        return pid

    def jobs(self) -> list[dict]:
        """Return every job, finished ones too, in order of their ids."""
        found = self.api.get("/jobs", {"all": 1, "limit": 1000})["jobs"]
        return sorted(found, key=lambda row: row["id"])

    def progress(self, rows: list[dict]) -> dict[int, tuple[int, int]]:
        """Return how far the running jobs are, (done, of), from the last line that they printed."""
        found = {}
        for row in rows:
            if row["phase"] == "RUNNING":
                text = b"".join(self.api.stream(f"/jobs/{row['id']}/logs", {"tail": 1}).pieces())
                step = re.findall(rb"step (\d+)/(\d+)", text)
                if step:
                    found[row["id"]] = (int(step[-1][0]), int(step[-1][1]))
        return found

    def log_tail(self, lines: int = 12) -> list[str]:
        """Return the end of the service's log; empty when there is none."""
        path = self.state / "service.log"
        return path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []

    def end_everything(self) -> None:
        """Kill whatever still runs of this service: known by its state folder, not by name."""
        deadline = time.monotonic() + PATIENCE_S
        while (left := self._processes()) and time.monotonic() < deadline:
            for process in left:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(left, timeout=1)

    def _processes(self) -> list[psutil.Process]:
        """Return the processes that carry our state folder in environment or arguments."""
        mine, found = str(self.state), []
        for process in psutil.process_iter():
            if process.pid == os.getpid():
                continue
            try:
                carried = process.environ().get("FAIRLEAD_STATE") == mine
                if carried or any(word.startswith(mine) for word in process.cmdline()):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found
