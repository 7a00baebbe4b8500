"""`fairlead predict`: how good forecasts of run times are on a trace, and why one is as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairlead.cli.output import table

if TYPE_CHECKING:
    from fairlead.predict.evaluate import Ended, Evaluation, Row

_CLUSTER = click.option(
    "--cluster", metavar="SPEC", help="What it ran on. Default: what the trace's header says."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


class Jobs(click.Group):
    """`predict 12` and `predict last` are short for `predict job 12`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first word; an id stands for `job`."""
        if args[0] == "last" or args[0].isdecimal():
            args = ["job", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=Jobs)
def predict() -> None:
    """Forecast run times: how good forecasts are, and why one is as it is.

    \b
    fairlead predict 12            what was forecast of job 12
    fairlead predict calibration   how often the service's forecasts were right
    """


@predict.command()
@click.argument("job")
@_JSON
def job(job: str, as_json: bool) -> None:
    """Explain the forecast of a job of the service: how long it runs, and who says so."""
    from fairlead.cli import output, selectors, when
    from fairlead.cli.client import connect

    found = connect().get(f"/jobs/{selectors.one(job)}/forecast")
    if as_json:
        output.print_json(found)
        return
    click.echo(f"job {found['id']} is {found['phase']}")
    forecast = found["forecast"]
    if forecast is None:
        click.echo("  no forecast was made of it")
    else:
        said = f"  forecast by {forecast['model']}: {output.span(forecast['expected_ms'])}"
        if quantiles := forecast.get("quantiles_ms"):
            low, high = quantiles[0], quantiles[-1]
            said += f"; nine times in ten {output.span(low)} to {output.span(high)}"
        click.echo(said)
    if found["limit_ms"]:
        click.echo(f"  its time limit: {output.span(found['limit_ms'])}")
    if found["ran_ms"] is not None:
        has = "has run" if found["believed_end_ms"] else "ran"
        click.echo(f"  {has}: {output.span(found['ran_ms'])}")
    if found["believed_end_ms"]:
        click.echo(f"  believed to end: {when.moment(found['now_ms'], found['believed_end_ms'])}")
    for line in found["why"]:
        click.echo(f"  one made now would come from: {line}")


@predict.command()
@_JSON
def calibration(as_json: bool) -> None:
    """Show how often the service's forecasts were right: promised against actual, per model.

    Of the newest jobs that ended of themselves. "below 90": the share that ran for no longer than
    the forecast said nine in ten would.
    """
    from fairlead.cli.client import connect
    from fairlead.cli.output import print_json

    found = connect().get("/forecasts")
    if as_json:
        print_json(found)
        return
    if not found["models"]:
        click.echo(f"no job with a forecast has ended yet (predictor: {found['predictor']})")
        return
    percents = list(next(iter(found["models"].values()))["below"])
    rows = []
    for name, model in found["models"].items():
        banded = model["banded"]
        shares = [
            f"{100 * model['below'][each] / banded:.0f} %" if banded else "-" for each in percents
        ]
        off = f"{100 * model['error_ms'] / model['ran_ms']:.0f} %" if model["ran_ms"] else "-"
        rows.append([name, str(model["jobs"]), off, *shares])
    header = ("model", "jobs", "off by", *(f"below {each}" for each in percents))
    click.echo(table(header, rows, header[1:]))


@predict.command("eval")
@click.argument("trace", type=click.Path())
@click.option("--predictors", default="tsafrir,last2,online", show_default=True, metavar="A,B,C")
@_CLUSTER
@click.option(
    "--limit-jobs", type=click.IntRange(min=1), metavar="N", help="Only the first N jobs."
)
@_JSON
def evaluate(
    trace: str, predictors: str, cluster: str | None, limit_jobs: int | None, as_json: bool
) -> None:
    """Forecast every job of TRACE at its submission, and compare with how long it ran.

    A job teaches when it has ended: its run time after its submission, as if nothing waited.
    """
    import time

    from fairlead.predict.evaluate import evaluate as measure
    from fairlead.predict.registry import build

    made = [build(name) for name in predictors.split(",") if name.strip()]
    jobs = _load(trace, cluster, limit_jobs)
    results: list[tuple[Evaluation, float]] = []
    for predictor in made:
        began = time.process_time()
        found = measure(jobs, predictor)
        results.append((found, 1e6 * (time.process_time() - began) / len(jobs)))
    if as_json:
        body = {"trace": trace, "results": [_as_json(*result) for result in results]}
        click.echo(json.dumps(body, ensure_ascii=False))
        return
    click.echo(f"{Path(trace).name}, {len(jobs):,} jobs")
    rows = [[found.predictor, *_figures(found.total), f"{us:.0f}"] for found, us in results]
    click.echo(table(_HEADER, rows, _HEADER[1:]))
    for found, _ in results:
        click.echo(f"\n{found.predictor}")
        rows = [[row.name, f"{row.jobs:,}", *_figures(row)] for row in found.models]
        rows += [[f"part {row.name}", f"{row.jobs:,}", *_figures(row)] for row in found.windows]
        header = ("of it", "jobs", *_HEADER[1:-1])
        click.echo(table(header, rows, header[1:]))


_HEADER = (
    *("predictor", "mae_s", "under_%", "pinball_s", "cover_5", "cover_50", "cover_95"),
    *("band_50", "band_90", "us_job"),
)


def _figures(row: Row) -> list[str]:
    def percent(share: float | None) -> str:
        return "-" if share is None else f"{100 * share:.1f}"

    losses = row.pinball_ms.values()
    return [
        f"{row.mae_ms / 1000:,.0f}",
        percent(row.under),
        f"{sum(losses) / len(losses) / 1000:,.0f}" if losses else "-",
        *(percent(row.coverage.get(each)) for each in ("5", "50", "95")),
        percent(row.band_50),
        percent(row.band_90),
    ]


def _as_json(found: Evaluation, us: float) -> dict[str, Any]:
    import msgspec

    body: dict[str, Any] = msgspec.to_builtins(found)
    del body["forecasts"]
    return body | {"us_per_job": round(us, 1)}


@predict.command()
@click.argument("trace", type=click.Path())
@click.option("--job", "wanted", required=True, metavar="ID", help="As the trace names it.")
@click.option("--predictor", "name", default="online", show_default=True, metavar="NAME")
@_CLUSTER
@_JSON
def show(trace: str, wanted: str, name: str, cluster: str | None, as_json: bool) -> None:
    """Explain the forecast of one job of TRACE: from which history, how sure, and how it ended."""
    import msgspec

    from fairlead.model.base import Misuse
    from fairlead.predict.evaluate import said_of
    from fairlead.predict.explain import explain
    from fairlead.predict.registry import build

    predictor = build(name)
    jobs = _load(trace, cluster, None)
    index = next((at for at, job in enumerate(jobs) if str(job.id) == wanted), None)
    if index is None:
        hint = f"its jobs go from {jobs[0].id} to {jobs[-1].id}"
        raise Misuse(f"{trace} has no job {wanted}", field="job", hint=hint)
    job, why = jobs[index], tuple[str, ...]()

    def watch(seen: Ended, _: object) -> None:
        nonlocal why
        if seen is job:
            why = predictor.why(seen.submit_ms, seen.spec)

    said = said_of(jobs[: index + 1], predictor, watch)[-1]
    if as_json:
        body = {"job": job.id, "forecast": msgspec.to_builtins(said), "why": why}
        click.echo(json.dumps(body | {"ran_ms": job.ran_ms}, ensure_ascii=False))
        return
    click.echo(f"job {job.id} of {job.spec.user or 'somebody'}, the {index + 1:,}th of the trace")
    limit = job.spec.limit_ms
    for line in explain(said, limit_ms=limit, why=why, ran_ms=job.ran_ms):
        click.echo(line)


def _load(trace: str, cluster: str | None, limit_jobs: int | None) -> list[Ended]:
    """Return the trace's jobs by submission; those that ran up to their limit were killed by it."""
    from fairlead.predict.evaluate import Ended
    from fairlead.sim import traces
    from fairlead.sim.replay import gate
    from fairlead.sim.workload import cluster_for, fit

    found = traces.read(trace)
    where = cluster_for(found, cluster)
    workload = fit(found, where, gate(where), limit_jobs=limit_jobs)
    jobs: list[Ended] = []
    for job in workload.jobs:
        limit = job.spec.limit_ms
        ran = job.run_ms if limit is None else min(job.run_ms, limit)
        done = limit is None or job.run_ms < limit
        jobs.append(Ended(job.id, job.submit_ms, ran, job.spec, completed=done))
    return jobs
