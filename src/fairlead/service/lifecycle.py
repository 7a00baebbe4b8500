"""Starting a service that outlives its terminal, and stopping one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fairlead.backends.local.launch import agent_pid
from fairlead.service.lock import running_pid
from fairlead.service.places import Places

POLL_S = 0.02
STOP_S_MAX = 30.0
LOG_BYTES_MAX = 16 * 2**20  # then it is moved to service.log.old
LAST_WORDS_BYTES = 8192


def absolute_python_path() -> None:
    """Make $PYTHONPATH absolute: the service and the agent live in the state folder."""
    path = os.environ.get("PYTHONPATH", "")
    if path:
        os.environ["PYTHONPATH"] = os.pathsep.join(
            os.path.abspath(part) for part in path.split(os.pathsep) if part
        )


class Started:
    """A service process in the background, while it comes up."""

    def __init__(self, places: Places, options: Sequence[str]) -> None:
        """Start it. It survives this process and its terminal; it writes to service.log."""
        absolute_python_path()
        environ = dict(os.environ)
        if environ.get("FAIRLEAD_STATE"):  # it may be relative to where we are now
            environ["FAIRLEAD_STATE"] = str(places.state)
        self._log = places.log
        _rotate(places.log)
        log = os.open(places.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._begin = os.fstat(log).st_size
        try:
            self.process = subprocess.Popen(
                # -P: a file of the user's named like a module of ours must not be imported.
                [sys.executable, "-P", "-m", "fairlead", "up", "--foreground", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=places.state,
                env=environ,
                start_new_session=True,
            )
        finally:
            os.close(log)

    def wait(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it is ready; False when it ended, or the time was over, first."""
        until = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < until:
            if ready():
                return True
            time.sleep(POLL_S)
        return False

    def last_words(self) -> list[str]:
        """Return what it wrote to the log since it was started, at most the last lines."""
        with self._log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(self._begin, size - LAST_WORDS_BYTES))
            return file.read().decode(errors="replace").splitlines()


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.old"))


def stop_service(places: Places, pid: int) -> bool:
    """Ask the service to stop and wait until its lock is free; False when it does not stop."""
    return _stop(pid, lambda: running_pid(places.pid))


def stop_agent(places: Places) -> bool:
    """Stop the agent if there is one; jobs, if there are any, run on under their supervisors."""
    pid = agent_pid(places.state)
    return pid is None or _stop(pid, lambda: agent_pid(places.state))


def _stop(pid: int, holder: Callable[[], int | None]) -> bool:
    until = time.monotonic() + STOP_S_MAX
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    while holder() == pid:
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def members_left(places: Places) -> int:
    """Return how many members the agent has on record, so that it should not be stopped."""
    folder = places.state / "agent" / "members"
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
