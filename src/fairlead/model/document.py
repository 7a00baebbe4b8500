"""Documents that people write: the keys they may use, and what is said of those they may not.

Usually msgspec checks a document in one pass. Only when that fails is it looked at key by key:
for aliases, and for a clear message with the path of the key and what was probably meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from fairlead.model.base import Misuse

Struct = TypeVar("Struct", bound=msgspec.Struct)
Amount: TypeAlias = int | float | str


class Closed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what users write: only known keys."""


class Level(NamedTuple, Generic[Struct]):
    """One level of a document: its record, the aliases of its keys, keys of later releases."""

    record: type[Struct]
    what: str = ""
    example: str = ""
    aliases: Mapping[str, str] = {}
    later: tuple[str, ...] = ()
    below: Mapping[str, Level[Any]] = {}  # of tables under a key
    each: Mapping[str, Level[Any]] = {}  # of the tables in a table of names
    items: Mapping[str, Level[Any]] = {}  # of the tables in a list


def convert(raw: object, level: Level[Struct]) -> Struct:
    """Return the document as the record of its level; raises Misuse with the path of the key."""
    try:
        return msgspec.convert(raw, level.record)
    except msgspec.ValidationError:
        canonical = _canonical(raw, level, "")  # it may be no more than an alias
    for key, each in level.each.items():  # msgspec does not say under which name it went wrong
        tables = canonical.get(key) if isinstance(canonical, Mapping) else None
        for name, table in tables.items() if isinstance(tables, Mapping) else ():
            _strict(table, each.record, f"{key}.{name}")
    for key, item in level.items.items():
        tables = canonical.get(key) if isinstance(canonical, Mapping) else None
        for at, table in enumerate(tables if isinstance(tables, list) else ()):
            _strict(table, item.record, f"{key}[{at}]")
    return _strict(canonical, level.record)


def _strict(raw: object, record: type[Struct], path: str = "") -> Struct:
    """Return the record; a Misuse says in words what is wrong, and where below `path`."""
    try:
        return msgspec.convert(raw, record)
    except msgspec.ValidationError as wrong:
        said = _in_words(str(wrong))
        said.field = ".".join(filter(None, (path, said.field)))
        raise said from None


def _canonical(raw: object, level: Level[Any], path: str) -> object:
    """Return the mapping with aliases resolved; refuse keys that nobody knows."""
    if not isinstance(raw, Mapping):
        if path:
            return raw  # retry: 3 and the like; a wrong type is msgspec's to refuse
        raise Misuse(f"{level.what} is a table of keys, not {_type_of(raw)}", hint=level.example)
    known = level.record.__struct_fields__
    found: dict[str, object] = {}
    for key, value in raw.items():
        name = level.aliases.get(key, key) if isinstance(key, str) else str(key)
        where = f"{path}{key}"
        if name not in known:
            raise _unknown(str(key), where, level)
        if name in found:
            raise Misuse(f"{path}{name} is given twice (as {key} too)", field=where)
        if below := level.below.get(name):
            value = _canonical(value, below, f"{where}.")
        elif (each := level.each.get(name)) and isinstance(value, Mapping):
            value = {
                one: _canonical(table, each, f"{where}.{one}.") for one, table in value.items()
            }
        elif (item := level.items.get(name)) and isinstance(value, list):
            value = [_canonical(one, item, f"{where}[{at}].") for at, one in enumerate(value)]
        found[name] = value
    return found


def _unknown(key: str, where: str, level: Level[Any]) -> Misuse:
    if key in level.later:
        return Misuse(
            f"{where} is not supported yet",
            field=where,
            hint="leave it out: it would have no effect",
            code="not-supported",
        )
    keys = level.record.__struct_fields__
    close = difflib.get_close_matches(key, [*keys, *level.aliases, *level.later], n=1)
    under = [name for name, each in level.below.items() if key in (*each.record.__struct_fields__,)]
    if under:
        hint = f"it belongs under {under[0]}: {{{key}: …}}"
    elif close:
        hint = f"did you mean {close[0]}?"
    else:
        hint = "the keys are: " + ", ".join(sorted(keys))
    return Misuse(f"unknown key {where}", field=where, hint=hint, code="unknown-key")


_BOUND = re.compile(r"Expected `int` ([<>]=) (-?\d+)")
_EXPECTED = re.compile(r"(?:Expected `([^`]+)`, got `([^`]+)`|(.*?))(?: - at `\$\.?([^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "a table of keys",
    "array": "a list",
    "null": "nothing",
}


def _in_words(message: str) -> Misuse:
    """Return msgspec's complaint in the user's words."""
    if missing := _MISSING.fullmatch(message):
        field = ".".join(filter(None, (missing[2], missing[1])))
        hint = f"add {field}"
        return Misuse(f"{field} is missing", field=field, hint=hint)
    parts = _EXPECTED.fullmatch(message)
    assert parts is not None  # its last alternative takes anything
    expected, got, other, at = parts.groups()
    field = (at or "").replace("[...]", "")
    if bound := _BOUND.match(message):
        words = f"{bound[2]} or {'more' if bound[1] == '>=' else 'less'}"
        return Misuse(f"expected a whole number of {words}", field=field)
    if not expected:
        return Misuse(other, field=field)
    kinds = [kind for kind in expected.split(" | ") if kind != "null"]
    if "float" in kinds and "int" in kinds:
        kinds.remove("int")
    return Misuse(
        f"expected {' or '.join(_WORDS.get(kind, kind) for kind in kinds)}, "
        f"got {_WORDS.get(got, got)}",
        field=field,
        hint='write it in quotes: "…"'
        if "str" in kinds and got in ("bool", "int", "float")
        else "",
    )


def _type_of(value: object) -> str:
    names = {type(None): "null", list: "array", tuple: "array"}
    name = names.get(type(value), type(value).__name__)
    return _WORDS.get(name, name)
