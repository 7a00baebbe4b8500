"""`plan` and `submit --dry-run`: what would happen, without doing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from fairlead.cli import output, selectors, times, when
from fairlead.cli.client import connect
from fairlead.cli.submit import _SETTINGS, job_options, send

CODES = {"now": 0, "waits": 1, "never": 2}


@click.command(context_settings=_SETTINGS)
@job_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plan(ctx: click.Context, /, as_json: bool, **options: Any) -> int:
    """Say what would happen if this were submitted now; nothing is submitted.

    \b
    fairlead plan --gpus 2 -t 4h -- python train.py
    fairlead plan -f jobs.yaml

    Exit code: 0 all start now, 1 some wait, 2 it can never run (or makes no sense).
    """
    return look_ahead(ctx, options, as_json=as_json)


def look_ahead(ctx: click.Context, options: dict[str, Any], *, as_json: bool) -> int:
    """Ask what would happen, print it, and return the exit code."""
    found = send(ctx, connect(), options, path="/jobs:plan")
    if as_json:
        output.print_json(found)
    else:
        print("\n".join(_lines(found)))
    return CODES[found["outcome"]]


def _lines(found: Mapping[str, Any]) -> list[str]:
    if refusal := found["refusal"]:
        lines = [f"would be refused: {refusal['message']}", *_hint(refusal["hint"])]
        return [times.localised(line) for line in lines]
    lines = list(_jobs(found))
    if preempts := found["preempts"]:
        many = "s" if len(preempts) > 1 else ""
        lines.append(f"  running job{many} {selectors.ranges(sorted(preempts))} would make room")
    delays = [
        f"job {each['job']} would start about {output.span(each['later_ms'])} later"
        for each in found["delays"]
    ]
    if more := found["delayed"] - len(delays):
        delays.append(f"{more} more would start later too")
    lines += [f"  {each}" for each in delays]
    if found["outcome"] == "waits" and not delays:
        lines.append("  no other job is expected to start later for it")
    return lines


def _hint(hint: str) -> Iterable[str]:
    return [f"  {hint}"] if hint else []


def _jobs(found: Mapping[str, Any]) -> Iterable[str]:
    jobs, count = found["jobs"], found["count"]
    if count > 1:
        waits = count - found["start_now"]
        yield f"{count} jobs: {found['start_now']} would start now, {waits} would wait"
        job = next((each for each in jobs if each["outcome"] == "waits"), None)
        if job is None:
            return
        yield f"  the first of them waits: {job['reason']}"
    else:
        (job,) = jobs
        if job["nodes"]:
            yield f"would start now on {', '.join(dict.fromkeys(job['nodes']))}"
            return
        if job["outcome"] == "now":
            yield "would start as soon as there is room"
            return
        yield f"would wait: {job['reason']}"
    parts = []
    if job["position"]:
        parts.append(f"{when.ordinal(job['position'])} of {found['waiting'] + count} that wait")
    if soon := when.sentence(found["now_ms"], job["eta"]):
        parts.append(f"expected to start {soon}")
    elif job["eta"]:
        parts.append("nothing that is known would let it start")
    if job["promised_ms"]:
        parts.append(
            f"promised for {when.moment(found['now_ms'], job['promised_ms'])} at the latest"
        )
    if parts:
        yield f"  {'; '.join(parts)}"
