"""The options that say how to read a trace, for every command that reads one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import click


class Reading(TypedDict):
    """What those options say, under the names that `traces.read` gives them."""

    format: str | None
    throughputs: str | None
    throughputs_gpu: str
    job_table: str | None
    speed_up: float
    profiles: str | None


_OPTIONS = (
    click.option(
        "--format",
        metavar="NAME",
        help="What the trace is: swf, jsonl, philly, philly-json, pai, openb, openb-packing, "
        "gavel, muri, chronus, elasticflow, pollux, helios, acme or slurm. Default: by its "
        "content.",
    ),
    click.option(
        "--throughputs",
        type=click.Path(),
        metavar="FILE",
        help="Steps per second of Gavel's jobs, which do not say how long they run. On a cluster "
        "that names its GPU models jobs run as fast as it says of each.",
    ),
    click.option(
        "--throughputs-gpu",
        default="v100",
        show_default=True,
        metavar="GPU",
        help="The kind of GPU that they run on where the cluster names none.",
    ),
    click.option(
        "--job-table",
        type=click.Path(),
        metavar="FILE",
        help="PAI's job table: when its tasks were submitted, and by whom.",
    ),
    click.option(
        "--speed-up",
        type=click.FloatRange(min=0.001, max=1000),
        default=1.0,
        metavar="X",
        help="Jobs come X times as fast: the times between their arrivals are divided by X.",
    ),
    click.option(
        "--profiles",
        type=click.Path(),
        metavar="DIR",
        help="How fast the applications of Pollux' and Sia's jobs learn, a folder for each.",
    ),
)


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command the options; they come as the keywords of `Reading`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


windows = click.option(
    "--reservations", metavar="FILE", type=click.Path(), help="What is reserved when, in TOML."
)
