"""Predictions where they count: EASY++ by forecasts that are honest in time, on four real logs."""

from __future__ import annotations

import pytest
from real_logs import REFERENCE, log, replayed

from fairlead.predict.registry import build
from fairlead.sim.metrics import summarise

# Mean bounded slowdown of the best untuned public predictor per log (../shared/traces, swf/).
BEST_UNTUNED = {"KTH-SP2": 62.9, "CTC-SP2": 26.5, "SDSC-SP2": 65.1, "SDSC-BLUE": 16.8}
# The mean of the user's last two run times, corrected to the request, as that study has it. Only
# KTH: predictions that differ by 2 % move the mean of SDSC-SP2 by 9, of CTC by 3.
LAST_TWO = {"KTH-SP2": 62.857}


def slowdown(name: str, predictor: str) -> float:
    path = log(name, "easy_backfill")
    outcome = replayed(
        path, "easy++", estimates="limit", rules=REFERENCE, predictor=build(predictor)
    )
    return summarise(outcome).mean_bounded_slowdown


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", BEST_UNTUNED)
def test_one_learned_predictor_with_one_setting_beats_the_best_untuned_one(name):
    assert slowdown(name, "online") <= BEST_UNTUNED[name]


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", LAST_TWO)
def test_the_last_two_run_times_do_as_well_as_in_the_public_study(name):
    assert slowdown(name, "tsafrir") == pytest.approx(LAST_TWO[name], rel=0.03)
