"""EASY and EASY++ job by job as a public simulator computed them (../shared/traces, swf/)."""

from __future__ import annotations

import pytest
from real_logs import REFERENCE, computed_waits, different, log, mean_wait_s, replayed

LOGS = {"KTH-SP2": 28_481, "CTC-SP2": 77_199, "SDSC-SP2": 54_006, "SDSC-BLUE": 232_542}
EXACT = [name for name in LOGS if name != "SDSC-BLUE"]
FIRST = 4_000  # jobs of the quick tests


def test_there_are_392_228_jobs():
    assert sum(LOGS.values()) == 392_228


@pytest.mark.parametrize(
    ("run", "policy", "estimates"),
    [
        ("easy_backfill", "easy", "limit"),
        ("easy_clairvoyant", "easy-expected", "exact"),
        ("easypp_sjbf_clairvoyant", "easy++", "exact"),
    ],
)
def test_the_first_jobs_of_kth_wait_as_long_as_in_the_reference(run, policy, estimates):
    # Who started before the last of these jobs came did not depend on those that came later.
    path = log("KTH-SP2", run)
    outcome = replayed(path, policy, estimates=estimates, rules=REFERENCE, limit_jobs=FIRST + 1_000)
    cut = outcome.workload.jobs[-1].submit_ms
    wrong = {job for job, _, _ in different(outcome, computed_waits(path))}
    settled = [
        job.id
        for job, start in zip(outcome.workload.jobs, outcome.start_ms, strict=True)
        if start < cut
    ]
    assert len(settled) > FIRST
    assert [job for job in settled if job in wrong] == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LOGS)
def test_easy_gives_every_job_the_wait_of_the_reference(name):
    path = log(name, "easy_backfill")
    outcome = replayed(path, "easy", estimates="limit", rules=REFERENCE)
    assert len(outcome.start_ms) == LOGS[name] and not outcome.timeouts
    assert different(outcome, computed_waits(path)) == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize(
    ("run", "policy"),
    [("easy_clairvoyant", "easy-expected"), ("easypp_sjbf_clairvoyant", "easy++")],
)
def test_with_exact_predictions_every_job_waits_as_in_the_reference(name, run, policy):
    path = log(name, run)
    outcome = replayed(path, policy, rules=REFERENCE)
    assert len(outcome.start_ms) == LOGS[name] and not outcome.timeouts
    assert different(outcome, computed_waits(path)) == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LOGS)
def test_one_decision_per_instant_leaves_the_mean_wait_within_three_per_cent(name):
    path = log(name, "easy_backfill")
    waits = computed_waits(path)
    theirs = sum(waits.values()) / len(waits)
    ours = mean_wait_s(replayed(path, "easy", estimates="limit"))
    assert ours == pytest.approx(theirs, rel=0.03)
