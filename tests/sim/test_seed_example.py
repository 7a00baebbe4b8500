"""The page docs/examples/seed.md, run."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from fairlead.cli.sim import sim

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/examples/seed.md").read_text(encoding="utf-8")


def test_the_seed_done_right_drops_nothing_and_has_a_mean_completion_of_three_seconds(tmp_path):
    starts = tmp_path / "starts.csv"
    words = ["run", str(ROOT / "examples/seed.jsonl"), "--policy", "sjf", "--json"]
    result = CliRunner().invoke(sim, [*words, "--starts", str(starts)], catch_exceptions=False)
    shown = json.loads(result.stdout)
    assert shown["jobs"] == 3
    assert shown["mean_completion_s"] == 3
    assert not {"dropped", "rejected", "timeouts"} & set(shown)
    assert starts.read_text() in PAGE  # T1 starts where T2 has ended: resources are released
    assert f'"mean_wait_s": {shown["mean_wait_s"]}, "mean_completion_s": 3.0' in PAGE


def test_first_come_first_served_has_the_same_mean_here_as_the_page_says():
    words = ["run", str(ROOT / "examples/seed.jsonl"), "--policy", "fifo", "--json"]
    result = CliRunner().invoke(sim, words, catch_exceptions=False)
    assert json.loads(result.stdout)["mean_completion_s"] == 3
    assert "(4 + 1 + 4) / 3 = 3 s" in PAGE
