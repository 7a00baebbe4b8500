"""Every reference case against the product, through one adapter per kind."""

from __future__ import annotations

import pytest
from harness import CASES, Damaged, adapter, judge, read_file, read_owed


def test_reference_case(reference_case):
    if isinstance(reference_case, Damaged):
        pytest.fail(str(reference_case), pytrace=False)
    verdict, why = judge(reference_case, adapter(reference_case.kind), read_owed())
    if verdict == "owed":
        pytest.skip(why)
    if verdict == "failed":
        pytest.fail(why, pytrace=False)


def test_what_is_owed_is_a_kind_or_policy_that_the_cases_have():
    kinds = {path.stem for path in CASES.glob("*.json")}
    assert len(kinds) == 43
    policies = {case.input["policy"] for case in read_file(CASES / "queue_sim.json")}
    for kind, owed in read_owed().items():
        assert kind in kinds
        if isinstance(owed, dict):
            assert owed.keys() < policies


def test_no_id_comes_twice_over_all_files():
    ids = [case.id for path in CASES.glob("*.json") for case in read_file(path)]
    assert len(ids) == len(set(ids)) == 137
