"""`speeds`: how fast types of jobs are on which device, measured, told, or filled in between."""

from __future__ import annotations

from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.client import connect
from fairlead.model.units import format_cpus

_HEADER = ("TYPE", "WIDTH", "ON", "STEPS/S", "FROM", "RUNS", "RANGE", "NOTE")
_PAIRS = ("TYPES", "WIDTHS", "ON", "OF ALONE", "SHARES")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ON = click.option("--on", metavar="MODEL", help="On this type of GPU, or cpu.")
_GPUS = click.option("--gpus", metavar="N", help="Of jobs with so many GPUs [1].")
_CPUS = click.option("--cpus", metavar="N", help="Of jobs with so many cores, on cpu [1].")


@click.group(invoke_without_command=True)
@_JSON
@click.pass_context
def speeds(context: click.Context, as_json: bool) -> None:
    """How fast types of jobs are on which device.

    Measured from what jobs report (fairlead.report in Python, or a line of JSON), or told here;
    what is neither is filled in from what other types gain from a device, and says so.
    """
    if context.invoked_subcommand is not None:
        return
    answer = connect().get("/speeds")
    if as_json:
        output.print_json(answer)
        return
    rows = [
        (
            each["job_type"],
            _width(each),
            each["on"],
            output.rate(each["per_s"]),
            each["source"] or "-",
            str(each["runs"] or "-"),
            _range(each),
            each["words"],
        )
        for each in answer["speeds"]
    ]
    if not rows:
        print("no speeds are known: no job has reported its steps, and nobody told any")
        return
    print(output.table(_HEADER, rows, right=("STEPS/S", "RUNS")))
    if answer.get("pairs"):
        print("\nsharing a GPU:")
        print(output.table(_PAIRS, [_pair(each) for each in answer["pairs"]]))


@speeds.command("set")
@click.argument("job_type", metavar="TYPE")
@click.argument("rate_", metavar="RATE")
@_ON
@_GPUS
@_CPUS
@_JSON
def set_(
    job_type: str, rate_: str, on: str | None, gpus: str | None, cpus: str | None, as_json: bool
) -> None:
    """Tell how fast a type of jobs is: steps per second of the whole job.

    \b
    fairlead speeds set bert 3.2 --on A100
    fairlead speeds set bert 900/h --on T4 --gpus 4
    fairlead speeds set bert 0 --on K80         it does not run there

    It holds whatever is measured, until it is forgotten.
    """
    asked = {"rate": rate_, **_asked(job_type, on, gpus, cpus)}
    made = connect().post("/speeds", asked)
    if as_json:
        output.print_json(made)
    else:
        words = made["words"] or f"{output.rate(made['per_s'])} steps/s"
        print(f"{job_type}, {_width(made)}, on {made['on']}: {words}")


@speeds.command()
@click.argument("job_type", metavar="TYPE")
@_ON
@_GPUS
@_CPUS
@_JSON
def forget(
    job_type: str, on: str | None, gpus: str | None, cpus: str | None, as_json: bool
) -> None:
    """Forget what was told and measured of a type of jobs; it is measured anew."""
    answer = connect().post("/speeds:forget", _asked(job_type, on, gpus, cpus))
    if as_json:
        output.print_json(answer)
        return
    for each in answer["forgotten"]:
        print(
            f"forgotten: {job_type}, {_width(each)}, on {each['on']}: {output.rate(each['per_s'])}"
        )


def _asked(job_type: str, on: str | None, gpus: str | None, cpus: str | None) -> dict[str, str]:
    named = (("job_type", job_type), ("on", on), ("gpus", gpus), ("cpus", cpus))
    return {name: value for name, value in named if value is not None}


def _width(cell: dict[str, Any]) -> str:
    unit = "core" if cell["on"] == "cpu" else "GPU"
    milli = cell["width_milli"]
    return f"{format_cpus(milli)} {unit}{'' if milli == 1000 else 's'}"


def _pair(pair: dict[str, Any]) -> tuple[str, ...]:
    rates = pair["of_alone"]
    return (
        " | ".join(pair["types"]),
        " | ".join(format_cpus(each) for each in pair["widths_milli"]),
        pair["on"],
        "-" if rates is None else " | ".join(f"{each:.2f}" for each in rates),
        "yes" if pair["shares"] else "parted" if pair["parted"] else "no",
    )


def _range(cell: dict[str, Any]) -> str:
    if cell["low_per_s"] is None:
        return "-"
    return f"{output.rate(cell['low_per_s'])} to {output.rate(cell['high_per_s'])}"
