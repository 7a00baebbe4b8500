"""What commands print: aligned tables, JSON, times. Colour only on a terminal, without Rich.

Rich costs 60 ms to import, and `ps` in a script runs often; it is left to the simulator.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from fairlead.model.units import format_cpus, format_duration, format_size

Row: TypeAlias = Sequence[str]
FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "TIMEOUT", "OOM", "NODE_FAIL"})
LIVE = frozenset({"STARTING", "RUNNING", "STOPPING"})
_COLOURS = {
    "up": "32",
    "RUNNING": "32",
    "STARTING": "32",
    "draining": "33",
    "drained": "33",
    "reserved": "33",
    "STOPPING": "33",
    "PENDING": "33",
    "SUCCEEDED": "2",
    "CANCELLED": "2",
}
_BAD = "31"
WATCH_S = 1.0


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def _coloured() -> bool:
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(value: object) -> None:
    """Print one JSON value; indented for people, compact for pipes."""
    indent = 2 if is_terminal() else None
    print(json.dumps(value, indent=indent, ensure_ascii=False))


def table(header: Row, rows: Sequence[Row], right: Iterable[str] = ()) -> str:
    """Return the rows under their header, aligned; see `grid`."""
    return grid(header, list(zip(*rows, strict=True)) or [()] * len(header), right)


def grid(header: Row, columns: Sequence[Row], right: Iterable[str] = ()) -> str:
    """Return the columns under their names, aligned; those named in `right` to the right.

    On a terminal lines are cut at its width, and job states have colours.
    """
    # A column has few different texts: only those are measured.
    widths = [max(map(len, {name, *column})) for name, column in zip(header, columns, strict=True)]
    rights = set(right)
    forms = [
        f"%{'' if name in rights else '-'}{width}s"
        for name, width in zip(header, widths, strict=True)
    ]
    forms[-1] = "%s"  # nothing stands behind the last column: no spaces either
    form = "  ".join(forms)
    lines = [(form % tuple(header)).rstrip(), *[form % row for row in zip(*columns, strict=True)]]
    if is_terminal():
        width = _terminal_size()[0]
        lines = [line[:width].rstrip() for line in lines]
        if _coloured():
            lines = _colour(lines, header, columns)
    return "\n".join(lines)


def _terminal_size() -> tuple[int, int]:
    """Return columns and lines."""
    from shutil import get_terminal_size  # 5 ms that pipes need not pay

    return get_terminal_size()


def _colour(lines: list[str], header: Row, columns: Sequence[Row]) -> list[str]:
    lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    if "STATE" not in header:
        return lines
    for number, state in enumerate(columns[list(header).index("STATE")], 1):
        colour = _COLOURS.get(state, _BAD)
        lines[number] = lines[number].replace(f" {state}", f" \x1b[{colour}m{state}\x1b[0m", 1)
    return lines


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """Return lines "name:  value", the values aligned; empty values are left out."""
    shown = [(name, value) for name, value in items if value != ""]
    width = max((len(name) for name, _ in shown), default=0) + 1
    return "\n".join(f"{name + ':':<{width}}  {value}" for name, value in shown)


def clock(ms: int | None) -> str:
    """Return a moment in local time, "" for none."""
    if ms is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ms / 1000))


def span(ms: int | None) -> str:
    """Return a length of time in at most two units, "" for none; below a second as 0s."""
    if ms is None:
        return ""
    return format_duration(max(ms, 0) // 1000 * 1000, exact=False)


def rate(per_s: float | None) -> str:
    """Return a rate with three figures or all whole steps, "-" for none."""
    if per_s is None:
        return "-"
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def words(seconds: float) -> str:
    """Return seconds in the two largest units; a comparison then fits a narrow terminal."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    return format_duration(round(1000 * seconds), exact=False)


def gpus(milli: int) -> str:
    """Return whole devices or a part of one, "-" for none."""
    return format_cpus(milli) if milli else "-"


def memory(mib: int) -> str:
    """Return an amount of memory, "-" for none asked."""
    return format_size(mib, exact=False) if mib else "-"


def ending(job: dict[str, Any]) -> str:
    """Return how a job's last attempt ended: "exit 3", "signal 9", or ""."""
    if job.get("exit_signal") is not None:
        return f"signal {job['exit_signal']}"
    if job.get("exit_code") is not None:
        return f"exit {job['exit_code']}"
    return ""


def watch(render: Callable[[], str]) -> None:
    """Show what `render` returns again and again until Ctrl-C."""
    if not is_terminal():
        print(render())
        return
    while True:
        text = render()
        rows = max(_terminal_size()[1] - 1, 1)
        cut = "\n".join(text.splitlines()[:rows])
        # Home, then each line with "erase to its end", then erase below: no flicker.
        body = cut.replace("\n", "\x1b[K\n")
        sys.stdout.write(f"\x1b[H{body}\x1b[K\n\x1b[J")
        sys.stdout.flush()
        time.sleep(WATCH_S)
