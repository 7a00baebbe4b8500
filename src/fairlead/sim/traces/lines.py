"""The lines of a file, plain or gzip, and errors that name one of them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from fairlead.model.base import Misuse
from fairlead.sim.workload import Trace, TraceJob, in_order

Lines: TypeAlias = list[tuple[int, bytes]]  # (line number from 1, stripped line), none empty

LINE_BYTES_MAX = 2**20
FILE_BYTES_MAX = 2**32  # unpacked: a small gzip may unpack to anything
SHOWN_CHARS_MAX = 40
PROCESSORS_MAX = 10_000_000  # of one job
TIME_MS_MAX = 2**53


def damaged(path: str, line: int, message: str, *, field: str = "", hint: str = "") -> Misuse:
    """Return the error for one line of a file."""
    return Misuse(f"{path}:{line}: {message}", field=field, hint=hint, code="damaged-trace")


def shown(text: bytes | str) -> str:
    """Return foreign text as one short printable quotation."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return f'"{text[:SHOWN_CHARS_MAX]}{"…" if len(text) > SHOWN_CHARS_MAX else ""}"'


def read_lines(path: Path) -> Lines:
    """Return the lines of a file that are not empty; gzip is recognised by its first bytes."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            source = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
            lines = list(_lines(str(path), source))
    except OSError as error:
        raise _unreadable(path, error) from None
    if not lines:
        raise Misuse(f"{path} is empty", field="trace", hint="try: fairlead sim generate")
    return lines


def _lines(path: str, source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number, size, most = 0, 0, LINE_BYTES_MAX
    try:
        while line := source.readline(most + 1):
            if not number and line.startswith(b"["):
                # A JSON list is one value: some writers put all of it on one line.
                most = FILE_BYTES_MAX
                line += source.readline(most + 1) if not line.endswith(b"\n") else b""
            number += 1
            size += len(line)
            if b"\0" in line:
                raise damaged(path, number, "found binary data, expected text", hint=_FORMATS)
            if len(line) > most:
                raise damaged(path, number, f"the line is longer than {most:,} bytes")
            if size > FILE_BYTES_MAX:
                raise damaged(path, number, f"the file is larger than {FILE_BYTES_MAX:,} bytes")
            if line := line.strip():
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = "ends in the middle" if isinstance(error, EOFError) else "is damaged"
        raise damaged(
            path,
            number + 1,
            f"the gzip file {what} ({error})",
            hint="fetch it again; gzip -t FILE checks it",
        ) from None


_FORMATS = "a trace is text, plain or .gz; docs/reference/traces lists the formats"


def _unreadable(path: Path, error: OSError) -> Misuse:
    if isinstance(error, FileNotFoundError):
        return Misuse(f"there is no file {path}", field="trace", hint=_FORMATS)
    if isinstance(error, IsADirectoryError):
        return Misuse(f"{path} is a folder", field="trace", hint="name one file in it")
    return Misuse(f"cannot read {path}: {error.strerror or error}", field="trace", hint=_FORMATS)


def assemble(
    path: str,
    format: str,
    jobs: Iterable[TraceJob],
    dropped: Mapping[str, int],
    *,
    processors: int | None = None,
    notes: Mapping[str, str] | None = None,
) -> Trace:
    """Return the trace of the jobs; Misuse if none of them could be used, with the reasons."""
    jobs = list(jobs)
    if not jobs and dropped:
        reasons = ", ".join(f"{count:,} with {why}" for why, count in sorted(dropped.items()))
        raise Misuse(f"{path} has no usable job: {reasons}", field="trace")
    return Trace(
        path=path,
        format=format,
        jobs=in_order(path, jobs),
        dropped=dict(sorted(dropped.items())),
        processors=processors,
        notes=dict(notes or {}),
    )
