"""What a member prints, in segment files named by the logical offset of their first byte.

Stdout and stderr go through one pipe. When the limit is reached the first segment and the last
ones stay and the middle goes: the head says what ran, the tail has the traceback. Offsets are
logical, so they stay valid when the middle is dropped; readers are told about the gaps.
"""

from __future__ import annotations

import os
from pathlib import Path

SEGMENTS = 4  # kept at most: the first and the last three
SEGMENT_BYTES_MIN = 4096
TAIL_LINE_BYTES = 4096  # of one line, as far as `tail` estimates how much to read
_SUFFIX = ".out"


class Output:
    """The writing side, used by one supervisor."""

    def __init__(self, folder: str, limit_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = max(SEGMENT_BYTES_MIN, limit_bytes // SEGMENTS)
        self._offset = 0  # logical, of the next byte
        self._room = 0
        self._fd = -1
        self._starts: list[int] = []
        self.lost_bytes = 0  # could not be written (disk full); a gap for readers

    def write(self, data: bytes) -> None:
        """Append; bytes that the disk refuses become a gap, the job is not held up."""
        view = memoryview(data)
        while view:
            try:
                if not self._room:
                    self._next_segment()
                written = os.write(self._fd, view[: self._room])
            except OSError:
                self.lost_bytes += len(view)
                self._offset += len(view)
                self._room = 0  # what comes later starts a segment at its own offset
                return
            self._offset += written
            self._room -= written
            view = view[written:]

    def close(self) -> None:
        """Close the current segment."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next_segment(self) -> None:
        self.close()
        if not self._starts:
            os.makedirs(self._folder, 0o700, exist_ok=True)
        if len(self._starts) == SEGMENTS:
            os.unlink(self._path(self._starts[1]))
            del self._starts[1]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(self._path(self._offset), flags, 0o600)
        self._starts.append(self._offset)
        self._room = self._segment_bytes

    def _path(self, start: int) -> str:
        return os.path.join(self._folder, f"{start:012d}{_SUFFIX}")


def _segments(folder: Path) -> list[tuple[int, int, Path]]:
    """Return (first offset, end offset, path) of each segment, in order."""
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        try:
            start = int(path.name.removesuffix(_SUFFIX))
            found.append((start, start + path.stat().st_size, path))
        except (FileNotFoundError, ValueError):
            continue  # dropped just now, or not ours
    return sorted(found)


def read(
    folder: str | Path, offset: int = 0, limit: int = 65536
) -> tuple[bytes, int, tuple[tuple[int, int], ...]]:
    """Return output from a logical offset on: (bytes, next offset, gaps skipped).

    `folder` is `files.task_folder(state, key)`. At most `limit` bytes. A gap is a (start, end)
    of offsets that were dropped; the bytes go on behind it. No bytes: nothing more is there yet.
    """
    parts: list[bytes] = []
    gaps: list[tuple[int, int]] = []
    for start, end, path in _segments(Path(folder)):
        if end <= offset or limit <= 0:
            continue
        try:
            with path.open("rb") as file:
                file.seek(max(0, offset - start))
                data = file.read(limit)
        except FileNotFoundError:
            continue  # dropped while we read: it becomes part of the gap
        if start > offset:
            gaps.append((offset, start))
        offset = max(offset, start) + len(data)
        limit -= len(data)
        parts.append(data)
    return b"".join(parts), offset, tuple(gaps)


def end(folder: str | Path) -> int:
    """Return the logical offset behind the last byte that is there now."""
    return max((segment[1] for segment in _segments(Path(folder))), default=0)


def tail(folder: str | Path, lines: int) -> tuple[bytes, int]:
    """Return the last lines, and the offset to go on from. Looks at the last segments only."""
    last = end(folder)
    if lines <= 0:
        return b"", last
    span = TAIL_LINE_BYTES
    while True:
        begin = max(0, last - span)
        data, after, gaps = read(folder, begin, span)
        found = data.splitlines(keepends=True)
        # The first line of a part that does not begin at 0 may lack its beginning.
        if begin == 0 or gaps or len(found) > lines:
            return b"".join(found[-lines:]), after
        span *= 4
