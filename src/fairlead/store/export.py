"""The log as JSON lines, for people, other programs and `fairlead sim`."""

from __future__ import annotations

import gzip
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from fairlead.model.base import Misuse
from fairlead.store import schema
from fairlead.store.codec import Damaged
from fairlead.store.logfile import BadRow, chunks


def lines(path: Path) -> Iterator[bytes]:
    """Yield blocks of whole lines, while a service may be writing.

    Raises Misuse; Damaged where the log breaks, after everything before that was yielded.
    """
    schema.require_file(path)
    try:
        with closing(schema.connect_reader(path)) as db:
            if not schema.require_ours(db, path):
                return
            for rows in chunks(db):
                yield b"".join(b'{"seq":%d,"at_ms":%d,"event":%b}\n' % row for row in rows)
    except BadRow as error:
        raise Damaged(str(path), str(error), error.seq - 1) from error
    except sqlite3.Error as error:
        if schema.is_damage(error):
            raise Damaged(str(path), str(error), 0) from error
        raise schema.unusable(error, path) from error


def write_file(path: Path, target: Path) -> int:
    """Write all lines to a file, compressed if its name ends in .gz; return how many.

    The file appears when it is complete. Raises what `lines` raises.
    """
    part = target.with_name(target.name + ".part")
    count = 0
    try:
        zipped = target.suffix == ".gz"
        with gzip.open(part, "wb", compresslevel=3) if zipped else part.open("wb") as file:
            for block in lines(path):
                file.write(block)
                count += block.count(b"\n")
        os.replace(part, target)
    except OSError as error:
        raise Misuse(
            f"cannot write {target} ({error.strerror or error})",
            field="FILE",
            hint="name a place that you may write to, with enough space",
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return count
