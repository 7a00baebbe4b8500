"""Readers of job traces. `read` tells the formats apart by their content, not by their names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from fairlead.model.base import Misuse
from fairlead.sim.traces import (
    acme,
    chronus,
    elasticflow,
    gavel,
    helios,
    jsonl,
    muri,
    openb,
    pai,
    philly,
    pollux,
    slurm,
    swf,
)
from fairlead.sim.traces.lines import Lines, damaged, read_lines, shown
from fairlead.sim.traces.table import header
from fairlead.sim.workload import Trace, in_order


class Format(msgspec.Struct, frozen=True):
    """A format: what it is, its reader, and for CSV the columns that give it away."""

    about: str
    parse: Callable[[str, Lines], Trace]
    columns: Sequence[str] = ()


FORMATS: dict[str, Format] = {
    "swf": Format("Standard Workload Format", swf.parse),
    "jsonl": Format("our own JSON lines", jsonl.parse),
    "philly": Format("Philly, derived CSV", philly.parse_csv, philly.COLUMNS),
    "philly-json": Format("Philly, raw cluster_job_log", philly.parse_json),
    "pai": Format("Alibaba 2020, task table", pai.parse, pai.COLUMNS),
    "openb": Format("Alibaba 2023, pods", openb.parse, openb.COLUMNS),
    "openb-packing": Format("the same pods one by one, none leaves", openb.parse_packing),
    "gavel": Format("Gavel and Shockwave", gavel.parse),
    "muri": Format("Muri CSV", muri.parse, muri.COLUMNS),
    "chronus": Format("Chronus CSV, with deadlines", chronus.parse, chronus.COLUMNS),
    "elasticflow": Format(
        "ElasticFlow CSV, with deadlines", elasticflow.parse, elasticflow.COLUMNS
    ),
    "pollux": Format("Pollux and Sia CSV, elastic jobs", pollux.parse, pollux.COLUMNS),
    "helios": Format("Helios cluster_log", helios.parse, helios.COLUMNS),
    "acme": Format("Acme CSV", acme.parse, acme.COLUMNS),
    "slurm": Format("events of the Slurm simulator", slurm.parse),
}
_NEAR = 0.6  # share of a format's columns that a header must have to be taken for a damaged one


def read(
    path: str | Path,
    *,
    format: str | None = None,
    throughputs: str | Path | None = None,
    throughputs_gpu: str = gavel.GPU,
    job_table: str | Path | None = None,
    speed_up: float = 1.0,
    profiles: str | Path | None = None,
) -> Trace:
    """Return the trace in a file, compressed or not; Misuse names the line that is damaged.

    `format` is a name of FORMATS (default: what the content looks like). `throughputs` is a table
    for traces that count steps: jobs run as fast as its `throughputs_gpu` lets them. `job_table`
    says when the tasks of a PAI trace were submitted, and by whom. With `speed_up` jobs come so
    many times as fast. `profiles` is a folder with how fast the applications of a Pollux trace
    learn.
    """
    found = _read(path, format, throughputs, throughputs_gpu, job_table, profiles)
    return found if speed_up == 1 else _sooner(found, speed_up)


def _sooner(trace: Trace, times: float) -> Trace:
    """Return the trace with its jobs coming so many times as fast; all else stays as long."""
    jobs = []
    for job in trace.jobs:
        submit_ms = round(job.submit_ms / times)
        deadline_ms = job.deadline_ms
        if deadline_ms is not None:
            deadline_ms += submit_ms - job.submit_ms
        jobs.append(replace(job, submit_ms=submit_ms, deadline_ms=deadline_ms))
    return replace(trace, jobs=in_order(trace.path, jobs))


def _read(
    path: str | Path,
    format: str | None,
    throughputs: str | Path | None,
    throughputs_gpu: str,
    job_table: str | Path | None,
    profiles: str | Path | None,
) -> Trace:
    if format is not None and format not in FORMATS:
        near = difflib.get_close_matches(format, FORMATS, n=1, cutoff=0.4)
        raise Misuse(
            f"there is no format {shown(format)}",
            field="format",
            hint=f"did you mean {near[0]}?" if near else f"the formats are {', '.join(FORMATS)}",
        )
    lines = read_lines(Path(path))
    name = format or detect(str(path), lines)
    if name == "gavel" and throughputs is not None:
        table = gavel.read_throughputs(Path(throughputs), throughputs_gpu)
        return gavel.parse(str(path), lines, table)
    if name == "pollux" and profiles is not None:
        return pollux.parse(str(path), lines, Path(profiles))
    if name == "pai" and job_table is not None:
        return pai.parse(str(path), lines, pai.read_jobs(Path(job_table)))
    return FORMATS[name].parse(str(path), lines)


def detect(path: str, lines: Lines) -> str:
    """Return the name of the format that the content looks like; Misuse if it is like none."""
    number, first = lines[0]
    if first.startswith(b"{"):
        return "jsonl"
    if first.startswith(b"["):
        return "philly-json"
    if slurm.EVENT.encode() in first:
        return "slurm"
    words = first.split()
    if first.startswith(b";") or (len(words) >= swf.FIELDS and _is_number(words[0])):
        return "swf"
    if b"\t" in first and not _is_number(words[0]):
        return "gavel"
    names = header(first)
    if len(names) < 3:
        return "swf"
    if pai.is_task(names):
        return "pai"
    shares = {
        name: (
            sum(column in names for column in known.columns) / len(known.columns),
            len(known.columns),
        )
        for name, known in FORMATS.items()
        if known.columns
    }
    best = max(shares, key=lambda name: shares[name])
    if shares[best][0] >= _NEAR:
        return best
    raise _unknown(path, number, names)


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _unknown(path: str, number: int, names: list[str]) -> Misuse:
    table = pai.OTHERS.get(tuple(names))
    if table:
        return damaged(
            path,
            number,
            f"this is the {table} table of Alibaba 2020, which does not say what jobs ask for",
            hint="read pai_task_table instead",
        )
    return damaged(
        path,
        number,
        f"found the columns {shown(', '.join(names))}, expected those of a known format",
        hint=f"--format names one of {', '.join(FORMATS)}",
    )
