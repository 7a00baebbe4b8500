"""The SQLite file: its tables, how it is opened, and its errors in words."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote

from fairlead.model.base import Misuse

SCHEMA_VERSION = 1

# The order is part of the format: it fixes the root pages, which lets `salvage` replace a
# destroyed first page by that of a fresh file.
_TABLES = (
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE log(
        seq INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL,
        version INTEGER NOT NULL, job INTEGER, checksum INTEGER NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX log_job ON log(job) WHERE job IS NOT NULL",
    "CREATE TABLE snapshot(seq INTEGER PRIMARY KEY, digest TEXT NOT NULL, body BLOB NOT NULL)",
    """CREATE TABLE job(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, user TEXT NOT NULL, tenant TEXT NOT NULL,
        queue TEXT NOT NULL, phase TEXT NOT NULL, submitted_ms INTEGER NOT NULL,
        first_started_ms INTEGER, started_ms INTEGER, ended_ms INTEGER, exit_code INTEGER,
        exit_signal INTEGER, because TEXT NOT NULL, nodes TEXT NOT NULL, status TEXT NOT NULL)""",
)

INSERT_LOG = "INSERT INTO log VALUES(?,?,?,?,nullif(?,0),?,?)"
INSERT_JOB = (
    "INSERT OR REPLACE INTO job VALUES(?,?,?,?,?,?,?,nullif(?,-1),nullif(?,-1),nullif(?,-1),"
    "nullif(?,-1),nullif(?,-1),?,?,?)"
)
SELECT_JOB = (
    "SELECT id, name, user, tenant, queue, phase, submitted_ms, ifnull(first_started_ms, -1), "
    "ifnull(started_ms, -1), ifnull(ended_ms, -1), ifnull(exit_code, -1), "
    "ifnull(exit_signal, -1), because, nodes, status FROM job"
)

_PAGE_BYTES_MIN = 512
_CHECKPOINT_PAGES = 4_000  # 16 MiB: a burst of 5,000 submissions (4 MiB) must not wait for one
_WAL_KEPT_BYTES = 64 * 2**20  # what a long read transaction made it grow to is given back
_CACHE_KIB = 8_192


def create(db: sqlite3.Connection) -> None:
    """Create the tables, in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES('schema', ?)", (str(SCHEMA_VERSION),))
    db.execute("COMMIT")


def connect(path: Path) -> sqlite3.Connection:
    """Open for writing, create what is not there. Raises sqlite3.Error, OSError, Misuse."""
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if not os.access(path, os.W_OK):  # SQLite would open it, and fail at the first write
        raise PermissionError("it may only be read")
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise Misuse(
                f"the file system of {path} cannot keep a write-ahead log (SQLite stays in "
                f"{mode!r} mode)",
                field="state",
                hint="use a local disk, not a network share: FAIRLEAD_STATE=/local/folder",
                code="store-unusable",
            )
        for pragma in (
            "synchronous=FULL",
            f"wal_autocheckpoint={_CHECKPOINT_PAGES}",
            f"journal_size_limit={_WAL_KEPT_BYTES}",
            f"cache_size=-{_CACHE_KIB}",
            "cell_size_check=ON",
        ):
            db.execute(f"PRAGMA {pragma}")
        if not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
            create(db)
    except BaseException:
        db.close()
        raise
    return db


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open for reading only; a service may be writing meanwhile. Raises sqlite3.Error."""
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    return sqlite3.connect(address, uri=True, isolation_level=None, timeout=10)


def require_ours(db: sqlite3.Connection, path: Path) -> bool:
    """Raise Misuse unless this is our database, of a version that this program knows.

    Returns False for an empty file: a crash can come between its creation and its tables.
    """
    if not db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        with path.open("rb") as file:
            head = file.read(_PAGE_BYTES_MIN)
        # SQLite takes anything shorter than a page for an empty database, and would overwrite it.
        if head and (len(head) < _PAGE_BYTES_MIN or not head.startswith(b"SQLite format 3\0")):
            raise Misuse(
                f"{path} is not a database",
                field="state",
                hint="name another file or another state folder",
                code="store-unusable",
            )
        return False
    ours = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone()
    row = ours and db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if not row:
        raise Misuse(
            f"{path} is an SQLite database, but not one of Fairlead's",
            field="state",
            hint="name another file or another state folder",
            code="store-unusable",
        )
    if not str(row[0]).isdigit() or int(row[0]) > SCHEMA_VERSION:
        raise Misuse(
            f"{path} was written by a newer Fairlead (schema {row[0]}; this program knows "
            f"{SCHEMA_VERSION})",
            field="state",
            hint="install the newer version again, or use another state folder",
            code="store-newer",
        )
    return True


def require_file(path: Path) -> None:
    """Raise Misuse unless there is a file."""
    if not path.exists():
        raise Misuse(
            f"there is no database at {path}",
            field="state",
            hint="name the state folder with --state or the file with --file",
            code="store-missing",
        )


def is_damage(error: Exception) -> bool:
    """Whether SQLite says that the file itself is broken."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def unusable(error: Exception, path: Path) -> Misuse:
    """Return the error for a file that cannot be opened or read."""
    message, hint = in_words(error, path)
    return Misuse(message, field="state", hint=hint, code="store-unusable")


def in_words(error: Exception, path: Path) -> tuple[str, str]:
    """Return what went wrong and what to do about it."""
    code, folder = _code(error), path.parent
    if isinstance(error, PermissionError) or code in (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    ):
        return (
            f"{path} cannot be opened for writing ({error})",
            f"give yourself write permission on {folder} and what is in it, or use another "
            "state folder: FAIRLEAD_STATE=/some/folder",
        )
    if code == sqlite3.SQLITE_FULL:
        return (
            f"the disk is full: {path} could not grow",
            f"free some space (`df -h {folder}`) and try again; what was acknowledged is safe",
        )
    if code == sqlite3.SQLITE_IOERR or isinstance(error, OSError):
        return (
            f"writing {path} failed ({getattr(error, 'sqlite_errorname', error)})",
            f"the disk is full, over quota or broken: look at `df -h {folder}`, `quota` and "
            "`dmesg`; what was acknowledged is safe",
        )
    if is_damage(error):
        return (
            f"the database {path} is damaged ({error})",
            f"stop the service and run `fairlead store check --file {path}`",
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return (
            f"another program has locked {path}",
            f"close it (`fuser {path}` names it) and try again",
        )
    return (
        f"the database {path} refused a write ({error})",
        f"run `fairlead store check --file {path}`",
    )


def _code(error: Exception) -> int:
    """Return SQLite's primary error code, 0 if it has none."""
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
