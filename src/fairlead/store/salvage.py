"""Making a database anew from its log, whole or damaged, and swapping it in.

The log is the truth; the table of jobs and the snapshots follow from it. A rebuild writes a new
file and swaps it in atomically; a damaged file is never changed, only copied and set aside.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fairlead.model.base import JobId, Misuse, Record, StoreFailed
from fairlead.model.events import AnyEvent
from fairlead.model.status import JobStatus
from fairlead.store import schema
from fairlead.store.check import EngineType, replay, snapshot_problem
from fairlead.store.codec import Damaged, decode_status, job_row, log_rows
from fairlead.store.lock import FileLock
from fairlead.store.logfile import BadRow, Verified, chunks

_SWAP = ".swap"  # a complete new file: from its existence on, the swap will be finished
_NEW = ".new"  # a new file being written


class LostJob(Record, frozen=True):
    """A job of which events were lost: what the damaged file last said, and what is left."""

    id: JobId
    name: str = ""
    was: str = ""  # phase, "" if that could not be read
    now: str = ""  # phase after the salvage, "" if the job is gone


class Rebuilt(Record, frozen=True):
    """What a rebuild did."""

    path: str
    events: int
    jobs: int
    snapshots: int  # kept
    dropped: tuple[str, ...] = ()  # snapshots that could not be used, and why
    bad: str = ""  # why the sound part of the log ended, if it did
    kept_as: str = ""  # where the damaged file is now
    lost_events: int = 0  # seen after the sound part; there may have been more
    lost_jobs: tuple[LostJob, ...] = ()


def rebuild(path: Path, engine: EngineType, damaged: bool = False) -> Rebuilt:
    """Make the file anew from its log, drop bad snapshots, swap it in atomically.

    With `damaged`, what follows the sound part of the log is given up and the old file is kept.
    Raises Misuse (in use, missing, Damaged), StoreFailed (disk full); the old file stays then.
    """
    schema.require_file(path)
    lock = FileLock(path)
    new = _sibling(path, _NEW)
    try:
        finish_swap(path)
        with _source(path, copy=damaged) as old:
            done = _write_anew(old, path, new, engine, damaged)
        if damaged:
            done = msgspec.structs.replace(done, kept_as=str(_keep(path)))
        os.rename(new, _sibling(path, _SWAP))
        finish_swap(path)
        return done
    except (sqlite3.Error, OSError) as error:
        if schema.is_damage(error):
            raise Damaged(str(path), str(error), readable_events(path)) from error
        raise StoreFailed("; ".join(schema.in_words(error, path))) from error
    finally:
        _remove(new)
        lock.release()


def finish_swap(path: Path) -> None:
    """Finish a swap that a crash interrupted; the caller holds the lock.

    The old log's -wal must go before the new file comes, or SQLite would apply it to that.
    """
    swap = _sibling(path, _SWAP)
    if not swap.exists():
        return
    for suffix in ("-wal", "-shm"):
        _sibling(path, suffix).unlink(missing_ok=True)
    os.replace(swap, path)
    _flush_folder(path.parent)


def readable_events(path: Path) -> int:
    """Return how many events of a damaged file can be saved; 0 if none or if it is unknown."""
    try:
        with _source(path, copy=True) as db:
            seq = 0
            try:
                for rows in chunks(db):
                    seq = rows[-1][0]
            except BadRow as error:
                return error.seq - 1
            return seq
    except (sqlite3.Error, OSError, Misuse):
        return 0  # it is only for a message, and the file is damaged in ways we cannot know


def _write_anew(
    old: sqlite3.Connection, path: Path, new: Path, engine: EngineType, damaged: bool
) -> Rebuilt:
    """Write the sound part of a log, and all that follows from it, into a new file."""
    _remove(new)
    db = schema.connect(new)
    try:
        db.execute("PRAGMA synchronous=OFF")  # flushed once, at the end
        db.execute("BEGIN IMMEDIATE")

        def copy(rows: list[Verified], events: list[AnyEvent]) -> None:
            records = ((row[1], event) for row, event in zip(rows, events, strict=True))
            db.executemany(schema.INSERT_LOG, log_rows(rows[0][0] - 1 if rows else 0, records))

        images = _images(old)
        replayed = replay(old, engine, [seq for seq, _, _ in images], copy)
        if replayed.bad and not damaged:
            raise Damaged(str(path), replayed.bad, replayed.events)
        if not replayed.events and damaged:
            raise Damaged(str(path), replayed.bad or "its log is empty", 0)
        db.executemany(schema.INSERT_JOB, map(job_row, replayed.statuses.values()))
        dropped = []
        for seq, digest, packed in images:
            if why := snapshot_problem(seq, digest, packed, replayed, engine):
                dropped.append(f"after event {seq:,}: {why}")
            else:
                db.execute("INSERT INTO snapshot VALUES(?,?,?)", (seq, digest, packed))
        db.execute("COMMIT")
    finally:
        db.close()
    _flush(new)
    lost, jobs = _lost(old, replayed.events, replayed.statuses) if damaged else (0, ())
    return Rebuilt(
        path=str(path),
        events=replayed.events,
        jobs=len(replayed.statuses),
        snapshots=len(images) - len(dropped),
        dropped=tuple(dropped),
        bad=replayed.bad,
        lost_events=lost,
        lost_jobs=jobs,
    )


@contextlib.contextmanager
def _source(path: Path, copy: bool) -> Iterator[sqlite3.Connection]:
    """Open the old file for reading: itself, or, if it is damaged, a copy that may be repaired."""
    with contextlib.ExitStack() as stack:
        place = path
        if copy:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=path.parent))
            place = Path(folder, path.name)
            shutil.copyfile(path, place)
            if _sibling(path, "-wal").exists():
                shutil.copyfile(_sibling(path, "-wal"), _sibling(place, "-wal"))
        db = stack.enter_context(contextlib.closing(schema.connect_reader(place)))
        try:
            ours = schema.require_ours(db, path)
        except sqlite3.Error as error:
            if not (copy and schema.is_damage(error)):
                raise
            db.close()
            _graft_first_page(place)
            db = stack.enter_context(contextlib.closing(schema.connect_reader(place)))
            ours = schema.require_ours(db, path)
        if not ours:
            raise Misuse(
                f"{path} is empty: no event was ever stored",
                field="state",
                hint="there is nothing to rebuild",
                code="store-empty",
            )
        yield db


def _graft_first_page(path: Path) -> None:
    """Replace a destroyed first page (header and schema) by that of a fresh file.

    The tables of a schema version are always made in one order, so their root pages are the same.
    """
    fresh = path.with_name("fresh.db")
    schema.connect(fresh).close()
    page = bytearray(fresh.read_bytes()[:4096])
    page[28:32] = struct.pack(">I", path.stat().st_size // len(page))  # size of file, in pages
    with path.open("r+b") as file:
        file.write(page)


def _images(db: sqlite3.Connection) -> list[tuple[int, str, bytes]]:
    """Return the snapshots that can be read; they are for speed only."""
    try:
        return db.execute("SELECT seq, digest, body FROM snapshot ORDER BY seq").fetchall()
    except sqlite3.Error:
        return []


def _lost(
    db: sqlite3.Connection, events: int, statuses: dict[JobId, JobStatus]
) -> tuple[int, tuple[LostJob, ...]]:
    """Return how many events after the sound part were seen, and the jobs that lost some.

    Two witnesses: the index of jobs, which is on other pages than the log, and the table of jobs.
    """
    seen: set[int] = set()
    jobs: set[JobId] = set()
    with contextlib.suppress(sqlite3.Error):
        for job, seq in db.execute(
            "SELECT job, seq FROM log INDEXED BY log_job WHERE job IS NOT NULL AND seq > ?",
            (events,),
        ):
            jobs.add(job)
            seen.add(seq)
    last: dict[JobId, JobStatus] = {}
    with contextlib.suppress(sqlite3.Error, msgspec.DecodeError, UnicodeDecodeError):
        for (body,) in db.execute("SELECT CAST(status AS BLOB) FROM job"):
            status = decode_status(body)
            last[status.id] = status
            if statuses.get(status.id) != status:
                jobs.add(status.id)
    lost = []
    for job in sorted(jobs):
        was, now = last.get(job), statuses.get(job)
        shown = was or now
        lost.append(
            LostJob(
                id=job,
                name=shown.name if shown else "",
                was=was.phase.value if was else "",
                now=now.phase.value if now else "",
            )
        )
    return len(seen), tuple(lost)


def _keep(path: Path) -> Path:
    """Give the damaged file (and its -wal) a second name, so that the swap does not lose it."""
    n = 1
    while _sibling(path, f".damaged-{n}").exists():
        n += 1
    kept = _sibling(path, f".damaged-{n}")
    for suffix in ("-wal", ""):
        if _sibling(path, suffix).exists():
            _link(_sibling(path, suffix), _sibling(kept, suffix))
    _flush_folder(path.parent)
    return kept


def _link(source: Path, target: Path) -> None:
    """Link, or copy where the file system knows no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        _sibling(path, suffix).unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Bring a file's content to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
