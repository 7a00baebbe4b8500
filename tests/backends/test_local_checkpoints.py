"""Jobs that say that their work is saved, by a file, a declared path, or a descriptor."""

from __future__ import annotations

import os
from pathlib import Path

from local_node import Node, launch, shell

from fairlead.backends.local import checkpoints, files


def test_a_line_on_the_descriptor_reaches_the_service_also_after_the_agent_was_killed(
    node: Node,
) -> None:
    says = """echo 'garbage' >&$FAIRLEAD_REPORT_FD
        echo '{"loss": 3}' >&$FAIRLEAD_REPORT_FD
        echo '{"checkpoint": true}' >&$FAIRLEAD_REPORT_FD; sleep 60"""
    quiet = """echo '{"checkpoint": false}' >&3; sleep 60"""
    node.send(run=(shell(1, says), shell(2, quiet)))
    first = saved(node, (1, 1, 0))
    assert node.member((2, 1, 0), "running").checkpoint_ms is None
    node.kill_agent()
    node.start_agent()
    assert saved(node, (1, 1, 0)) == first


def test_a_touched_file_and_a_declared_folder_count(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "ckpt"
    folder.mkdir()
    node.send(
        run=(
            shell(1, "touch $FAIRLEAD_TASK_DIR/checkpoint; sleep 60"),
            shell(2, "sleep 60", checkpoint_path="ckpt", workdir=str(tmp_path)),
        )
    )
    saved(node, (1, 1, 0))
    assert node.member((2, 1, 0), "running").checkpoint_ms is None, "an empty folder saves nothing"
    (folder / "step-100").write_text("weights")
    at = os.stat(folder / "step-100").st_mtime_ns // 1_000_000
    assert saved(node, (2, 1, 0)) == at


def test_what_is_not_there_or_lies_in_the_future_says_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    assert checkpoints.saved_ms([str(mark)]) is None
    mark.write_text("")
    os.utime(mark, ns=(2**62, 2**62))
    made = launch(5, "x", checkpoint_path=str(mark))
    assert checkpoints.marks("/state", made) == ("/state/jobs/5/1.0/checkpoint", str(mark))
    state = str(tmp_path)
    os.makedirs(files.task_folder(state, made.key))
    checkpoints.touch(files.task_folder(state, made.key))
    assert checkpoints.saved_ms(checkpoints.marks(state, made)) == 2**62 // 1_000_000


def saved(node: Node, key: tuple[int, int, int]) -> int:
    """Wait until a member's work is reported as saved; return when it was."""
    for _ in range(40):
        node.report()
        for state in node.last.members:
            if state.key == key and state.checkpoint_ms is not None:
                return state.checkpoint_ms
    raise AssertionError(f"nothing was said of {key}: {node.last}")
