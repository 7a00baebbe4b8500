"""`fairlead sim pack`: how much of a cluster placements give away, task by task. Imports late."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Unpack

import click

from fairlead.cli.reading import Reading, reading
from fairlead.cli.sim_output import print_json, print_table, progress_bar


@click.command()
@click.argument("trace", type=click.Path())
@click.option(
    "--cluster",
    metavar="SPEC",
    help="pool:96, 12x8gpu, a TOML file or a list of nodes. Default: what the trace's header says.",
)
@click.option(
    "--placements",
    default="random,best-fit-floored,fgd-floored,pack",
    show_default=True,
    metavar="A,B,C",
)
@click.option("--seeds", type=int, default=5, show_default=True, help="How many orders of tasks.")
@click.option(
    "--demand",
    type=int,
    default=100,
    show_default=True,
    metavar="PERCENT",
    help="Stop when what has come asks for so much of the cluster.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Placements know the tasks that have come so far, as in the service. Default: those of "
    "the whole workload, as in the published experiments.",
)
@reading
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def pack(
    trace: str,
    cluster: str | None,
    placements: str,
    seeds: int,
    demand: int,
    live: bool,
    as_json: bool,
    **how: Unpack[Reading],
) -> None:
    """Place the tasks of TRACE one by one, none of which leaves, and say how much is given away.

    The protocol of the experiments on openb that are published with fragmentation gradient
    descent: tasks in random order, drawn again until they ask for 130 %; what does not fit is
    dropped.
    """
    from fairlead.sim.packing import compare, parse_placements, read_tasks
    from fairlead.sim.workload import cluster_for

    names = parse_placements(placements)
    found = read_tasks(trace, how)
    where = cluster_for(found, cluster)
    with progress_bar(max(seeds, 1) * len(names)) as progress:
        packed = list(
            compare(where, found, names, seeds=seeds, demand=demand, live=live, progress=progress)
        )
    if as_json:
        results = [each.as_json() for each in packed]
        head = {"trace": found.path, "cluster": where.spec, "demand_percent": demand, "live": live}
        print_json({**head, "results": results})
        return
    click.echo(f"{Path(found.path).name} on {where.describe()}, {demand} % asked for")
    rows = []
    for each in packed:
        given = [run.allocated_percent for run in each.runs]
        dropped = statistics.fmean(run.dropped for run in each.runs)
        tasks = statistics.fmean(run.tasks for run in each.runs)
        rows.append(
            [
                each.placement,
                f"{each.mean_percent:.2f} %",
                f"{min(given):.2f} – {max(given):.2f} %",
                f"{dropped:,.0f} of {tasks:,.0f}",
            ]
        )
    header = ["placement", "given away", "least – most", "dropped"]
    print_table(header, rows)
