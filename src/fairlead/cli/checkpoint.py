"""`checkpoint`: a job says that its work is saved."""

from __future__ import annotations

import os

import click

from fairlead.cli import output
from fairlead.cli.client import Disconnected, NoService, connect
from fairlead.cli.errors import Failure, notice
from fairlead.cli.inside import attempt_of, job_of


@click.command()
@click.option("--job", metavar="ID", help="Of this job, instead of the one it is called in.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def checkpoint(job: str | None, as_json: bool) -> None:
    """Say, in a running job, that its work is saved: what it did until now is not lost.

    \b
    save-my-model && fairlead checkpoint

    Of jobs that have to make room those go first that lose least. While the service is away the
    word is kept, and it learns of it later.
    """
    path = f"/jobs/{job_of(job)}/checkpoint"
    try:
        answer = connect().post(path, attempt_of(job))
    except Failure as failure:
        away = isinstance(failure, NoService | Disconnected)
        if not away or not _touch(job):
            raise
        notice("the service is away; it will learn of it")
        return
    if as_json:
        output.print_json(answer)
    else:
        print(f"job {answer['id']}: its work is saved")


def _touch(job: str | None) -> bool:
    """Leave the word where the agent of this machine finds it; whether that worked."""
    folder = os.environ.get("FAIRLEAD_TASK_DIR", "") if job is None else ""
    if not os.path.isdir(folder):
        return False
    with open(os.path.join(folder, "checkpoint"), "w", encoding="ascii"):
        return True
