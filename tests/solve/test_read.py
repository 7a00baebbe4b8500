"""Files of costs: what people write is understood, what makes no sense is told with its place."""

from __future__ import annotations

import numpy as np
import pytest

from fairlead.model.base import Misuse, Refused
from fairlead.solve.problem import FORBIDDEN, build
from fairlead.solve.read import estimate, from_csv, from_json, read, refuse_if_large


def cells(problem) -> list[list[int | None]]:
    return [[None if each == FORBIDDEN else each for each in row] for row in problem.cost.tolist()]


def test_a_bare_table_of_numbers_needs_no_names():
    problem = from_csv("2,3\n4,1\n3,2\n")
    assert cells(problem) == [[2, 3], [4, 1], [3, 2]]
    assert problem.tasks == ("task 1", "task 2", "task 3")


@pytest.mark.parametrize(
    "text",
    [",R1,R2\nT1,2,\nT2,-,1\n", "R1;R2\nT1;2;\nT2;-;1\n", "task\tR1\tR2\nT1\t2\t\nT2\t-\t1\n"],
)
def test_names_and_forbidden_pairs_are_found_whatever_separates_them(text):
    problem = from_csv(text)
    assert problem.resources == ("R1", "R2")
    assert problem.tasks == ("T1", "T2")
    assert cells(problem) == [[2, None], [None, 1]]


def test_a_column_of_sizes_and_a_row_of_capacities():
    problem = from_csv("task,a,b,size\nT1,6,9,4\nT2,3,5,2.5\ncapacity,8,7,\n")
    assert problem.tasks == ("T1", "T2") and problem.resources == ("a", "b")
    assert problem.size.tolist() == [[40, 40], [25, 25]]
    assert problem.capacity == (80, 70) and problem.size_scale == 10


def test_numbered_tasks_are_names_when_the_corner_is_empty():
    assert from_csv(",R1,R2\n1,2,3\n2,4,1\n").tasks == ("1", "2")


def test_decimals_are_exact():
    problem = from_csv("0.1,0.25\n3,1e1\n")
    assert problem.scale == 100
    assert cells(problem) == [[10, 25], [300, 1000]]
    assert build([[0.1, 0.2]]).cost.tolist() == [[1, 2]]  # as written, not as stored in binary


def test_json_with_everything():
    problem = from_json(
        '{"costs": [[1, 2.5], [3, null]], "capacities": [2, 1], "sizes": [1, 2],'
        ' "forbidden": [["B", "y"], [0, 0]], "tasks": ["A", "B"], "resources": ["x", "y"]}'
    )
    assert cells(problem) == [[None, 25], [30, None]]
    assert problem.capacity == (2, 1)
    assert cells(from_json("[[1, 2], [3, 4]]")) == [[1, 2], [3, 4]]
    assert from_json('{"costs": [[1]], "penalty": 0.5}').penalty == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n3\n", "line 2 has 1 columns, the first row of numbers 2"),
        ("1,2\n3,x\n", "row 2, column 2: 'x' is not a number"),
        (",a,b\nT1,1,2\nT2,3,4x\n", r"row 2 \(T2\), column 2 \(b\): '4x' is not a number"),
        ("1,2\nx,4\n", "row 2, column 1: 'x' is not a number"),
        ("1,nan\n", "row 1, column 2: NaN is not a number to add up"),
        ("1,-inf\n", "-Infinity is not a number to add up"),
        ("1,1e300\n", "out of range"),
        ("1,2000000000000000\n", "row 1, column 2: a number is too large"),
        ("1,0.00000000001\n", "too many decimals"),
        ("2,1_0\n3,4\n", "row 1, column 2: '1_0' is not a number"),
        ("a,b\n", "no rows of numbers"),
        (",a,a\nT,1,2\n", "two resources are named a"),
        (",a,b,c\nT,1,2\n", "the first row has 4 names for 2 columns|names"),
        (",a,size\nT,1,-2\ncapacity,1,\n", "the size of T on a is negative"),
        (",a,size\nT,1,2\n", "there are sizes but no capacities"),
        (",a,b\nT,1,2\ncapacity,1,\n", "line 3: '' is not a number"),
        (",a,b\nT,1,2\ncapacity,1,-4\n", "capacity 2 is negative"),
        ('"1,2\n', "no rows of numbers"),
    ],
)
def test_a_table_that_makes_no_sense_is_told_with_its_place(text, said):
    with pytest.raises(Misuse, match=said):
        from_csv(text)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("{", "not JSON: .* at line 1", ""),
        ('{"cost": [[1]]}', "there is no key 'cost'", "did you mean costs"),
        ('{"colour": 1}', "there is no key 'colour'", "there are costs"),
        ("{}", "costs is missing", ""),
        ('{"costs": 3}', "costs is not a list", ""),
        ('{"costs": [3]}', "row 1 of costs is not a list", ""),
        ('{"costs": []}', "there are no costs", ""),
        ('{"costs": [[]]}', "there are no costs", ""),
        ('{"costs": [[NaN]]}', "NaN is not a cost", "null"),
        ('{"costs": [[true]]}', "True is not a number", ""),
        ('{"costs": [[{}]]}', "is not a number", ""),
        ('{"costs": [[1, 2], [3]]}', "row 2 has 1 columns", ""),
        ('{"costs": [[1]], "tasks": ["a", "b"]}', "2 names for 1 tasks", ""),
        ('{"costs": [[1]], "sizes": [[1]], "capacities": ["x"]}', "'x' is not a number", ""),
        ('{"costs": [[1]], "sizes": [[null]], "capacities": [1]}', "", ""),
        ('{"costs": [[1]], "sizes": [[1, 2]], "capacities": [1]}', "sizes are 1 × 2", ""),
        ('{"costs": [[1]], "capacities": [1, 2]}', "2 capacities for 1 resources", ""),
        ('{"costs": [[1]], "capacities": [null]}', "None is not a number", ""),
        ('{"costs": [[1]], "forbidden": [[0, 4]]}', "there is no pair", ""),
        ('{"costs": [[1]], "forbidden": [3]}', "3 is not a pair", ""),
        ('{"costs": [[1]], "tasks": ["job"], "forbidden": [["jop", 0]]}', "no task 'jop'", "job"),
        ('"costs"', "not a JSON object", ""),
    ],
)
def test_json_that_makes_no_sense_is_told(text, said, hint):
    if not said:  # a pair without a size is a forbidden pair
        assert cells(from_json(text)) == [[None]]
        return
    with pytest.raises(Misuse, match=said) as caught:
        from_json(text)
    assert hint in caught.value.hint


def test_a_file_that_is_empty_or_no_text_is_told(tmp_path):
    empty, binary = tmp_path / "empty.csv", tmp_path / "binary.csv"
    empty.write_text(" \n")
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Misuse, match=r"empty\.csv is empty"):
        read(empty)
    with pytest.raises(Misuse, match="not text in UTF-8"):
        read(binary)


def test_what_does_not_fit_into_memory_is_refused_with_the_estimate_before_it_is_read(
    tmp_path, monkeypatch
):
    path = tmp_path / "large.csv"
    path.write_text((",".join(["1"] * 1000) + "\n") * 500)
    cells, need = estimate(path)
    assert 490_000 <= cells <= 510_000
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_: pytest.fail("it was read"))
    with pytest.raises(Refused, match=r"about 500,000 pairs would take"):
        read(path, available=need - 1)


def test_a_hundred_million_pairs_need_gigabytes():
    with pytest.raises(Refused, match=r"100,000,000 pairs would take 4\.5 GiB"):
        refuse_if_large(10**8, 48 * 10**8, 2**30)


def test_integers_in_an_array_are_taken_as_they_are():
    grid = np.arange(6).reshape(2, 3)
    assert build(grid).cost.tolist() == grid.tolist()
    with pytest.raises(Misuse, match="larger than"):
        build(np.array([[2 * 10**15]]))


def test_sums_that_would_not_be_exact_are_refused():
    with pytest.raises(Misuse, match="too large for exact sums"):
        build(np.full((2000, 2), 10**15) * np.array([1, -1]))
