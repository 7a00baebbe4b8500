"""The harness itself: it must be able to fail."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from harness import CASES, Case, Damaged, NotOffered, adapter, differences, judge, read_file

GOOD = {
    "schema": 1,
    "kind": "toy",
    "algorithm": "doubling",
    "input_fields": {"x": ""},
    "expect_fields": {"y": "", "z": ""},
    "default_tolerance": "rel 1e-9",
    "cases": [
        {"id": "toy-1", "title": "", "input": {"x": 1}, "expect": {"y": 2}, "verified_by": []}
    ],
}


def file(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(GOOD | changes))
    return path


def case(expect: dict, exact: dict | None = None, kind: str = "toy", **given: object) -> Case:
    return Case("toy-1", kind, given, expect, exact or {}, 1e-9)


def test_a_sound_file_is_read(tmp_path):
    (found,) = read_file(file(tmp_path))
    assert (found.id, found.input, found.expect) == ("toy-1", {"x": 1}, {"y": 2})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"schema": 2}, "schema 2"),
        ({"kind": "other"}, "named so"),
        ({"cases": []}, "no cases"),
        ({"remarks": ""}, "unknown: remarks"),
        ({"cases": [{"id": "toy-1"}]}, "missing: expect, input"),
        ({"cases": [GOOD["cases"][0] | {"expcet": 1}]}, "unknown: expcet"),
        ({"cases": [GOOD["cases"][0] | {"tolerance": "close"}]}, "tolerance 'close'"),
        ({"cases": [GOOD["cases"][0], GOOD["cases"][0]]}, "comes twice"),
        ({"cases": [7]}, "not an object"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(tmp_path, changes, word):
    with pytest.raises(Damaged, match=word):
        read_file(file(tmp_path, **changes))


def test_a_file_that_is_cut_off_says_so(tmp_path):
    path = tmp_path / "toy.json"
    path.write_text((CASES / "gang.json").read_text()[:500])
    with pytest.raises(Damaged, match=r"toy\.json: not JSON"):
        read_file(path)


def test_only_fields_that_the_schema_names_are_compared(tmp_path):
    extra = GOOD["cases"][0] | {"expect": {"y": 2, "notes": "?"}}
    (found,) = read_file(file(tmp_path, cases=[extra]))
    assert found.expect == {"y": 2}


@pytest.mark.parametrize(
    ("expected", "exact", "got"),
    [
        (1, None, 2),
        (1, None, True),
        (1, None, 1.0000000001),  # a count is exact
        (1, None, None),
        (None, None, 0),
        (True, None, 1),
        ("n1", None, "n2"),
        (0.5, None, 0.500000002),
        (0.5, "1/2", Fraction(500000001, 10**9)),  # a rational must be exact
        (3, "3", Fraction(3000000001, 10**9)),
        ([1, 2], None, [1]),
        ({"a": 1}, None, {"a": 1, "b": 2}),
        ({"a": [0.25]}, {"a": ["1/4"]}, {"a": [Fraction(1, 3)]}),
    ],
)
def test_a_wrong_answer_is_found(expected, exact, got):
    assert differences(case({"y": expected}, {"y": exact} if exact else None), {"y": got})


@pytest.mark.parametrize(
    ("expected", "exact", "got"),
    [
        (1, None, 1),
        (1, None, 1.0),
        (3, "3", 2.9999999999),  # a real number that happens to be whole, from floats
        (0.5, "1/2", Fraction(1, 2)),
        (0.3333333333333333, None, Fraction(1, 3)),
        ([1, None], None, (1, None)),
    ],
)
def test_a_right_answer_is_right(expected, exact, got):
    assert differences(case({"y": expected}, {"y": exact} if exact else None), {"y": got}) == []


def test_a_field_that_is_not_answered_is_found():
    assert differences(case({"y": 1}), {"x": 1}) == ["y: not answered"]


def double(given):
    if "x" not in given:
        raise NotOffered("no x")
    return {"y": 2 * given["x"]}


@pytest.mark.parametrize(
    ("answer", "owed", "verdict"),
    [
        (double, {}, "passed"),
        (lambda given: {"y": 3}, {}, "failed"),
        (None, {}, "failed"),
        (None, {"toy": 3}, "owed"),
        (lambda given: {"y": 3}, {"toy": 3}, "owed"),
        (double, {"toy": 3}, "failed"),  # the list can only shrink
        (double, {"toy": {"other": 3}}, "passed"),
        (double, {"toy": {"fast": 3}}, "failed"),
        (None, {"toy": {"fast": 3}}, "owed"),
    ],
)
def test_only_what_is_owed_is_excused(answer, owed, verdict):
    assert judge(case({"y": 2}, x=1, policy="fast"), answer, owed)[0] == verdict


def test_what_the_product_does_not_offer_fails_unless_it_is_owed():
    assert judge(case({"y": 2}, policy="fast"), double, {}) == ("failed", "toy-1\nno x")
    assert judge(case({"y": 2}, policy="fast"), double, {"toy": {"fast": 3}}) == (
        "owed",
        "toy: owed by issue 3",
    )


def test_a_kind_without_a_file_has_no_adapter():
    assert adapter("no_such_kind") is None
