"""Process trees on Linux: adopting orphans, finding what belongs to a member, killing it."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from typing import NamedTuple

_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Process(NamedTuple):
    """What /proc says of a process that is not dead already."""

    parent: int
    group: int
    session: int


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants (a child subreaper). Raises OSError."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def table() -> dict[int, Process]:
    """Return every live process by its id."""
    found: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                text = file.read()
        except OSError:
            continue  # gone since the listing
        # The command, in parentheses, may hold anything; the fields follow the last one.
        state, parent, group, session = text[text.rindex(b")") + 2 :].split(None, 4)[:4]
        if state not in (b"Z", b"X"):
            found[int(name)] = Process(int(parent), int(group), int(session))
    return found


def descendants(roots: set[int], processes: Mapping[int, Process]) -> set[int]:
    """Return the processes that descend from any of the roots, roots not included."""
    found: set[int] = set()
    frontier = roots
    while frontier:
        frontier = {pid for pid, process in processes.items() if process.parent in frontier}
        frontier -= found | roots
        found |= frontier
    return found


def remains(supervisor: int, marker: Mapping[str, str], supervisors: set[int]) -> set[int]:
    """Return the live processes of a member whose supervisor is gone.

    Known by the marker in their environment, by the supervisor's session, as an orphan that this
    process (which has no other children than `supervisors`) adopted, or as a descendant of such
    a one. The session alone counts only while no process has the supervisor's id: a reused id
    may lead a session of strangers. `supervisor` 0: not known.
    """
    processes = table()
    me = os.getpid()
    for pid in (me, *supervisors):
        processes.pop(pid, None)
    wanted = {f"{name}={value}".encode() for name, value in marker.items()}
    by_session = supervisor > 0 and supervisor not in processes
    found = {
        pid
        for pid, process in processes.items()
        if process.parent == me
        or (by_session and process.session == supervisor)
        or wanted <= _environment(pid)
    }
    return found | descendants(found, processes)


def kill(pid: int) -> None:
    """Send SIGKILL; a process that is gone already is fine."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal: nothing else happens to it then."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            text = file.read()
    except OSError:
        return False
    mask = text.partition(b"SigCgt:")[2].split(None, 1)[:1]
    return bool(mask) and bool(int(mask[0], 16) >> (number - 1) & 1)


def _environment(pid: int) -> set[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return set(file.read().split(b"\0"))
    except OSError:
        return set()  # gone, or another user's: not ours
