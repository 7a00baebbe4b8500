"""Reads a question about deadlines: a JSON file of jobs (docs/reference/deadlines.md).

Either jobs with release, size and deadline in seconds, or jobs with work, rates per number of GPUs
and a deadline in slots. What is wrong is a Misuse that names the job and the field.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fairlead.model.base import Misuse, Ms, Record
from fairlead.model.limits import (
    AMOUNT_MAX,
    DEADLINE_JOBS_MAX,
    DEADLINE_SLOTS_MAX,
    LIMIT_MS_MAX,
    MEMBERS_MAX,
    NAME_CHARS_MAX,
)
from fairlead.policy.deadline import Work
from fairlead.policy.elastic import Elastic

FILE_BYTES_MAX = 2**20
RATES_MAX = 100
_TOP = ("machines", "gpus", "slot_s", "parallel", "jobs")
_RIGID = ("id", "release", "size", "deadline", "width")
_ELASTIC = ("id", "work", "deadline_slot", "rate")


class Question(Record, frozen=True):
    """The jobs of a file, in its order: either `works` or `elastic`; `machines` if it says so."""

    machines: int | None
    works: tuple[Work, ...] = ()
    elastic: tuple[Elastic, ...] = ()
    slot_ms: Ms | None = None


def read(path: str) -> Question:
    """Return the question in a file; Misuse says what is wrong with which job."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Misuse(f"cannot read {path}: {error.strerror or error}", field="file") from None
    if len(data) > FILE_BYTES_MAX:
        raise Misuse(f"{path} has more than {FILE_BYTES_MAX // 2**20} MiB", field="file")
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Misuse(f"{path} is not JSON: {error}", field="file") from None
    return parse(body, path)


def parse(body: Any, name: str) -> Question:
    """Return the question in what was read; Misuse says what is wrong with which job."""
    _keys(body, _TOP, ("jobs",), name)
    rows = body["jobs"]
    if not isinstance(rows, list) or not rows:
        raise Misuse(f"{name}: jobs is not a list of jobs", field="jobs", hint="write at least one")
    if len(rows) > DEADLINE_JOBS_MAX:
        raise Misuse(f"{name} has more than {DEADLINE_JOBS_MAX} jobs", field="jobs")
    if body.get("parallel", False) is not False:
        raise Misuse(
            f"{name}: parallel can only be false", field="parallel", hint="leave it out; see width"
        )
    if "machines" in body and "gpus" in body:
        raise Misuse(f"{name}: machines and gpus are the same; give one", field="gpus")
    count = body.get("machines", body.get("gpus"))
    if count is not None:
        field = "machines" if "machines" in body else "gpus"
        count = _whole(count, name, field, 1, MEMBERS_MAX)
    slot_ms = _ms(body["slot_s"], name, "slot_s") if "slot_s" in body else None
    elastic = any(isinstance(row, dict) and ("rate" in row or "work" in row) for row in rows)
    jobs = [_job(row, f"{name}: job {n}", elastic) for n, row in enumerate(rows, 1)]
    seen = set()
    for job in jobs:
        if str(job.id) in seen:
            raise Misuse(f"{name}: job {job.id}: id comes twice", field="id")
        seen.add(str(job.id))
    return Question(
        machines=count,
        works=tuple(job for job in jobs if isinstance(job, Work)),
        elastic=tuple(job for job in jobs if isinstance(job, Elastic)),
        slot_ms=slot_ms,
    )


def _job(row: Any, where: str, elastic: bool) -> Work | Elastic:
    """Return one job; `where` names it by its place until its id is known."""
    known = _ELASTIC if elastic else _RIGID
    if isinstance(row, dict) and isinstance(row.get("id"), str | int):
        where = f"{where.rpartition(' ')[0]} {str(row['id'])[:NAME_CHARS_MAX]}"
    needed = known if elastic else ("id", "size", "deadline")
    _keys(row, known, needed, where)
    job_id = row["id"]
    if isinstance(job_id, bool) or not isinstance(job_id, str | int) or job_id == "":
        raise Misuse(f"{where}: id is neither a number nor a word", field="id")
    if len(str(job_id)) > NAME_CHARS_MAX:
        raise Misuse(f"{where}: id has more than {NAME_CHARS_MAX} characters", field="id")
    if elastic:
        return Elastic(
            id=job_id,
            work=_whole(row["work"], where, "work", 0, AMOUNT_MAX),
            deadline_slot=_whole(
                row["deadline_slot"], where, "deadline_slot", 0, DEADLINE_SLOTS_MAX
            ),
            rates=_rates(row["rate"], where),
        )
    release = _ms(row.get("release", 0), where, "release")
    deadline = _ms(row["deadline"], where, "deadline")
    if deadline < release:
        raise Misuse(f"{where}: the deadline is before the release", field="deadline")
    return Work(
        id=job_id,
        release_ms=release,
        size_ms=_ms(row["size"], where, "size"),
        deadline_ms=deadline,
        width=_whole(row.get("width", 1), where, "width", 1, MEMBERS_MAX),
    )


def _rates(value: Any, where: str) -> dict[int, int]:
    if not isinstance(value, dict) or not value or len(value) > RATES_MAX:
        raise Misuse(
            f"{where}: rate is not a table of 1 to {RATES_MAX} numbers of GPUs",
            field="rate",
            hint='write for example {"1": 10, "2": 18}',
        )
    found = {}
    for gpus, rate in value.items():
        if not gpus.isascii() or not gpus.isdigit() or not 1 <= int(gpus[:9]) <= MEMBERS_MAX:
            raise Misuse(f"{where}: rate: '{gpus[:40]}' is not a number of GPUs", field="rate")
        found[int(gpus[:9])] = _whole(rate, where, "rate", 0, AMOUNT_MAX)
    return found


def _keys(found: Any, known: tuple[str, ...], needed: tuple[str, ...], where: str) -> None:
    if not isinstance(found, Mapping):
        raise Misuse(f"{where} is not an object of fields", field="file")
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            listed = "known: " + ", ".join(known)
            raise Misuse(
                f"{where}: there is no field '{key[:40]}'",
                field=key[:40],
                hint=f"did you mean '{close[0]}'? {listed}" if close else listed,
            )
    for key in needed:
        if key not in found:
            raise Misuse(f"{where}: {key} is missing", field=key)


def _whole(value: Any, where: str, field: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Misuse(
            f"{where}: {field} is not a whole number from {least} to {most:,}", field=field
        )
    return value


def _ms(value: Any, where: str, field: str) -> Ms:
    """Return seconds as ms, to the nearest."""
    most = LIMIT_MS_MAX // 1000
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise Misuse(f"{where}: {field} is not a time from 0 to {most:,} seconds", field=field)
    return round(1000 * value)
