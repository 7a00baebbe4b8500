"""`reservation` and `node`: keep machines or amounts for a time, drain machines and resume them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.client import connect, quoted
from fairlead.cli.errors import Failure, misuse
from fairlead.cli.times import localised, moment, parse_time_ms
from fairlead.model.units import format_cpus, format_size

_HEADER = ("NAME", "STATE", "FROM", "TO", "FOR", "WHAT", "REASON")
_OPTIONS = {  # field of the service -> option
    **{"start": "--start", "end": "--end", "duration": "--for", "nodes": "--node"},
    **{"gpus": "--gpus", "gpu_type": "--gpu-type", "cpus": "--cpus", "memory": "--memory"},
    **{"tenants": "--tenant", "reason": "--reason"},
}
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_REASON = click.option("--reason", default="", metavar="TEXT", help="Shown to whoever waits.")


def _in_user_words(command: Callable[..., None]) -> Callable[..., None]:
    """Let errors name options, and moments in local time."""

    @wraps(command)
    def call(**options: Any) -> None:
        try:
            command(**options)
        except Failure as failure:
            option = _OPTIONS.get(failure.field)
            if option is not None and option not in failure.message:
                failure.field = option
                failure.message = f"{option}: {failure.message}"
            failure.message, failure.hint = localised(failure.message), localised(failure.hint)
            raise

    return call


@click.group()
def reservation() -> None:
    """Keep machines, GPUs or cores for tenants, or free for maintenance, during a time."""


@reservation.command()
@click.argument("name")
@click.option("--start", default="now", show_default=True, metavar="TIME", help="From when on.")
@click.option("--end", metavar="TIME", help="Until when: 2026-12-01T09:00, now+2h.")
@click.option("--for", "duration", metavar="DURATION", help="For how long, instead of --end: 3h.")
@click.option("--node", "nodes", multiple=True, metavar="NODE", help="A whole machine.")
@click.option("--all-nodes", is_flag=True, help="All machines, whole.")
@click.option("--gpus", type=click.IntRange(min=1), metavar="N", help="So many whole GPUs.")
@click.option("--gpu-type", metavar="MODEL,…", help="Acceptable GPU models.")
@click.option("--cpus", metavar="N", help="So many cores, in all (beside --gpus: with them).")
@click.option("--memory", metavar="SIZE", help="So much memory, in all.")
@click.option("--tenant", "tenants", multiple=True, metavar="NAME", help="Who may use it.")
@_REASON
@_JSON
@_in_user_words
def create(
    name: str,
    start: str,
    end: str | None,
    duration: str | None,
    nodes: tuple[str, ...],
    all_nodes: bool,
    gpus: int | None,
    gpu_type: str | None,
    cpus: str | None,
    memory: str | None,
    tenants: tuple[str, ...],
    reason: str,
    as_json: bool,
) -> None:
    """Make a reservation: without --tenant nobody may run there, which is a maintenance window.

    \b
    fairlead reservation create kernel --start 2026-12-01T09:00 --for 3h --all-nodes
    fairlead reservation create demo --start now+2h --for 1h --gpus 2 --tenant nlp

    From now on nothing of others starts that could still run, by its time limit, when it begins.
    A time without a zone is this machine's. Without --end and --for it lasts until it is deleted.
    """
    if end is not None and duration is not None:
        raise misuse("--end and --for say the same thing", field="--for", hint="give one of them")
    now = int(time.time() * 1000)
    body: dict[str, Any] = {"name": name, "tenants": tenants, "reason": reason}
    if start.strip().lower() != "now":
        body["start_ms"] = parse_time_ms(start, now, "--start")
    if end is not None:
        body["end_ms"] = parse_time_ms(end, now, "--end")
    if duration is not None:
        body["duration"] = duration
    body |= {"nodes": nodes, "all_nodes": all_nodes}
    body |= {
        key: each for key, each in (("gpus", gpus), ("cpus", cpus), ("memory", memory)) if each
    }
    if gpu_type:
        body["gpu_type"] = [part.strip() for part in gpu_type.split(",") if part.strip()]
    made = connect().post("/reservations", body)
    if as_json:
        output.print_json(made)
        return
    until = "until it is deleted" if made["end_ms"] is None else f"to {moment(made['end_ms'])}"
    print(f"reserved {_what(made)}, {_whom(made)}, {moment(made['start_ms'])} {until}")


@reservation.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List what is reserved now or later, drained machines too."""
    answer = connect().get("/reservations")
    if as_json:
        output.print_json(answer)
        return
    rows = [
        (
            each["name"],
            "active" if each["active"] or each["start_ms"] <= answer["now_ms"] else "to come",
            moment(each["start_ms"]),
            moment(each["end_ms"]),
            ",".join(each["tenants"]) or "nobody",
            _what(each),
            each["reason"] or "-",
        )
        for each in answer["reservations"]
    ]
    print(output.table(_HEADER, rows) if rows else "nothing is reserved")


@reservation.command()
@click.argument("name")
@_JSON
@_in_user_words
def delete(name: str, as_json: bool) -> None:
    """Delete a reservation; what it kept may be used at once."""
    was = connect().delete(f"/reservations/{quoted(name)}")
    if as_json:
        output.print_json(was)
    else:
        print(f"deleted {name}: {_what(was)}, {_whom(was)}")


@click.group()
def node() -> None:
    """Take machines out of use, and back."""


@node.command()
@click.argument("name")
@_REASON
@_JSON
@_in_user_words
def drain(name: str, reason: str, as_json: bool) -> None:
    """Start nothing new on a machine; what runs there may end. Lasts until it is resumed."""
    body = {"reason": reason} if reason else {}
    answer = connect().post(f"/nodes/{quoted(name)}/drain", body)
    if as_json:
        output.print_json(answer)
        return
    jobs = answer["jobs"]
    left = f"job{'s' if len(jobs) > 1 else ''} {', '.join(map(str, jobs[:10]))} may end"
    print(f"{name} is drained: nothing new starts there" + (f"; {left}" if jobs else ""))


@node.command()
@click.argument("name")
@_JSON
@_in_user_words
def resume(name: str, as_json: bool) -> None:
    """Start jobs on a machine again."""
    answer = connect().post(f"/nodes/{quoted(name)}/resume", {})
    if as_json:
        output.print_json(answer)
    else:
        print(
            f"{name} takes jobs" + (" again" if answer["was_drained"] else "; it was not drained")
        )


def _whom(each: dict[str, Any]) -> str:
    return f"for {', '.join(each['tenants'])}" if each["tenants"] else "for nobody"


def _what(each: dict[str, Any]) -> str:
    if each["nodes"]:
        return ", ".join(each["nodes"])
    parts = []
    if each["gpus"]:
        model = f" {'/'.join(each['gpu_type'])}" if each["gpu_type"] else ""
        parts.append(f"{each['gpus']}{model} GPU{'s' if each['gpus'] > 1 else ''}")
    if each["cpu_milli"]:
        parts.append(f"{format_cpus(each['cpu_milli'])} CPUs")
    if each["memory_mib"]:
        parts.append(format_size(each["memory_mib"], exact=False))
    nodes = dict.fromkeys(slot["node"] for slot in each["slots"])
    return f"{', '.join(parts)} on {', '.join(nodes)}"
