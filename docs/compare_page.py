"""Make docs/examples/compare.html, as docs/howto/compare.md says: `python docs/compare_page.py`."""

from __future__ import annotations

import os
import shlex
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from fairlead.cli.main import fairlead

PAGE = Path(__file__).resolve().parent / "examples" / "compare.html"
COMMANDS = (
    "fairlead sim generate diurnal --jobs 2000 --load 0.9 --cluster 8x8gpu --tenants 4 --seed 11 "
    "-o jobs.jsonl",
    "fairlead sim compare jobs.jsonl --policies fifo,sjf,priority,priority-skip "
    "--html compare.html",
)


def page() -> str:
    """Return the page that the commands make."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), open(os.devnull, "w") as quiet:
        with redirect_stdout(quiet), redirect_stderr(quiet):
            for command in COMMANDS:
                words = shlex.split(command)
                fairlead.main(words[1:], prog_name=words[0], standalone_mode=False)
        return Path("compare.html").read_text(encoding="utf-8")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
