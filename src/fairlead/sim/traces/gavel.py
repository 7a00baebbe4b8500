"""Gavel and Shockwave: jobs in steps, tab-separated (docs/reference/traces/gavel.md).

Three layouts, told apart by the number of columns: 10 (Gavel), 7 (an older one, as in the traces
made from Philly) and 12 (Shockwave, which adds a mode and the duration). The others say how many
steps a job makes: how long that takes depends on the GPU, and a table of throughputs says it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from fairlead.model.base import Misuse, Ms
from fairlead.sim.traces.lines import TIME_MS_MAX, Lines, assemble, damaged, read_lines, shown
from fairlead.sim.traces.table import SECOND_MS, Row, cells_of
from fairlead.sim.workload import Rates, Trace, TraceJob

GPU = "v100"
SPREAD = "_unconsolidated"
MICRO = 1_000_000
_OLD = (
    *("job_type", "command", "steps_argument", "needs_data_dir", "total_steps", "arrival"),
    "scale_factor",
)
_GAVEL = (
    *("job_type", "command", "working_directory", "steps_argument", "needs_data_dir"),
    *("total_steps", "scale_factor", "priority_weight", "SLO", "arrival"),
)
_SHOCKWAVE = (*_GAVEL[:7], "mode", *_GAVEL[7:9], "duration", "arrival")
LAYOUTS = {len(layout): layout for layout in (_OLD, _GAVEL, _SHOCKWAVE)}
_KEY = re.compile(r"\('(?P<type>.*)', (?P<gpus>\d{1,9})\)")

_HINT = "add --throughputs FILE, for example Gavel's simulation_throughputs.json"


class Throughputs(msgspec.Struct, frozen=True):
    """Steps per second of a job on one kind of GPU, by job type and number of GPUs."""

    path: str
    gpu: str  # by which a job runs that knows of no other
    steps_per_s: dict[tuple[str, int], float]
    # On all kinds of GPUs, in steps per million seconds: what a mixed cluster goes by.
    rates: dict[tuple[str, int], Rates] = {}


def parse(path: str, lines: Lines, table: Throughputs | None = None) -> Trace:
    """Return the trace; ids are positions in the file. Without durations it needs the table."""
    number, first = lines[0]
    width = first.count(b"\t") + 1
    if width not in LAYOUTS:
        raise damaged(
            path,
            number,
            f"found {width} columns between tabs ({shown(first)}), expected 7, 10 or 12",
        )
    layout = LAYOUTS[width]
    timed = "duration" in layout
    if table is None and not timed:
        raise Misuse(
            f"{path} says how many steps its jobs make, not how long they run",
            field="throughputs",
            hint=_HINT,
        )
    jobs: list[TraceJob] = []
    dropped: Counter[str] = Counter()
    for position, row in enumerate(cells_of(path, lines, layout, "\t"), 1):
        gpus, submit = row.whole("scale_factor", 1), row.ms("arrival")
        run = row.ms("duration") if timed or table is None else _run(row, gpus, table)
        if isinstance(run, str):
            dropped[run] += 1
            continue
        # The objective is a multiple of the run time; -1 is none.
        slo = row.number("SLO", -1, 1e6) if "SLO" in layout else -1
        jobs.append(
            TraceJob(
                id=position,
                submit_ms=submit,
                run_ms=run,
                processors=gpus,
                name=row.text("job_type"),
                deadline_ms=submit + round(slo * run) if slo > 0 else None,
                **_everywhere(row, gpus, None if timed else table),
            )
        )
    notes = {"durations": f"on {table.gpu}, {table.path}"} if table and not timed else {}
    return assemble(path, "gavel", jobs, dropped, notes=notes)


def _everywhere(row: Row, gpus: int, table: Throughputs | None) -> dict[str, Any]:
    """Return how fast the job is on every kind of GPU, and what it has to do."""
    kind = row.text("job_type")
    rates = () if table is None else table.rates.get((kind, gpus), ())
    if not rates:
        return {}
    return {
        "job_type": kind,
        "total_steps": max(round(row.number("total_steps")), 1),
        "rates": rates,
    }


def _run(row: Row, gpus: int, table: Throughputs) -> Ms | str:
    """Return how long the job runs, or why the table does not say it."""
    speed = table.steps_per_s.get((row.text("job_type"), gpus))
    steps = row.number("total_steps")
    if speed is None:
        return "a job type and number of GPUs that the table of throughputs does not have"
    if not speed:
        return "a throughput of 0 (does not run on such a GPU)"
    run = SECOND_MS * steps / speed
    if run > TIME_MS_MAX:
        raise row.wrong("total_steps", "a job that ends sooner")
    return round(run)


def read_throughputs(path: Path, gpu: str) -> Throughputs:
    """Return the table's speeds of jobs that run alone on this kind of GPU."""
    text = b"\n".join(line for _, line in read_lines(path))
    try:
        table = msgspec.json.decode(text, type=dict[str, dict[str, dict[str, object]]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misuse(
            f"{path} is not a table of throughputs: {error}", field="throughputs", hint=_HINT
        ) from None
    if gpu not in table:
        raise Misuse(
            f"{path} has no throughputs for {shown(gpu)}",
            field="throughputs_gpu",
            hint=f"it has {', '.join(sorted(table)) or 'none at all'}",
        )
    alone = {kind: _speeds(path, kind, rows) for kind, rows in table.items()}
    rates: dict[tuple[str, int], list[tuple[str, tuple[int, ...]]]] = {}
    for kind in sorted(alone):
        if kind.endswith(SPREAD):
            continue  # of gangs that are spread over servers
        for job, speed in alone[kind].items():
            rates.setdefault(job, []).append((kind, (round(speed * MICRO),)))
    return Throughputs(
        path=str(path),
        gpu=gpu,
        steps_per_s=alone[gpu],
        rates={job: tuple(row) for job, row in rates.items()},
    )


def _speeds(
    path: Path, gpu: str, table: dict[str, dict[str, object]]
) -> dict[tuple[str, int], float]:
    speeds: dict[tuple[str, int], float] = {}
    for key, alone in table.items():
        found = _KEY.fullmatch(key)  # an older table has the type alone, for one GPU
        kind = (found["type"], int(found["gpus"])) if found else (key, 1)
        speed = alone.get("null", 0)
        if not isinstance(speed, int | float) or not 0 <= speed < math.inf:
            raise Misuse(
                f"{path}: the throughput of {shown(key)} on {gpu} is not a number from 0",
                field="throughputs",
            )
        speeds[kind] = float(speed)
    return speeds
