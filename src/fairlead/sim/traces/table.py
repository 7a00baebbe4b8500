"""Rows with named cells, from CSV and the like; every complaint names the line and the column.

Numbers are read as their files write them ("4" and "4.0" are four), times become integer
milliseconds, and a cell that is empty or a word for nothing is blank, never zero.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from fairlead.model import limits
from fairlead.model.base import Misuse, Ms
from fairlead.sim.traces.lines import PROCESSORS_MAX, TIME_MS_MAX, Lines, damaged, shown
from fairlead.sim.workload import TraceJob

SECOND_MS, MINUTE_MS = 1000, 60_000
COLUMNS_SHOWN = 12

_BLANK = frozenset({"", "none", "null", "nan", "nat", "na", "n/a"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?(?P<zone>Z|[+-]\d\d:?\d\d)?", re.ASCII
)


class Row:
    """The cells of one line by name. What cannot be read raises a Misuse that says where."""

    __slots__ = ("cells", "line", "path")

    def __init__(self, path: str, line: int, cells: dict[str, str]) -> None:
        self.path, self.line, self.cells = path, line, cells

    def wrong(self, name: str, expected: str, hint: str = "") -> Misuse:
        """Return the error for a cell that is not what belongs there."""
        message = f"column {name}: found {shown(self.cells.get(name, ''))}, expected {expected}"
        return damaged(self.path, self.line, message, field=name, hint=hint)

    def blank(self, name: str) -> bool:
        """Return whether the cell says nothing; a column that is not there says nothing."""
        return self.cells.get(name, "").lower() in _BLANK

    def text(self, name: str) -> str:
        """Return a cell as text that may name something; "" where it is blank."""
        value = self.cells.get(name, "")
        if len(value) > limits.NAME_CHARS_MAX:
            raise self.wrong(name, f"at most {limits.NAME_CHARS_MAX} characters")
        return "" if value.lower() in _BLANK else value

    def key(self, name: str) -> int | str:
        """Return a cell that identifies the job: a number where it is one, else text."""
        value = self.cells[name]
        if value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
        if self.blank(name):
            raise self.wrong(name, "an identifier")
        return self.text(name)

    def number(self, name: str, least: float = 0, most: float = TIME_MS_MAX) -> float:
        """Return a cell as a finite number within bounds."""
        try:
            value = float(self.cells[name])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.wrong(name, "a number")
        if not least <= value <= most:
            raise self.wrong(name, _bounds(least, most))
        return value

    def whole(self, name: str, least: int = 0, most: int = PROCESSORS_MAX) -> int:
        """Return a cell as a whole number within bounds."""
        try:
            value = int(self.cells[name])
        except ValueError:
            number = self.number(name, -math.inf, math.inf)
            value = int(number)
            if value != number:
                raise self.wrong(name, "a whole number") from None
        if not least <= value <= most:
            raise self.wrong(name, _bounds(least, most))
        return value

    def ms(self, name: str, unit_ms: int = SECOND_MS) -> Ms:
        """Return a cell that counts units of time, from 0, as milliseconds."""
        try:
            value = unit_ms * int(self.cells[name])
        except ValueError:
            value = round(unit_ms * self.number(name, -math.inf, TIME_MS_MAX))
        if not 0 <= value <= TIME_MS_MAX:
            raise self.wrong(name, "a time from 0" if value < 0 else "a shorter time")
        return value

    def moment(self, name: str, *, zone: bool = False) -> Ms:
        """Return a date and time as milliseconds since 1970; without a zone as if it were UTC.

        Naive local times are only ever compared with others of their kind, so the day's change
        of clocks is the only thing that this gets wrong, and the files do not say how to do better.
        """
        value = self.cells[name]
        form = "YYYY-MM-DD HH:MM:SS+00:00" if zone else "YYYY-MM-DD HH:MM:SS without a zone"
        found = _MOMENT.fullmatch(value)
        if not found or bool(found["zone"]) != zone:
            raise self.wrong(name, form)
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise self.wrong(name, form) from None
        return ((at if zone else at.replace(tzinfo=UTC)) - _EPOCH) // _MS


def _bounds(least: float, most: float) -> str:
    return f"a number from {least:,.15g}" + (f" to {most:,.15g}" if math.isfinite(most) else "")


def split(text: str, separator: str = ",") -> list[str]:
    """Return the cells of one line, without quotes and spaces around them."""
    if '"' in text and separator == ",":
        try:
            cells = next(csv.reader([text]), [])
        except csv.Error:
            cells = text.split(separator)
    else:
        cells = text.split(separator)
    return [cell.strip() for cell in cells]


def header(line: bytes) -> list[str]:
    """Return the names of the columns in the first line of a file."""
    return split(line.decode("utf-8-sig", "replace"))


def rows(path: str, lines: Lines, needed: Sequence[str]) -> Iterator[Row]:
    """Yield the rows below a header; the header must have the needed columns, and may have more."""
    number, first = lines[0]
    names = header(first)
    check_columns(path, number, names, needed)
    return cells_of(path, lines[1:], names)


def check_columns(path: str, line: int, names: Sequence[str], needed: Sequence[str]) -> None:
    """Raise Misuse for the first needed column that is missing or any that is there twice."""
    for name in needed:
        if name not in names:
            spare = [each for each in names if each not in needed]
            near = difflib.get_close_matches(name, spare, n=1)
            what = f'is "{near[0]}" meant? ' if near else ""
            raise damaged(
                path,
                line,
                f"found no column {name} in the header ({_listed(names)})",
                field=name,
                hint=f"{what}the columns needed are {', '.join(needed)}",
            )
    twice = next((name for name in names if names.count(name) > 1 and name in needed), None)
    if twice:
        raise damaged(path, line, f"found the column {twice} twice, expected it once", field=twice)


def cells_of(path: str, lines: Lines, names: Sequence[str], separator: str = ",") -> Iterator[Row]:
    """Yield the rows of lines that all have the named columns, in their order."""
    width = len(names)
    for number, line in lines:
        cells = split(line.decode("utf-8", "replace"), separator)
        if len(cells) != width:
            raise damaged(
                path,
                number,
                f"found {len(cells)} columns ({shown(line)}), expected {width}: {_listed(names)}",
            )
        yield Row(path, number, dict(zip(names, cells, strict=True)))


def _listed(names: Sequence[str]) -> str:
    more = ", …" if len(names) > COLUMNS_SHOWN else ""
    return ", ".join(shown(name)[1:-1] for name in names[:COLUMNS_SHOWN]) + more


def from_first(jobs: Iterable[TraceJob]) -> tuple[list[TraceJob], dict[str, str]]:
    """Return jobs whose times are dates with times that count from the first, and a note of it."""
    jobs = list(jobs)
    if not jobs:
        return [], {}
    first = min(job.submit_ms for job in jobs)
    at = (_EPOCH + first * _MS).strftime("%Y-%m-%d %H:%M:%S")
    return [replace(job, submit_ms=job.submit_ms - first) for job in jobs], {"first submission": at}
