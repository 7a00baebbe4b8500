"""`share` and `usage`: who is entitled to what and has it, and what was used in a while."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.client import connect
from fairlead.cli.errors import misuse
from fairlead.model import amounts
from fairlead.model.resources import DIMENSIONS
from fairlead.model.units import parse_duration_ms

_HOUR_MS = 3_600_000


@click.command()
@click.option("--queue", metavar="NAME", help="Only this queue, those above it, and what is in it.")
@click.option("--user", metavar="NAME", help="Only this user, and the queues it is in.")
@click.option("--resource", metavar="NAME", help="In gpus, cpus, memory, …; else its largest part.")
@click.option("-w", "--watch", is_flag=True, help="Show it anew every second until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def share(
    queue: str | None, user: str | None, resource: str | None, watch: bool, as_json: bool
) -> None:
    """Show where queues and users stand: entitled to, using, used in the past, borrowed from whom.

    ENTITLED is what each would have now if all took what is fair. DECAYED is the average of what it
    used, in which older use counts less. Both, and USING, are of the resource of which it needs the
    largest part; SHARE and PAST are the largest parts that it uses and used.
    """
    row = _row(resource)
    query = {"queue": queue, "user": user}
    client = connect()
    if as_json:
        output.print_json(client.get("/shares", query))
    elif watch:
        output.watch(lambda: _standings(client.get("/shares", query), row))
    else:
        print(_standings(client.get("/shares", query), row))


def _row(resource: str | None) -> str | None:
    if resource is None:
        return None
    if resource not in amounts.WORDS:
        hint = "known: " + ", ".join(amounts.WORDS)
        raise misuse(f"there is no resource '{resource}'", field="--resource", hint=hint)
    return DIMENSIONS[amounts.WORDS.index(resource)]


_SHARES = ("QUEUE", "WEIGHT", "ENTITLED", "USING", "DECAYED", "SHARE", "PAST", "RUN", "WAIT")


def _standings(answer: dict[str, Any], row: str | None) -> str:
    found = answer["shares"]
    if not found:
        return "nobody has jobs or a past there"
    rows = []
    for each in found:
        resource = row or each["resource"]
        label = f"{each['user'] or each['queue']}" + (" (user)" if each["user"] else "")
        rows.append(
            (
                "  " * each["depth"] + label,
                str(each["weight"]),
                *(_of(resource, each[key]) for key in ("entitled", "using", "average")),
                *(f"{each[key] / 10:.1f}%" for key in ("share_milli", "average_milli")),
                str(each["live"]),
                str(each["waiting"]),
                _loans(each["loans"]) or "-",
            )
        )
    header = [*_SHARES, "BORROWS"]
    if all(line[-1] == "-" for line in rows):
        header, rows = header[:-1], [line[:-1] for line in rows]
    return output.table(header, rows, right=("WEIGHT", "SHARE", "PAST", "RUN", "WAIT"))


def _of(resource: str, given: Mapping[str, int]) -> str:
    return amounts.of(resource, given.get(resource, 0))


def _loans(loans: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{amounts.of(each['resource'], each['amount'])} from {each['lender'] or 'the cluster'}"
        for each in loans
    )


@click.command()
@click.option("--since", default="7d", show_default=True, metavar="DURATION", help="So long ago.")
@click.option("--until", metavar="DURATION", help="Up to so long ago; else until now.")
@click.option("--by", type=click.Choice(["queue", "user", "tenant"]), default="queue")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
def usage(since: str, until: str | None, by: str, as_json: bool, as_csv: bool) -> None:
    """Show what was used, by whom: GPU-hours, GPU-GiB-hours, core-hours, preemptions.

    From the log, exactly: what jobs held, from the decision that placed each until it was gone,
    those that still run too. RESERVED is what reservations kept while nobody used it.
    """
    if as_json and as_csv:
        raise misuse("--json and --csv", field="--csv", hint="give one of them")
    now = int(time.time() * 1000)
    query: dict[str, object] = {"by": by}
    query["since_ms"] = max(now - parse_duration_ms(since, "--since"), 0)
    if until is not None:
        query["until_ms"] = max(now - parse_duration_ms(until, "--until"), 0)
    found = connect().get("/usage", query)
    if as_json:
        output.print_json(found)
        return
    rows = [(each[by], each) for each in found["rows"]]
    if as_csv:
        print(",".join((by, *_NAMES)))
        for name, each in rows:
            print(",".join((_cell(name), *_figures(each, 6))))
        return
    if not rows:
        print("nothing was used in that time")
    else:
        rows.append(("together", found["together"]))
        lines = [(name, *_figures(each, 2)) for name, each in rows]
        header = tuple(name.upper().replace("_", "-") for name in (by, *_NAMES))
        print(output.table(header, lines, right=header[1:]))
    for each in found["reserved"]:
        whom = f"for {', '.join(each['tenants'])}" if each["tenants"] else "for nobody"
        hours = _hours(each["unused_gpu_milli_ms"], 1000, 2)
        print(f"reserved and unused: {hours} GPU-hours of '{each['name']}' ({whom})")


_NAMES = ("gpu_hours", "gpu_gib_hours", "core_hours", "jobs", "preemptions")


def _figures(row: Mapping[str, int], digits: int) -> tuple[str, ...]:
    return (
        _hours(row["gpu_milli_ms"], 1000, digits),
        _hours(row["gpu_memory_mib_ms"], 1024, digits),
        _hours(row["cpu_milli_ms"], 1000, digits),
        str(row["jobs"]),
        str(row["preemptions"]),
    )


def _hours(amount: int, unit: int, digits: int) -> str:
    return f"{amount / (unit * _HOUR_MS):.{digits}f}"


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text
