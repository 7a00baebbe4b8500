"""`fairlead.report` as a program calls it: what it writes, and what it refuses in clear words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fairlead
from fairlead import progress

SOURCE = str(Path(fairlead.__file__).parents[1])


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """As in a process that has not reported before, outside any job."""
    monkeypatch.setattr(progress, "_owner", 0)
    for name in ("FAIRLEAD_REPORT_FD", "FAIRLEAD_REPORT_PIPE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pipe(monkeypatch):
    """A job's descriptor; the end that the supervisor reads."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    monkeypatch.setenv("FAIRLEAD_REPORT_FD", str(writer))
    monkeypatch.setenv("FAIRLEAD_REPORT_PIPE", f"{os.fstat(reader).st_ino}:/proc/self/fd/{reader}")
    yield reader
    os.close(reader)
    os.close(writer)


def test_a_line_of_json_says_step_and_samples_whatever_kind_of_number_they_are(pipe):
    fairlead.report(step=1)
    fairlead.report(step=np.int64(2), samples=np.float32(64))
    fairlead.report(step=3.0, samples=64)
    assert os.read(pipe, 999) == (
        b'{"step": 1}\n{"step": 2, "samples": 64}\n{"step": 3, "samples": 64}\n'
    )


@pytest.mark.parametrize(
    "step", [-1, float("nan"), float("inf"), 2.5, "7", None, True, [1], 2**53, 1 + 2j, b"1"]
)
def test_what_is_no_whole_number_is_refused_also_outside_a_job(step):
    with pytest.raises(ValueError, match=r"^step is a (whole )?number"):
        fairlead.report(step=step)
    if step is not None:
        with pytest.raises(ValueError, match=r"^samples is a (whole )?number"):
            fairlead.report(step=0, samples=step)


def test_what_goes_backwards_is_refused_and_not_sent(pipe):
    fairlead.report(step=5, samples=50)
    fairlead.report(step=5)
    with pytest.raises(ValueError, match="step 4 goes backwards: 5 was reported before"):
        fairlead.report(step=4)
    with pytest.raises(ValueError, match="samples 49 goes backwards"):
        fairlead.report(step=6, samples=49)
    assert os.read(pipe, 999) == b'{"step": 5, "samples": 50}\n{"step": 5}\n'


def test_a_reader_that_is_gone_or_a_pipe_that_is_full_does_no_harm(monkeypatch):
    reader, writer = os.pipe()
    monkeypatch.setenv("FAIRLEAD_REPORT_FD", str(writer))
    monkeypatch.setenv("FAIRLEAD_REPORT_PIPE", f"{os.fstat(reader).st_ino}:/nowhere")
    for step in range(20_000):  # more than a pipe holds; nobody reads
        fairlead.report(step=step)
    os.close(reader)
    fairlead.report(step=20_000)
    assert progress._pipe == progress._NONE
    os.close(writer)


def test_importing_it_loads_nothing_heavy():
    code = (
        "import os, sys\nbefore = set(sys.modules)\nimport fairlead\nfairlead.report(step=1)\n"
        "new = {name for name in set(sys.modules) - before if not name.startswith('fairlead')}\n"
        "assert new <= {'operator', '_operator', 'select', '__future__'}, new\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
