"""Readers of job traces. `read` tells the formats apart by their content, not by their names."""

from __future__ import annotations

from pathlib import Path

from fairlead.sim.traces import jsonl, swf
from fairlead.sim.traces.lines import read_lines
from fairlead.sim.workload import Trace


def read(path: str | Path) -> Trace:
    """Return the trace in a file, compressed or not; Misuse names the line that is damaged."""
    lines = read_lines(Path(path))
    if lines[0][1].startswith(b"{"):
        return jsonl.parse(str(path), lines)
    return swf.parse(str(path), lines)
