"""`ps`, `history`, `show`, `why`, `cancel`: looking at jobs, and ending them."""

from __future__ import annotations

import gc
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import click

from fairlead.cli import output, selectors
from fairlead.cli.client import Client, connect, me
from fairlead.cli.errors import FAILED, notice
from fairlead.cli.times import localised
from fairlead.model.units import format_cpus, format_duration, format_size

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_HEADER = (
    *("ID", "NAME", "USER", "TENANT", "QUEUE", "STATE", "PRIO", "CPUS", "MEM", "GPUS", "MEMBERS"),
    *("WAIT", "TIME/LIMIT", "DEADLINE", "ETA", "REASON"),
)
_TIMES = ("phase", "submitted_ms", "started_ms", "ended_ms")
_REASON = ("phase", "reason", "nodes", "because", "exit_code", "exit_signal")
_RIGHT = ("ID", "PRIO", "CPUS", "MEM", "GPUS", "WAIT", "TIME/LIMIT")


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that restrict a listing."""
    for option in (
        click.option("--state", metavar="STATE,…", help="PENDING, RUNNING, FAILED, …"),
        click.option("--tenant", metavar="NAME,…", help="Only of these tenants."),
        click.option("--queue", metavar="NAME,…", help="Only of these queues."),
        click.option("--user", metavar="NAME,…", help="Only of these users."),
        click.option("-q", "--quiet", is_flag=True, help="Print ids only."),
        json_option,
    ):
        command = option(command)
    return command


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB…]")
@click.option("-a", "--all", "everything", is_flag=True, help="Those that ended too.")
@click.option("-w", "--watch", is_flag=True, help="Show it anew every second until Ctrl-C.")
@click.option("-n", "--limit", type=click.IntRange(1), help="At most so many.")
@filters
def ps(
    jobs: tuple[str, ...],
    everything: bool,
    watch: bool,
    limit: int | None,
    state: str | None,
    tenant: str | None,
    queue: str | None,
    user: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """List jobs that wait or run: where they are, and why they wait.

    JOB is an id (12), a range (12-15), last, or @me. Jobs named by id are listed even when they
    have ended.
    """
    client = connect()
    query: dict[str, object] = {"state": state, "tenant": tenant, "queue": queue, "user": user}
    query |= selectors.query_of(client, jobs)
    query["all"] = 1 if everything else None

    def render() -> str:
        found = selectors.listing(client, "/jobs", query, limit)
        found["rows"].sort()  # by id, also where those that ended came first
        return _render(found, quiet=quiet, as_json=as_json)

    if watch and not (quiet or as_json):
        output.watch(render)
    elif text := render():
        print(text)


@click.command()
@click.argument("jobs", nargs=-1, metavar="[JOB…]")
@click.option("-n", "--limit", type=click.IntRange(1), default=100, help="At most so many [100].")
@click.option("--since", metavar="DURATION", help="Submitted at most so long ago, such as 2h.")
@filters
def history(
    jobs: tuple[str, ...],
    limit: int,
    since: str | None,
    state: str | None,
    tenant: str | None,
    queue: str | None,
    user: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """List jobs that have ended, newest first."""
    client = connect()
    query: dict[str, object] = {"state": state, "tenant": tenant, "queue": queue, "user": user}
    query |= selectors.query_of(client, jobs)
    query["since_ms"] = _since_ms(since) if since else None
    found = selectors.listing(client, "/history", query, limit)
    if text := _render(found, quiet=quiet, as_json=as_json):
        print(text)


def _since_ms(since: str) -> int:
    import time

    from fairlead.model.units import parse_duration_ms

    return max(int(time.time() * 1000) - parse_duration_ms(since, "--since"), 0)


def _render(found: dict[str, Any], *, quiet: bool, as_json: bool) -> str:
    columns, rows = found["columns"], found["rows"]
    if as_json:
        import json

        jobs = [dict(zip(columns, row, strict=True)) for row in rows]
        return json.dumps({"jobs": jobs, "now_ms": found["now_ms"]}, ensure_ascii=False)
    if quiet:
        at = columns.index("id")
        return "\n".join(str(row[at]) for row in rows)
    return jobs_table(columns, rows, found["now_ms"])


def jobs_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], now_ms: int) -> str:
    """Return the table of `ps` for rows of the API.

    Column by column, and each different amount or time formatted once: with thousands of jobs
    that takes half the time of row by row.
    """
    gc.disable()  # nothing here makes cycles, and looking for them takes a fifth of the time
    if not rows:
        return output.table(_HEADER, ())
    of = dict(zip(columns, zip(*rows, strict=True), strict=True))
    times = [
        _waited_ran(now_ms, *each) for each in zip(*(of[name] for name in _TIMES), strict=True)
    ]
    etas = _etas(now_ms, of.get("eta"), len(rows))
    labels = zip(of["name"], of["array"], of["array_index"], strict=True)
    shown = (
        map(str, of["id"]),
        (name if array is None else f"{name}[{index}]" for name, array, index in labels),
        of["user"],
        of["tenant"],
        (queues := of["queue"]),
        of["phase"],
        map(str, of["priority"]),
        map(cache(format_cpus), of["cpu_milli"]),
        map(cache(output.memory), of["memory_mib"]),
        map(cache(output.gpus), of["gpus_milli"]),
        (members := _elastic(of, len(rows))),
        map(cache(output.span), (waited for waited, _ in times)),
        map(cache(_ran_of_limit), (ran for _, ran in times), of["limit_ms"]),
        (deadlines := _moments(now_ms, of.get("deadline_ms"), len(rows))),
        etas,
        map(_reason, *(of[name] for name in _REASON)),
    )
    grid = [tuple(column) for column in shown]
    header = list(_HEADER)
    several = [name != "default" for name in queues]
    optional = {"ETA": etas, "DEADLINE": deadlines, "MEMBERS": members, "QUEUE": several}
    for name, column in optional.items():
        if not any(column):  # nothing waits, no deadline, no queue is named: then nobody asks
            del grid[header.index(name)]
            header.remove(name)
    return output.grid(header, grid, right=_RIGHT)


def _elastic(of: Mapping[str, Sequence[Any]], count: int) -> Sequence[str]:
    most = of.get("members_max")
    if most is None or not any(most):
        return [""] * count
    names = ("members", "members_max", "nodes", "phase")
    rows = zip(*(of[name] for name in names), strict=True)
    return [_members(dict(zip(names, row, strict=True))) for row in rows]


def _etas(now: int, etas: Sequence[Any] | None, count: int) -> Sequence[str]:
    if etas is None or not any(etas):
        return [""] * count
    from fairlead.cli import when

    return [when.short(now, eta) for eta in etas]


def _moments(now: int, moments: Sequence[int | None] | None, count: int) -> Sequence[str]:
    if moments is None or not any(moments):
        return [""] * count
    from fairlead.cli import when

    return ["" if at is None else when.moment(now, at) for at in moments]


def _ran_of_limit(ran: int | None, limit: int | None) -> str:
    most = f"/{format_duration(limit, exact=False)}" if limit else ""
    return (output.span(ran) or "-") + most


def _waited_ran(
    now: int, phase: str, submitted: int, started: int | None, ended: int | None
) -> tuple[int, int | None]:
    """Return how long a job waited and ran so far, in whole seconds (as ms)."""
    if started is None or phase == "PENDING":
        until = now if ended is None or phase == "PENDING" else ended
        return max(until - submitted, 0) // 1000 * 1000, None
    ran = (now if ended is None else ended) - started
    return max(started - submitted, 0) // 1000 * 1000, max(ran, 0) // 1000 * 1000


def _reason(
    phase: str,
    reason: str,
    nodes: Sequence[str],
    because: str,
    code: int | None,
    signal: int | None,
) -> str:
    """Return why a job waits, where it runs, or how it ended."""
    if phase == "PENDING":
        return localised(reason)
    if phase in output.LIVE:
        return ", ".join(dict.fromkeys(nodes))
    if phase == "SUCCEEDED":
        return ""
    return because or output.ending({"exit_code": code, "exit_signal": signal})


@click.command()
@click.argument("job")
@json_option
def show(job: str, as_json: bool) -> None:
    """Show everything about a job, and what happened to it."""
    found = connect().get(f"/jobs/{selectors.one(job)}")
    if as_json:
        output.print_json(found)
        return
    print(output.pairs(_details(found)))
    if found.get("events"):
        print("\nhistory:")
        for event in found["events"]:
            print(f"  {output.clock(event['at_ms'])}  {_event_line(event)}")


def _details(job: dict[str, Any]) -> list[tuple[str, str]]:
    from fairlead.cli import when
    from fairlead.model.topology import format_topology  # it needs msgspec, `ps` does not

    spec = job.get("spec") or {}
    shape = spec.get("shape") or {}
    waited, ran = _waited_ran(
        job["now_ms"], job["phase"], job["submitted_ms"], job["started_ms"], job["ended_ms"]
    )
    members = int(job["members"])
    limit = job["limit_ms"]
    element = f" (element {job['array_index']} of array {job['array']})" if job["array"] else ""
    state = " ".join(filter(None, (job["phase"], output.ending(job))))
    return [
        ("job", f"{job['id']}{element}"),
        ("name", job["name"]),
        ("state", state),
        ("reason", localised(job["reason"]) or job["because"]),
        ("starts", when.sentence(job["now_ms"], job.get("eta"))),
        ("user", job["user"]),
        ("tenant", job["tenant"]),
        ("queue", f"{job['queue']}, priority {job['priority']}"),
        ("command", shlex.join(spec.get("command") or ())),
        ("workdir", spec.get("workdir") or ""),
        *_members_asked(spec, shape, members),
        ("topology", format_topology(shape.get("within", ""), shape.get("near", ""))),
        ("licenses", _named(spec.get("counted"))),
        ("may acquire", _named(spec.get("may_acquire"))),
        ("members", "" if job["phase"] == "PENDING" else _members(job)),
        ("time limit", format_duration(limit) if limit else ""),
        ("deadline", when.deadline(job["now_ms"], job.get("deadline_ms"))),
        ("preempted", _preempted(job, spec)),
        ("progress", _progress(job, spec)),
        ("work saved", output.clock(job.get("checkpoint_ms"))),
        ("submitted", output.clock(job["submitted_ms"])),
        ("waited", output.span(waited)),
        ("started", output.clock(job["started_ms"])),
        ("ended", output.clock(job["ended_ms"])),
        ("ran", output.span(ran)),
        ("nodes", ", ".join(job["nodes"])),
        ("GPUs", "; ".join(",".join(map(str, each)) for each in job["devices"] if each)),
        ("attempt", str(job["attempt"]) if job["attempt"] > 1 else ""),
        ("labels", ", ".join(f"{name}={value}" for name, value in spec.get("labels") or ())),
    ]


def _progress(job: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """Return how far a job is by its own words, how fast, and how much longer that takes."""
    said = job.get("progress") or {}
    steps, total = said.get("steps") or job.get("steps"), spec.get("steps")
    parts = []
    if steps is not None:
        parts.append(f"{steps:,} {f'of {total:,} ' if total else ''}steps")
    elif total:
        parts.append(f"none of {total:,} steps reported yet")
    if said.get("per_s"):
        parts.append(f"{output.rate(said['per_s'])} steps/s")
    if said.get("left_ms") is not None:
        parts.append(f"about {output.span(said['left_ms'])} left at that speed")
    if said.get("ignored"):
        lines = "1 line" if said["ignored"] == 1 else f"{said['ignored']} lines"
        parts.append(f"{lines} of its reports ignored, the first {said['odd']}")
    return "; ".join(parts)


def _preempted(job: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """Return how often a job had to make room for others, "" if it never had to."""
    times = job.get("preemptions") or 0
    if spec.get("preemptible") is False:
        return "never"
    return "" if not times else "once" if times == 1 else f"{times} times"


def _members(job: Mapping[str, Any]) -> str:
    """Return how many members an elastic job has of how many it may have, "" for others."""
    most = job.get("members_max")
    if not most:
        return ""
    span = f"{job['members']}-{most}"
    return f"{len(job['nodes'])} of {span}" if job["phase"] in output.LIVE else span


def _members_asked(
    spec: Mapping[str, Any], shape: dict[str, Any], members: int
) -> list[tuple[str, str]]:
    """Return what the members ask for, and who they are where they differ, with their ranks."""
    if not (kinds := shape.get("kinds")):
        asked = _asked(shape) + (f", {members} members" if members > 1 else "")
        found = [("asks for", asked)]
    else:
        found = [("asks for", f"{members} members of {len(kinds)} kinds")]
    first = 0
    for each in spec.get("workers") or ():
        count = each.get("members", 1)
        ranks = f"rank {first}" if count == 1 else f"ranks {first} to {first + count - 1}"
        own = f", {_asked(_kind(shape, first))}" if kinds else ""
        runs = f": {shlex.join(each['command'])}" if each.get("command") else ""
        found.append((f"  {each['name']}", f"{ranks}{own}{runs}"))
        first += count
    return found


def _kind(shape: dict[str, Any], rank: int) -> dict[str, Any]:
    """Return what the member with a rank asks for."""
    for kind in shape.get("kinds") or ():
        if rank < kind.get("members", 1):
            return dict(kind, members=1)
        rank -= kind.get("members", 1)
    return shape


def _asked(shape: dict[str, Any]) -> str:
    cpus = format_cpus(shape.get("cpu_milli", 1000))
    parts = [f"{cpus} CPU{'' if cpus == '1' else 's'}"]
    if memory := shape.get("memory_mib"):
        parts.append(f"{format_size(memory)} memory")
    if disk := shape.get("disk_mib"):
        parts.append(f"{format_size(disk)} disk")
    if gpus := shape.get("gpus", 0) * 1000 + shape.get("gpu_milli", 0):
        models = " or ".join(shape.get("gpu_models") or ())
        parts.append(
            f"{format_cpus(gpus)} {models + ' ' if models else ''}GPU{'' if gpus == 1000 else 's'}"
        )
        if shares := shape.get("gpu_parts"):
            each = (*(1000 for _ in range(shape.get("gpus", 0))), *shares)
            parts[-1] += f" as {' + '.join(map(format_cpus, each))}"
    if gpu_memory := shape.get("gpu_memory_mib"):
        parts.append(f"{format_size(gpu_memory)} GPU memory")
    if shape.get("members", 1) > 1:
        parts.append("each")
    return ", ".join(parts)


def _named(amounts: Sequence[tuple[str, int]] | None) -> str:
    return ", ".join(f"{amount} {name}" for name, amount in amounts or ())


def _event_line(event: dict[str, Any]) -> str:
    """Return one event in words: its kind, and what of it is worth a line."""
    words = [str(event["kind"])]
    if event.get("attempt"):
        words.append(f"attempt {event['attempt']}")
    if event.get("amount"):  # of a named resource
        words.append(f"{event['amount']} {event['name']}")
    if event.get("rank"):
        words.append(f"rank {event['rank']}")
    if event.get("then"):
        words.append(f"then {event['then']}")
    if ended := event.get("exit"):
        how = {"exit_code": ended.get("code"), "exit_signal": ended.get("signal")}
        words += filter(None, (output.ending(how), ended.get("why"), ended.get("detail")))
    if said := event.get("forecast"):
        words.append(f"{output.span(said['expected_ms'])} by {said.get('model', '')}".rstrip())
    if event.get("slots") and "start_ms" in event:
        words.append(f"to start by {output.clock(event['start_ms'])}")
    if event.get("because"):
        words.append(f"({localised(event['because'])})")
    return " ".join(words)


@click.command()
@click.argument("job")
@json_option
def why(job: str, as_json: bool) -> None:
    """Explain why a job waits, or where it was placed."""
    found = connect().get(f"/jobs/{selectors.one(job)}/explain")
    if as_json:
        output.print_json(found)
        return
    reason = f" ({found['reason']})" if found.get("reason") else ""
    print(f"job {found['id']} is {found['phase']}{reason}: {localised(found['summary'])}")
    for line in found.get("lines") or ():
        print(f"  {localised(line)}")
    if found["phase"] == "PENDING" and "eta_measured" in found:
        from fairlead.cli import when

        now = found["now_ms"]
        if promised := found.get("promised_ms"):
            print(f"  promised: starts at {when.moment(now, promised)} or earlier")
        print(f"  {when.explained(now, found['eta'], found['eta_measured'])}")


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…")
@click.option("--reason", default="", metavar="TEXT", help="Kept in the job's history.")
@click.option("--now", is_flag=True, help="Kill at once, also what is being stopped already.")
@json_option
def cancel(jobs: tuple[str, ...], reason: str, now: bool, as_json: bool) -> int:
    """Cancel jobs: those that wait at once, those that run after their notice and grace.

    JOB is an id (12), a range (12-15), last, or @me (all of yours that have not ended).
    """
    client = connect()
    asked = {"ids": ids_of(client, jobs), "reason": reason, "now": now}
    answer = client.post("/jobs:cancel", asked)
    if as_json:
        output.print_json(answer)
    else:
        for line in selectors.by_outcome(
            (each["id"], _cancelled(each["phase"])) for each in answer["jobs"]
        ):
            print(line)
        if answer["missing"]:
            notice(f"there is no job {selectors.ranges(answer['missing'])}")
        elif not answer["jobs"]:
            notice("there is nothing to cancel")
    return FAILED if answer["missing"] else 0


def ids_of(client: Client, words: Sequence[str]) -> str | list[int]:
    """Return the selected ids as the API takes them."""
    selectors.check(words)
    if list(words) == ["last"]:
        return "last"
    parts: list[str] = []
    for word in words:
        if word == "@me":
            found = selectors.listing(client, "/jobs", {"user": me()})
            parts += [str(row[found["columns"].index("id")]) for row in found["rows"]]
        else:
            parts.append(str(selectors.last_id(client)) if word == "last" else word)
    return ",".join(parts) if parts else []


def _cancelled(phase: str) -> str:
    if phase == "CANCELLED":
        return "cancelled"
    if phase in output.FINAL:
        return f"had ended already: {phase}"
    return "being stopped"
