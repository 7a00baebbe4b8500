"""`apply`: bring about what a file says of queues, users, tenants and the policy."""

from __future__ import annotations

import sys
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.client import connect
from fairlead.cli.errors import Failure, misuse, notice

WOULD_CHANGE = 3  # of --dry-run


@click.command(epilog="Exit code: 0 done, or nothing to do; with --dry-run 3: it would change.")
@click.option("-f", "--file", "path", required=True, metavar="FILE", help='YAML or TOML; "-".')
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--prune", is_flag=True, help="Delete what the file does not name.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def apply(path: str, dry_run: bool, prune: bool, yes: bool, as_json: bool) -> int:
    """Set queues, users, tenants and the policy as a file says, all or nothing.

    \b
    fairlead apply -f cluster.yaml --dry-run
    fairlead apply -f cluster.yaml --yes

    What the file does not name stays as it is; with --prune it goes, in those of the parts queues,
    users and tenants that the file has. On a terminal it shows what would change, and asks.
    """
    from fairlead.cli.jobfile import read_cluster_file

    file = read_cluster_file(path)
    body: dict[str, Any] = {"document": file.jobs[0], "prune": prune}
    client = connect()

    def ask(**more: Any) -> Any:
        try:
            return client.post("/apply", {**body, **more})
        except Failure as failure:
            raise (file.located(failure) if failure.field else failure) from None

    plan = ask(dry_run=True)
    lines = plan["changes"]
    if dry_run:
        _show(plan, as_json=as_json)
        return WOULD_CHANGE if lines else 0
    if lines and not yes and not _agreed(lines, path):
        notice("nothing was changed")
        return 1
    done = ask(plan=lines) if lines else plan
    _show({**done, "applied": True}, as_json=as_json)
    return 0


def _agreed(lines: list[str], path: str) -> bool:
    """Show the plan and ask; Misuse where there is nobody to ask."""
    if not (sys.stdin.isatty() and path != "-"):
        raise misuse(
            "there is nobody to ask whether to change this",
            field="--yes",
            hint="say --yes, or look at it with --dry-run",
        )
    print("\n".join(lines))
    return click.confirm("make these changes?")


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(answer)
        return
    lines = answer["changes"]
    for line in lines:
        print(line)
    for note in answer["notes"]:
        print(f"note: {note}")
    count = f"{len(lines)} change{'s' if len(lines) > 1 else ''}"
    if not lines:
        print("nothing to change")
    else:
        print(f"{count} made" if answer["applied"] else f"{count} would be made")
