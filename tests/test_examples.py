"""The example programs compute what they say, stop politely, and go on where they stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))  # where the demo finds its own modules

import demo  # noqa: E402
from demo_service import Failed  # noqa: E402

REQUEUE = 75


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("FAIRLEAD")},
        "FAIRLEAD_CHECKPOINT_DIR": str(folder),
        "DEMO_LEDGER": str(folder / "ledger"),
        "OMP_NUM_THREADS": "1",
        **more,
    }


def run(folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=EXAMPLES,
        env=environ(folder, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )


def steps(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^step (\d+)/", text, re.MULTILINE)]


def test_training_that_yields_resumes_where_it_stopped(tmp_path):
    words = ("train.py", "--steps", "5", "--width", "16", "--yield-at", "2")
    first = run(tmp_path, *words)
    assert (first.returncode, steps(first.stdout)) == (REQUEUE, [1, 2])
    second = run(tmp_path, *words)
    assert (second.returncode, steps(second.stdout)) == (0, [3, 4, 5])
    assert "resuming at step 2" in second.stdout


def test_training_in_two_attempts_gives_what_one_gives(tmp_path):
    words = ("train.py", "--steps", "4", "--width", "16")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a", *words).stdout.splitlines()[-1]
    run(tmp_path / "b", *words, "--yield-at", "2")
    assert run(tmp_path / "b", *words).stdout.splitlines()[-1] == whole


def test_training_saves_and_leaves_when_it_is_told_to_stop(tmp_path):
    program = subprocess.Popen(
        [sys.executable, "train.py", "--steps", "100000", "--width", "16"],
        cwd=EXAMPLES,
        env=environ(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("step 1/")
        program.send_signal(signal.SIGTERM)
        rest, _ = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == REQUEUE
    last = int(re.findall(r"saved at step (\d+)", rest)[0])
    resumed = run(tmp_path, "train.py", "--steps", str(last + 1), "--width", "16")
    assert f"resuming at step {last}" in resumed.stdout


def test_inference_does_not_repeat_finished_chunks(tmp_path):
    words = ("infer.py", "--chunks", "2", "--passes", "1")
    first = run(tmp_path, *words)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("chunk-*.npy")}
    assert len(before) == 2
    second = run(tmp_path, *words)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("chunk-*.npy")} == before
    assert first.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]


def test_the_array_index_chooses_the_parameters_of_the_sweep(tmp_path):
    pytest.importorskip("sklearn")
    one = run(tmp_path, "sweep.py", "--trees", "2", FAIRLEAD_ARRAY_INDEX="1")
    two = run(tmp_path, "sweep.py", "--trees", "2", FAIRLEAD_ARRAY_INDEX="2")
    assert "depth 4 features 0.3" in one.stdout
    assert "depth 8 features sqrt" in two.stdout


def test_a_gang_agrees_after_every_step(tmp_path):
    words = [sys.executable, "gang.py", "--steps", "4", "--passes", "1"]
    members = [
        subprocess.Popen(
            words,
            cwd=EXAMPLES,
            env=environ(tmp_path, FAIRLEAD_RANK=str(rank), FAIRLEAD_MEMBERS="3"),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    try:
        said = [member.communicate(timeout=90)[0] for member in members]
    finally:
        for member in members:
            member.kill()
    assert [member.returncode for member in members] == [0, 0, 0]
    assert len({text.splitlines()[-1] for text in said}) == 1


def test_every_start_is_one_line_of_the_ledger(tmp_path):
    run(tmp_path, "train.py", "--steps", "1", "--width", "8", FAIRLEAD_JOB_ID="7")
    run(
        tmp_path,
        *("train.py", "--steps", "1", "--width", "8"),
        FAIRLEAD_JOB_ID="7",
        FAIRLEAD_RESTART_COUNT="1",
    )
    assert (tmp_path / "ledger").read_text() == "7 0 0\n7 1 0\n"


@pytest.mark.parametrize("path", sorted((EXAMPLES / "jobs").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_job_file_is_understood_and_its_program_exists(path):
    from ruamel.yaml import YAML

    from fairlead.service.spec import Defaults, parse_jobs

    specs = parse_jobs([YAML(typ="safe").load(path)], Defaults(user="me"))
    assert specs[0].shape.members * specs[0].shape.cpu_milli <= 2000
    assert (EXAMPLES / specs[0].command[1]).exists()


def rows(**changed):
    """Two finished jobs as the API shows them: `train` in two attempts, a gang of two members."""
    train = {"id": 1, "name": "train", "phase": "SUCCEEDED", "attempt": 2, "members": 1}
    gang = {"id": 2, "name": "gang", "phase": "SUCCEEDED", "attempt": 1, "members": 2}
    return [train | changed, gang]


LEDGER = ("1 0 0", "1 1 0", "2 0 0", "2 0 1")


def checked(tmp_path, lines, found, submitted=2):
    ledger = tmp_path / "ledger"
    ledger.write_text("".join(f"{line}\n" for line in lines))
    return demo.check(found, submitted, ledger)


def test_the_demo_accepts_a_ledger_that_agrees_with_the_service(tmp_path):
    assert "4 starts" in checked(tmp_path, LEDGER, rows())


@pytest.mark.parametrize(
    ("lines", "found", "submitted", "words"),
    [
        ((*LEDGER, "2 0 1"), rows(), 2, "ran twice"),
        (LEDGER[:-1], rows(), 2, "known but never began"),
        ((*LEDGER, "9 0 0"), rows(), 2, "began but unknown"),
        (LEDGER, rows(), 3, "3 jobs were submitted, but 2 are known"),
        (LEDGER, rows(phase="FAILED"), 2, "not every job succeeded"),
        (LEDGER, rows(name="sweep"), 2, "more than one attempt"),
    ],
)
def test_the_demo_notices_what_must_not_be(tmp_path, lines, found, submitted, words):
    with pytest.raises(Failed, match=words):
        checked(tmp_path, lines, found, submitted)
