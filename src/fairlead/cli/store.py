"""`fairlead store`: check, rebuild and export the database, with or without a service."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from fairlead.cli.errors import FAILED, MISUSE, Failure

if TYPE_CHECKING:
    from fairlead.store.check import CheckReport
    from fairlead.store.salvage import Rebuilt

JOBS_SHOWN_MAX = 20
_Command = TypeVar("_Command", bound=Callable[..., object])


@click.group()
def store() -> None:
    """Check, rebuild or export the database of the service."""


def _where(command: _Command) -> _Command:
    """Add the options that say which database."""
    command = click.option(
        "--file", metavar="FILE", default="", help="The database itself, e.g. fairlead.db."
    )(command)
    return click.option(
        "--state", metavar="DIR", default="", help="The state folder that it lies in."
    )(command)


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@store.command()
@_where
@_as_json
def check(state: str, file: str, as_json: bool) -> None:
    """Read everything and recompute what can be recomputed; changes nothing.

    Also while the service runs. Exit code 0: sound, 1: not.
    """
    with _errors():
        from fairlead.core.engine import Core
        from fairlead.store.check import check as check_store

        report = check_store(_database(state, file), Core)
    if as_json:
        _print_json(report)
    else:
        _print_report(report)
    sys.exit(0 if report.ok else FAILED)


@store.command()
@_where
@click.option("--salvage", is_flag=True, help="Save what can be read of a damaged file.")
@_as_json
def rebuild(state: str, file: str, salvage: bool, as_json: bool) -> None:
    """Make the table of jobs and the snapshots anew from the log; the service must be down.

    With --salvage the log is cut where it is damaged, and the damaged file is kept.
    """
    with _errors():
        from fairlead.core.engine import Core
        from fairlead.store.salvage import rebuild as rebuild_store

        done = rebuild_store(_database(state, file), Core, damaged=salvage)
    if as_json:
        _print_json(done)
    else:
        _print_rebuilt(done)


@store.command()
@click.argument("target", metavar="[FILE]", default="-")
@_where
def export(target: str, state: str, file: str) -> None:
    """Write every event as one line of JSON, to FILE (.gz: compressed) or standard output.

    Each line is {"seq": number, "at_ms": time, "event": {…}}. Also while the service runs.
    """
    with _errors():
        from fairlead.store.export import lines, write_file

        database = _database(state, file)
        if target != "-":
            count = write_file(database, Path(target))
            click.echo(f"{count:,} events written to {target}", err=True)
            return
        try:
            _stream(lines(database), sys.stdout.buffer)
        except BrokenPipeError:
            # The reader has seen enough (`| head`). Python must not complain at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stream(blocks: Iterator[bytes], output: BinaryIO) -> None:
    for block in blocks:
        output.write(block)
    output.flush()


def _database(state: str, file: str) -> Path:
    """Return the database meant by the options, the environment, or the usual place."""
    from fairlead.model.base import Misuse
    from fairlead.service.places import Places

    if state and file:
        raise Misuse("--state and --file name the same thing", hint="give one of them")
    return Path(file) if file else Places.find(os.environ, state).database


@contextmanager
def _errors() -> Iterator[None]:
    """Turn the store's errors into failures of the command."""
    from fairlead.model.base import Misuse, StoreFailed
    from fairlead.store.codec import Damaged

    try:
        yield
    except Misuse as error:
        exit_code = FAILED if isinstance(error, Damaged) else MISUSE
        raise Failure(
            error.message,
            hint=error.hint,
            code=error.code,
            field=error.field,
            exit_code=exit_code,
        ) from error
    except StoreFailed as error:
        raise Failure(str(error), code="store-failed") from error


def _print_json(record: object) -> None:
    import msgspec

    click.echo(msgspec.json.encode(record))


def _print_report(report: CheckReport) -> None:
    click.echo(report.path)
    for finding in report.findings:
        click.echo(f"  {finding.part:<10} {'ok' if finding.ok else 'BAD':<4} {finding.summary}")
        for problem in finding.problems:
            click.echo(f"  {'':<15} - {problem}")
    if report.ok:
        return
    log_is_sound = all(finding.ok for finding in report.findings if finding.part == "log")
    option = "" if log_is_sound and report.events else " --salvage"
    click.echo(
        f"fairlead: the first {report.events:,} events can be trusted\n"
        f"  hint: stop the service, then `fairlead store rebuild{option} --file {report.path}`",
        err=True,
    )


def _print_rebuilt(done: Rebuilt) -> None:
    click.echo(
        f"{done.path}: {done.events:,} events, {done.jobs:,} jobs, {done.snapshots} snapshots kept"
    )
    for dropped in done.dropped:
        click.echo(f"  snapshot dropped: {dropped}")
    if done.kept_as:
        click.echo(f"  the old file is kept as {done.kept_as}")
    if not done.bad:
        return
    click.echo(f"  the log was cut at the first damage: {done.bad}")
    click.echo(f"  lost: {done.lost_events:,} later events that are known of, perhaps more")
    for job in done.lost_jobs[:JOBS_SHOWN_MAX]:
        was = f", was last {job.was}" if job.was else ""
        now = f"is {job.now} now" if job.now else "is gone"
        click.echo(f"  job {job.id} {job.name} lost events: {now}{was}")
    if len(done.lost_jobs) > JOBS_SHOWN_MAX:
        click.echo(f"  and {len(done.lost_jobs) - JOBS_SHOWN_MAX:,} more jobs (--json names all)")
