"""Commands that a job calls in its own script: which job, and which attempt of it, that is."""

from __future__ import annotations

import os

from fairlead.cli import selectors
from fairlead.cli.errors import misuse


def job_of(job: str | None) -> str:
    """Return the path of the job that is meant: the one this runs in, if none is named."""
    if job is not None:
        return selectors.one(job)
    inside = os.environ.get("FAIRLEAD_JOB_ID", "")
    if not inside:
        raise misuse(
            "this does not run in a job of Fairlead",
            hint="call it in the job's own script, or name a job: --job ID",
        )
    return inside


def attempt_of(job: str | None) -> dict[str, int]:
    """Return the attempt that this runs in: what is left of an earlier one has nothing to say."""
    count = os.environ.get("FAIRLEAD_RESTART_COUNT", "")
    return {"attempt": int(count) + 1} if job is None and count.isdecimal() else {}
