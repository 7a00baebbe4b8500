"""Which jobs a command is about: `12`, `12-15`, `12,20`, `last`, `@me`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairlead.cli.client import Client, me
from fairlead.cli.errors import Failure, misuse

_RANGE = "[0-9]{1,18}(-[0-9]{1,18})?"
_HINT = "write a job id such as 12, a range such as 12-15, last, or @me"
PAGE_ROWS = 20_000


def check(words: Sequence[str]) -> None:
    """Raise Failure for a word that selects nothing."""
    for word in words:
        if word in ("last", "@me"):
            continue
        if word.startswith("@"):
            raise misuse(
                f"cannot select '{word}'", hint=f"for another user: ps --user {word[1:] or 'NAME'}"
            )
        if not re.fullmatch(f"{_RANGE}(,{_RANGE})*", word):
            raise misuse(f"'{word}' is no job id", hint=_HINT, field="id")
        for part in word.split(","):
            first, _, last = part.partition("-")
            if last and int(last) < int(first):
                raise misuse(f"the range {part} is empty", hint=_HINT, field="id")


def query_of(client: Client, words: Sequence[str]) -> dict[str, str]:
    """Return the words as parameters of a listing. `@me` restricts, the others add up."""
    check(words)
    query = {"user": me()} if "@me" in words else {}
    ids = [each for each in words if each != "@me"]
    if "last" in ids and len(ids) > 1:
        ids = [str(last_id(client)) if each == "last" else each for each in ids]
    if ids:
        query["ids"] = ",".join(ids)
    return query


def last_id(client: Client) -> int:
    """Return the id of this user's newest job."""
    rows = client.get("/jobs", {"ids": "last", "format": "rows"})["rows"]
    if not rows:
        raise Failure("you have no job yet", code="not-found")
    return int(rows[0][0])


def one(word: str) -> str:
    """Return the id in a path: digits or "last"; a range is a misuse here."""
    check([word])
    if word == "last" or word.isdigit():
        return word
    raise misuse(f"'{word}' may be several jobs, here one is shown", hint="write 12, or last")


def listing(
    client: Client, path: str, query: Mapping[str, object], limit: int | None = None
) -> Any:
    """Return all pages of a listing as one: {"columns", "rows", "now_ms"}."""
    whole: dict[str, Any] = {}
    after: object = None
    while True:
        wanted = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit - len(whole.get("rows", ())))
        page = client.get(path, {**query, "format": "rows", "limit": wanted, "after": after})
        if whole:
            whole["rows"] += page["rows"]
        else:
            whole = page
        after = page.get("next")
        if after is None or (limit is not None and len(whole["rows"]) >= limit):
            return whole


def ranges(ids: Sequence[int]) -> str:
    """Return "12-21" for ids in a row, else "12-14,17"; the ids must rise."""
    parts: list[str] = []
    first = last = ids[0]
    for each in [*ids[1:], -1]:
        if each == last + 1:
            last = each
            continue
        parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = each
    return ",".join(parts)


def by_outcome(outcomes: Iterable[tuple[int, str]]) -> list[str]:
    """Return "job 12 OUTCOME", or "jobs 12-21 OUTCOME" where many share one."""
    ids: dict[str, list[int]] = {}
    for job, outcome in outcomes:
        ids.setdefault(outcome, []).append(job)
    return [
        f"job{'s' if len(each) > 1 else ''} {ranges(sorted(each))} {outcome}"
        for outcome, each in ids.items()
    ]
