"""Standard Workload Format: 18 numbers per job, -1 for unknown, header lines that start with `;`.

docs/reference/traces/swf.md says which field becomes what, and why.
"""

from __future__ import annotations

import math
from collections import Counter

from fairlead.model import limits
from fairlead.model.base import Misuse, Ms
from fairlead.sim.traces.lines import (
    PROCESSORS_MAX,
    TIME_MS_MAX,
    Lines,
    assemble,
    damaged,
    shown,
)
from fairlead.sim.workload import Trace, TraceJob

FIELDS = 18

_ID, _SUBMIT, _RUN, _ALLOCATED, _REQUESTED, _LIMIT, _USER, _GROUP = 0, 1, 3, 4, 7, 8, 11, 12
_NAMES = {
    _ID: "job number",
    _SUBMIT: "submit time",
    _RUN: "run time",
    _ALLOCATED: "allocated processors",
    _REQUESTED: "requested processors",
    _LIMIT: "requested time",
    _USER: "user",
    _GROUP: "group",
}


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; jobs without a usable time or width are counted in `dropped`."""
    notes: dict[str, str] = {}
    jobs: list[TraceJob] = []
    dropped: Counter[str] = Counter()
    for number, line in lines:
        if line.startswith(b";"):
            _header(line, notes)
            continue
        fields = line.split()
        if len(fields) < FIELDS:
            raise damaged(
                path,
                number,
                f"found {len(fields)} fields ({shown(line)}), expected {FIELDS} numbers",
                hint="Standard Workload Format has 18 fields per line, -1 for unknown",
            )
        try:
            job = _job(fields)
        except _Field as wrong:
            raise damaged(path, number, wrong.message, field=wrong.field, hint=wrong.hint) from None
        if isinstance(job, str):
            dropped[job] += 1
        else:
            jobs.append(job)
    return assemble(path, "swf", jobs, dropped, processors=_processors(notes), notes=notes)


class _Field(Misuse):
    """What is wrong with one field; the caller knows the line."""


def _job(fields: list[bytes]) -> TraceJob | str:
    """Return the job of one line, or why it cannot be replayed."""
    number = _whole(fields, _ID)
    submit = _ms(fields, _SUBMIT)
    run = _ms(fields, _RUN)
    requested, allocated = _whole(fields, _REQUESTED), _whole(fields, _ALLOCATED)
    limit = _ms(fields, _LIMIT)
    if submit == -1000:
        return "unknown submit time"
    if submit < 0:
        raise _Field(
            f"field 2 (submit time): found {shown(fields[_SUBMIT])}, expected seconds from 0",
            field=_NAMES[_SUBMIT],
            hint="-1 alone means unknown",
        )
    if run < 0:
        return "unknown run time" if run == -1000 else "negative run time"
    processors = requested if requested > 0 else allocated
    if processors <= 0:
        return "unknown processors"
    user, group = _whole(fields, _USER), _whole(fields, _GROUP)
    return TraceJob(
        id=number,
        submit_ms=submit,
        run_ms=run,
        processors=processors,
        user=f"user{user}" if user >= 0 else "",
        tenant=f"group{group}" if group >= 0 else "default",
        limit_ms=limit if 0 < limit <= limits.LIMIT_MS_MAX else None,
    )


def _number(fields: list[bytes], index: int) -> float:
    """Return a field that is not a plain integer."""
    try:
        value = float(fields[index])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _Field(
            f"field {index + 1} ({_NAMES[index]}): found {shown(fields[index])}, expected a number",
            field=_NAMES[index],
            hint="-1 means unknown; header lines start with ;",
        )
    return value


def _ms(fields: list[bytes], index: int) -> Ms:
    """Return a field in seconds as milliseconds."""
    try:
        value = 1000 * int(fields[index])
    except ValueError:
        value = round(1000 * _number(fields, index))
    return _within(fields, index, value, TIME_MS_MAX)


def _whole(fields: list[bytes], index: int) -> int:
    try:
        value = int(fields[index])
    except ValueError:
        number = _number(fields, index)
        value = int(number)
        if value != number:
            raise _Field(
                f"field {index + 1} ({_NAMES[index]}): found {shown(fields[index])}, "
                "expected a whole number",
                field=_NAMES[index],
            ) from None
    most = PROCESSORS_MAX if index in (_ALLOCATED, _REQUESTED) else TIME_MS_MAX
    return _within(fields, index, value, most)


def _within(fields: list[bytes], index: int, value: int, most: int) -> int:
    if abs(value) > most:
        raise _Field(
            f"field {index + 1} ({_NAMES[index]}): found {shown(fields[index])}, too large",
            field=_NAMES[index],
        )
    return value


def _header(line: bytes, notes: dict[str, str]) -> None:
    """Keep `; Name: value`; the first of a name counts."""
    name, colon, value = line.lstrip(b"; \t").decode("utf-8", "replace").partition(":")
    if colon and name and " " not in name.strip():
        notes.setdefault(name.strip(), value.strip())


def _processors(notes: dict[str, str]) -> int | None:
    """Return the machine's size: MaxProcs, else MaxNodes (both may be absent or -1)."""
    for name in ("MaxProcs", "MaxNodes"):
        words = notes.get(name, "").split()
        if words and words[0].isdigit() and 0 < int(words[0]) <= PROCESSORS_MAX:
            return int(words[0])
    return None
