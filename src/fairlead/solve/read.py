"""Reads a problem from CSV or JSON text, and says before how much memory it would take."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

from fairlead.model.base import Misuse, Refused
from fairlead.model.units import format_size
from fairlead.solve.problem import Number, Problem, build

BYTES_PER_CELL = 48  # costs, a working copy or two, and the same again in the child that solves
BLOCK = 1 << 20
KEYS = ("costs", "capacities", "sizes", "forbidden", "penalty", "tasks", "resources")
NOTHING = ("", "-")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf(inity)?", re.IGNORECASE)


def estimate(path: Path) -> tuple[int, int]:
    """Return about how many cells a file has, and the bytes that solving it takes."""
    cells = 0
    with path.open("rb") as source:
        while block := source.read(BLOCK):
            cells += block.count(b",") + block.count(b"\n") + block.count(b";") + block.count(b"\t")
    return cells, cells * BYTES_PER_CELL


def refuse_if_large(cells: int, need: int, available: int) -> None:
    """Raise Refused with the estimate when a problem would not fit into memory."""
    if need > available:
        sizes = [format_size(-(-each // 2**20), exact=False) for each in (need, max(available, 0))]
        raise Refused(
            f"about {cells:,} pairs would take {sizes[0]} of memory, {sizes[1]} are available",
            field="file",
            hint="solve parts of it, or --memory SIZE if you know better",
        )


Capacity: TypeAlias = Sequence[Number] | Number


def read(
    path: Path,
    *,
    available: int | None = None,
    penalty: Number | None = None,
    capacity: Capacity | None = None,
) -> Problem:
    """Return the problem of a .json or CSV file; raises Misuse that names the place.

    With `available` (bytes) a file that needs more is refused before it is read. What is given here
    goes before what the file says.
    """
    if available is not None:
        refuse_if_large(*estimate(path), available)
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path.name} is not text in UTF-8 (byte {error.start})"
        raise Misuse(message, field="file", hint="a CSV or JSON file is wanted") from None
    if not text.strip():
        raise Misuse(f"{path.name} is empty", field="file", hint="a CSV or JSON file is wanted")
    if path.suffix.lower() == ".json" or text.lstrip()[0] in "{[":
        return from_json(text, penalty=penalty, capacity=capacity)
    return from_csv(text, penalty=penalty, capacity=capacity)


def from_json(
    text: str, *, penalty: Number | None = None, capacity: Capacity | None = None
) -> Problem:
    """Return the problem of a JSON object with the keys KEYS, or of a bare matrix."""

    def no(word: str) -> Any:
        message = f"{word} is not a cost"
        raise Misuse(message, field="costs", hint="null is a forbidden pair")

    try:
        body = json.loads(text, parse_float=Decimal, parse_constant=no)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Misuse(f"not JSON: {error.msg} at {where}", field="file") from None
    except Misuse:
        raise
    except (RecursionError, ValueError):
        raise Misuse("not JSON that can be read", field="file") from None
    if isinstance(body, list):
        body = {"costs": body}
    if not isinstance(body, dict):
        raise Misuse("not a JSON object", field="file", hint=f"its keys are {', '.join(KEYS)}")
    for key in body:
        if key not in KEYS:
            close = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KEYS)}"
            raise Misuse(f"there is no key '{key}'", field=key, hint=hint)
    if "costs" not in body:
        raise Misuse("the key costs is missing", field="costs", hint="a list of rows of numbers")
    costs = _rows(body["costs"], "costs")
    tasks, resources = (_names(body.get(key), key) for key in ("tasks", "resources"))
    for pair in _list(body.get("forbidden", []), "forbidden"):
        row, column = _pair(pair, tasks, resources)
        if not (0 <= row < len(costs) and 0 <= column < len(costs[row])):
            message = f"there is no pair {pair!r}: they count from 0"
            raise Misuse(message, field="forbidden")
        costs[row][column] = None
    sizes = body.get("sizes")
    if sizes is not None:
        listed = _list(sizes, "sizes")
        sizes = _rows(sizes, "sizes") if listed and isinstance(listed[0], list) else listed
    return build(
        costs,
        capacity=body.get("capacities") if capacity is None else capacity,
        size=sizes,
        penalty=body.get("penalty") if penalty is None else penalty,
        tasks=tasks,
        resources=resources,
    )


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise Misuse(f"{key} is not a list", field=key)
    return value


def _rows(value: Any, key: str) -> list[list[Any]]:
    rows = _list(value, key)
    for index, row in enumerate(rows):
        if not isinstance(row, list):
            raise Misuse(f"row {index + 1} of {key} is not a list", field=key)
    return [list(row) for row in rows]


def _names(value: Any, key: str) -> list[str] | None:
    return None if value is None else [str(each) for each in _list(value, key)]


def _pair(pair: Any, tasks: list[str] | None, resources: list[str] | None) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2:
        hint = 'such as [[0, 2]] or [["T1", "R3"]]'
        raise Misuse(f"{pair!r} is not a pair", field="forbidden", hint=hint)
    found = []
    for each, names, what in ((pair[0], tasks, "task"), (pair[1], resources, "resource")):
        if isinstance(each, int) and not isinstance(each, bool):
            found.append(each)
        elif names is not None and each in names:
            found.append(names.index(each))
        else:
            close = get_close_matches(str(each), names or [], n=1)
            hint = f"did you mean {close[0]}?" if close else ""
            raise Misuse(f"there is no {what} {each!r}", field="forbidden", hint=hint)
    return found[0], found[1]


def from_csv(
    text: str, *, penalty: Number | None = None, capacity: Capacity | None = None
) -> Problem:
    """Return the problem of a table: a row per task, a column per resource.

    A first row and a first column that are no numbers are names. A column named "size" has the size
    of each task, a row named "capacity" what each resource holds.
    """
    lines = text.splitlines()
    first = next(line for line in lines if line.strip())
    mark = next((each for each in ("\t", ";", ",") if each in first), ",")
    try:
        cells = list(_cells(lines, mark))
    except csv.Error as error:
        raise Misuse(f"not CSV: {error}", field="file") from None
    header = cells.pop(0)[1] if _is_header(cells[0][1]) else None
    if not cells:
        raise Misuse("there are names but no rows of numbers", field="file")
    named = _named(header, cells)
    width = len(cells[0][1])
    for line, row in cells:
        if len(row) != width:
            message = f"line {line} has {len(row)} columns, the first row of numbers {width}"
            raise Misuse(message, field="costs", hint="give every row the same number of cells")
    tasks = [row.pop(0) for _, row in cells] if named else None
    resources = _header(header, width, named)
    numbers = [row for _, row in cells]
    grid, size, held = _table(numbers, [line for line, _ in cells], tasks, resources)
    return build(
        grid,
        capacity=held if capacity is None else capacity,
        size=size,
        penalty=penalty,
        tasks=tasks,
        resources=resources,
    )


def _cells(lines: Sequence[str], mark: str) -> Iterator[tuple[int, list[str]]]:
    source = csv.reader(lines, delimiter=mark, skipinitialspace=True)
    for row in source:
        if any(each.strip() for each in row) or len(row) > 1:
            yield source.line_num, [each.strip() for each in row]


def _is_number(text: str) -> bool:
    return text in NOTHING or NUMBER.fullmatch(text) is not None


def _is_header(row: list[str]) -> bool:
    """Whether a first row holds names. A word among numbers is a slip, not a name."""
    if row[0].lower() in _CORNER and len(row) > 1:
        return row[0] != "" or not all(_is_number(each) for each in row)
    return not any(_is_number(each) for each in row)


def _named(header: list[str] | None, cells: list[tuple[int, list[str]]]) -> bool:
    """Whether the first column holds the names of tasks."""
    if header is not None and (len(header) < len(cells[0][1]) or header[0].lower() in _CORNER):
        return True
    words = [row[0] for _, row in cells if row and not _is_number(row[0])]
    # One word among numbers is a slip, to be told with its place.
    return bool(words) and (header is not None or not _is_number(cells[0][1][0]))


_CORNER = ("", "task", "tasks", "job", "jobs", "name")


def _header(header: list[str] | None, width: int, named: bool) -> list[str] | None:
    if header is None:
        return None
    names = header[1:] if named and len(header) == width else header
    if len(names) != width - named:
        message = f"the first row has {len(names)} names for {width - named} columns"
        raise Misuse(message, field="resources", hint="name every column, or none")
    return names


def _table(
    rows: list[list[str]], lines: list[int], tasks: list[str] | None, resources: list[str] | None
) -> tuple[list[list[Number | None]], list[Number] | None, list[Number] | None]:
    """Return costs, sizes and capacities; takes the latter two off the names and rows."""
    capacity: list[Number] | None = None
    size: list[Number] | None = None
    lowered = [name.lower() for name in resources or ()]
    at = lowered.index("size") if "size" in lowered else None
    if tasks is not None and tasks[-1].lower() == "capacity":
        tasks.pop()
        row = rows.pop()
        if at is not None:
            row.pop(at)
        capacity = [_need(each, lines[-1]) for each in row]
    if at is not None and resources is not None:
        size = [_need(row.pop(at), line) for row, line in zip(rows, lines, strict=False)]
        resources.pop(at)
    grid: list[list[Number | None]] = []
    for row in rows:
        if all(each.isascii() and each.isdigit() for each in row):
            grid.append(list(map(int, row)))
        else:
            grid.append([None if each in NOTHING else _whole(each) for each in row])
    return grid, size, capacity


def _whole(text: str) -> Number:
    """Return an integer where the text is one; else the text, for whoever reads it exactly."""
    plain = text[1:] if text[0] in "+-" else text
    return int(text) if plain.isascii() and plain.isdigit() and len(plain) < 30 else text


def _need(text: str, line: int) -> Number:
    if text in NOTHING or not _is_number(text):
        message = f"line {line}: {text!r} is not a number"
        raise Misuse(message, field="capacities", hint="a number of 0 or more")
    return _whole(text)
