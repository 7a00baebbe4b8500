"""What the example programs share: a word at the start, progress, and a polite way to stop.

Nothing of this is needed to run under Fairlead: any program runs. It shows what a program can do.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

EXIT_REQUEUE = 75  # "I saved my work; run me again" (EX_TEMPFAIL)


def begin() -> None:
    """Append one line to the ledger of the demo, if there is one: this run of this job began.

    One short write with O_APPEND: lines of jobs that start together do not mix.
    """
    ledger = os.environ.get("DEMO_LEDGER")
    if not ledger:
        return
    names = ("FAIRLEAD_JOB_ID", "FAIRLEAD_RESTART_COUNT", "FAIRLEAD_RANK")
    line = " ".join(os.environ.get(name, "0") for name in names) + "\n"
    where = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(where, line.encode())
    os.close(where)


def progress(done: int, of: int, text: str = "") -> None:
    """Print one line such as "step 12/60 loss 0.41", at once."""
    print(f"step {done}/{of} {text}".rstrip(), flush=True)


class Notice:
    """Becomes true when Fairlead asks the program to stop: then save and leave."""

    def __init__(self) -> None:
        self.given = False
        signal.signal(signal.SIGTERM, self._take)

    def _take(self, number: int, frame: object) -> None:
        self.given = True

    def __bool__(self) -> bool:
        return self.given


def checkpoint_folder() -> Path:
    """Return where to keep what must survive: the same folder in every attempt of a job."""
    folder = Path(os.environ.get("FAIRLEAD_CHECKPOINT_DIR", "checkpoints"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def requeue() -> None:
    """Leave, and ask to be run again."""
    sys.exit(EXIT_REQUEUE)
