"""Write the pages that are made from the code itself: `python docs/generate.py`.

docs/reference/cli.md from the commands, docs/reference/states.md from the transition table.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from fairlead.cli.main import fairlead
from fairlead.core.jobs import TRANSITIONS

REFERENCE = Path(__file__).resolve().parent / "reference"
HEAD = """\
# Commands

Made from the commands' own help by `make docs`.

Jobs are named by id (`12`), range (`12-15`), list (`12,20`), `last` or `@me`. Every command that
shows something takes `--json`. What their exit codes mean: [exit codes](exit-codes.md). Misspelt
commands and options are answered with the nearest that exists.
"""


def sections(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """Yield the text about a command, then about those below it."""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"## {context.command_path}\n"
    if isinstance(command, click.Group):
        yield prose(command.help)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from sections(found, below, context)
        return
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{context.command_path} {pieces}\n```\n"
    yield prose(command.help)
    rows = [param.get_help_record(context) for param in command.get_params(context)]
    options = [row for row in rows if row is not None and not row[0].endswith("--help")]
    if options:
        lines = [f"| `{cell(option)}` | {cell(text)} |" for option, text in options]
        yield "| option | |\n|---|---|\n" + "\n".join(lines) + "\n"
    if command.epilog:
        yield prose(command.epilog)


def cell(text: str) -> str:
    """Return text that can stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def prose(text: str | None) -> str:
    r"""Return a help text as Markdown; a paragraph after \b keeps its lines."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        body = paragraph.strip("\n")
        if body.startswith("\b"):
            paragraphs.append("```\n" + body.removeprefix("\b").strip("\n") + "\n```")
        else:
            paragraphs.append(" ".join(body.split()))
    return "\n\n".join(paragraphs) + "\n"


def page() -> str:
    """Return the whole page."""
    top = click.Context(fairlead, info_name="fairlead")
    parts = [HEAD]
    for name in fairlead.list_commands(top):
        command = fairlead.get_command(top, name)
        assert command is not None
        parts += sections(command, name, top)
    return "\n".join(parts)


STATES_HEAD = """\
# States of a job

Made from the table that every change goes through (`src/fairlead/core/jobs.py`) by `make docs`.
What comes from outside and is not in the table (late, repeated, reordered reports) changes
nothing. A decision of our own that is not in it stops the service: a wrong ledger is worse, and
running jobs do not need the service to live.

A job in STARTING, RUNNING or STOPPING holds its resources. STOPPING lasts until every member is
confirmed gone; a gang that lost one member stops as a whole before it runs again.
"""


def states() -> str:
    """Return the page of states: a diagram, and a line per transition."""
    causes: dict[tuple[str, str], list[str]] = {}
    for (before, event), phases in TRANSITIONS.items():
        for after in phases:
            if before is not after:
                causes.setdefault((before or "[*]", after), []).append(event.__name__)
    arrows = [f"    {before} --> {after}" for before, after in causes]
    rows = [
        f"| {'(submission)' if before == '[*]' else before} | {after} | {', '.join(names)} |"
        for (before, after), names in causes.items()
    ]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])
    return "\n".join([STATES_HEAD, diagram, "", "| from | to | by |", "|---|---|---|", *rows, ""])


PAGES = {"cli.md": page, "states.md": states}

if __name__ == "__main__":
    for name, made in PAGES.items():
        (REFERENCE / name).write_text(made(), encoding="utf-8")
        print(f"wrote {REFERENCE / name}")
