"""Alibaba 2020 (PAI): the task table, with or without a header (docs/reference/traces/pai.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from fairlead.model import limits
from fairlead.model.base import Ms
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape
from fairlead.sim.traces.lines import Lines, assemble, read_lines
from fairlead.sim.traces.table import Row, cells_of, header, rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = (
    *("job_name", "task_name", "inst_num", "status", "start_time", "end_time"),
    *("plan_cpu", "plan_mem", "plan_gpu", "gpu_type"),
)
JOB_COLUMNS = ("job_name", "inst_id", "user", "status", "start_time", "end_time")
# The other tables, by their columns: told apart to say which one is needed.
OTHERS = {
    JOB_COLUMNS: "job",
    (
        *("job_name", "task_name", "inst_name", "worker_name", "inst_id"),
        *("status", "start_time", "end_time", "machine"),
    ): "instance",
}
_STATES = ("Terminated", "Failed", "Running", "Waiting")
_PERCENT_MILLI = 10  # thousandths in a percent
Jobs: TypeAlias = Mapping[str, tuple[Ms, str]]  # submission and user by job_name


def is_task(names: list[str]) -> bool:
    """Return whether these cells are a line of the task table, which has no header of its own."""
    return len(names) == len(COLUMNS) and names[3] in _STATES


def parse(path: str, lines: Lines, table: Jobs | None = None) -> Trace:
    """Return the trace: one job per task, a gang of its instances.

    The job table says who submitted it and when; without it, it is when the task was launched.
    """
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    rounded = unknown = 0
    for row in _rows(path, lines):
        members = row.whole("inst_num", 0, limits.MEMBERS_MAX) if not row.blank("inst_num") else 0
        if row.blank("start_time"):
            dropped["no start_time (never ran)"] += 1
            continue
        if row.blank("end_time"):
            dropped["no end_time (still ran)"] += 1
            continue
        start = row.ms("start_time")
        run = row.ms("end_time") - start
        if run < 0:
            raise row.wrong("end_time", "a time from start_time on")
        if not members:
            dropped["no instances"] += 1
            continue
        gpu_milli = _amount(row, "plan_gpu", _PERCENT_MILLI)
        rounded += gpu_milli > WHOLE_GPU_MILLI and gpu_milli % WHOLE_GPU_MILLI > 0
        submit, user = (table or {}).get(row.text("job_name"), (start, ""))
        unknown += not user
        jobs.append(
            TraceJob(
                id=f"{row.text('job_name')}/{row.text('task_name')}",
                submit_ms=submit,
                run_ms=run,
                shape=_shape(row, gpu_milli, members),
                name=row.text("task_name"),
                user=user,
            )
        )
    notes = {}
    if unknown:
        notes["submission unknown"] = f"{unknown:,} tasks; taken to be when they were launched"
    if rounded:
        notes["rounded up"] = f"{rounded:,} tasks asked for more than one GPU, but not whole ones"
    return assemble(path, "pai", jobs, dropped, notes=notes)


def read_jobs(path: Path) -> Jobs:
    """Return what the job table says, with or without a header."""
    lines = read_lines(path)
    first = header(lines[0][1])
    bare = len(first) == len(JOB_COLUMNS) and first[3] in _STATES
    found = cells_of(str(path), lines, JOB_COLUMNS) if bare else rows(str(path), lines, JOB_COLUMNS)
    return {
        row.text("job_name"): (row.ms("start_time"), row.text("user"))
        for row in found
        if not row.blank("start_time")
    }


def _rows(path: str, lines: Lines) -> Iterator[Row]:
    if is_task(header(lines[0][1])):
        return cells_of(path, lines, COLUMNS)
    return rows(path, lines, COLUMNS)


def _amount(row: Row, name: str, unit: int) -> int:
    if row.blank(name):
        return 0
    return round(unit * row.number(name, 0, limits.AMOUNT_MAX / unit))


def _shape(row: Row, gpu_milli: int, members: int) -> Shape:
    share = gpu_milli < WHOLE_GPU_MILLI
    return Shape(
        cpu_milli=_amount(row, "plan_cpu", _PERCENT_MILLI),
        memory_mib=_amount(row, "plan_mem", 1024),
        gpus=0 if share else -(-gpu_milli // WHOLE_GPU_MILLI),
        gpu_milli=gpu_milli if share else 0,
        members=members,
    )
