"""`fairlead sim eta`: how good the estimated starts are, over a whole trace. Imports late."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("trace", type=click.Path())
@click.option("--policy", default="priority-easy", show_default=True, metavar="NAME")
@click.option("--cluster", metavar="SPEC", help="Default: what the trace's header says.")
@click.option(
    "--limit-jobs", type=click.IntRange(min=1), metavar="N", help="Only the first N jobs."
)
@click.option(
    "--estimates",
    type=click.Choice(["exact", "limit"]),
    default="limit",
    show_default=True,
    help="What is believed of run times where no predictor says more.",
)
@click.option("--predictor", metavar="NAME", help="Forecasts: last2, tsafrir, online, learned.")
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Ask for every N-th job that has to wait.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def eta(
    trace: str,
    policy: str,
    cluster: str | None,
    limit_jobs: int | None,
    estimates: str,
    predictor: str | None,
    every: int,
    as_json: bool,
) -> None:
    """Replay TRACE, ask jobs that have to wait when they will start, and compare with the truth."""
    from fairlead.policy.registry import policy_config
    from fairlead.predict.registry import build as build_predictor
    from fairlead.sim import traces
    from fairlead.sim.etas import measure
    from fairlead.sim.replay import gate
    from fairlead.sim.workload import cluster_for, fit

    config = policy_config(policy)
    model = build_predictor(predictor) if predictor else None
    found = traces.read(trace)
    where = cluster_for(found, cluster)
    jobs = fit(
        found,
        where,
        gate(where),
        estimates="exact" if estimates == "exact" else "limit",
        limit_jobs=limit_jobs,
    )
    report = measure(jobs, where, config, name=policy, every=every, predictor=model)
    if as_json:
        click.echo(json.dumps(report.as_json()))
        return
    click.echo(
        f"{report.jobs:,} jobs, {report.waited:,} had to wait, {report.compared:,} were told when "
        f"they would start"
    )
    click.echo(f"inside the 80 % band   {100 * report.coverage_ratio:.1f} %")
    click.echo(f"started before it      {100 * report.too_early_ratio:.1f} %")
    click.echo(f"started after it       {100 * report.too_late_ratio:.1f} %")
    click.echo(f"mean wait              {report.mean_wait_s:,.0f} s")
    click.echo(f"error, mean            {report.mean_error_s:,.0f} s")
    click.echo(f"error, median          {report.median_error_s:,.0f} s")
    click.echo(f"width of the band      {report.mean_band_s:,.0f} s")
    if report.unknown:
        click.echo(f"could not be told      {report.unknown:,}")
