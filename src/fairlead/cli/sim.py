"""`fairlead sim`: replay traces under policies, compare them, make traces. Imports late."""

from __future__ import annotations

import gzip
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from fairlead.cli.deadlines import deadlines
from fairlead.cli.errors import misuse, notice
from fairlead.cli.faults import faults
from fairlead.cli.reading import Reading, reading, windows
from fairlead.cli.sim_eta import eta
from fairlead.cli.sim_leases import leases
from fairlead.cli.sim_output import (
    check_writable,
    output_file,
    print_comparison,
    print_info,
    print_json,
    print_left_out,
    print_summary,
    print_table,
    print_tenants,
    progress_bar,
    unwritable,
    words_of,
)
from fairlead.cli.sim_pack import pack
from fairlead.cli.sim_queues import in_queues, print_shares, queued, shares_in_json
from fairlead.cli.sim_source import (
    Source,
    find_source,
    first_difference_in_words,
    from_log,
    predictor,
)
from fairlead.cli.world import behaviour

if TYPE_CHECKING:
    from fairlead.sim.generate import Pattern
    from fairlead.sim.metrics import Summary
    from fairlead.sim.outcome import Outcome, Rules
    from fairlead.sim.queues import Column
    from fairlead.sim.replay import Predictor
    from fairlead.sim.shares import Shares
    from fairlead.sim.workload import Estimates

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
    type=click.Choice(["exact", "limit", "recorded"]),
    help="What is believed of run times: the truth (default), the job's time limit, or what was "
    "believed when it ran (default for a log).",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def sim() -> None:
    """Try policies on traces, faster than real time; break things on purpose."""


sim.add_command(faults)
sim.add_command(deadlines)
sim.add_command(eta)
sim.add_command(leases)
sim.add_command(pack)


@sim.command()
@click.argument("trace", type=click.Path(), required=False)
@from_log
@predictor
@click.option(
    "--policy", default="priority", show_default=True, metavar="NAME", help="Who is next."
)
@_CLUSTER
@_LIMIT_JOBS
@_ESTIMATES
@windows
@reading
@in_queues
@behaviour
@click.option("--starts", type=click.Path(), metavar="FILE", help="Write a CSV row per job.")
@_JSON
@click.pass_context
def run(
    context: click.Context,
    trace: str | None,
    from_log: str | None,
    predictor: str | None,
    policy: str,
    cluster: str | None,
    limit_jobs: int | None,
    estimates: Estimates | None,
    reservations: str | None,
    queues: str | None,
    queue_of: Column | None,
    starts: str | None,
    as_json: bool,
    rules: Rules,
    settings: dict[str, str],
    **how: Unpack[Reading],
) -> None:
    """Replay TRACE, or our own history, under one policy.

    TRACE is in any format that --format names, plain or .gz.
    """
    from fairlead.policy.registry import describe, policy_config
    from fairlead.policy.settings import override
    from fairlead.sim.metrics import by_tenant, summarise, write_starts
    from fairlead.sim.replay import replay
    from fairlead.sim.reservations import read_reservations

    config = override(policy_config(policy), settings)
    check_writable(starts)
    model = _predictor(predictor)
    sharing = queued(
        find_source(trace, from_log, cluster, limit_jobs, estimates, how), queues, queue_of
    )
    if sharing.policy is not None and context.get_parameter_source("policy") is _DEFAULT:
        config, policy = override(sharing.policy, settings), sharing.policy.order
    found = sharing.source
    workload, where = found.workload, found.cluster
    kept = read_reservations(reservations, where)
    with progress_bar(len(workload.jobs)) as progress:
        outcome = replay(
            workload,
            where,
            config,
            rules=rules,
            predictor=model,
            reservations=kept,
            setup=found.setup,
            progress=lambda done: progress(policy, done),
            name=policy,
        )
    summary, shares = summarise(outcome), sharing.shares(outcome)
    if starts is not None:
        with output_file(starts) as file:
            write_starts(outcome, file)
    if as_json:
        print_json(shares_in_json(summary.as_json(), shares))
        return
    click.echo(f"{found.name} on {where.describe()}")
    click.echo(f"{policy}: {describe(config)}")
    print_summary(summary)
    if found.was is not None:
        print_comparison([summarise(found.was), summary])
        click.echo(first_difference_in_words(found.was, outcome))
    print_tenants(by_tenant(outcome))
    print_shares([(policy, shares)])
    print_left_out(summary)


@sim.command()
@click.argument("trace", type=click.Path(), required=False)
@from_log
@predictor
@click.option("--policies", default="fifo,sjf,priority", show_default=True, metavar="A,B,C")
@_CLUSTER
@_LIMIT_JOBS
@_ESTIMATES
@windows
@reading
@in_queues
@behaviour
@click.option("--html", type=click.Path(), metavar="FILE", help="Write a page with plots.")
@_JSON
@click.pass_context
def compare(
    context: click.Context,
    trace: str | None,
    from_log: str | None,
    predictor: str | None,
    policies: str,
    cluster: str | None,
    limit_jobs: int | None,
    estimates: Estimates | None,
    reservations: str | None,
    queues: str | None,
    queue_of: Column | None,
    html: str | None,
    as_json: bool,
    rules: Rules,
    settings: dict[str, str],
    **how: Unpack[Reading],
) -> None:
    """Replay TRACE, or our own history, under several policies, side by side."""
    from fairlead.policy.settings import configured
    from fairlead.sim.compare import compare as outcomes_of
    from fairlead.sim.compare import parse_policies
    from fairlead.sim.metrics import summarise
    from fairlead.sim.reservations import read_reservations

    names = parse_policies(policies)
    configured(names, settings)  # what is wrong with them is said before the long work
    check_writable(html)
    _predictor(predictor)
    sharing = queued(
        find_source(trace, from_log, cluster, limit_jobs, estimates, how), queues, queue_of
    )
    if sharing.policy is not None:
        notice(f"the policy of {queues} plays no part here: --policies says what is compared")
    found = sharing.source
    workload, where = found.workload, found.cluster
    kept = read_reservations(reservations, where)
    with progress_bar(len(workload.jobs) * len(names)) as progress:
        outcomes = list(
            outcomes_of(
                workload,
                where,
                names,
                progress,
                kept,
                rules=rules,
                settings=settings,
                setup=found.setup,
                predictor=lambda: _predictor(predictor),
            )
        )
    results = [(outcome, summarise(outcome)) for outcome in outcomes]
    shares = [(outcome.policy, sharing.shares(outcome)) for outcome in outcomes]
    if html is not None:
        told = [each for _, each in shares if each is not None]
        _write_page(html, found, _repeat(context), results, told)
    summaries = [summary for _, summary in results]
    if found.was is not None:
        summaries.insert(0, summarise(found.was))
    if as_json:
        of = dict(shares)
        body = [shares_in_json(each.as_json(), of.get(each.policy)) for each in summaries]
        print_json({"trace": found.trace.path, "cluster": where.spec, "results": body})
        return
    click.echo(f"{found.name}, {summaries[0].jobs:,} jobs on {where.describe()}")
    print_comparison(summaries)
    print_shares(shares)
    print_left_out(summaries[0])
    if html is not None:
        click.echo(f"wrote {html}")


def _write_page(
    path: str,
    found: Source,
    command: str,
    results: list[tuple[Outcome, Summary]],
    shares: list[Shares],
) -> None:
    from fairlead.sim.report import render, source_of

    page = render(source_of(found.trace, command), found.cluster, results, shares)
    with output_file(path) as file:
        file.write(page)


def _repeat(context: click.Context) -> str:
    """Return the command that does the same again, without folders: they differ elsewhere."""
    words = context.command_path.split()
    for param in context.command.params:
        value = context.params[param.name or ""]
        named = param.name == "policies"  # what is meant without naming any may change
        if not named and context.get_parameter_source(param.name or "") is _DEFAULT:
            continue
        if param.multiple:
            words += [part for each in value for part in (param.opts[0], each)]
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
        print_json({name: getattr(found, name) for name in found.__struct_fields__})
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
    words = iter(words_of(each) for each in seconds)
    click.echo(f"{Path(trace).name} on one server, {policy}")
    print_table(["", "", ""], [row if len(row) == 3 else [*row, next(words)] for row in rows])


@sim.command()
@click.argument("pattern", type=click.Choice(["poisson", "diurnal", "overload"]))
@click.option("--jobs", type=int, help="How many [1000].")
@click.option("--days", type=float, help="Instead of --jobs: for about how long they keep coming.")
@click.option(
    "--load",
    type=float,
    help="Work offered, over capacity [0.85; overload: 1.1 for each tenant].",
)
@click.option("--cluster", default="12x8gpu", show_default=True, metavar="SPEC")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--tenants", type=int, help="How many ask [1; overload: 2].")
@click.option(
    "-o", "--output", required=True, metavar="FILE", help='A path (.gz compresses) or "-".'
)
def generate(
    pattern: Pattern,
    jobs: int | None,
    days: float | None,
    load: float | None,
    cluster: str,
    seed: int,
    tenants: int | None,
    output: str,
) -> None:
    """Make a trace: independent (poisson) arrivals, ones that follow the day (diurnal), or more
    than there is room for (overload), each tenant asking for as much.
    """
    from fairlead.sim.cluster import parse_cluster
    from fairlead.sim.generate import OVERLOAD, jobs_in
    from fairlead.sim.generate import generate as make
    from fairlead.sim.traces.jsonl import encode

    check_writable(None if output == "-" else output)
    where = parse_cluster(cluster)
    if tenants is None:
        tenants = 2 if pattern == "overload" else 1
    if load is None:
        load = OVERLOAD * tenants if pattern == "overload" else 0.85
    if days is not None:
        if jobs is not None or not 0 < days <= 3660:
            raise misuse(
                "--jobs and --days both say how long the trace is"
                if jobs is not None
                else f"a trace of {days:g} days",
                field="days",
                hint="leave one of them out" if jobs is not None else "from 0.01 to 3660",
            )
        jobs = jobs_in(days * 86_400, load=load, cluster=where, seed=seed)
    jobs = 1000 if jobs is None else jobs
    header, lines = make(pattern, jobs=jobs, load=load, cluster=where, seed=seed, tenants=tenants)
    body = b"".join(encode(header, lines))
    if output == "-":
        click.echo(body, nl=False)
        return
    try:
        # Without name and time in its header, so that equal traces are equal files.
        packed = gzip.compress(body, mtime=0) if output.endswith(".gz") else body
        Path(output).write_bytes(packed)
    except OSError as error:
        raise unwritable(output, error) from None
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

    check_writable(plots)
    if plots is not None:
        from fairlead.sim.traces.plots import need_matplotlib, render

        need_matplotlib()
    where = parse_cluster(cluster) if cluster else None
    read = traces.read(file, **how)
    found = summarise_trace(read, where)
    if plots is not None:
        with output_file(plots) as page:
            page.write(render(read, found))
    if as_json:
        print_json(found.as_json())
        return
    print_info(found)
    if plots is not None:
        click.echo(f"wrote {plots}")


def _predictor(name: str | None) -> Predictor | None:
    """Return a predictor that has learned nothing yet; Misuse suggests the nearest name."""
    if name is None:
        return None
    from fairlead.predict.registry import build

    return build(name)
