"""Where the service keeps what it must not lose, and how it is reached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line asks for the socket only, and starts without msgspec
    from fairlead.model.base import Misuse

SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7), less its final zero


@dataclass(frozen=True)
class Places:
    """The files of one service. All lie in `state` but the socket (see `find`)."""

    state: Path
    socket: Path

    @property
    def database(self) -> Path:
        """Return the one file with the log, the snapshots and the projections."""
        return self.state / "fairlead.db"

    @property
    def pid(self) -> Path:
        """Return the file that a living service holds locked; its text is the process id."""
        return self.state / "service.pid"

    @property
    def log(self) -> Path:
        """Return what a service in the background writes."""
        return self.state / "service.log"

    @classmethod
    def find(cls, environ: Mapping[str, str], state: str = "") -> Places:
        """Return the places: `state`, else $FAIRLEAD_STATE, else as XDG says. Creates nothing.

        In a state folder of the user's own choice the socket lies inside it; in the usual one it
        is $XDG_RUNTIME_DIR/fairlead/socket when that is set, because homes on network file
        systems cannot hold sockets.
        """
        chosen = state or environ.get("FAIRLEAD_STATE", "")
        if chosen:
            folder = Path(chosen).expanduser().absolute()
            return cls(folder, folder / "api.sock")
        base = environ.get("XDG_STATE_HOME", "")
        folder = (Path(base) if base else Path.home() / ".local" / "state") / "fairlead"
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        socket = Path(runtime) / "fairlead" / "socket" if runtime else folder / "api.sock"
        return cls(folder.absolute(), socket.absolute())

    def ensure(self) -> None:
        """Create the folders, readable by their owner alone; Misuse when that cannot be."""
        size = len(os.fsencode(self.socket))
        if size > SOCKET_PATH_BYTES_MAX:
            raise _misuse(
                f"the path of the socket {self.socket} has {size} bytes, the system allows"
                f" {SOCKET_PATH_BYTES_MAX}",
                "choose a shorter state folder with --state or FAIRLEAD_STATE",
                "path-too-long",
            )
        for folder in (self.state, self.socket.parent):
            _ensure_folder(folder)


def _ensure_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.stat()
    except OSError as error:
        raise _cannot(folder, error.strerror or str(error)) from None
    if info.st_uid != os.geteuid():
        raise _cannot(folder, f"it belongs to user {info.st_uid}, not to {os.geteuid()}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _cannot(folder, "permission denied")


def _cannot(folder: Path, why: str) -> Misuse:
    return _misuse(
        f"cannot keep state in {folder}: {why}",
        "make the folder writable for you, or choose another with --state or FAIRLEAD_STATE",
        "state-not-writable",
    )


def _misuse(message: str, hint: str, code: str) -> Misuse:
    from fairlead.model.base import Misuse

    return Misuse(message, field="state", hint=hint, code=code)
