"""`up`, `down`, `status` and `doctor`: the service itself."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import click

from fairlead.cli.client import Client
from fairlead.cli.errors import Failure, notice

if TYPE_CHECKING:
    from fairlead.service.lifecycle import Started

READY_S_MAX = 60.0
NOTICE_S = 5.0

_state = click.option("--state", metavar="FOLDER", help="Else FAIRLEAD_STATE, else as XDG says.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.command(epilog="Jobs outlive the service: kill it, start it again, nothing is lost.")
@click.option("--foreground", is_flag=True, help="Stay; stop with Ctrl-C. Jobs run on.")
@click.option("--policy", metavar="NAME", help="Which policy decides, such as priority or fifo.")
@click.option("--cpus", metavar="N", help="Lend out this many cores, not all.")
@click.option("--memory", metavar="SIZE", help="Lend out this much memory, such as 24G.")
@_state
@_json
def up(
    foreground: bool,
    policy: str | None,
    cpus: str | None,
    memory: str | None,
    state: str | None,
    as_json: bool,
) -> int:
    """Start the service on this machine."""
    from fairlead.service.lifecycle import Started
    from fairlead.service.lock import running_pid

    places = _places(state)
    places.ensure()
    given = (("--policy", policy), ("--cpus", cpus), ("--memory", memory))
    options = [word for name, value in given if value is not None for word in (name, value)]
    pid = running_pid(places.pid)
    if pid is not None:
        _print_up(Client(str(places.socket)), as_json, already=pid)
        if options:
            notice(f"{' '.join(options)} counts only at a start: fairlead down, then up again")
        return 0
    if foreground:
        return _serve(places, _config(policy, cpus, memory))
    started = Started(places, options)
    client = Client(str(places.socket))
    if not started.wait(lambda: bool(_status(client).get("ready")), READY_S_MAX):
        running = running_pid(places.pid)
        if running is None:
            raise _failure_of(started, str(places.log))
        if running == started.process.pid:  # else another `up` was faster
            problem = _status(client).get("agent", {}).get("problem") or "no answer"
            notice(f"the service runs (process {running}) but is not ready: {problem}")
    _print_up(client, as_json, already=0)
    return 0


def _places(state: str | None) -> Any:
    from fairlead.service.places import Places

    places = Places.find(os.environ, state or "")
    if state:
        os.environ["FAIRLEAD_STATE"] = str(places.state)
    return places


def _config(policy: str | None, cpus: str | None, memory: str | None) -> Any:
    """Return the configuration of the file, with what the command line says instead."""
    from msgspec.structs import replace

    from fairlead.model.units import parse_cpu_milli, parse_size_mib
    from fairlead.policy.registry import policy_config
    from fairlead.service.config import load_config

    config = load_config(os.environ)
    if policy is not None:
        config = replace(config, policy=policy_config(policy))
    if cpus is not None:
        config = replace(config, cpu_milli=parse_cpu_milli(cpus, "--cpus"))
    if memory is not None:
        config = replace(config, memory_mib=parse_size_mib(memory, "--memory"))
    return config


def _serve(places: Any, config: Any) -> int:
    from fairlead.service.lifecycle import absolute_python_path
    from fairlead.service.lock import AlreadyRuns
    from fairlead.service.server import Service, set_up_logging

    absolute_python_path()
    set_up_logging()
    try:
        Service(places, config).run()
    except AlreadyRuns as error:
        notice(str(error))
    return 0


def _status(client: Client) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = client.get("/status", timeout_s=10.0)
    except Failure:
        return {}
    return answer


def _failure_of(started: Started, log: str) -> Failure:
    """Return what the service process said before it ended."""
    lines = started.last_words()
    code = started.process.returncode or 1
    said = [number for number, line in enumerate(lines) if line.startswith("fairlead: ")]
    if not said:
        last = lines[-1] if lines else "it said nothing"
        return Failure(f"the service did not start: {last}", hint=f"see {log}", code="not-up")
    hints = [line.removeprefix("  hint: ") for line in lines[said[-1] + 1 :]]
    message = lines[said[-1]].removeprefix("fairlead: ")
    return Failure(message, hint="\n".join(hints), code="not-up", exit_code=code)


def _print_up(client: Client, as_json: bool, already: int) -> None:
    status = _status(client)
    if as_json:
        click.echo(json.dumps({"already": bool(already), **status}))
        return
    pid = already or status.get("pid", 0)
    click.echo(f"fairlead {'runs already' if already else 'is up'} (process {pid})")
    if not status:
        return
    click.echo(f"  state   {status['state']}")
    for node in client.get("/nodes")["nodes"]:
        click.echo(f"  lends   {_amounts(node)}")
    click.echo(f"  policy  {status['policy_text']}")
    if problem := (status.get("config") or {}).get("problem"):
        click.echo(f"  config  not in force: {problem}")
    if status["jobs"]:
        click.echo(f"  jobs    {_counts(status['jobs'])}")
    click.echo("  next    fairlead submit -- COMMAND; fairlead ps; fairlead down")


def _amounts(node: dict[str, Any]) -> str:
    from fairlead.model.units import format_cpus, format_size

    capacity, devices = node["capacity"], node["devices"]
    models = ", ".join(sorted({device["model"] for device in devices}))
    gpus = f"{len(devices)} GPUs ({models})" if devices else "no GPUs"
    cpus = format_cpus(capacity["cpu_milli"])
    memory = format_size(capacity["memory_mib"], exact=False)
    return f"{cpus} CPUs, {memory}, {gpus} of {node['name']}"


def _counts(jobs: dict[str, int]) -> str:
    return ", ".join(f"{count} {phase.lower()}" for phase, count in jobs.items())


LIVE = ("STARTING", "RUNNING", "STOPPING")


@click.command(epilog="Jobs that wait stay in the queue for the next `fairlead up`.")
@click.option("--keep-jobs", "choice", flag_value="keep", help="Running jobs run on.")
@click.option(
    "--cancel-jobs",
    "choice",
    flag_value="cancel",
    help="Cancel all jobs, those that wait too, and wait until they are gone.",
)
@_state
@_json
def down(choice: str | None, state: str | None, as_json: bool) -> int:
    """Stop the service; jobs that run are kept or cancelled, as you say."""
    from fairlead.service.lifecycle import members_left, stop_agent, stop_service
    from fairlead.service.lock import running_pid

    places = _places(state)
    pid = running_pid(places.pid)
    live = 0
    if pid is not None:
        client = Client(str(places.socket))
        live = _live(client)
        if live and choice is None:
            raise Failure(
                f"{live} job{'s' if live > 1 else ''} of this service run{'' if live > 1 else 's'}",
                hint="--keep-jobs: they run on, and the next `fairlead up` finds them again\n"
                "--cancel-jobs: cancel all jobs, those that wait too",
                code="jobs-run",
            )
        if choice == "cancel":
            live = _cancel_all(client)
        if not stop_service(places, pid):
            raise Failure(
                f"the service (process {pid}) does not stop",
                hint=f"see {places.log}; kill -9 {pid} is safe, nothing is lost",
                code="does-not-stop",
            )
    kept = members_left(places) if live or pid is None else 0
    agent_stopped = not kept and stop_agent(places)
    if as_json:
        click.echo(json.dumps({"stopped": pid, "jobs_left": live, "agent_stopped": agent_stopped}))
    elif pid is None:
        click.echo("no service is running here")
    else:
        click.echo(f"stopped (process {pid})" + (f"; {live} jobs run on" if live else ""))
    return 0


def _live(client: Client) -> int:
    jobs = client.get("/status")["jobs"]
    return sum(jobs.get(phase, 0) for phase in LIVE)


def _cancel_all(client: Client) -> int:
    client.post("/jobs:cancel", {"ids": "all", "reason": "fairlead down --cancel-jobs"})
    noticed = time.monotonic()
    while live := _live(client):
        if time.monotonic() - noticed > NOTICE_S:
            noticed = time.monotonic()
            notice(f"{live} jobs are still stopping (Ctrl-C leaves the service up)")
        time.sleep(0.05)
    return 0


@click.command()
@_state
@_json
def status(state: str | None, as_json: bool) -> int:
    """Show the service: since when, which policy, how many jobs."""
    from datetime import datetime

    client = Client(str(_places(state).socket))
    found = client.get("/status")
    if as_json:
        click.echo(json.dumps(found))
        return 0
    since = datetime.fromtimestamp(found["started_ms"] / 1000).isoformat(" ", "seconds")
    agent = found["agent"]
    lines = {
        "service": f"version {found['version']}, process {found['pid']}, up since {since}",
        "state": f"{found['state']}, {found['events']} events",
        "policy": found["policy_text"],
        "queues": _queues(found),
        "jobs": _counts(found["jobs"]) or "none waits or runs",
        "agent": f"process {agent['pid']}" if agent["connected"] else agent["problem"],
        "store": "ok" if found["store"]["ok"] else found["store"]["problem"],
    }
    nowhere = (found.get("preemptions") or {}).get("cycles") or ()
    if nowhere:
        lines["preempted"] = "; ".join(each["words"] for each in nowhere[:QUEUES_SHOWN])
    if found.get("plan"):
        lines["plan"] = _plan(found["plan"])
    config = found.get("config") or {}
    if config.get("problem"):
        lines["config"] = f"not in force: {config['problem']}"
    for name, text in lines.items():
        click.echo(f"{name:<8} {text}")
    return 0 if found["ready"] else 1


QUEUES_SHOWN = 8


def _plan(found: dict[str, Any]) -> str:
    """Return how old the plan of the policy is, how good, and why there is no newer one."""
    from fairlead.model.units import format_duration

    words = [f"by {found['adviser']}: none yet"]
    if found["age_ms"] is not None:
        age, took = format_duration(found["age_ms"], exact=False), format_duration(found["took_ms"])
        words = [f"by {found['adviser']}, {age} old, for {found['jobs']} jobs, took {took}"]
        words += [found["because"]] if found["because"] else []
        if found["gap_ppm"] is not None:
            words.append(f"at most {found['gap_ppm'] / 10_000:.3g} % from the best")
    return "; ".join(words + ([found["problem"]] if found["problem"] else []))


def _queues(found: dict[str, Any]) -> str:
    """Return "default, nlp, vision", with the number of those that are not shown."""
    names = [each["name"] for each in found["queues"]]
    more = len(names) - QUEUES_SHOWN
    tail = f" and {more} more: fairlead queue tree" if more > 0 else ""
    return ", ".join(sorted(names)[:QUEUES_SHOWN]) + tail


MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@click.command()
@_state
@_json
def doctor(state: str | None, as_json: bool) -> int:
    """Check this machine and the service; exit 1 when something keeps jobs from running."""
    from fairlead.service.doctor import examine

    places = _places(state)
    checks = examine(places, _status(Client(str(places.socket))))
    failed = any(check.result == "fail" for check in checks)
    if as_json:
        found = [
            {"name": c.name, "result": c.result, "detail": c.detail, "hint": c.hint} for c in checks
        ]
        click.echo(json.dumps({"ok": not failed, "checks": found}))
        return int(failed)
    for check in checks:
        click.echo(f"{MARKS[check.result]} {check.name:<10} {check.detail}")
        if check.hint and check.result != "ok":
            click.echo(f"     {'':<10} hint: {check.hint}")
    return int(failed)
