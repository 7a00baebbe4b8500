from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fairlead.cli.main import main
from fairlead.cli.sim import sim
from fairlead.sim.traces import FORMATS
from traces import EXCERPTS, THROUGHPUTS

KEYS = [
    "policy",
    "jobs",
    "mean_wait_s",
    "mean_completion_s",
    "mean_bounded_slowdown",
    "p99_wait_s",
    "makespan_s",
    "utilisation_ratio",
    "wall_s",
    "cpu_s",
    "jobs_per_s",
    "digest",
    "median_wait_s",
    "p95_wait_s",
    "median_bounded_slowdown",
    "p95_bounded_slowdown",
    "by_size",
]


def call(*words: object) -> Result:
    result = CliRunner().invoke(sim, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def fails(capsys, *words: object) -> tuple[int, str]:
    """Return the exit code and what stands on stderr."""
    with pytest.raises(SystemExit) as left:
        main(["sim", *(str(word) for word in words)])
    assert isinstance(left.value.code, int)
    return left.value.code, capsys.readouterr().err


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "made.jsonl"
    call("generate", "poisson", "--jobs", 60, "--cluster", "2x4gpu", "--tenants", 30, "-o", path)
    return path


def test_run_prints_one_json_object_with_exactly_the_promised_keys(trace):
    result = call("run", trace, "--policy", "fifo", "--json")
    assert list(json.loads(result.stdout)) == KEYS
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""  # no progress bar where nobody watches


def test_run_in_words_names_figures_tenants_and_what_was_left_out(tmp_path):
    path = tmp_path / "t.swf"
    rows = ["1 0 -1 60 2 -1 -1 2 -1 -1 1 3 4 -1 -1 -1 -1 -1", "2 5 " + "-1 " * 16]
    rows.append("3 5 -1 60 9 -1 -1 9 -1 -1 1 3 4 -1 -1 -1 -1 -1")
    path.write_text("; MaxProcs: 8\n" + "\n".join(rows))
    shown = call("run", path, "--policy", "fifo").stdout
    assert "pool:8 (1 node, 8 cores)" in shown
    assert "mean completion" in shown and "60.0 s" in shown
    assert "group4" in shown
    assert "rejected 1 jobs: can never run" in shown
    assert "dropped 1 jobs: unknown run time" in shown


def test_run_shows_twenty_tenants_and_how_many_more(trace):
    shown = call("run", trace).stdout
    assert "tenants that used less" in shown


def test_starts_has_a_row_per_job_that_adds_up(trace, tmp_path):
    out = tmp_path / "starts.csv"
    summary = json.loads(call("run", trace, "--starts", out, "--json").stdout)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["job", "submit_s", "start_s", "end_s", "nodes"]
    assert len(rows) == summary["jobs"] == 60
    waits = [float(row["start_s"]) - float(row["submit_s"]) for row in rows]
    assert sum(waits) / 60 == pytest.approx(summary["mean_wait_s"])
    assert {row["nodes"] for row in rows} <= {"node1", "node2"}


def test_limit_jobs_takes_the_first(trace):
    assert json.loads(call("run", trace, "--limit-jobs", 7, "--json").stdout)["jobs"] == 7


def test_compare_gives_what_run_gives_for_each_policy(trace):
    both = json.loads(call("compare", trace, "--policies", "fifo, sjf", "--json").stdout)
    assert [result["policy"] for result in both["results"]] == ["fifo", "sjf"]
    for result in both["results"]:
        alone = json.loads(call("run", trace, "--policy", result["policy"], "--json").stdout)
        assert alone["digest"] == result["digest"]
    shown = call("compare", trace, "--policies", "fifo,sjf").stdout
    assert "fifo" in shown and "sjf" in shown and "completion" in shown


def test_the_page_names_the_command_and_the_file_it_came_from(trace, tmp_path):
    page = tmp_path / "a page.html"
    words = ["compare", trace, "--policies", "fifo,sjf", "--limit-jobs", 9, "--html", page]
    assert f"wrote {page}" in call(*words).stdout
    text = page.read_text()
    # By name only: folders differ elsewhere. Options that were not given are not shown.
    repeat = "compare made.jsonl --policies fifo,sjf --limit-jobs 9 --html &#39;a page.html&#39;"
    assert repeat in text and str(tmp_path) not in text and "--estimates" not in text
    assert hashlib.sha256(trace.read_bytes()).hexdigest() in text
    call("compare", trace, "--html", page)
    assert "--policies fifo,sjf,priority" in page.read_text()  # what is meant by default may change


def test_generated_traces_are_equal_for_equal_seeds_and_packed_on_request(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz", "c.jsonl"):
        call("generate", "diurnal", "--jobs", 50, "--seed", 4, "-o", tmp_path / name)
    packed = (tmp_path / "a.jsonl.gz").read_bytes()
    assert packed == (tmp_path / "b.jsonl.gz").read_bytes()
    plain = (tmp_path / "c.jsonl").read_bytes()
    assert gzip.decompress(packed) == plain
    printed = call("generate", "diurnal", "--jobs", 50, "--seed", 4, "-o", "-").stdout
    assert printed.encode() == plain


def test_trace_info_says_what_is_in_it(trace):
    info = json.loads(call("trace", "info", trace, "--json").stdout)
    assert (info["jobs"], info["cluster"], info["format"]) == (60, "2x4gpu", "jsonl")
    assert sum(info["widths"].values()) == 60
    shown = call("trace", "info", trace).stdout
    assert "asked for 1 GPU" in shown


def test_trace_info_measures_load_and_names_deadlines_and_what_was_dropped(tmp_path):
    path = tmp_path / "chronus.csv"
    path.write_text(EXCERPTS["chronus"])
    info = json.loads(call("trace", "info", path, "--cluster", "1x8gpu", "--json").stdout)
    assert (info["format"], info["jobs"], info["deadlines"]) == ("chronus", 3, 2)
    assert info["dropped"] == {"0 GPUs (a fraction of one, rounded down)": 1}
    # 7 minutes on 1 GPU, 9 on 8 and 30 on 2, on 8 GPUs in the 8 minutes between first and last.
    assert info["load_ratio"] == pytest.approx((7 + 9 * 8 + 30 * 2) / (8 * 8))
    assert info["work_s"] == 60 * (7 + 9 * 8 + 30 * 2)
    shown = call("trace", "info", path).stdout
    assert "have a deadline" in shown and "offered load" not in shown


def test_trace_info_writes_the_page_it_is_asked_for(tmp_path):
    pytest.importorskip("matplotlib")
    path, page = tmp_path / "muri.csv", tmp_path / "page.html"
    path.write_text(EXCERPTS["muri"])
    assert f"wrote {page}" in call("trace", "info", path, "--plots", page).stdout
    assert page.read_text().startswith("<!doctype html>")


def test_run_and_compare_take_the_format_and_the_throughputs(tmp_path):
    path, table = tmp_path / "gavel.trace", tmp_path / "speeds.json"
    path.write_text(EXCERPTS["gavel"])
    table.write_text(THROUGHPUTS)
    how = ["--cluster", "1x8gpu", "--format", "gavel", "--throughputs", table]
    alone = json.loads(call("run", path, "--policy", "fifo", "--json", *how).stdout)
    both = json.loads(call("compare", path, "--policies", "fifo,sjf", "--json", *how).stdout)
    assert alone["jobs"] == 2 and alone["makespan_s"] == 300
    assert both["results"][0]["digest"] == alone["digest"]
    slow = call("run", path, "--json", *how, "--throughputs-gpu", "k80").stdout
    assert json.loads(slow)["makespan_s"] == 100


def test_the_help_names_every_format():
    shown = "".join(call("run", "--help").stdout.split())  # lines may break within a name
    assert [name for name in FORMATS if name not in shown] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "TRACE", "--policy", "fifoo"], "did you mean 'fifo'?"),
        (["run", "TRACE", "--cluster", "12x8gup"], 'did you mean "8gpu"?'),
        (["run", "none.swf"], "there is no file none.swf"),
        (["run", "TRACE", "--limit-jobs", "0"], "limit-jobs"),
        (["run", "TRACE", "--starts", "/none/x.csv"], "cannot write /none/x.csv"),
        (["compare", "TRACE", "--policies", "fifo,fifo"], "fifo is there twice"),
        (["compare", "TRACE", "--policies", ","], "0 policies"),
        (["compare", "TRACE", "--policies", "fifo,best"], "there is no policy 'best'"),
        (["compare", "TRACE", "--html", "/none/x.html"], "cannot write /none/x.html"),
        (["compare", "TRACE", "--html", "/"], "cannot write /: it is a folder"),
        (["generate", "poisson", "--load", "-1", "-o", "-"], "a load of -1"),
        (["generate", "poisson", "-o", "/none/x.jsonl"], "cannot write /none/x.jsonl"),
        (["trace", "info", "/"], "is a folder"),
        (["trace", "info", "TRACE", "--format", "jsnol"], "did you mean jsonl?"),
        (["run", "TRACE", "--format", "muri"], "found no column job_id"),
        (["trace", "info", "TRACE", "--plots", "/none/x.html"], "cannot write /none/x.html"),
        (["run", "TRACE", "--cluster", "none.csv"], "there is no file none.csv"),
    ],
)
def test_mistakes_are_one_clear_error_with_exit_code_two(capsys, trace, words, said):
    code, shown = fails(capsys, *(trace if word == "TRACE" else word for word in words))
    assert code == 2
    assert said in shown
    assert "Traceback" not in shown


def test_what_can_never_run_is_refused_with_exit_code_one(capsys, trace):
    code, shown = fails(capsys, "run", trace, "--cluster", "pool:4")
    assert code == 1
    assert "can run on pool:4" in shown and "choose a larger --cluster" in shown


def test_errors_are_json_where_json_was_asked_for(capsys, tmp_path):
    path = tmp_path / "bad.swf"
    path.write_text("1 2 3\n")
    code, shown = fails(capsys, "run", path, "--json")
    error = json.loads(shown)["error"]
    assert (code, error["code"]) == (2, "damaged-trace")
    assert f"{path}:1: found 3 fields" in error["message"]
