"""`predict JOB` and `predict calibration`: what was forecast, and how often it was right."""

from __future__ import annotations

from fake_service import NOW

SAID = {"expected_ms": 600_000, "quantiles_ms": [60_000] * 6 + [3_600_000], "model": "online"}
FOUND = {"id": 7, "phase": "RUNNING", "forecast": SAID, "limit_ms": 7_200_000, "ran_ms": 120_000}
FOUND |= {"believed_end_ms": NOW + 480_000, "why": ["his last jobs"], "now_ms": NOW}


def test_a_forecast_is_explained_in_words(cli, service):
    service.answers["GET /api/v1/jobs/7/forecast"] = lambda _: FOUND
    result = cli("predict", "7")
    assert result.code == 0, result.err
    assert result.out.splitlines()[:4] == [
        "job 7 is RUNNING",
        "  forecast by online: 10m; nine times in ten 1m to 1h",
        "  its time limit: 2h",
        "  has run: 2m",
    ]
    assert "believed to end" in result.out and "his last jobs" in result.out


def test_a_job_without_forecast_says_so(cli, service):
    plain = FOUND | {"forecast": None, "why": [], "believed_end_ms": None, "ran_ms": None}
    service.answers["GET /api/v1/jobs/last/forecast"] = lambda _: plain
    assert "no forecast was made of it" in cli("predict", "last").out


def test_calibration_shows_promised_against_actual_shares(cli, service):
    below = {"5": 1, "50": 10, "95": 19}
    model = {"jobs": 20, "error_ms": 300, "ran_ms": 1000, "banded": 20, "below": below}
    service.answers["GET /api/v1/forecasts"] = lambda _: {
        **{"predictor": "online", "models": {"online": model}}
    }
    header, row = cli("predict", "calibration").out.splitlines()
    assert " ".join(header.split()) == "model jobs off by below 5 below 50 below 95"
    assert " ".join(row.split()) == "online 20 30 % 5 % 50 % 95 %"


def test_calibration_without_any_forecast_says_so(cli, service):
    service.answers["GET /api/v1/forecasts"] = lambda _: {"predictor": "none", "models": {}}
    assert "no job with a forecast has ended yet" in cli("predict", "calibration").out
