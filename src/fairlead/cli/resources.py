"""`resource`, `acquire`, `release`: named resources, and jobs that take some while they run."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from fairlead.cli import output, selectors
from fairlead.cli.client import connect, quoted
from fairlead.cli.errors import FAILED, misuse, notice
from fairlead.cli.inside import attempt_of, job_of
from fairlead.model.units import parse_duration_ms

_HEADER = ("NAME", "KIND", "AMOUNT", "HELD", "HOLDERS", "WAITING")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_KIND = click.Choice(["licence", "volume", "lock"])
_JOB = click.option("--job", metavar="ID", help="Of this job, instead of the one it is called in.")
_POLL_S = 86_000.0  # of one question; the service allows a day


@click.group()
def resource() -> None:
    """Licences, volumes, locks: things of which there are so many, wherever jobs run."""


@resource.command()
@click.argument("name")
@click.option("--kind", type=_KIND, default="licence", show_default=True)
@click.option("--amount", type=int, default=1, show_default=True, metavar="N", help="How many.")
@_JSON
def create(name: str, kind: str, amount: int, as_json: bool) -> None:
    """Make a named resource that jobs can ask for.

    \b
    fairlead resource create matlab --amount 4
    fairlead submit --license matlab=2 -- ./simulate
    """
    made = connect().post("/resources", {"name": name, "kind": kind, "amount": amount})
    if as_json:
        output.print_json(made)
    else:
        print(f"{made['kind']} {name}: there are {made['amount']}")


@resource.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List named resources: who holds them, and who waits for them."""
    answer = connect().get("/resources")
    if as_json:
        output.print_json(answer)
        return
    rows = [
        (
            each["name"],
            each["kind"],
            str(each["amount"]),
            f"{each['held']}{' (over)' if each['over'] else ''}",
            _jobs(each["holders"]) or "-",
            _jobs([*each["asking"], *each["waiting"]]) or "-",
        )
        for each in answer["resources"]
    ]
    if not rows:
        print("there are no named resources; fairlead resource create makes one")
    else:
        print(output.table(_HEADER, rows, right=("AMOUNT", "HELD")))


@resource.command()
@click.argument("name")
@click.option("--kind", type=_KIND)
@click.option("--amount", type=int, metavar="N", help="How many there are now.")
@_JSON
def edit(name: str, kind: str | None, amount: int | None, as_json: bool) -> None:
    """Change a named resource. A lower amount takes nothing from those who hold some."""
    if kind is None and amount is None:
        raise misuse("there is nothing to change", hint="add --amount N or --kind KIND")
    asked = {key: each for key, each in (("kind", kind), ("amount", amount)) if each is not None}
    made = connect().post(f"/resources/{quoted(name)}", asked)
    if as_json:
        output.print_json(made)
        return
    print(f"{made['kind']} {name}: there are {made['amount']}, {made['held']} held")
    if made["over"]:
        print(f"  {made['over']} more are held than there are, until jobs end: {_holders(made)}")
    if made["never"]:
        print(f"  jobs that wait for more than there are: {selectors.ranges(made['never'])}")


@resource.command()
@click.argument("name")
@_JSON
def delete(name: str, as_json: bool) -> None:
    """Delete a named resource that no job holds or may ask for."""
    was = connect().delete(f"/resources/{quoted(name)}")
    if as_json:
        output.print_json(was)
    else:
        print(f"deleted {was['kind']} {name}: there were {was['amount']}")


@click.command()
@click.argument("name")
@click.argument("amount", type=int, default=1)
@click.option("--wait", metavar="DURATION", help="At most so long [as long as it takes].")
@_JOB
@_JSON
def acquire(name: str, amount: int, wait: str | None, job: str | None, as_json: bool) -> int:
    """Take some of a named resource, in a running job; wait for it in order.

    \b
    fairlead acquire db            in a script that was submitted with --may-acquire db
    fairlead release db

    Exit code 1: it was not granted in time. What is not released goes back when the job ends.
    """
    from fairlead.cli.follow import patiently

    seconds = None if wait is None else parse_duration_ms(wait, "--wait") / 1000
    until = None if seconds is None else time.monotonic() + seconds
    client, key = connect(), os.urandom(16).hex()
    body = {"name": name, "amount": amount, "key": key, **attempt_of(job)}
    path = f"/jobs/{job_of(job)}/acquire"

    def ask() -> Any:
        left = _POLL_S if until is None else max(0.0, until - time.monotonic())
        return client.post(path, {**body, "wait_s": left}, timeout_s=left + 60)

    answer = patiently(ask)
    while until is None and not answer["granted"] and answer["runs"]:
        answer = patiently(ask)
    if as_json:
        output.print_json(answer)
    elif answer["granted"]:
        print(f"job {answer['id']} holds {answer['held']} {name}")
    else:
        notice(f"{amount} {name} not granted: {answer['because']}")
    return 0 if answer["granted"] else FAILED


@click.command()
@click.argument("name")
@click.argument("amount", type=int, required=False)
@_JOB
@_JSON
def release(name: str, amount: int | None, job: str | None, as_json: bool) -> None:
    """Give back what a running job acquired of a named resource; without AMOUNT all of it."""
    client = connect()
    body = {"name": name, **({} if amount is None else {"amount": amount}), **attempt_of(job)}
    answer = client.post(f"/jobs/{job_of(job)}/release", body)
    if as_json:
        output.print_json(answer)
    else:
        print(f"job {answer['id']} released {answer['released']} {name}, holds {answer['held']}")


def _jobs(those: list[dict[str, Any]]) -> str:
    shown = ", ".join(f"{each['job']} ({each['amount']})" for each in those[:8])
    return f"{shown}, …" if len(those) > 8 else shown


def _holders(made: dict[str, Any]) -> str:
    return f"jobs {_jobs(made['holders'])}"
