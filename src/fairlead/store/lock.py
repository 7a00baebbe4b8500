"""One writer: a lock on a file next to the database, held for the life of the process."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from fairlead.model.base import Misuse


class FileLock:
    """An exclusive lock, taken on construction; the kernel drops it when the process dies.

    Raises Misuse, naming the holder, if another process (or store) has it. The file itself stays:
    removing it would let two processes lock two files of one name.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(database, error) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            if not isinstance(error, BlockingIOError):
                raise _unusable(database, error) from error
            raise Misuse(
                f"{database} is in use by process {holder}",
                field="state",
                hint="stop that service first (`fairlead down`), or use another state folder",
                code="store-in-use",
            ) from error
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._fd)
            raise _unusable(database, error) from error

    def release(self) -> None:
        """Let others have it; harmless the second time."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _unusable(database: Path, error: OSError) -> Misuse:
    """Return the error for a folder in which no lock can be made."""
    folder = database.parent
    if isinstance(error, FileNotFoundError):
        return Misuse(
            f"the state folder {folder} does not exist",
            field="state",
            hint=f"create it (`mkdir -m 700 -p {folder}`) or name another: FAIRLEAD_STATE",
            code="store-unusable",
        )
    return Misuse(
        f"the state folder {folder} cannot be used ({error.strerror})",
        field="state",
        hint="free some space"
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "give yourself write permission on it, or use another: FAIRLEAD_STATE=/some/folder",
        code="store-unusable",
    )
