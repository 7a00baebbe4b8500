"""`fairlead report`: what happened, as a page or as numbers. Reads the log; needs no service.

Imported only when the command is used: the page needs Jinja2.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from fairlead.cli.errors import Failure, misuse
from fairlead.model.base import Misuse, Ms
from fairlead.model.events import AnyEvent
from fairlead.pages.figures import TenantFigures, tenant_figures, total_figures
from fairlead.pages.history import History, read
from fairlead.pages.page import page
from fairlead.service.places import Places
from fairlead.store import schema
from fairlead.store.logfile import BadRow, chunks, event_in


@click.command()
@click.option("--html", "target", type=click.Path(path_type=Path), help="Write the page here.")
@click.option("--title", default="Fairlead report", help="What to write above it.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def report(target: Path | None, title: str, as_json: bool) -> None:
    """Say who ran where, who waited, and how well the machine was used.

    \b
    fairlead report --html report.html     a page with a timeline
    fairlead report --json                 the figures per tenant
    """
    if target is None and not as_json:
        raise misuse("say what to make", hint="fairlead report --html report.html, or --json")
    history = history_of(Places.find(os.environ).database)
    if target is not None:
        text = page(history, title=title)
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Failure(f"cannot write {target}: {error.strerror}", code="not-written") from None
    if as_json:
        import json

        click.echo(json.dumps(figures(history)))
    else:
        click.echo(f"wrote {target}: {len(history.jobs):,} jobs, {history.events:,} events")


def figures(history: History) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "first_ms": history.first,
        "last_ms": history.last,
        "events": history.events,
        "tenants": [row_of(each) for each in tenant_figures(history)],
        "together": row_of(total_figures(history)),
    }


def row_of(row: TenantFigures) -> dict[str, Any]:
    """Return one row as plain values."""
    return {name: getattr(row, name) for name in TenantFigures.__slots__}


def history_of(database: Path) -> History:
    """Return the history in this log; a service may be writing to it. Raises Failure."""
    if not database.exists():
        raise Failure(
            f"there is no history at {database}",
            hint="FAIRLEAD_STATE names the state folder of a service",
            code="no-history",
        )
    try:
        with closing(schema.connect_reader(database)) as db:
            if not schema.require_ours(db, database):
                return read(())
            return read(_records(db))
    except Misuse as wrong:
        raise Failure(wrong.message, hint=wrong.hint, code=wrong.code) from None
    except (sqlite3.Error, BadRow) as error:
        raise Failure(
            f"cannot read {database}: {error}", hint="see fairlead store check", code="damaged"
        ) from None


def _records(db: sqlite3.Connection) -> Iterator[tuple[int, Ms, AnyEvent]]:
    db.execute("BEGIN")  # one moment of the log, however long this takes
    for rows in chunks(db):
        for row in rows:
            yield row[0], row[1], event_in(row)
