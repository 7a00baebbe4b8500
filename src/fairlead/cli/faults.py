"""`fairlead sim faults`: the real scheduler in a hostile world, seed by seed. Imports late."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fairlead.sim.faults.run import Failure

SEEDS = 100
STORY_LINES_SHOWN = 60
OUT = Path("out")


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), metavar="N", help=f"Default: {SEEDS}.")
@click.option("--first", type=int, default=0, show_default=True, help="The first of the seeds.")
@click.option("--seed", type=int, metavar="N", help="Only this one.")
@click.option(
    "--hours",
    type=click.FloatRange(min=0.05, max=48),
    default=1.0,
    show_default=True,
    help="Simulated hours with faults, per seed; then everything has to end.",
)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Repeat a failure.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def faults(
    seeds: int | None,
    first: int,
    seed: int | None,
    hours: float,
    replay: str | None,
    as_json: bool,
) -> int:
    """Break things on purpose, and check the world against the scheduler after every event.

    Every seed draws nodes, jobs and faults (lost messages, crashes, dying machines, full disks …).
    A failure prints its story, is cut down to what still fails, and is written to ./out/.
    """
    if replay is not None:
        return _replay(replay, as_json)
    if seed is not None and seeds is not None:
        raise click.UsageError("give --seed (one) or --seeds (how many), not both")
    chosen = range(first, first + (seeds or SEEDS)) if seed is None else range(seed, seed + 1)
    return _run(chosen, hours, as_json)


def _run(chosen: range, hours: float, as_json: bool) -> int:
    from fairlead.sim.faults.run import Failure, run_seed

    started_s = time.process_time()
    failed: Failure | None = None
    clean = events = messages = jobs = simulated_ms = 0
    last = ""
    with _progress(len(chosen)) as progress:
        for done, number in enumerate(chosen, 1):
            outcome = run_seed(number, hours)
            if isinstance(outcome, Failure):
                failed = outcome
                break
            clean, last = done, outcome.digest
            events += outcome.events
            messages += outcome.messages
            jobs += outcome.jobs
            simulated_ms += outcome.end_ms
            progress(done)
    cpu_s = time.process_time() - started_s
    simulated_h = simulated_ms / 3_600_000
    body: dict[str, Any] = {
        "clean": clean,
        "failed": 1 if failed else 0,
        "jobs": jobs,
        "events": events,
        "messages": messages,
        "simulated_hours": round(simulated_h, 2),
        "cpu_s": round(cpu_s, 2),
        "hours_per_cpu_s": round(simulated_h / cpu_s, 2) if cpu_s else 0.0,
        "last_digest": last,
    }
    if failed is None:
        if as_json:
            click.echo(json.dumps(body))
        else:
            click.echo(
                f"{clean} {'seed' if clean == 1 else 'seeds'} clean: {simulated_h:,.1f} simulated "
                f"hours, {jobs:,} jobs, {events:,} events, {messages:,} messages, "
                f"{body['hours_per_cpu_s']} hours per CPU second"
            )
        return 0
    return _report(failed, hours, body, as_json)


def _report(failed: Failure, hours: float, body: dict[str, Any], as_json: bool) -> int:
    """Print the failure and its story, shrink it, write it down; return the exit code."""
    from fairlead.sim.faults.shrink import shrink

    seed = failed.plan.seed
    if not as_json:
        _print_failure(failed)
        click.echo("shrinking …", err=True)
    small = shrink(failed)
    path = _write(small)
    again = f"fairlead sim faults --seed {seed}" + (f" --hours {hours:g}" if hours != 1 else "")
    if as_json:
        body |= {"failure": _facts(small), "file": str(path), "repeat": again}
        click.echo(json.dumps(body))
        return 1
    plan = small.plan
    click.echo(
        f"\nshrunk to {len(plan.jobs)} jobs, {len(plan.nodes)} nodes, {len(plan.incidents)} "
        f"incidents ({plan.mix()}):"
    )
    _print_story(small)
    click.echo(f"\nrepeat the seed:   {again}")
    click.echo(f"repeat the shrunk: fairlead sim faults --replay {path}")
    return 1


def _replay(path: str, as_json: bool) -> int:
    import msgspec

    from fairlead.model.base import Misuse
    from fairlead.sim.faults.plan import Plan
    from fairlead.sim.faults.run import Failure, run_plan

    try:
        written = json.loads(Path(path).read_text())
        plan = msgspec.convert(written["plan"], Plan)
    except (ValueError, KeyError, TypeError, OSError, msgspec.ValidationError) as error:
        raise Misuse(
            f"{path} is not a failure of the fault simulation: {error}",
            field="replay",
            hint="give a file that `fairlead sim faults` wrote to ./out/",
        ) from None
    outcome = run_plan(plan)
    failed = isinstance(outcome, Failure)
    if as_json:
        facts = _facts(outcome) if isinstance(outcome, Failure) else None
        click.echo(json.dumps({"failed": int(failed), "failure": facts}))
    elif isinstance(outcome, Failure):
        _print_failure(outcome)
    else:
        click.echo("this plan does not fail any more")
    return int(failed)


def _write(failed: Failure) -> Path:
    """Write plan, story and log as JSON; return where."""
    import msgspec

    OUT.mkdir(exist_ok=True)
    path = OUT / f"faults-{failed.plan.seed}.json"
    body = _facts(failed) | {
        "plan": msgspec.to_builtins(failed.plan),
        "log": list(failed.log),
    }
    path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    return path


def _facts(failed: Failure) -> dict[str, Any]:
    return {
        "seed": failed.plan.seed,
        "check": failed.name,
        "message": failed.message,
        "job": failed.job,
        "at_ms": failed.at_ms,
        "where": failed.where,
        "faults": failed.plan.mix(),
        "story": list(failed.story),
    }


def _print_failure(failed: Failure) -> None:
    click.echo(f"seed {failed.plan.seed} FAILED: {failed.name}")
    click.echo(f"  {failed.message}")
    if failed.where:
        click.echo(f"  in {failed.where}")
    click.echo(f"  faults: {failed.plan.mix()}")
    about = f"job {failed.job}" if failed.job else "everything"
    click.echo(f"the story of {about}, up to the failure:")
    _print_story(failed)


def _print_story(failed: Failure) -> None:
    for line in failed.story[-STORY_LINES_SHOWN:]:
        click.echo(f"  {line}")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a line with the time left on stderr while the block runs, if somebody is watching."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    started_s = time.monotonic()

    def show(done: int) -> None:
        left_s = (time.monotonic() - started_s) / done * (total - done)
        click.echo(
            f"\r{done} of {total} seeds clean, {left_s:.0f} s left \x1b[K", err=True, nl=False
        )

    try:
        yield show
    finally:
        click.echo("\r\x1b[K", err=True, nl=False)
