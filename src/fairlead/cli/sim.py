"""`fairlead sim`: replay traces under policies, compare them, make traces. Imports late."""

from __future__ import annotations

import gzip
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EISDIR, ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import click

from fairlead.cli.deadlines import deadlines
from fairlead.cli.faults import faults
from fairlead.cli.output import words as _words
from fairlead.cli.reading import Reading, reading, windows
from fairlead.cli.sim_eta import eta

if TYPE_CHECKING:
    from fairlead.model.base import Misuse
    from fairlead.sim.cluster import Cluster
    from fairlead.sim.metrics import Summary, TenantRow
    from fairlead.sim.traces.info import TraceInfo
    from fairlead.sim.workload import Estimates, Trace, Workload

TENANTS_SHOWN = 20
_DEFAULT = click.core.ParameterSource.DEFAULT

_CLUSTER = click.option(
    "--cluster",
    metavar="SPEC",
    help="pool:96, 12x8gpu, 4x16cpu,64GiB,8gpu:A100:80GiB, a TOML file or a list of nodes. "
    "Default: what the trace's header says.",
)
_LIMIT_JOBS = click.option(
    "--limit-jobs", type=click.IntRange(min=1), metavar="N", help="Only the first N jobs."
)
_ESTIMATES = click.option(
    "--estimates",
    type=click.Choice(["exact", "limit"]),
    default="exact",
    show_default=True,
    help="What the scheduler believes of run times: the truth, or the job's own time limit.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def sim() -> None:
    """Try policies on traces, faster than real time; break things on purpose."""


sim.add_command(faults)
sim.add_command(deadlines)
sim.add_command(eta)


@sim.command()
@click.argument("trace", type=click.Path())
@click.option(
    "--policy", default="priority", show_default=True, metavar="NAME", help="Who is next."
)
@_CLUSTER
@_LIMIT_JOBS
@_ESTIMATES
@windows
@reading
@click.option("--starts", type=click.Path(), metavar="FILE", help="Write a CSV row per job.")
@_JSON
def run(
    trace: str,
    policy: str,
    cluster: str | None,
    limit_jobs: int | None,
    estimates: Estimates,
    reservations: str | None,
    starts: str | None,
    as_json: bool,
    **how: Unpack[Reading],
) -> None:
    """Replay TRACE under one policy.

    TRACE is in any format that --format names, plain or .gz.
    """
    from fairlead.policy.registry import describe, policy_config
    from fairlead.sim.metrics import by_tenant, summarise, write_starts
    from fairlead.sim.replay import replay
    from fairlead.sim.reservations import read_reservations

    about = describe(policy_config(policy))
    _check_writable(starts)
    workload, where = _load(trace, cluster, limit_jobs, estimates, how)
    kept = read_reservations(reservations, where)
    with _progress(len(workload.jobs)) as bar:
        outcome = replay(
            workload, where, policy, reservations=kept, progress=lambda done: bar(policy, done)
        )
    summary = summarise(outcome)
    if starts is not None:
        with _output(starts) as file:
            write_starts(outcome, file)
    if as_json:
        _print_json(summary.as_json())
        return
    click.echo(f"{Path(trace).name} on {where.describe()}")
    click.echo(f"{policy}: {about}")
    _print_summary(summary)
    _print_tenants(by_tenant(outcome))
    _print_left_out(summary)


@sim.command()
@click.argument("trace", type=click.Path())
@click.option("--policies", default="fifo,sjf,priority", show_default=True, metavar="A,B,C")
@_CLUSTER
@_LIMIT_JOBS
@_ESTIMATES
@windows
@reading
@click.option("--html", type=click.Path(), metavar="FILE", help="Write a page with plots.")
@_JSON
@click.pass_context
def compare(
    context: click.Context,
    trace: str,
    policies: str,
    cluster: str | None,
    limit_jobs: int | None,
    estimates: Estimates,
    reservations: str | None,
    html: str | None,
    as_json: bool,
    **how: Unpack[Reading],
) -> None:
    """Replay TRACE under several policies, side by side."""
    from fairlead.sim import traces
    from fairlead.sim.compare import compare as outcomes_of
    from fairlead.sim.compare import parse_policies
    from fairlead.sim.metrics import summarise
    from fairlead.sim.reservations import read_reservations

    names = parse_policies(policies)
    _check_writable(html)
    found = traces.read(trace, **how)
    workload, where = _fit(found, cluster, limit_jobs, estimates)
    kept = read_reservations(reservations, where)
    with _progress(len(workload.jobs) * len(names)) as progress:
        outcomes = list(outcomes_of(workload, where, names, progress, kept))
    results = [(outcome, summarise(outcome)) for outcome in outcomes]
    if html is not None:
        from fairlead.sim.report import render, source_of

        page = render(source_of(found, _repeat(context)), where, results)
        with _output(html) as file:
            file.write(page)
    summaries = [summary for _, summary in results]
    if as_json:
        body = [summary.as_json() for summary in summaries]
        _print_json({"trace": trace, "cluster": where.spec, "results": body})
        return
    click.echo(f"{Path(trace).name}, {summaries[0].jobs:,} jobs on {where.describe()}")
    _print_comparison(summaries)
    _print_left_out(summaries[0])
    if html is not None:
        click.echo(f"wrote {html}")


def _repeat(context: click.Context) -> str:
    """Return the command that does the same again, without folders: they differ elsewhere."""
    words = context.command_path.split()
    for param in context.command.params:
        value = context.params[param.name or ""]
        named = param.name == "policies"  # what is meant without naming any may change
        if not named and context.get_parameter_source(param.name or "") is _DEFAULT:
            continue
        text = Path(value).name if isinstance(param.type, click.Path) else str(value)
        if isinstance(param, click.Argument):
            words.append(text)
        elif not getattr(param, "is_flag", False):
            words += [param.opts[0], text]
        elif param.name != "as_json":
            words.append(param.opts[0])
    return shlex.join(words)


@sim.command()
@click.argument("trace", type=click.Path())
@click.option(
    "--policy",
    type=click.Choice(["ps", "fb"]),
    default="ps",
    show_default=True,
    help="ps: all jobs share; fb: those with the least attained service share.",
)
@_LIMIT_JOBS
@_JSON
def fluid(trace: str, policy: str, limit_jobs: int | None, as_json: bool) -> None:
    """Serve TRACE by one server that is shared without slices: the limit of time slicing.

    The trace's run times are the sizes; what else the jobs ask for plays no part.
    """
    from fairlead.sim import traces
    from fairlead.sim.fluid import of_trace

    found = of_trace(policy, traces.read(trace), limit_jobs)
    if as_json:
        _print_json({name: getattr(found, name) for name in found.__struct_fields__})
        return
    load = "all at once" if found.load_ratio is None else f"{100 * found.load_ratio:.1f} %"
    rows = [
        ["jobs", f"{found.jobs:,}", ""],
        ["offered load", load, ""],
        ["mean response (end − submit)", f"{found.mean_response_s:,.1f} s"],
        ["mean slowdown (response / run time)", f"{found.mean_slowdown:,.2f}", ""],
        ["longest response", f"{found.longest_response_s:,.1f} s"],
        ["busy", f"{found.busy_s:,.1f} s"],
        ["last end after the first submission", f"{found.end_s:,.1f} s"],
    ]
    seconds = [found.mean_response_s, found.longest_response_s, found.busy_s, found.end_s]
    words = iter(_words(each) for each in seconds)
    click.echo(f"{Path(trace).name} on one server, {policy}")
    _print_table(["", "", ""], [row if len(row) == 3 else [*row, next(words)] for row in rows])


@sim.command()
@click.argument("pattern", type=click.Choice(["poisson", "diurnal"]))
@click.option("--jobs", type=int, default=1000, show_default=True)
@click.option(
    "--load", type=float, default=0.85, show_default=True, help="Work offered, over capacity."
)
@click.option("--cluster", default="12x8gpu", show_default=True, metavar="SPEC")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--tenants", type=int, default=1, show_default=True)
@click.option(
    "-o", "--output", required=True, metavar="FILE", help='A path (.gz compresses) or "-".'
)
def generate(
    pattern: str, jobs: int, load: float, cluster: str, seed: int, tenants: int, output: str
) -> None:
    """Make a trace: independent (poisson) arrivals, or ones that follow the day (diurnal)."""
    from fairlead.sim.cluster import parse_cluster
    from fairlead.sim.generate import generate as make
    from fairlead.sim.traces.jsonl import encode

    _check_writable(None if output == "-" else output)
    header, lines = make(
        "poisson" if pattern == "poisson" else "diurnal",
        jobs=jobs,
        load=load,
        cluster=parse_cluster(cluster),
        seed=seed,
        tenants=tenants,
    )
    body = b"".join(encode(header, lines))
    if output == "-":
        click.echo(body, nl=False)
        return
    try:
        # Without name and time in its header, so that equal traces are equal files.
        packed = gzip.compress(body, mtime=0) if output.endswith(".gz") else body
        Path(output).write_bytes(packed)
    except OSError as error:
        raise _unwritable(output, error) from None
    click.echo(f"wrote {jobs:,} jobs to {output}", err=True)


@sim.group()
def trace() -> None:
    """Look at traces."""


@trace.command()
@click.argument("file", type=click.Path())
@click.option("--cluster", metavar="SPEC", help="Measure the load on this cluster.")
@reading
@click.option("--plots", type=click.Path(), metavar="FILE.html", help="Write a page with plots.")
@_JSON
def info(
    file: str, cluster: str | None, plots: str | None, as_json: bool, **how: Unpack[Reading]
) -> None:
    """Summarise a trace: jobs, times, requests, deadlines, what was left out."""
    from fairlead.sim import traces
    from fairlead.sim.cluster import parse_cluster
    from fairlead.sim.traces.info import summarise_trace

    _check_writable(plots)
    if plots is not None:
        from fairlead.sim.traces.plots import need_matplotlib, render

        need_matplotlib()
    where = parse_cluster(cluster) if cluster else None
    read = traces.read(file, **how)
    found = summarise_trace(read, where)
    if plots is not None:
        with _output(plots) as page:
            page.write(render(read, found))
    if as_json:
        _print_json(found.as_json())
        return
    _print_info(found)
    if plots is not None:
        click.echo(f"wrote {plots}")


def _load(
    trace: str, cluster: str | None, limit_jobs: int | None, estimates: Estimates, how: Reading
) -> tuple[Workload, Cluster]:
    from fairlead.sim import traces

    return _fit(traces.read(trace, **how), cluster, limit_jobs, estimates)


def _fit(
    found: Trace, cluster: str | None, limit_jobs: int | None, estimates: Estimates
) -> tuple[Workload, Cluster]:
    from fairlead.sim.replay import gate
    from fairlead.sim.workload import cluster_for, fit

    where = cluster_for(found, cluster)
    jobs = fit(found, where, gate(where), estimates=estimates, limit_jobs=limit_jobs)
    return jobs, where


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
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


def _check_writable(*paths: str | None) -> None:
    """Raise Misuse for a path that cannot be written: before the long work, not after it."""
    for path in filter(None, paths):
        folder = Path(path).parent
        if Path(path).is_dir():
            raise _unwritable(path, IsADirectoryError(EISDIR, "it is a folder"))
        if not folder.is_dir():
            raise _unwritable(path, FileNotFoundError(ENOENT, f"there is no folder {folder}"))


@contextmanager
def _output(path: str) -> Iterator[Any]:
    try:
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: str, error: OSError) -> Misuse:
    from fairlead.model.base import Misuse

    return Misuse(f"cannot write {path}: {error.strerror or error}", field="output")


def _print_json(body: dict[str, Any]) -> None:
    click.echo(json.dumps(body, ensure_ascii=False))


def _print_table(headers: list[str], rows: list[list[str]], left: int = 1) -> None:
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


def _print_summary(summary: Summary) -> None:
    def both(name: str, seconds: float) -> list[str]:
        return [name, f"{seconds:,.1f} s", _words(seconds)]

    rows = [
        ["jobs", f"{summary.jobs:,}", ""],
        both("mean wait", summary.mean_wait_s),
        both("99th percentile of wait", summary.p99_wait_s),
        both("mean completion (end − submit)", summary.mean_completion_s),
        ["mean bounded slowdown", f"{summary.mean_bounded_slowdown:,.2f}", ""],
        both("makespan", summary.makespan_s),
        ["utilisation", f"{100 * summary.utilisation_ratio:.1f} %", ""],
        ["stopped at their time limit", f"{summary.timeouts:,}", ""],
        ["replayed in", f"{summary.cpu_s:.2f} s CPU", f"{summary.jobs_per_s:,.0f} jobs/s"],
    ]
    _print_table(["", "", ""], rows)
    click.echo(f"schedule {summary.digest}")


def _print_comparison(summaries: list[Summary]) -> None:
    headers = ["policy", "mean\nwait", "p99\nwait", "mean\ncompletion", "bounded\nslowdown"]
    headers += ["makespan", "used", "timeouts", "jobs/s"]
    rows = [
        [
            summary.policy,
            _words(summary.mean_wait_s),
            _words(summary.p99_wait_s),
            _words(summary.mean_completion_s),
            f"{summary.mean_bounded_slowdown:,.2f}",
            _words(summary.makespan_s),
            f"{100 * summary.utilisation_ratio:.1f}%",
            f"{summary.timeouts:,}",
            f"{summary.jobs_per_s:,.0f}",
        ]
        for summary in summaries
    ]
    _print_table(headers, rows)


def _print_tenants(rows: list[TenantRow]) -> None:
    body = [
        [
            row.tenant,
            f"{row.jobs:,}",
            _words(row.mean_wait_s),
            _words(row.p99_wait_s),
            _words(row.mean_completion_s),
            f"{100 * row.share_ratio:.1f}%",
        ]
        for row in rows[:TENANTS_SHOWN]
    ]
    headers = ["tenant", "jobs", "mean\nwait", "p99\nwait", "mean\ncompletion", "share\nof use"]
    _print_table(headers, body)
    if len(rows) > TENANTS_SHOWN:
        click.echo(f"… and {len(rows) - TENANTS_SHOWN:,} tenants that used less")


def _print_left_out(summary: Summary) -> None:
    for word, counts in (("rejected", summary.rejected), ("dropped", summary.dropped)):
        for reason, count in counts.items():
            click.echo(f"{word} {count:,} jobs: {reason}")


def _print_info(found: TraceInfo) -> None:
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
    _print_table([found.path, ""], rows, left=2)
