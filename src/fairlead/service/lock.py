"""Who is the service of a state folder: whoever holds the lock, whatever the files say."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

_FLOCK = "hhqqi4x"  # struct flock: type, whence, start, len, pid


class AlreadyRuns(Exception):
    """Another service holds the lock of this state folder; `pid` is its process id."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"a service runs already (process {pid})")
        self.pid = pid


class Lock:
    """The right to be the service of a state folder. The kernel frees it when the process dies."""

    def __init__(self, path: Path) -> None:
        """Take the lock and write our process id into the file; raises AlreadyRuns."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(self._fd)
            raise AlreadyRuns(running_pid(path) or 0) from None
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def running_pid(path: Path) -> int | None:
    """Return the id of the process that holds the lock, None when none does. Takes no lock."""
    try:
        with path.open("rb") as file:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, *_, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except FileNotFoundError:
        return None
    return None if kind == fcntl.F_UNLCK else int(pid)
