"""What the demo shows: a live table on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fairlead.model.jobs import FINAL
from fairlead.pages.figures import tenant_figures, total_figures
from fairlead.pages.history import History
from fairlead.pages.page import seconds

PLAIN_EVERY_S = 4.0
STYLES = {"vision": "cyan", "nlp": "yellow", "risk": "magenta"}


class Screen:
    """Where the demo is seen. `stop` puts the terminal back and may be called twice."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.began = time.monotonic()
        self.live: Live | None = None
        self._last = -PLAIN_EVERY_S

    def say(self, text: str) -> None:
        """Print one line above the table."""
        elapsed = time.monotonic() - self.began
        self.console.print(f"{elapsed:5.1f} s  {text}", markup=False, soft_wrap=True)

    def show(self, rows: list[dict], progress: dict[int, tuple[int, int]]) -> None:
        """Show how the jobs stand."""
        if not self.console.is_terminal:
            if time.monotonic() - self._last >= PLAIN_EVERY_S:
                self._last = time.monotonic()
                self.say(line(rows, progress))
            return
        if self.live is None:
            self.live = Live(console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        self.live.update(table(rows, progress))

    def stop(self) -> None:
        """End the live table."""
        if self.live is not None:
            self.live.stop()
            self.live = None


def title_of(row: dict) -> str:
    index = f"[{row['array_index']}]" if row["array"] is not None else ""
    return f"{row['name']}{index}"


def counts(rows: list[dict]) -> tuple[list[dict], list[dict], int]:
    """Return the jobs that hold resources, those that wait, and how many are done."""
    done = sum(row["phase"] in FINAL for row in rows)
    waiting = [row for row in rows if row["phase"] == "PENDING"]
    held = [row for row in rows if row["phase"] not in FINAL and row["phase"] != "PENDING"]
    return held, waiting, done


def line(rows: list[dict], progress: dict[int, tuple[int, int]]) -> str:
    """Return the state of all jobs in one line."""
    held, waiting, done = counts(rows)
    names = []
    for row in held:
        step = progress.get(row["id"])
        names.append(f"{row['tenant']}/{title_of(row)}" + (f" {step[0]}/{step[1]}" if step else ""))
    text = f"{done} of {len(rows)} done; running: {', '.join(names) or 'none'}"
    if waiting:
        first = min(waiting, key=lambda row: (-row["priority"], row["id"]))
        text += f"; waiting: {len(waiting)}, {title_of(first)}: {first['reason']}"
    return text


def table(rows: list[dict], progress: dict[int, tuple[int, int]]) -> Group:
    """Return the live table: what runs, who waits and why, and what is done in one line."""
    held, waiting, done = counts(rows)
    found = Table(box=None, pad_edge=False, expand=True)
    for name, justify in (
        ("job", "right"),
        ("tenant", "left"),
        ("name", "left"),
        ("cores", "right"),
        ("prio", "right"),
        ("state", "left"),
    ):
        found.add_column(name, justify=justify, no_wrap=True)
    found.add_column("reason or progress", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in held:
        step = progress.get(row["id"])
        bar = ProgressBar(total=step[1], completed=step[0], width=30) if step else Text("")
        found.add_row(*cells(row, str(row["id"]), title_of(row)), bar)
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in sorted(waiting, key=lambda row: (-row["priority"], row["id"])):
        groups.setdefault((row["tenant"], row["name"]), []).append(row)
    for rows_of in groups.values():
        row, count = rows_of[0], len(rows_of)
        title = row["name"] + (f" x {count}" if count > 1 else "")
        found.add_row(*cells(row, "", title), Text(row["reason"], style="dim"))
    return Group(found, Text(f"{done} of {len(rows)} jobs done", style="bold"))


def cells(row: dict, job: str, title: str) -> tuple[str | Text, ...]:
    """Return what a row shows but for its last column."""
    return (
        job,
        Text(row["tenant"], style=STYLES.get(row["tenant"], "")),
        title,
        f"{row['cpu_milli'] / 1000:g}",
        str(row["priority"]),
        Text(row["phase"], style="bold green" if row["phase"] == "RUNNING" else ""),
    )


def summary(console: Console, history: History) -> None:
    """Print what each tenant got."""
    found = Table(title="What each tenant got", title_justify="left", box=None, pad_edge=False)
    found.add_column("tenant")
    for name in ("jobs", "mean wait", "longest wait", "run time", "core-seconds", "of the machine"):
        found.add_column(name, justify="right")
    together = total_figures(history)
    for row in [*tenant_figures(history), together]:
        found.add_row(
            row.tenant,
            str(row.jobs),
            seconds(row.wait_mean_s),
            seconds(row.wait_max_s),
            seconds(row.run_s),
            f"{row.core_s:.1f}",
            f"{row.share:.0%}",
            style="bold" if row is together else "",
        )
    console.print()
    console.print(found)
    console.print()
