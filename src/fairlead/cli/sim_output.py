"""What `fairlead sim` shows and writes: a bar while it works, tables, JSON, files. Imports late."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EISDIR, ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from fairlead.model.base import Misuse
    from fairlead.sim.metrics import Summary, TenantRow
    from fairlead.sim.traces.info import TraceInfo

TENANTS_SHOWN = 20


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str, int], None]]:
    """Show a bar with the time left on stderr while the block runs, if somebody is watching."""
    if not sys.stderr.isatty():
        yield lambda policy, done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        bar = bars.add_task("", total=total)
        done_by: dict[str, int] = {}

        def show(policy: str, done: int) -> None:
            done_by[policy] = done
            bars.update(bar, description=policy, completed=sum(done_by.values()))

        yield show


def check_writable(*paths: str | None) -> None:
    """Raise Misuse for a path that cannot be written: before the long work, not after it."""
    for path in filter(None, paths):
        folder = Path(path).parent
        if Path(path).is_dir():
            raise unwritable(path, IsADirectoryError(EISDIR, "it is a folder"))
        if not folder.is_dir():
            raise unwritable(path, FileNotFoundError(ENOENT, f"there is no folder {folder}"))


@contextmanager
def output_file(path: str) -> Iterator[Any]:
    """Open a file to write text to; Misuse where that cannot be."""
    try:
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: str, error: OSError) -> Misuse:
    """Return what to say of a file that cannot be written."""
    from fairlead.model.base import Misuse

    return Misuse(f"cannot write {path}: {error.strerror or error}", field="output")


def print_json(body: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    click.echo(json.dumps(body, ensure_ascii=False))


def print_table(headers: list[str], rows: list[list[str]], left: int = 1) -> None:
    """Print a table: the first `left` columns to the left, the numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_header=any(headers))
    for index, header in enumerate(headers):
        words = index < left
        justify: Literal["left", "right"] = "left" if words else "right"
        table.add_column(header, justify=justify, overflow="fold", no_wrap=not words)
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 160  # a pipe has no width; do not cut what it gets
    Console(width=width, highlight=False, markup=False).print(table)


def words_of(seconds: float) -> str:
    """Return seconds in the two largest units; a comparison then fits a narrow terminal."""
    from fairlead.model.units import format_duration

    if seconds < 60:
        return f"{seconds:.1f}s"
    return format_duration(round(1000 * seconds), exact=False)


def print_summary(summary: Summary) -> None:
    """Print the figures of one replay."""

    def both(name: str, seconds: float) -> list[str]:
        return [name, f"{seconds:,.1f} s", words_of(seconds)]

    rows = [
        ["jobs", f"{summary.jobs:,}", ""],
        both("mean wait", summary.mean_wait_s),
        both("99th percentile of wait", summary.p99_wait_s),
        both("mean completion (end − submit)", summary.mean_completion_s),
        ["mean bounded slowdown", f"{summary.mean_bounded_slowdown:,.2f}", ""],
        both("makespan", summary.makespan_s),
        ["utilisation", f"{100 * summary.utilisation_ratio:.1f} %", ""],
        ["stopped at their time limit", f"{summary.timeouts:,}", ""],
    ]
    if summary.preemptions:
        rows += [
            ["preemptions", f"{summary.preemptions:,}", ""],
            both("lost by preemption, all jobs", summary.lost_s),
        ]
    if summary.deadlocks:
        rows += [["stopped to break a deadlock", f"{summary.deadlocks:,}", ""]]
    if summary.refused:
        rows += [["failed, acquired out of order", f"{summary.refused:,}", ""]]
    if summary.acquiring_s:
        rows += [both("waited in an acquire, all jobs", summary.acquiring_s)]
    rows += [
        ["replayed in", f"{summary.cpu_s:.2f} s CPU", f"{summary.jobs_per_s:,.0f} jobs/s"],
    ]
    print_table(["", "", ""], rows)
    click.echo(f"schedule {summary.digest}")


def print_comparison(summaries: list[Summary]) -> None:
    """Print a row per policy."""
    headers = ["policy", "mean\nwait", "p99\nwait", "mean\ncompletion", "bounded\nslowdown"]
    headers += ["makespan", "used", "timeouts"]
    preempted = any(summary.preemptions for summary in summaries)
    headers += ["preempted", "jobs/s"] if preempted else ["jobs/s"]
    rows = [
        [
            summary.policy,
            words_of(summary.mean_wait_s),
            words_of(summary.p99_wait_s),
            words_of(summary.mean_completion_s),
            f"{summary.mean_bounded_slowdown:,.2f}",
            words_of(summary.makespan_s),
            f"{100 * summary.utilisation_ratio:.1f}%",
            f"{summary.timeouts:,}",
            *([f"{summary.preemptions:,}"] if preempted else []),
            f"{summary.jobs_per_s:,.0f}",
        ]
        for summary in summaries
    ]
    print_table(headers, rows)


def print_tenants(rows: list[TenantRow]) -> None:
    """Print a row per tenant, as many as can be read."""
    body = [
        [
            row.tenant,
            f"{row.jobs:,}",
            words_of(row.mean_wait_s),
            words_of(row.p99_wait_s),
            words_of(row.mean_completion_s),
            f"{100 * row.share_ratio:.1f}%",
        ]
        for row in rows[:TENANTS_SHOWN]
    ]
    headers = ["tenant", "jobs", "mean\nwait", "p99\nwait", "mean\ncompletion", "share\nof use"]
    print_table(headers, body)
    if len(rows) > TENANTS_SHOWN:
        click.echo(f"… and {len(rows) - TENANTS_SHOWN:,} tenants that used less")


def print_left_out(summary: Summary) -> None:
    """Print how many jobs of the trace were not replayed, and why."""
    for word, counts in (("rejected", summary.rejected), ("dropped", summary.dropped)):
        for reason, count in counts.items():
            click.echo(f"{word} {count:,} jobs: {reason}")


def print_info(found: TraceInfo) -> None:
    """Print what is in a trace."""

    def seconds(value: float) -> str:
        return f"{value:,.3f}".rstrip("0").rstrip(".") + " s"

    machine = found.cluster or (f"pool:{found.processors}" if found.processors else "not named")
    rows = [
        ["format", found.format],
        ["jobs", f"{found.jobs:,}"],
        ["cluster in the header", machine],
        ["submitted", f"{seconds(found.first_submit_s)} to {seconds(found.last_submit_s)}"],
        ["mean run time", seconds(round(found.mean_run_s, 3))],
        ["longest run time", seconds(found.longest_run_s)],
        ["ran longer than their limit", f"{found.over_limit:,}"],
        ["tenants, users, queues", f"{found.tenants:,}, {found.users:,}, {found.queues:,}"],
    ]
    rows.append([f"{found.unit} asked for", f"{found.asked:,.10g}"])
    rows.append(["work", f"{found.work_s:,.0f} {found.unit} x seconds"])
    if found.load_ratio is not None:
        rows.append(["offered load", f"{found.load_ratio:.3f}"])
    if found.deadlines:
        rows.append(["have a deadline", f"{found.deadlines:,}"])
        rows.append(["run longer than to their deadline", f"{found.deadlines_too_short:,}"])
    rows += [[f"asked for {words}", f"{count:,}"] for words, count in found.widths.items()]
    rows += [[f"dropped: {reason}", f"{count:,}"] for reason, count in found.dropped.items()]
    said = "header" if found.format in ("swf", "jsonl") else "note"
    rows += [[f"{said}: {name}", value] for name, value in found.notes.items()]
    print_table([found.path, ""], rows, left=2)
