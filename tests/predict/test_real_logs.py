"""Promises on real logs. They are not ours to ship: FAIRLEAD_TRACES says where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairlead.cli.predict import _load
from fairlead.predict.evaluate import evaluate
from fairlead.predict.registry import build

TRACES = Path(os.environ.get("FAIRLEAD_TRACES", Path(__file__).parents[3] / "shared" / "traces"))
JOBS = 6000


@pytest.mark.parametrize("log", ["KTH-SP2", "CTC-SP2", "SDSC-SP2", "SDSC-BLUE"])
def test_online_keeps_its_promise_on_real_logs(log):
    path = TRACES / "swf" / "easy-reference" / f"{log}.easy_backfill.swf.gz"
    if not path.exists():
        story = f"{path} is not there; set FAIRLEAD_TRACES to the folder of the traces"
        if os.environ.get("FAIRLEAD_TRACES_REQUIRED") == "1":
            pytest.fail(story)
        pytest.skip(story)
    found = evaluate(_load(str(path), None, JOBS), build("online"))
    assert 0.87 <= found.total.band_90 <= 0.95
    assert 0.45 <= found.total.band_50 <= 0.58
    assert all(window.band_90 > 0.82 for window in found.windows)
