"""`plan` and `submit --dry-run`: what would happen, in words and as an exit code."""

from __future__ import annotations

import json

from fake_service import NOW

PATH = "POST /api/v1/jobs:plan"
JOB = {"outcome": "now", "nodes": ["vm"], "position": None, "reason": "", "eta": None}
JOB |= {"promised_ms": None}
PLAN = {"outcome": "now", "now_ms": NOW, "waiting": 2, "count": 1, "start_now": 1, "jobs": [JOB]}
PLAN |= {"preempts": [], "delays": [], "delayed": 0, "refusal": None}
ETA = {"earliest_ms": NOW + 600_000, "likely_ms": NOW + 1_200_000, "latest_ms": NOW + 3_600_000}
WAITS = JOB | {"outcome": "waits", "nodes": [], "position": 2, "reason": "Resources: 1 node: CPU"}
WAITS |= {"eta": ETA | {"made_ms": NOW, "sure": False}}


def test_what_starts_now_exits_0_and_nothing_is_submitted(cli, service):
    service.answers[PATH] = lambda _: PLAN
    for words in (("plan",), ("submit", "--dry-run")):
        result = cli(*words, "-c", "2", "--", "train")
        assert (result.code, result.out) == (0, "would start now on vm\n")
    assert [each.path for each in service.requests] == ["/api/v1/jobs:plan"] * 2
    assert service.requests[0].body["jobs"] == [{"resources": {"cpus": "2"}, "run": ["train"]}]


def test_what_waits_exits_1_and_says_until_when_and_whom_it_delays(cli, service):
    delays = [{"job": 9, "likely_ms": NOW, "later_ms": 300_000}]
    service.answers[PATH] = lambda _: (
        PLAN
        | {
            **{"outcome": "waits", "jobs": [WAITS], "start_now": 0},
            **{"delays": delays, "delayed": 3, "preempts": [4, 3]},
        }
    )
    result = cli("plan", "--", "train")
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[0] == "would wait: Resources: 1 node: CPU"
    assert lines[1].startswith("  2nd of 3 that wait; expected to start in about 20m (")
    assert lines[2:] == [
        "  running jobs 3-4 would make room",
        "  job 9 would start about 5m later",
        "  2 more would start later too",
    ]


def test_what_is_refused_exits_2_and_names_the_nearest_that_can_run(cli, service):
    refusal = {"code": "never-fits", "message": "can never run", "hint": "try cpus: 2", "field": ""}
    service.answers[PATH] = lambda _: PLAN | {"outcome": "never", "jobs": [], "refusal": refusal}
    result = cli("plan", "--", "train")
    assert (result.code, result.out) == (2, "would be refused: can never run\n  try cpus: 2\n")


def test_several_jobs_are_summed_up(cli, service):
    service.answers[PATH] = lambda _: (
        PLAN | {**{"outcome": "waits", "count": 5, "start_now": 1, "jobs": [JOB, WAITS]}}
    )
    result = cli("plan", "--array", "0-4", "--", "train")
    assert result.code == 1
    assert result.out.splitlines()[0] == "5 jobs: 1 would start now, 4 would wait"


def test_json_is_the_answer_itself_and_the_exit_code_stays(cli, service):
    answer = PLAN | {"outcome": "waits", "jobs": [WAITS]}
    service.answers[PATH] = lambda _: answer
    result = cli("plan", "--json", "--", "train")
    assert (result.code, json.loads(result.out)) == (1, answer)


def test_a_plan_takes_files_as_submit_does_and_names_a_wrong_key(cli, service, tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text("run: train\nresorces: {cpus: 2}\n")
    service.answers[PATH] = service.submit
    result = cli("plan", "-f", str(file))
    assert result.code == 2
    assert f"{file}:2: unknown key resorces" in result.err
    assert "did you mean resources?" in result.err
