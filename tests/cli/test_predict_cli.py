from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fairlead.cli.main import main
from fairlead.cli.predict import predict


def call(*words: object) -> Result:
    result = CliRunner().invoke(predict, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A user who alternates between runs of 60 and 300 seconds, limited to 200."""
    path = tmp_path / "t.swf"
    rows = [
        f"{n} {1000 * n} -1 {(60, 300)[n % 2]} 2 -1 -1 2 {200} -1 1 3 4 -1 -1 -1 -1 -1"
        for n in range(1, 61)
    ]
    path.write_text("; MaxProcs: 8\n" + "\n".join(rows) + "\n")
    return path


def test_eval_prints_a_row_per_predictor_and_per_part(trace):
    text = call("eval", trace, "--predictors", "tsafrir,online").stdout
    assert "60 jobs" in text and "part 10" in text
    assert "tsafrir: user" in text and "band_90" in text


def test_eval_counts_a_run_time_up_to_the_limit(trace):
    body = json.loads(call("eval", trace, "--predictors", "limit", "--json").stdout)
    (result,) = body["results"]
    assert result["total"]["mae_ms"] == (200_000 - 60_000) / 2
    assert result["total"]["exact"] == 0.5 and "forecasts" not in result


def test_show_explains_a_forecast_and_says_how_the_job_ended(trace):
    text = call("show", trace, "--job", 50, "--predictor", "last2").stdout
    assert "expected     2m10s" in text and "newest first: 3m20s, 1m" in text
    assert "it ran       1m" in text
    body = json.loads(call("show", trace, "--job", 50, "--json").stdout)
    assert len(body["forecast"]["quantiles_ms"]) == 7 and body["ran_ms"] == 60_000


def test_a_job_that_the_trace_does_not_have_is_refused(trace, capsys):
    with pytest.raises(SystemExit) as left:
        main(["predict", "show", str(trace), "--job", "77"])
    assert left.value.code == 2
    assert "no job 77" in capsys.readouterr().err
