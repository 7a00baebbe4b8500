"""Microsoft Philly: the CSV derived from it, and its own JSON list `cluster_job_log`.

docs/reference/traces/philly.md has the units and the traps.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter

import msgspec

from fairlead.model.base import Misuse, Ms
from fairlead.sim.traces.lines import PROCESSORS_MAX, Lines, assemble, damaged, shown
from fairlead.sim.traces.table import Row, from_first, rows
from fairlead.sim.workload import Trace, TraceJob

COLUMNS = ("timestamp", "duration", "num_gpus", "cluster")


def parse_csv(path: str, lines: Lines) -> Trace:
    """Return the trace of the derived CSV; ids are positions in the file, so they order ties."""
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for position, row in enumerate(rows(path, lines, COLUMNS), 1):
        gpus = row.whole("num_gpus")
        job = TraceJob(
            id=position,
            submit_ms=row.moment("timestamp"),
            run_ms=row.ms("duration"),
            processors=gpus,
            tenant=row.text("cluster") or "default",
        )
        if gpus:
            jobs.append(job)
        else:
            dropped["0 GPUs (a CPU-only job)"] += 1
    jobs, notes = from_first(jobs)
    return assemble(path, "philly", jobs, dropped, notes=notes)


class Machine(msgspec.Struct, frozen=True):
    """Where an attempt ran."""

    gpus: list[str] = []


class Attempt(msgspec.Struct, frozen=True):
    """One try to run the job. Times are local, "None" or null where they are not known."""

    start_time: str | None = None
    end_time: str | None = None
    detail: list[Machine] = []


class Job(msgspec.Struct, frozen=True):
    """An element of the list."""

    jobid: str
    submitted_time: str
    attempts: list[Attempt]
    vc: str = ""
    user: str = ""
    status: str = ""


_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_JOB = msgspec.json.Decoder(Job)
_BYTE = re.compile(r"\(byte (\d+)\)")
_PATH = re.compile(r"(?P<text>.*) - at `\$\.?(?P<field>.*)`")
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`")


def parse_json(path: str, lines: Lines) -> Trace:
    """Return the trace of the raw log; a job runs for as long as its attempts ran together."""
    body = _Body(path, lines)
    dropped: Counter[str] = Counter()
    jobs: list[TraceJob] = []
    for raw in body.elements():
        try:
            found = _JOB.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise body.wrong(raw, str(error)) from None
        try:
            job = _job(path, found)
        except Misuse as wrong:  # only now is it worth looking for the line
            raise body.at(raw, wrong.message.partition(": ")[2], wrong.field) from None
        if isinstance(job, str):
            dropped[job] += 1
        else:
            jobs.append(job)
    jobs, notes = from_first(jobs)
    return assemble(path, "philly-json", jobs, dropped, notes=notes)


def _job(path: str, found: Job) -> TraceJob | str:
    """Return the job, or why it cannot be replayed."""
    names = {"jobid": found.jobid, "vc": found.vc, "user": found.user}
    row = Row(path, 0, names | {"submitted_time": found.submitted_time})
    submit = row.moment("submitted_time")
    run: Ms = 0
    gpus = 0
    started = False
    for attempt in found.attempts:
        times = {"start_time": attempt.start_time or "", "end_time": attempt.end_time or ""}
        each = Row(path, 0, times)
        if each.blank("start_time"):
            continue
        if each.blank("end_time"):
            return "an attempt without an end (still running when the log was taken)"
        took = each.moment("end_time") - each.moment("start_time")
        if took < 0:
            return "an attempt that ends before it starts"
        started = True
        run += took
        gpus = max(gpus, sum(len(machine.gpus) for machine in attempt.detail))
    if not started:
        return "no attempt that started"
    if not 0 < gpus <= PROCESSORS_MAX:
        return "no GPUs in any attempt"
    return TraceJob(
        id=row.text("jobid"),
        submit_ms=submit,
        run_ms=run,
        processors=gpus,
        user=row.text("user"),
        tenant=row.text("vc") or "default",
    )


class _Body:
    """The whole text, and the lines that its parts stand on."""

    def __init__(self, path: str, lines: Lines) -> None:
        self.path = path
        self.numbers = [number for number, _ in lines]
        self.starts: list[int] = []
        at = 0
        for _, line in lines:
            self.starts.append(at)
            at += len(line) + 1
        self.text = b"\n".join(line for _, line in lines)

    def elements(self) -> list[msgspec.Raw]:
        """Return the elements of the list, not yet decoded."""
        try:
            return _LIST.decode(self.text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            at = _BYTE.search(str(error))
            message = f"expected a JSON list of jobs ({error})"
            hint = "is the file cut off?" if "truncated" in str(error) else ""
            where = int(at[1]) if at else (len(self.text) if hint else 0)
            raise damaged(self.path, self.line(where), message, hint=hint) from None

    def line(self, offset: int) -> int:
        """Return the number of the line that has this byte."""
        return self.numbers[max(0, bisect_right(self.starts, offset) - 1)]

    def at(self, raw: msgspec.Raw, message: str, field: str) -> Misuse:
        """Return the error for one element; equal elements are wrong alike."""
        return damaged(self.path, self.line(self.text.find(bytes(raw))), message, field=field)

    def wrong(self, raw: msgspec.Raw, message: str) -> Misuse:
        """Return the error for an element that is not a job."""
        field = ""
        if missing := _MISSING.search(message):
            field = missing["key"]
            message = f"found no {field}, expected one in every job: {shown(bytes(raw))}"
        elif place := _PATH.fullmatch(message):
            field = place["field"]
            message = f"{field or 'job'}: {place['text'][:1].lower()}{place['text'][1:]}"
        return self.at(raw, message, field)
