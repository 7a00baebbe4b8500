"""The files of members: what is where, and the journal that tells a member's life.

<state>/agent/members/<job>.<attempt>.<rank>   a member's journal, until it is forgotten
<state>/jobs/<job>/checkpoint/                 $FAIRLEAD_CHECKPOINT_DIR, survives restarts
<state>/jobs/<job>/<attempt>.<rank>/           $FAIRLEAD_TASK_DIR: output segments, the file
                                               `preempt`, and at last the journal

The journal has one JSON record per line: the agent writes `Assigned`, locks the file (flock) and
forks; the supervisor inherits the lock, holds it as long as it lives and appends the rest. So
whoever finds the lock free reads there how the member ended, or knows that its supervisor was
killed. One file, since creating and deleting files is most of what a short job costs.

Nothing is synced: the kernel keeps written files whatever processes die, and after a power loss
no process is left that they could describe. Lines that are torn count as not written.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TypeAlias

import msgspec

from fairlead.model.base import Ms, Record
from fairlead.model.jobs import Exit
from fairlead.model.messages import Launch, MemberKey


class Assigned(Record, frozen=True, tag_field="kind", tag="assigned"):
    """The member exists, and what of this node it was given."""

    launch: Launch
    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()  # UUIDs
    boot: str = ""  # the life of the node; nothing of a member survives it


class Supervised(Record, frozen=True, tag_field="kind", tag="supervised"):
    """The supervisor's process id, and the folders of the member's control groups."""

    pid: int
    groups: tuple[str, ...] = ()


class Started(Record, frozen=True, tag_field="kind", tag="started"):
    """The command was executed, as this process."""

    pid: int
    at_ms: Ms


class Ended(Record, frozen=True, tag_field="kind", tag="ended"):
    """The member is gone, its process tree too; what its reaped processes used in total."""

    exit: Exit
    ended_ms: Ms
    started_ms: Ms | None = None
    max_rss_mib: int = 0  # the largest single process
    cpu_ms: int = 0


Entry: TypeAlias = Assigned | Supervised | Started | Ended
_entry = msgspec.json.Decoder(Entry)


class Journal:
    """A member's journal as far as it is written."""

    assigned: Assigned | None = None
    supervised: Supervised | None = None
    started: Started | None = None
    ended: Ended | None = None

    @classmethod
    def read(cls, path: str) -> Journal:
        """Read the file; without one the journal is empty. Raises OSError."""
        journal = cls()
        for line in (read_text(path) or b"").splitlines():
            with contextlib.suppress(msgspec.MsgspecError):  # torn
                entry = _entry.decode(line)
                if isinstance(entry, Assigned):
                    journal.assigned = entry
                elif isinstance(entry, Supervised):
                    journal.supervised = entry
                elif isinstance(entry, Started):
                    journal.started = entry
                else:
                    journal.ended = entry
        return journal


def append(fd: int, entry: Entry) -> None:
    """Append to a journal. Raises OSError; what then was written in part counts as nothing."""
    line = b"\n%b\n" % msgspec.json.encode(entry)  # a torn line before it stays by itself
    if os.write(fd, line) != len(line):
        # A regular file takes less for no other reason.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def key_name(key: MemberKey) -> str:
    """Return the key as text: job.attempt.rank."""
    return f"{key[0]}.{key[1]}.{key[2]}"


def parse_key(name: str) -> MemberKey | None:
    """Return the key that `key_name` wrote, None for other text."""
    parts = name.split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return None
    return (int(parts[0]), int(parts[1]), int(parts[2]))


def agent_folder(state: str) -> str:
    """Return the folder of the agent's own files."""
    return os.path.join(state, "agent")


def journal_file(state: str, key: MemberKey) -> str:
    """Return the path of a member's journal until the member is forgotten."""
    return os.path.join(state, "agent", "members", key_name(key))


def checkpoint_folder(state: str, job: int) -> str:
    """Return the job's $FAIRLEAD_CHECKPOINT_DIR; restarts of the job find it again."""
    return os.path.join(state, "jobs", str(job), "checkpoint")


def task_folder(state: str, key: MemberKey) -> str:
    """Return the member's $FAIRLEAD_TASK_DIR with its output; it outlives the record."""
    return os.path.join(state, "jobs", str(key[0]), f"{key[1]}.{key[2]}")


def journal(state: str, key: MemberKey) -> Journal:
    """Return a member's journal, forgotten or not; empty if there never was one."""
    found = Journal.read(journal_file(state, key))
    if found.assigned is None:
        found = Journal.read(os.path.join(task_folder(state, key), "journal"))
    return found


def drop_member(state: str, key: MemberKey) -> None:
    """Forget a member; its journal goes to its output, which stays. Raises OSError."""
    folder = task_folder(state, key)
    os.makedirs(folder, 0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.rename(journal_file(state, key), os.path.join(folder, "journal"))


def write_text(path: str, text: bytes) -> None:
    """Replace the file at once: readers see the old content or the new. Raises OSError."""
    with open(f"{path}.new", "wb", buffering=0, opener=_private) as file:
        file.write(text)
    os.rename(f"{path}.new", path)


def read_text(path: str) -> bytes | None:
    """Return the file's content, None when there is no such file. Raises OSError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
