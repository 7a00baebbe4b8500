"""What jobs say on their descriptor: progress and checkpoints, by shell and by Python."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_node import Node, launch, shell

from fairlead.backends.local import checkpoints, files
from fairlead.backends.local.reports import LINE_BYTES_MAX, Reports
from fairlead.model.messages import MemberKey, Progress

SOURCE = str(Path(__file__).parents[2] / "src")


def python(job: int, program: str, **more: object):
    return launch(job, sys.executable, "-c", program, env={"PYTHONPATH": SOURCE}, **more)


def progress(node: Node, key: MemberKey, steps: int) -> Progress:
    """Wait until a member is reported to be so far."""
    for _ in range(40):
        for state in node.last.members if node.last else ():
            if state.key == key and state.progress and state.progress.steps >= steps:
                return state.progress
        node.report()
    raise AssertionError(f"{key} never got to {steps}: {node.last}")


def test_a_shell_and_a_python_program_say_how_far_they_are_and_the_agent_may_die(
    node: Node,
) -> None:
    by_hand = """echo '{"step": 3, "samples": 96}' >&$FAIRLEAD_REPORT_FD; sleep 60"""
    called = "import fairlead, time; fairlead.report(step=7); time.sleep(60)"
    node.send(run=(shell(1, by_hand), python(2, called), shell(3, "sleep 60")))
    first = progress(node, (1, 1, 0), 3)
    assert (first.steps, first.samples, first.odd) == (3, 96, "")
    assert progress(node, (2, 1, 0), 7).samples == -1
    assert node.member((3, 1, 0), "running").progress is None
    node.kill_agent()
    node.start_agent()
    assert progress(node, (1, 1, 0), 3) == first


def test_what_a_short_job_says_at_the_very_last_is_there_with_its_end(node: Node) -> None:
    steps = "import fairlead\nfor n in range(1001): fairlead.report(step=n, samples=32 * n)"
    node.send(run=(python(1, steps),))
    said = node.member((1, 1, 0), "ended").progress
    assert said is not None and 0 < said.steps <= 1000 and said.samples == 32 * said.steps


def test_a_flood_of_lines_loses_nothing_but_stays_small(node: Node) -> None:
    flood = """import os
fd = int(os.environ["FAIRLEAD_REPORT_FD"])
for n in range(0, 200_000, 1000):
    data = b"".join(b'{"step": %d}\\n' % step for step in range(n, n + 1000)) + b"junk\\n"
    while data:
        data = data[os.write(fd, data):]"""
    node.send(run=(python(1, flood),))
    said = node.member((1, 1, 0), "ended").progress
    assert said is not None
    assert (said.steps, said.malformed, said.backwards) == (199_999, 200, 0)
    assert said.odd == "not understood: b'junk'"
    assert len((Path(files.task_folder(str(node.state), (1, 1, 0))) / "progress").read_text()) < 200


def test_a_process_without_the_descriptor_finds_the_pipe_and_a_foreign_file_is_left_alone(
    node: Node, tmp_path: Path
) -> None:
    """As torchrun starts its workers: descriptors closed, number 3 something else by then."""
    worker = f"""import fairlead, os
assert os.open({str(tmp_path / "mine")!r}, os.O_RDWR | os.O_CREAT) == 3
fairlead.report(step=41 + (os.environ["LOCAL_RANK"] == "1"))"""
    launcher = f"""import os, subprocess, sys
for rank in "01":
    env = {{**os.environ, "LOCAL_RANK": rank}}
    subprocess.run([sys.executable, "-c", {worker!r}], env=env, check=True)"""
    node.send(run=(python(1, launcher),))
    ended = node.member((1, 1, 0), "ended")
    assert ended.exit is not None and ended.exit.ok, node.printed((1, 1, 0))
    assert ended.progress is not None and ended.progress.steps == 41, "only the first one speaks"
    assert (tmp_path / "mine").read_bytes() == b""


def test_a_supervisor_that_reads_nothing_blocks_nobody(node: Node) -> None:
    program = """import fairlead, os, signal, time
os.kill(os.getppid(), signal.SIGSTOP)
for n in range(20_000): fairlead.report(step=n)
open(os.environ["FAIRLEAD_TASK_DIR"] + "/through", "w").close()
os.kill(os.getppid(), signal.SIGCONT)
time.sleep(0.2)
fairlead.report(step=20_000)"""
    node.send(run=(python(1, program),))
    said = node.member((1, 1, 0), "ended").progress
    assert said is not None and said.steps == 20_000
    assert os.path.exists(f"{files.task_folder(str(node.state), (1, 1, 0))}/through")


def heard(tmp_path: Path, *pieces: bytes) -> Reports:
    os.makedirs(tmp_path, exist_ok=True)
    reports = Reports(str(tmp_path))
    for at, piece in enumerate(pieces):
        reports.hear(piece, 1000 + at)
    return reports


def test_lines_come_in_pieces_and_nonsense_is_counted(tmp_path: Path) -> None:
    mark = tmp_path / "checkpoint"
    reports = heard(tmp_path, b'{"check')
    assert not mark.exists()
    reports.hear(b'point": true}\n{"checkpoint"', 1)
    assert mark.exists() and reports.progress == Progress()
    mark.unlink()
    reports.hear(b": 1}\n[]\n\xff\n\n{}\n" + b'{"loss": 3}\n', 2)
    assert reports.progress.malformed == 3 and not mark.exists()
    reports.hear(b"x" * 10 * LINE_BYTES_MAX, 3)
    reports.hear(b"\n", 4)
    assert reports.progress.malformed == 4
    reports.hear(b'{"checkpoint": true, "step": 7}\n', 5)
    assert mark.exists() and (reports.progress.steps, reports.progress.at_ms) == (7, 5)
    assert checkpoints.saved_ms([str(mark)]) is not None


@pytest.mark.parametrize("step", ["-1", "NaN", "1e400", '"3"', "true", "2.5", "1e30", "[1]"])
def test_a_step_that_is_no_whole_number_is_no_step(tmp_path: Path, step: str) -> None:
    said = heard(tmp_path, b'{"step": 2}\n', b'{"step": %s}\n' % step.encode()).progress
    assert (said.steps, said.malformed, said.at_ms) == (2, 1, 1000)


def test_a_step_that_goes_backwards_is_ignored_and_said(tmp_path: Path) -> None:
    said = heard(tmp_path, b'{"step": 9}\n', b'{"step": 4}\n{"step": 9}\n').progress
    assert (said.steps, said.backwards, said.at_ms) == (9, 1, 1000)
    assert said.odd == """goes backwards: b'{"step": 4}' after step 9"""


@given(
    st.lists(st.integers(0, 50) | st.just("junk"), max_size=30),
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
)
def test_what_is_kept_does_not_depend_on_how_the_bytes_come(tmp_path_factory, said, cuts) -> None:
    """The latest is the greatest; every line is counted once, wherever reads cut it."""
    lines = [each if each == "junk" else json.dumps({"step": each}) for each in said]
    data = "".join(f"{line}\n" for line in lines).encode()
    pieces, at = [], 0
    while at < len(data):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(data[at : at + size])
        at += size
    found = heard(tmp_path_factory.getbasetemp() / "any", *pieces).progress
    steps = [each for each in said if each != "junk"]
    assert found.steps == max(steps, default=-1)
    assert found.malformed == said.count("junk")
    best = [max(steps[:n], default=-1) for n in range(len(steps))]
    assert found.backwards == sum(each < before for each, before in zip(steps, best, strict=True))


def test_the_file_is_written_at_most_once_a_second_and_at_the_end(tmp_path: Path) -> None:
    reports = Reports(str(tmp_path))
    file = tmp_path / "progress"
    assert reports.wait_s(5.0) is None
    reports.hear(b'{"step": 1}\n', 0)
    reports.write(5.0)
    reports.hear(b'{"step": 2}\n', 0)
    assert reports.wait_s(5.25) == 0.75
    reports.write(5.25)
    assert json.loads(file.read_text())["steps"] == 1
    reports.write(6.0)
    assert json.loads(file.read_text())["steps"] == 2
    reports.hear(b'{"step": 3}\n', 0)
    reports.write(6.1, last=True)
    assert json.loads(file.read_text())["steps"] == 3
    assert reports.wait_s(6.2) is None
