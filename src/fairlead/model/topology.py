"""How close together the members of a job are to be, as users write it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal, TypeAlias

from fairlead.model.base import Misuse, Record
from fairlead.model.resources import LEVELS, Level, Spread

Wish: TypeAlias = Level | Literal[""]
WORDS = ("required", "preferred")
HINT = (
    'write for example "rack", which is required, or {preferred: rack}; '
    f"the levels are {', '.join(LEVELS)}"
)


class Closeness(Record, frozen=True):
    """The levels within which members have to be, and are if they can. "": anywhere."""

    required: Wish = ""
    preferred: Wish = ""


def parse_topology(
    asked: str | Mapping[str, str], spread: Spread = "any", field: str = "topology"
) -> Closeness:
    """Return what "rack", "preferred:rack", "required:switch,preferred:rack" or a table asks for.

    Raises Misuse for what there is not, and for what cannot be.
    """
    found: dict[str, Wish] = {}
    for word, level in (_table(asked, field) if isinstance(asked, str) else asked).items():
        if word not in WORDS:
            raise _unknown("key", word, WORDS, field)
        found[word] = _level(level, field)
    close = Closeness(**found)
    if not found:
        raise Misuse("topology says nothing", field=field, hint=HINT)
    if close.required == "node" and spread == "distinct-nodes":
        raise Misuse("members cannot be on one node and on distinct nodes", field=field)
    if close.required and close.preferred:
        far, near = LEVELS.index(close.required), LEVELS.index(close.preferred)
        if near > far:
            raise Misuse(
                f"within one {close.required} is required, and a {close.preferred} preferred, "
                "which is wider",
                field=field,
                hint="prefer the same level or a closer one",
            )
    return close


def format_topology(required: str, preferred: str) -> str:
    """Return it in the words of a request, "" for anywhere."""
    words = zip(WORDS, (required, preferred), strict=True)
    said = [f"{word}: {level}" for word, level in words if level]
    if required and not preferred:
        return required
    return f"{{{', '.join(said)}}}" if said else ""


def _table(text: str, field: str) -> dict[str, str]:
    """Return "rack" or "required:switch,preferred:rack" as a table."""
    found: dict[str, str] = {}
    for part in text.split(","):
        word, colon, level = part.partition(":")
        word = word.strip()
        if not colon:
            word, level = "required", word
        if word in found:
            raise Misuse(f"topology says twice what is {word}", field=field, hint=HINT)
        found[word] = level.strip()
    return found


def _level(text: str, field: str) -> Level:
    for level in LEVELS:
        if text == level:
            return level
    raise _unknown("level", text, LEVELS, field)


def _unknown(what: str, text: str, known: tuple[str, ...], field: str) -> Misuse:
    near = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean {near[0]}?" if near else HINT
    return Misuse(f"topology has no {what} '{text[:200]}'", field=field, hint=hint)
