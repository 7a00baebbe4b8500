"""A failure of the fault simulation is told, cut down, written, and can be repeated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from fairlead.cli.faults import faults
from fairlead.core.engine import Core
from fairlead.sim.faults.run import Failure, run_seed
from fairlead.sim.faults.shrink import shrink


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Plant a bug: idempotency keys are forgotten, so a client that asks again submits again."""
    original = Core._submitted

    def forgetful(self, event):
        original(self, replace(event, request=""))

    monkeypatch.setattr(Core, "_submitted", forgetful)
    return monkeypatch


def first_failure() -> Failure:
    return next(r for r in map(run_seed, range(100)) if isinstance(r, Failure))


def test_a_failure_is_cut_down_to_what_it_takes(planted: pytest.MonkeyPatch) -> None:
    failure = first_failure()
    small = shrink(failure)
    assert small.name == failure.name
    assert len(small.plan.requests) == 1 < len(failure.plan.requests)
    assert len(small.plan.incidents) <= 1
    assert len(small.plan.nodes) < len(failure.plan.nodes)
    assert any('"submitted"' in line for line in small.story)
    assert any('"submitted"' in line for line in small.log)


def test_the_command_tells_writes_and_repeats_a_failure(
    planted: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planted.chdir(tmp_path)
    seed = first_failure().plan.seed
    failed = CliRunner().invoke(faults, ["--seed", str(seed)], standalone_mode=False)
    assert failed.return_value == 1
    assert f"seed {seed} FAILED" in failed.output
    assert "shrunk to" in failed.output
    path = tmp_path / "out" / f"faults-{seed}.json"
    assert f"--replay out/{path.name}" in failed.output
    written = json.loads(path.read_text())
    assert written["seed"] == seed and written["story"] and written["log"]

    again = CliRunner().invoke(faults, ["--replay", str(path), "--json"], standalone_mode=False)
    assert again.return_value == 1
    assert json.loads(again.output)["failure"]["check"] == written["check"]

    planted.undo()
    mended = CliRunner().invoke(faults, ["--replay", str(path)], standalone_mode=False)
    assert mended.return_value == 0
    assert "does not fail any more" in mended.output


def test_the_command_counts_clean_seeds() -> None:
    clean = CliRunner().invoke(faults, ["--seeds", "2", "--json"], standalone_mode=False)
    assert clean.return_value == 0
    body = json.loads(clean.output)
    assert body["clean"] == 2 and body["failed"] == 0 and body["simulated_hours"] > 2


def test_a_file_that_is_no_failure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "garbage.json"
    path.write_text("{}")
    refused = CliRunner().invoke(faults, ["--replay", str(path)], standalone_mode=False)
    assert "is not a failure of the fault simulation" in str(refused.exception)


def test_one_seed_and_many_seeds_exclude_each_other() -> None:
    both = CliRunner().invoke(faults, ["--seed", "1", "--seeds", "2"])
    assert both.exit_code == 2
    assert "not both" in both.output
