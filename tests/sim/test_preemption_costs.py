"""What preemption costs is counted, in every figure that it touches, and can be asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fairlead.cli.sim import sim
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.metrics import binned, busy_milli, columns, queue_length, summarise
from fairlead.sim.outcome import Rules
from fairlead.sim.replay import gate, replay
from fairlead.sim.traces import read
from fairlead.sim.workload import fit

# One core. The long job runs 0-10 and from 14 on; the short one comes at 10 and needs 4 s.
LONG, SHORT = (
    '{"id": 1, "submit_s": 0, "run_s": 100, "processors": 1}',
    ('{"id": 2, "submit_s": 10, "run_s": 4, "processors": 1}'),
)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "two.jsonl"
    head = '{"format": "fairlead-trace", "version": 1, "cluster": "pool:1"}'
    path.write_text(f"{head}\n{LONG}\n{SHORT}\n")
    return path


def call(*words: object) -> Result:
    result = CliRunner().invoke(sim, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def figures(trace: Path, *words: object) -> dict:
    return json.loads(call("run", trace, "--policy", "srtf", "--json", *words).stdout)


def test_waits_use_and_slowdown_know_of_the_pause(trace):
    cluster = parse_cluster("pool:1")
    outcome = replay(fit(read(trace), cluster, gate(cluster)), cluster, "srtf")
    cols, summary = columns(outcome), summarise(outcome)
    assert cols.wait.tolist() == [4_000, 0] and cols.held.tolist() == [100_000, 4_000]
    assert summary.preemptions == 1 and summary.lost_s == 0
    assert summary.mean_wait_s == 2 and summary.makespan_s == 104
    assert summary.utilisation_ratio == 1  # the core was never idle, and never used twice
    assert summary.mean_bounded_slowdown == pytest.approx((1.04 + 1) / 2)
    for steps, total in ((queue_length(cols), 4_000), (busy_milli(cols), 104_000 * 1000)):
        mean = binned(*steps, 0, 104_000, 1)[0]
        assert mean * 104_000 == pytest.approx(total)
    assert busy_milli(cols)[1].max() == 1000


@pytest.mark.parametrize(
    ("words", "end", "lost"),
    [
        ((), 104, None),
        (("--restart", "3s"), 107, 3),
        (("--checkpoint", "4s"), 106, 2),  # it had saved 8 of its 10 seconds
        (("--restart", "3s", "--checkpoint", "1m"), 117, 13),
    ],
)
def test_restarts_and_lost_work_cost_what_is_asked(trace, words, end, lost):
    found = figures(trace, *words)
    assert found["makespan_s"] == end and found["preemptions"] == 1
    assert found.get("lost_s") == lost
    assert found["utilisation_ratio"] == pytest.approx(1)
    assert found["mean_bounded_slowdown"] == pytest.approx((end / 100 + 1) / 2)


def test_a_job_that_has_not_run_long_enough_is_left_alone(trace):
    assert "preemptions" not in figures(trace, "--set", "min_run=2m")
    assert figures(trace, "--set", "min_run=5s")["preemptions"] == 1
    assert "preemptions" not in figures(trace, "--set", "preemptions_max=0")


def test_tables_and_page_show_preemptions_only_where_there_are_any(trace, tmp_path):
    page = tmp_path / "page.html"
    words = ("compare", trace, "--restart", "3s", "--set", "min_run=5s", "--html", page)
    shown = call(*words, "--policies", "fifo,srtf").stdout
    assert "preempted" in shown
    text = page.read_text()
    assert "lost by preemption" in text and "Preemptions: 0 under fifo, 1 under srtf" in text
    assert "--restart 3s --set min_run=5s" in text  # how to make it again
    assert "preemptions" in call("run", trace, "--policy", "srtf").stdout
    shown = call("compare", trace, "--policies", "fifo,sjf", "--html", page).stdout
    assert "preempted" not in shown and "preemption" not in page.read_text().lower()


def test_the_order_of_events_can_be_that_of_the_reference(trace, tmp_path):
    path = tmp_path / "tie.jsonl"
    head = '{"format": "fairlead-trace", "version": 1, "cluster": "pool:1"}'
    rows = [(1, 0, 10), (2, 1, 50), (3, 10, 2)]
    lines = [
        f'{{"id": {i}, "submit_s": {at}, "run_s": {run}, "processors": 1}}' for i, at, run in rows
    ]
    path.write_text("\n".join([head, *lines]))
    # At 10 s job 3 comes and job 1 ends. Together: the shorter job 3 is next. One by one, and
    # job 1 was believed to end then: its place is free before job 3 is there to be told of.
    starts = {}
    for order in ("instant", "reference"):
        outcome = replay(*_world(path), "sjf-easy", rules=Rules(event_order=order))
        starts[order] = [each // 1000 for each in outcome.start_ms]
        summary = json.loads(
            call("run", path, "--policy", "sjf-easy", "--event-order", order, "--json").stdout
        )
        assert summary["digest"] == summarise(outcome).digest
    assert starts["instant"] == [0, 12, 10]


def _world(path: Path):
    cluster = parse_cluster("pool:1")
    return fit(read(path), cluster, gate(cluster)), cluster
