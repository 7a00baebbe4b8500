"""Is a database sound? Reads everything, recomputes what can be recomputed, changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from fairlead.model.base import JobId, Ms, Record
from fairlead.model.events import AnyEvent
from fairlead.model.status import JobStatus
from fairlead.store import schema
from fairlead.store.codec import JobRow, job_of, job_row, kind_of, unpack
from fairlead.store.logfile import BadRow, Verified, chunks, event_in

SHOWN_MAX = 10  # problems of one kind that are told one by one


class Changes(Protocol):
    """What the core says changed."""

    @property
    def statuses(self) -> Sequence[JobStatus]:
        """The latest status of each job that changed."""
        ...


class Engine(Protocol):
    """What is needed of `core.engine.Core`; the store may not import it."""

    def apply(self, now: Ms, event: AnyEvent) -> None:
        """Change the state by one event."""
        ...

    def digest(self) -> str:
        """Return the digest of the whole state."""
        ...

    def drain(self) -> Changes:
        """Return what changed since the last drain."""
        ...


class EngineType(Protocol):
    """The class `Core` itself."""

    def __call__(self) -> Engine:
        """Return an empty core."""
        ...

    def load(self, body: bytes) -> Engine:
        """Return the core of a snapshot."""
        ...


class Replayed(Record, frozen=True):
    """What the log amounts to: its sound part, and where and why that ends."""

    events: int
    statuses: dict[JobId, JobStatus]
    digests: dict[int, str]  # at the sequence numbers asked for
    bad: str = ""


class Finding(Record, frozen=True):
    """One part of the database: sound or not, and what is wrong with it."""

    part: str
    ok: bool
    summary: str
    problems: tuple[str, ...] = ()


class CheckReport(Record, frozen=True):
    """The findings about one database file."""

    path: str
    ok: bool
    events: int  # that can be trusted, from the first on
    jobs: int
    findings: tuple[Finding, ...]


def replay(
    db: sqlite3.Connection,
    engine: EngineType,
    marks: Iterable[int] = (),
    each: Callable[[list[Verified], list[AnyEvent]], None] | None = None,
) -> Replayed:
    """Apply the log to an empty core as far as it is sound; digests are taken at `marks`.

    `each` gets every sound stretch of rows and events.
    """
    core = engine()
    digests: dict[int, str] = {}
    statuses: dict[JobId, JobStatus] = {}
    wanted = set(marks)
    seq, bad = 0, ""
    if 0 in wanted:
        digests[0] = core.digest()
    try:
        for rows in chunks(db):
            events: list[AnyEvent] = []
            try:
                for row in rows:
                    event = event_in(row)
                    _apply(core, row, event)
                    seq = row[0]
                    events.append(event)
                    if seq in wanted:
                        digests[seq] = core.digest()
            finally:
                if each is not None:
                    each(rows[: len(events)], events)
            for status in core.drain().statuses:
                statuses[status.id] = status
    except BadRow as error:
        bad = str(error)
        statuses = _statuses_of(db, engine, seq)
    return Replayed(events=seq, statuses=statuses, digests=digests, bad=bad)


def check(path: Path, engine: EngineType) -> CheckReport:
    """Check everything about a database, also while a service uses it. Raises Misuse."""
    schema.require_file(path)
    db = schema.connect_reader(path)
    try:
        if not schema.require_ours(db, path):
            finding = Finding(part="file", ok=True, summary="empty: no event was ever stored")
            return CheckReport(path=str(path), ok=True, events=0, jobs=0, findings=(finding,))
        db.execute("BEGIN")  # one view of everything, whatever a service writes meanwhile
        return _report(db, path, engine)
    except sqlite3.Error as error:
        if not schema.is_damage(error):
            raise schema.unusable(error, path) from error
        finding = Finding(part="file", ok=False, summary=f"SQLite cannot read it: {error}")
        return CheckReport(path=str(path), ok=False, events=0, jobs=0, findings=(finding,))
    finally:
        db.close()


def _report(db: sqlite3.Connection, path: Path, engine: EngineType) -> CheckReport:
    """Gather the findings, in the order in which one rests on the other."""
    mislabelled: list[str] = []

    def labels(rows: list[Verified], events: list[AnyEvent]) -> None:
        if rows:
            mislabelled.extend(_mislabelled(db, rows, events))

    file = _attempt("file", lambda: _file(db, path))
    stored, broken = _read_all(db, "SELECT seq, digest, body FROM snapshot ORDER BY seq")
    replayed = replay(db, engine, [row[0] for row in stored], labels)
    problems = tuple(filter(None, (replayed.bad, *mislabelled)))
    log = Finding(
        part="log",
        ok=not problems,
        summary=f"{replayed.events:,} events are sound"
        if problems
        else f"{replayed.events:,} events: none missing, none altered, all replay",
        problems=_shown(problems),
    )
    findings = (
        file,
        log,
        _snapshots(stored, broken, replayed, engine),
        _attempt("jobs", lambda: _jobs(db, replayed.statuses)),
    )
    return CheckReport(
        path=str(path),
        ok=all(finding.ok for finding in findings),
        events=replayed.events,
        jobs=len(replayed.statuses),
        findings=findings,
    )


def _apply(core: Engine, row: Verified, event: AnyEvent) -> None:
    """Apply one event. Raises BadRow if it cannot follow from those before it."""
    try:
        core.apply(row[1], event)
    except Exception as error:  # whatever the core's own checks raise: the story ends here
        raise BadRow(row[0], f"it does not follow from the events before it ({error!r})") from error


def _statuses_of(db: sqlite3.Connection, engine: EngineType, upto: int) -> dict[JobId, JobStatus]:
    """Return the statuses after exactly `upto` events.

    A core that refused an event may have done half of it, so a fresh one is asked.
    """
    core = engine()
    statuses: dict[JobId, JobStatus] = {}
    for rows in chunks(db) if upto else ():
        for row in rows:
            if row[0] > upto:
                break
            core.apply(row[1], event_in(row))
        for status in core.drain().statuses:
            statuses[status.id] = status
        if rows[-1][0] >= upto:
            break
    return statuses


def _file(db: sqlite3.Connection, path: Path) -> Finding:
    """Let SQLite check its own pages and indexes."""
    lines = [str(row[0]) for row in db.execute("PRAGMA integrity_check(100)")]
    problems = tuple(line for line in lines if line != "ok")
    size = path.stat().st_size / 2**20
    return Finding(
        part="file",
        ok=not problems,
        summary=f"{size:.1f} MiB, "
        + ("pages or indexes are damaged" if problems else "pages and indexes are sound"),
        problems=_shown(problems),
    )


def _mislabelled(db: sqlite3.Connection, rows: list[Verified], events: list[AnyEvent]) -> list[str]:
    """Return which rows say another kind or job in their columns than in their body."""
    try:
        labels = db.execute(
            "SELECT kind, ifnull(job, 0) FROM log WHERE seq >= ? ORDER BY seq LIMIT ?",
            (rows[0][0], len(rows)),
        ).fetchall()
    except sqlite3.Error:
        return []  # next to a damaged page, which the replay itself will name
    return [
        f"event {row[0]}: its columns say {label}, its body {(kind_of(event), job_of(event))}"
        for row, event, label in zip(rows, events, labels, strict=True)
        if label != (kind_of(event), job_of(event))
    ]


def _snapshots(
    stored: list[tuple[int, str, bytes]], broken: str, replayed: Replayed, engine: EngineType
) -> Finding:
    """Compare each snapshot with the replay, and with what it says of itself."""
    problems = [broken] if broken else []
    for seq, digest, packed in stored:
        if why := snapshot_problem(seq, digest, packed, replayed, engine):
            problems.append(f"the snapshot after event {seq:,}: {why}")
    summary = (
        f"{len(problems)} of {len(stored)} cannot be used (a restart replays more of the log)"
        if problems
        else (f"{len(stored)}: each equals a replay" if stored else "none yet")
    )
    return Finding(
        part="snapshots", ok=not problems, summary=summary, problems=_shown(tuple(problems))
    )


def snapshot_problem(
    seq: int, digest: str, packed: bytes, replayed: Replayed, engine: EngineType
) -> str:
    """Return what is wrong with a snapshot, "" if it equals the replay."""
    image = unpack((digest, packed))
    if image is None:
        return "it cannot be unpacked"
    if seq not in replayed.digests:
        return f"the sound part of the log ends before it, at {replayed.events:,}"
    if replayed.digests[seq] != digest:
        return "its digest is not that of a replay"
    try:
        loaded = engine.load(image[1]).digest()
    except Exception as error:  # a body of an older program, or bits flipped: either way useless
        return f"it cannot be loaded ({error!r})"
    return "" if loaded == digest else "its content is not what its digest says"


def _jobs(db: sqlite3.Connection, statuses: dict[JobId, JobStatus]) -> Finding:
    """Compare the table of jobs with the statuses that a replay gives."""
    expected: dict[JobId, JobRow] = {i: job_row(status) for i, status in statuses.items()}
    problems = []
    for row in db.execute(schema.SELECT_JOB):
        wanted = expected.pop(row[0], None)
        if wanted is None:
            problems.append(f"job {row[0]} is in the table, and not in the log")
        elif wanted != row:
            problems.append(f"job {row[0]} differs: {row[-1]!r}, rebuilt {wanted[-1]!r}")
    problems += [f"job {i} is missing" for i in sorted(expected)]
    return Finding(
        part="jobs",
        ok=not problems,
        summary=f"{len(problems):,} rows differ from a rebuild of {len(statuses):,}"
        if problems
        else f"{len(statuses):,}: each equals a rebuild",
        problems=_shown(tuple(problems)),
    )


def _read_all(db: sqlite3.Connection, query: str) -> tuple[list[tuple[int, str, bytes]], str]:
    """Return the rows of a small table, and what kept the rest from being read."""
    rows: list[tuple[int, str, bytes]] = []
    try:
        rows.extend(db.execute(query))
    except sqlite3.Error as error:
        return rows, f"not all can be read ({error})"
    return rows, ""


def _attempt(part: str, find: Callable[[], Finding]) -> Finding:
    """Return a finding; that SQLite cannot even read the part is one too."""
    try:
        return find()
    except sqlite3.Error as error:
        return Finding(part=part, ok=False, summary=f"cannot be read: {error}")


def _shown(problems: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first problems, and how many more there are."""
    more = len(problems) - SHOWN_MAX
    return problems[:SHOWN_MAX] + ((f"… and {more:,} more",) if more > 0 else ())
