"""The service's side of the agent: start it if none is there, find it, connect to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fairlead.backends.local import files
from fairlead.model.base import Misuse

START_S_MAX = 10.0
_POLL_S = 0.002
_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, len, pid


def agent_pid(state: Path) -> int | None:
    """Return the process id of the agent that serves this state folder, None if none lives."""
    try:
        with open(state / "agent" / "agent.lock", "rb") as lock:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, *_, pid = struct.unpack(_FLOCK, fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    except FileNotFoundError:
        return None
    return None if kind == fcntl.F_UNLCK else pid


def connect(state: Path) -> socket.socket:
    """Return a connected stream socket to the agent; one JSON message per line both ways.

    Raises OSError when no agent listens. asyncio: `open_unix_connection(sock=connect(state))`.
    """
    # By descriptor, since a socket's path may have 107 bytes and a state folder's any number.
    folder = os.open(state / "agent", os.O_PATH | os.O_DIRECTORY)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.connect(f"/proc/self/fd/{folder}/agent.sock")
    except OSError:
        connected.close()
        raise
    finally:
        os.close(folder)
    return connected


def publish_gpus(state: Path, uuids: Sequence[str]) -> None:
    """Tell the agent which device has which index; it reads this at every launch with GPUs."""
    folder = state / "agent"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_text(str(folder / "gpus"), "".join(f"{uuid}\n" for uuid in uuids).encode())


def ensure_agent(
    state: Path,
    *,
    node: str = "",
    cores: Sequence[int] = (),
    idle_s: float | None = None,
) -> None:
    """Start a detached agent unless one lives, and wait until it accepts connections.

    `cores`: ids to give out (default: those of this process). Raises Misuse if it cannot start.
    """
    state = state.absolute()
    folder = state / "agent"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    started = _spawn(state, node, cores, idle_s) if agent_pid(state) is None else None
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            connect(state).close()
            return
        if started is not None and started.poll() is not None and agent_pid(state) is None:
            break
        time.sleep(_POLL_S)
    log = folder / "agent.log"
    last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    raise Misuse(
        f"the agent did not start: {last[0] if last else 'it said nothing'}",
        hint=f"see {log}",
        code="agent",
    )


def _spawn(
    state: Path, node: str, cores: Sequence[int], idle_s: float | None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "fairlead.backends.local.host", "--state", str(state)]
    command += ["--node", node] if node else []
    command += ["--cores", ",".join(map(str, cores))] if cores else []
    command += ["--idle", str(idle_s)] if idle_s is not None else []
    # Started from inside a job, it must not carry the marks of that job's processes.
    env = {name: value for name, value in os.environ.items() if name != "FAIRLEAD_MEMBER"}
    log = os.open(
        state / "agent" / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            start_new_session=True,
        )
    finally:
        os.close(log)
