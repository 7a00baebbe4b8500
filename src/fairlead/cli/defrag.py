"""`defrag`: make room for a job by moving others, after showing what that takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.client import connect
from fairlead.cli.errors import Failure, misuse, notice
from fairlead.model.units import format_cpus

IMPOSSIBLE = 1
_HOUR_MS = 3_600_000
_OPTIONS = {"gpus": "--gpus", "nodes": "--nodes", "job": "--for"}
_HEADER = ("STEP", "JOB", "NAME", "FROM", "TO", "LOSES", "COST")


@click.command(epilog="Exit code: 0 done, or nothing has to move; 1: moving jobs does not help.")
@click.option("--gpus", type=click.IntRange(min=1), metavar="N", help="Free on one machine.")
@click.option("--nodes", type=click.IntRange(min=1), metavar="K", help="On each of so many.")
@click.option("--for", "job", type=click.IntRange(min=1), metavar="JOB", help="As it asks for.")
@click.option("--dry-run", is_flag=True, help="Show what would move, and do not ask.")
@click.option("-y", "--yes", is_flag=True, help="Move the jobs, and do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def defrag(
    gpus: int | None, nodes: int | None, job: int | None, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Make room on a machine by moving running jobs, at the least loss of work.

    \b
    fairlead defrag --for 12             for a job that waits; the room is held for it
    fairlead defrag --gpus 8             so many GPUs free on one machine
    fairlead defrag --gpus 8 --nodes 2   on each of two

    Shows the moves, what they cost and what waiting they save; on a terminal it asks, elsewhere
    nothing moves without --yes. Jobs stop with their notice and grace, and start at their new
    places as after a preemption.
    """
    if dry_run and yes:
        raise misuse("--dry-run and --yes do not go together", field="--yes", hint="say one")
    body: dict[str, Any] = {"gpus": gpus, "nodes": nodes, "job": job}
    body = {key: each for key, each in body.items() if each is not None}
    found = _ask(body if not yes else {**body, "dry_run": False})
    if not as_json:
        print("\n".join(_lines(found)))
    if found["outcome"] == "moves" and not (dry_run or yes or as_json) and sys.stdin.isatty():
        if not click.confirm("move these jobs?"):
            notice("nothing was moved")
            return 1
        moving = sorted({step["job"] for step in found["steps"]})
        found = _ask({**body, "dry_run": False, "plan": moving})
        print(_done(found))
    elif found["outcome"] == "moves" and not as_json:
        print(_done(found) if found["applied"] else "nothing was moved: --yes moves them")
    if as_json:
        output.print_json(found)
    return IMPOSSIBLE if found["outcome"] == "impossible" else 0


def _ask(body: Mapping[str, Any]) -> Any:
    try:
        return connect().post("/defrag", body)
    except Failure as failure:
        option = _OPTIONS.get(failure.field)
        if option is not None and option not in failure.message:
            failure.field, failure.message = option, f"{option}: {failure.message}"
        raise


def _lines(found: Mapping[str, Any]) -> list[str]:
    if found["outcome"] == "impossible":
        return [f"moving jobs does not make room: {found['reason']}"]
    if found["outcome"] == "nothing":
        return [found["reason"]]
    rows = [
        (
            step["kind"],
            str(step["job"]),
            step["name"] or "-",
            _places(step["source"]),
            _places(step["to"]),
            output.span(step["lost_ms"]) if step["kind"] != "resume" else "-",
            _work(step["cost_gpu_ms"]) if step["kind"] != "resume" else "-",
        )
        for step in found["steps"]
    ]
    whom = f"job {found['job']} fits" if found["job"] else "this is free"
    lines = [output.table(_HEADER, rows), f"then {whom}: {_places(found['room'])}"]
    if not found["sure"]:
        lines.append("there may be a cheaper way: the search was cut off")
    return [*lines, _balance(found)]


def _balance(found: Mapping[str, Any]) -> str:
    """Return what it costs and saves, and whether that is worth it."""
    cost, saves = _work(found["cost_gpu_ms"]), found["saves_gpu_ms"]
    verdict = "worth it" if found["worth"] else "not worth it"
    if not found["serves"]:
        return f"costs {cost} of work; saves no waiting: no job waits that fits then"
    jobs = ", ".join(map(str, found["serves"]))
    whose = f"job{'s' if len(found['serves']) > 1 else ''} {jobs}"
    if saves is None:
        return f"costs {cost} of work; without, nothing that is known lets {whose} start: worth it"
    return f"costs {cost} of work, saves {whose} {_work(saves)} of waiting: {verdict}"


def _done(found: Mapping[str, Any]) -> str:
    """Return what is under way."""
    if found["job"]:
        job = found["job"]
        return f"the jobs move, and the room is held for job {job}; see: fairlead why {job}"
    return "the jobs move; the room is kept until they have, then whoever waits may have it"


def _places(places: Sequence[Mapping[str, Any]]) -> str:
    """Return "n1 GPU 0-3, n2", "-" for none."""
    shown = []
    for place in places:
        gpus = ",".join(map(str, place["devices"]))
        shown.append(f"{place['node']} GPU {gpus}" if gpus else str(place["node"]))
    return "; ".join(shown) or "-"


def _work(gpu_ms: int) -> str:
    """Return ms of one GPU as "3.5 GPU-h", below an hour in minutes, below a minute in seconds."""
    for unit, length in (("h", _HOUR_MS), ("min", 60_000)):
        if gpu_ms >= length:
            return f"{format_cpus(round(gpu_ms * 10 / length) * 100)} GPU-{unit}"
    return f"{gpu_ms // 1000} GPU-s"
