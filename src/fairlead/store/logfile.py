"""Reading the log: rows in order, each verified, up to the first that cannot be trusted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from fairlead.model.base import Ms
from fairlead.model.events import AnyEvent
from fairlead.store.codec import EVENT_VERSION, checksum, decode_event

CHUNK = 2_048  # rows per read: no cursor stays open while the caller writes

Verified: TypeAlias = tuple[int, Ms, bytes]  # seq, at_ms, body
_ROW = "SELECT seq, at_ms, version, checksum, CAST(body AS BLOB) FROM log "


class BadRow(Exception):
    """The log can be trusted only up to the event before `seq`."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(f"event {seq}: {why}")
        self.seq, self.why = seq, why


def last_seq(db: sqlite3.Connection) -> int:
    """Return the last sequence number of the log, 0 if it is empty."""
    return int(db.execute("SELECT ifnull(max(seq), 0) FROM log").fetchone()[0])


def chunks(db: sqlite3.Connection, after: int = 0) -> Iterator[list[Verified]]:
    """Yield verified rows after a sequence number, in lists.

    Raises BadRow where the log breaks, after everything before that point was yielded.
    """
    while True:
        try:
            rows = db.execute(
                _ROW + "WHERE seq > ? ORDER BY seq LIMIT ?", (after, CHUNK)
            ).fetchall()
        except sqlite3.Error:
            yield from _one_by_one(db, after)
            return
        good, bad = _verify(rows, after)
        if good:
            yield good
        if bad:
            raise bad
        if len(rows) < CHUNK:
            return
        after = rows[-1][0]


def event_in(row: Verified) -> AnyEvent:
    """Decode a verified row. Raises BadRow."""
    try:
        event: AnyEvent = decode_event(row[2])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRow(row[0], f"it does not decode ({error})") from error
    return event


def _verify(rows: list[tuple[int, ...]], after: int) -> tuple[list[Verified], BadRow | None]:
    """Return the rows up to the first that is out of order or altered, and what is wrong there."""
    good: list[Verified] = []
    keep = good.append
    expected = after
    for seq, at_ms, version, check, body in rows:
        expected += 1
        if seq != expected:
            return good, BadRow(expected, f"it is missing (the next is {seq})")
        if version != EVENT_VERSION:
            return good, BadRow(seq, f"its version {version} is not known to this program")
        try:
            intact = checksum(seq, at_ms, body) == check  # type: ignore[arg-type]
        except TypeError:  # a damaged cell can have any type
            intact = False
        if not intact:
            return good, BadRow(seq, "its checksum does not match")
        keep((seq, at_ms, body))  # type: ignore[arg-type]
    return good, None


def _one_by_one(db: sqlite3.Connection, after: int) -> Iterator[list[Verified]]:
    """Yield what can still be read after a chunk failed as a whole, then raise BadRow."""
    while True:
        try:
            rows = db.execute(_ROW + "WHERE seq = ?", (after + 1,)).fetchall()
        except sqlite3.Error as error:
            raise BadRow(after + 1, f"it cannot be read ({error})") from error
        good, bad = _verify(rows, after)
        if bad:
            raise bad
        if not good:
            raise BadRow(after + 1, "it cannot be found")
        yield good
        after += 1
