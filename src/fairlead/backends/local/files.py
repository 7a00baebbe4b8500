"""The files of members: what is where, and reading and writing records whole or not at all.

<state>/agent/members/<job>.<attempt>.<rank>/   a member's record, until it is forgotten
    launch.json   written before the fork: from here on the member exists
    lock          held (flock) by the supervisor as long as it lives
    pid           the supervisor's process id
    cgroups       the control groups of the member, one path per line
    started.json  the command was executed
    exit.json     the end, its whole process tree gone; written before the lock is released
    task/         $FAIRLEAD_TASK_DIR
<state>/jobs/<job>/checkpoint/                  $FAIRLEAD_CHECKPOINT_DIR, survives restarts
<state>/jobs/<job>/<attempt>.<rank>/            output segments; exit.json moves here at the end

Nothing is synced: the kernel keeps written files whatever processes die, and after a power loss
no process is left that they could describe.
"""

from __future__ import annotations

import os
from typing import TypeVar

import msgspec

from fairlead.model.base import Ms, Record
from fairlead.model.jobs import Exit
from fairlead.model.messages import Launch, MemberKey


class Assignment(Record, frozen=True):
    """launch.json: a member and what of this node it was given."""

    launch: Launch
    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] = ()  # UUIDs


class Started(Record, frozen=True):
    """started.json: the main process, and when it was executed."""

    pid: int
    at_ms: Ms


class Ending(Record, frozen=True):
    """exit.json: how a member ended and what its reaped processes used in total."""

    exit: Exit
    started_ms: Ms | None = None
    ended_ms: Ms
    max_rss_mib: int = 0  # the largest single process
    cpu_ms: int = 0


R = TypeVar("R", bound=Record)


def agent_folder(state: str) -> str:
    """Return the folder of the agent's own files."""
    return os.path.join(state, "agent")


def key_name(key: MemberKey) -> str:
    """Return the key as text: job.attempt.rank."""
    return f"{key[0]}.{key[1]}.{key[2]}"


def parse_key(name: str) -> MemberKey | None:
    """Return the key that `key_name` wrote, None for other text."""
    parts = name.split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        return None
    return (int(parts[0]), int(parts[1]), int(parts[2]))


def member_folder(state: str, key: MemberKey) -> str:
    """Return the folder of a member's record."""
    return os.path.join(state, "agent", "members", key_name(key))


def task_folder(state: str, key: MemberKey) -> str:
    """Return the member's $FAIRLEAD_TASK_DIR."""
    return os.path.join(member_folder(state, key), "task")


def checkpoint_folder(state: str, job: int) -> str:
    """Return the job's $FAIRLEAD_CHECKPOINT_DIR; restarts of the job find it again."""
    return os.path.join(state, "jobs", str(job), "checkpoint")


def output_folder(state: str, key: MemberKey) -> str:
    """Return the folder of a member's output; it outlives the member's record."""
    return os.path.join(state, "jobs", str(key[0]), f"{key[1]}.{key[2]}")


def write_text(path: str, text: bytes) -> None:
    """Replace the file at once: readers see the old content or the new. Raises OSError."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, text)  # a regular file takes all of it, or raises when the disk is full
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)


def read_text(path: str) -> bytes | None:
    """Return the file's content, None when there is no such file."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        return None


def write_record(path: str, record: Record) -> None:
    """Replace the file by this record as JSON. Raises OSError."""
    write_text(path, msgspec.json.encode(record))


def read_record(path: str, kind: type[R]) -> R | None:
    """Return the record; None when there is none or a power loss tore it."""
    text = read_text(path)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError:
        return None


def remove_tree(path: str) -> None:
    """Delete a folder and what is in it; follows no links. Raises OSError."""
    # shutil would do, but it costs the agent a megabyte of compressors.
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
            else:
                os.unlink(entry.path)
    os.rmdir(path)


def drop_member(state: str, key: MemberKey) -> None:
    """Delete a member's record; what it printed and used stays with the job. Raises OSError."""
    folder = member_folder(state, key)
    try:
        os.unlink(os.path.join(folder, "launch.json"))  # first: without it there is no member
    except FileNotFoundError:
        return
    kept = output_folder(state, key)
    os.makedirs(kept, 0o700, exist_ok=True)
    os.rename(os.path.join(folder, "exit.json"), os.path.join(kept, "exit.json"))
    remove_tree(folder)
