"""Reads reference cases and compares answers with them; cases/README.md is the rule book.

An adapter is a module adapters/<kind>.py with `answer(input) -> output`. It returns fields of
`expect`, as ints, Fractions or floats, and raises NotOffered for what the product cannot do yet.
A field whose question stands in `expect` itself (values at listed points) is answered with a
function of what is expected.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CASES = HERE / "cases"
ADAPTERS = HERE / "adapters"
OWED = HERE / "owed.toml"

FILE_FIELDS = {
    *("schema", "kind", "algorithm", "input_fields", "expect_fields", "default_tolerance", "cases"),
}
CASE_NEEDED = {"id", "title", "input", "expect", "verified_by"}
CASE_FIELDS = CASE_NEEDED | {"source", "exact", "tolerance", "notes"}

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class NotOffered(Exception):
    """The product does not do this variant of a kind."""


class Damaged(Exception):
    """A case file does not follow cases/README.md."""


@dataclass(frozen=True)
class Case:
    """One case, with what its file says of all of them."""

    id: str
    kind: str
    input: dict[str, Any]
    expect: dict[str, Any]  # only the fields that the schema names
    exact: dict[str, Any]
    tolerance: float


def read_file(path: Path) -> list[Case]:
    """Return the cases of a file; raises Damaged with what is wrong."""
    try:
        body = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Damaged(f"{path.name}: not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Damaged(f"{path.name}: not one JSON object")
    _check_fields(path.name, body, FILE_FIELDS, FILE_FIELDS)
    if body["schema"] != 1:
        raise Damaged(f"{path.name}: schema {body['schema']!r}, known is 1")
    if body["kind"] != path.stem:
        raise Damaged(f"{path.name}: its kind is {body['kind']!r}; the file should be named so")
    if not isinstance(body["cases"], list) or not body["cases"]:
        raise Damaged(f"{path.name}: it has no cases")
    cases = [_case(f"{path.name}, case {n}", each, body) for n, each in enumerate(body["cases"])]
    ids = [case.id for case in cases]
    if len(set(ids)) < len(ids):
        raise Damaged(f"{path.name}: an id comes twice: {sorted(ids)}")
    return cases


def _check_fields(where: str, found: Any, needed: set[str], known: set[str]) -> None:
    if not isinstance(found, dict):
        raise Damaged(f"{where}: not an object")
    if missing := sorted(needed - found.keys()):
        raise Damaged(f"{where}: missing: {', '.join(missing)}")
    if unknown := sorted(found.keys() - known):
        raise Damaged(f"{where}: unknown: {', '.join(unknown)}")


def _case(where: str, found: Any, file: dict[str, Any]) -> Case:
    _check_fields(where, found, CASE_NEEDED, CASE_FIELDS)
    if not isinstance(found["input"], dict) or not isinstance(found["expect"], dict):
        raise Damaged(f"{where}: input and expect are objects")
    named = {name: each for name, each in found["expect"].items() if name in file["expect_fields"]}
    if not named and found["expect"]:
        named = found["expect"]  # a file that names none of them: compare them all
    tolerance = found.get("tolerance", file["default_tolerance"])
    number = re.match(r"rel ([0-9.]+(?:e-?[0-9]+)?)", str(tolerance))
    if number is None:
        raise Damaged(f"{where}: cannot read the tolerance {tolerance!r}")
    return Case(
        id=found["id"],
        kind=file["kind"],
        input=found["input"],
        expect=named,
        exact=found.get("exact") or {},
        tolerance=float(number[1]),
    )


def differences(case: Case, answer: Mapping[str, Any]) -> list[str]:
    """Return in words where an answer differs from what is expected, [] if nowhere."""
    found: list[str] = []
    for name, expected in case.expect.items():
        if name not in answer:
            found.append(f"{name}: not answered")
        else:
            got = answer[name](expected) if callable(answer[name]) else answer[name]
            _compare(name, got, expected, case.exact.get(name), case.tolerance, found)
    return found


def _compare(
    path: str, got: Any, expected: Any, exact: Any, tolerance: float, found: list[str]
) -> None:
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            found.append(f"{path}: {got!r}, expected {expected!r}")
            return
        for key, value in expected.items():
            inner = exact.get(key) if isinstance(exact, dict) else None
            _compare(f"{path}.{key}", got[key], value, inner, tolerance, found)
    elif isinstance(expected, list):
        if not isinstance(got, list | tuple) or len(got) != len(expected):
            found.append(f"{path}: {got!r}, expected {expected!r}")
            return
        for index, value in enumerate(expected):
            inner = exact[index] if isinstance(exact, list) else None
            _compare(f"{path}[{index}]", got[index], value, inner, tolerance, found)
    elif not _equal(got, expected, exact, tolerance):
        wanted = f"{expected!r} (exactly {exact})" if exact else repr(expected)
        found.append(f"{path}: {got!r}, expected {wanted}")


def _equal(got: Any, expected: Any, exact: Any, tolerance: float) -> bool:
    if not _is_number(expected) or not _is_number(got):
        return type(got) is type(expected) and bool(got == expected)
    if isinstance(got, float):
        if isinstance(expected, int) and not isinstance(exact, str):
            return got == expected  # a count, an index
        return math.isclose(got, expected, rel_tol=tolerance, abs_tol=1e-12)
    if isinstance(exact, str):
        return got == Fraction(exact)
    if isinstance(expected, int):
        return bool(got == expected)
    return math.isclose(got, expected, rel_tol=tolerance, abs_tol=1e-12)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Fraction) and not isinstance(value, bool)


def adapter(kind: str, folder: Path = ADAPTERS) -> Answer | None:
    """Return the adapter of a kind, None if there is none."""
    if not (folder / f"{kind}.py").is_file():
        return None
    answer: Answer = importlib.import_module(f"adapters.{kind}").answer
    return answer


def read_owed(path: Path = OWED) -> dict[str, Any]:
    """Return kind -> issue, or kind -> {policy -> issue}."""
    return tomllib.loads(path.read_text())


def owed_by(case: Case, owed: Mapping[str, Any]) -> int | None:
    """Return the issue that owes a case, None if it must pass."""
    issue = owed.get(case.kind)
    if isinstance(issue, Mapping):
        issue = issue.get(case.input.get("policy"))
    return issue


def judge(case: Case, answer: Answer | None, owed: Mapping[str, Any]) -> tuple[str, str]:
    """Return ("passed" | "failed" | "owed", why)."""
    issue = owed_by(case, owed)
    try:
        if answer is None:
            raise NotOffered(f"there is no adapter for the kind {case.kind}")
        found = differences(case, answer(case.input))
    except NotOffered as no:
        found = [str(no)]
    if issue is None:
        return ("failed", "\n".join([case.id, *found])) if found else ("passed", "")
    if not found:
        return "failed", f"{case.id} passes: take {case.kind} off tests/reference/owed.toml"
    return "owed", f"{case.kind}: owed by issue {issue}"
