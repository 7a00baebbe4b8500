"""The real store: one SQLite file with the log, snapshots and the table of jobs.

Output commit rests on `append`: one transaction, flushed to the disk before it returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import msgspec

from fairlead.model.base import JobId, Misuse, Ms, StoreFailed
from fairlead.model.events import AnyEvent
from fairlead.model.jobs import JobSpec
from fairlead.model.status import JobStatus
from fairlead.store import salvage, schema
from fairlead.store.codec import (
    ALL_JOBS,
    PROGRESSED,
    STORY_MAX,
    Damaged,
    JobFilter,
    decode_event,
    decode_status,
    job_row,
    log_rows,
    pack,
    spec_in,
    unpack,
)
from fairlead.store.lock import FileLock
from fairlead.store.logfile import BadRow, chunks, last_seq

SNAPSHOTS_KEPT = 2


class SqliteStore:
    """A durable store in one file, for one thread of one process. Use as a context manager.

    Opening raises Misuse in words: no permission, in use, not ours, newer, damaged. A failed write
    raises StoreFailed and leaves nothing behind; the store works again when the cause is gone.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._last: int | None = None
        self._lock = FileLock(self.path)
        try:
            salvage.finish_swap(self.path)
            self._db: sqlite3.Connection | None = self._open()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def seq(self) -> int:
        """The sequence number of the last durable event, 0 if there is none."""
        if self._last is None:
            with self._reading() as db:
                self._last = last_seq(db)
        return self._last

    def append(
        self, records: Sequence[tuple[Ms, AnyEvent]], statuses: Sequence[JobStatus] = ()
    ) -> int:
        """Write events, and the statuses that follow from them, in one commit.

        Durable on return; returns the last sequence number. Raises StoreFailed: nothing of it is
        in the store (only where the very flush failed *and* the machine then dies before the next
        append, it may be back, whole, after the restart).
        """
        if not records and not statuses:
            return self.seq
        with self._transaction() as db:
            last = self.seq
            db.executemany(schema.INSERT_LOG, log_rows(last, records))
            db.executemany(schema.INSERT_JOB, map(job_row, statuses))
        self._last = last + len(records)
        return self._last

    def replay(self, after: int = 0) -> Iterator[tuple[int, Ms, AnyEvent]]:
        """Yield (seq, time, event) after a sequence number, in order. Raises Damaged."""
        with self._reading() as db:
            for rows in chunks(db, after):
                for seq, at_ms, body in rows:
                    yield seq, at_ms, decode_event(body)

    def save_snapshot(self, seq: int, digest: str, body: bytes) -> None:
        """Keep an image of the core after event `seq`; only the last two stay.

        Raises StoreFailed.
        """
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO snapshot VALUES(?,?,?)", (seq, digest, pack(body)))
            db.execute(
                "DELETE FROM snapshot WHERE seq NOT IN "
                "(SELECT seq FROM snapshot ORDER BY seq DESC LIMIT ?)",
                (SNAPSHOTS_KEPT,),
            )

    def snapshots(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield (seq, digest, body), newest first, without those that cannot be of use."""
        with self._reading() as db:
            wanted = db.execute(
                "SELECT seq FROM snapshot WHERE seq <= ? ORDER BY seq DESC", (self.seq,)
            ).fetchall()
        for (seq,) in wanted:
            image = self._snapshot(seq)
            if image is not None:
                yield seq, *image

    def story(
        self, job: JobId, after: int = 0, limit: int = STORY_MAX, *, progress: bool = True
    ) -> list[tuple[int, Ms, AnyEvent]]:
        """Return what happened to a job, oldest first, after a sequence number.

        `progress`: also how far it was, again and again.
        """
        with self._reading() as db:
            rows = db.execute(
                "SELECT seq, at_ms, CAST(body AS BLOB) FROM log "
                "WHERE job = ? AND seq > ? AND (? OR kind != ?) ORDER BY seq LIMIT ?",
                (job, after, progress, PROGRESSED, limit),
            ).fetchall()
            return [(seq, at_ms, decode_event(body)) for seq, at_ms, body in rows]

    def spec_of(self, job: JobId) -> JobSpec | None:
        """Return what was submitted; None if there is no such job."""
        story = self.story(job, limit=1)
        return spec_in(story[0][2]) if story else None

    def status_of(self, job: JobId) -> JobStatus | None:
        """Return the last durable status of a job; None if there is no such job."""
        found = self.history(JobFilter(ids=(job,)), limit=1)
        return found[0] if found else None

    def history(
        self, which: JobFilter = ALL_JOBS, limit: int = 100, before: JobId | None = None
    ) -> list[JobStatus]:
        """Return jobs, finished or not, newest (largest id) first; `before` pages on."""
        where, values = _where(which, before)
        with self._reading() as db:
            rows = db.execute(
                f"SELECT CAST(status AS BLOB) FROM job{where} ORDER BY id DESC LIMIT ?",
                (*values, limit),
            ).fetchall()
            return [decode_status(body) for (body,) in rows]

    def count(self, which: JobFilter = ALL_JOBS) -> int:
        """Return how many jobs pass."""
        where, values = _where(which, None)
        with self._reading() as db:
            return int(db.execute(f"SELECT count(*) FROM job{where}", values).fetchone()[0])

    def close(self) -> None:
        """Close the file and let others have it; harmless the second time."""
        if self._db is not None:
            self._db.close()
            self._db = None
        self._lock.release()

    def _open(self) -> sqlite3.Connection:
        """Open the file, looking before touching: what is damaged or not ours stays as it is."""
        try:
            if self.path.exists():
                reader = schema.connect_reader(self.path)
                try:
                    if schema.require_ours(reader, self.path):
                        last_seq(reader)
                finally:
                    reader.close()
            return schema.connect(self.path)
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def _connection(self) -> sqlite3.Connection:
        """Return the connection, opened anew if a failure made it useless."""
        if self._db is None:
            self._db = self._open()
        return self._db

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Run reads; what SQLite finds broken becomes Misuse in words."""
        try:
            yield self._connection()
        except (BadRow, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._damaged(error) from error
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _snapshot(self, seq: int) -> tuple[str, bytes] | None:
        """Return one snapshot's digest and body; None if it is gone or broken."""
        with self._reading() as db:
            row = db.execute("SELECT digest, body FROM snapshot WHERE seq = ?", (seq,)).fetchone()
        return unpack(row)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run writes in one commit, flushed on return; or in none, with StoreFailed."""
        try:
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        except (sqlite3.Error, OSError, Misuse) as error:
            self._undo()
            if isinstance(error, Misuse):
                raise StoreFailed(f"{error.message}; {error.hint}") from error
            raise StoreFailed("; ".join(schema.in_words(error, self.path))) from error
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        """Leave nothing of a failed write behind."""
        self._last = None  # whatever happened, the file knows
        if self._db is None:
            return
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            self._db.close()  # also undoes; the next use opens it again
            self._db = None

    def _unusable(self, error: Exception) -> Misuse:
        """Return the error for a file that cannot be opened or read."""
        if schema.is_damage(error):
            return self._damaged(error)
        return schema.unusable(error, self.path)

    def _damaged(self, error: Exception) -> Damaged:
        """Return the error for a broken file, with how much of it can be saved."""
        return Damaged(str(self.path), str(error), salvage.readable_events(self.path))


def _where(which: JobFilter, before: JobId | None) -> tuple[str, list[str | int]]:
    """Return a filter as SQL and its values; the same rule as `JobFilter.matches`."""
    terms: list[str] = []
    values: list[str | int] = []
    for column in ("tenant", "queue", "user", "name"):
        if value := getattr(which, column):
            terms.append(f"{column} = ?")
            values.append(value)
    if which.phases:
        terms.append(f"phase IN ({','.join('?' * len(which.phases))})")
        values += [phase.value for phase in which.phases]
    if which.ids:  # as one value: SQLite bounds how many a statement may have
        terms.append("id IN (SELECT value FROM json_each(?))")
        values.append(str(list(which.ids)))
    if before is not None:
        terms.append("id < ?")
        values.append(before)
    return (" WHERE " + " AND ".join(terms) if terms else ""), values
