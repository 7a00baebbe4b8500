"""Fairlead in about a minute: three tenants, one machine, a service that is killed midway, and two
queues of which one takes back what it lent.

    make run          or          python examples/demo.py

Starts a service of its own in a temporary state folder, submits the jobs of examples/jobs, shows
them live, kills the service with SIGKILL while jobs run, starts it again, and checks that no job
was lost and none ran twice: every program writes a line to a ledger when it begins. At the end
there is a summary, and a page with a timeline. Exit code 0 means that all of it was true.
"""

from __future__ import annotations

import collections
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from demo_service import Failed, Service, cores_here
from demo_view import Screen, summary

from fairlead.cli.errors import Failure
from fairlead.cli.report import history_of
from fairlead.model.jobs import FINAL
from fairlead.pages.page import page

EXAMPLES = Path(__file__).resolve().parent
REPORT = EXAMPLES.parent / "out" / "demo.html"
CORES = 2  # lent out, however many there are: so that there is more work than fits at once
# Usually others may overtake for 15 minutes; nobody wants to watch that.
CONFIG = """\
[policy]
name = "priority"
overtake = "8s"
"""
DEADLINE_S = 600  # a loaded machine is no failure
DONE_BEFORE_KILL = 6
POLL_S = 0.4

Row = dict  # one job as the API shows it


def submit_all(service: Service, screen: Screen) -> int:
    """Submit every file of examples/jobs through the command line; return how many jobs."""
    count = 0
    for path in sorted((EXAMPLES / "jobs").glob("*.yaml")):
        if cores_here() < CORES and path.stem in ("vision-large", "risk-gang"):
            screen.say(f"left out on this machine, it needs two cores: {path.name}")
            continue
        ids = service.fairlead("submit", "-f", str(path), "--json")["ids"]
        jobs = f"job {ids[0]}" if len(ids) == 1 else f"jobs {ids[0]} to {ids[-1]}"
        screen.say(f"fairlead submit -f jobs/{path.name}  ->  {jobs}")
        count += len(ids)
    return count


def watch(service: Service, screen: Screen, until) -> list[Row]:
    """Show the jobs until `until(rows)` is true; return them. Raises Failed when it takes long."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        rows = service.jobs()
        screen.show(rows, service.progress(rows))
        if until(rows):
            return rows
        if time.monotonic() > deadline:
            raise Failed(f"not done after {DEADLINE_S} s")
        time.sleep(POLL_S)


def in_the_middle(rows: list[Row]) -> bool:
    """Whether this is a good moment for a disaster: some jobs are done, some run, some wait."""
    phases = collections.Counter(row["phase"] for row in rows)
    done = sum(phases[phase] for phase in FINAL)
    return done >= DONE_BEFORE_KILL and phases["RUNNING"] > 0 and phases["PENDING"] > 0


def all_done(rows: list[Row]) -> bool:
    return all(row["phase"] in FINAL for row in rows)


def disaster(service: Service, screen: Screen, before: list[Row]) -> list[tuple[int, str]]:
    """Kill the service, let the jobs go on without it, start it again; return marks."""
    running = [row["id"] for row in before if row["phase"] == "RUNNING"]
    marks = [(now_ms(), "service killed")]
    pid = service.kill()
    screen.say(f"kill -9 {pid}: the service is gone; jobs {text_of(running)} run on without it")
    time.sleep(1.5)
    service.up()
    marks.append((now_ms(), "back"))
    after = {row["id"]: row for row in service.jobs()}
    lost = [row["id"] for row in before if row["id"] not in after]
    if lost:
        raise Failed(f"jobs {text_of(lost)} were lost with the service")
    again = [job for job in running if after[job]["attempt"] > attempt_of(before, job) + 1]
    if again:
        raise Failed(f"jobs {text_of(again)} were started again without need")
    screen.say("fairlead up: the service is back and knows every job")
    return marks


def attempt_of(rows: list[Row], job: int) -> int:
    return next(row["attempt"] for row in rows if row["id"] == job)


def check(rows: list[Row], submitted: int, ledger: Path) -> str:
    """Compare what the service says with what the programs wrote; raise Failed, or say it in words.

    A job of `n` attempts and `m` members must have written exactly n x m lines, each once.
    """
    if len(rows) != submitted:
        raise Failed(f"{submitted} jobs were submitted, but {len(rows)} are known")
    bad = [
        f"job {row['id']} ({row['name']}): {row['phase']}"
        for row in rows
        if row["phase"] != "SUCCEEDED"
    ]
    if bad:
        raise Failed("not every job succeeded: " + ", ".join(bad))
    written = collections.Counter(ledger.read_text().splitlines())
    expected = collections.Counter(
        f"{row['id']} {attempt} {rank}"
        for row in rows
        for attempt in range(row["attempt"])
        for rank in range(row["members"])
    )
    twice = [line for line, times in written.items() if times > 1]
    if twice:
        raise Failed("ran twice (job, restart, member): " + ", ".join(twice))
    if written != expected:
        raise Failed(
            f"began but unknown: {list(written - expected)}, known but never began: "
            f"{list(expected - written)}"
        )
    restarted = {row["name"]: row["attempt"] for row in rows if row["attempt"] > 1}
    if set(restarted) - {"train"}:
        raise Failed(f"more than one attempt without having asked for it: {restarted}")
    return (
        f"{len(rows)} jobs, {sum(expected.values())} starts written by the programs themselves: "
        "none lost, none run twice"
    )


def run(service: Service, screen: Screen) -> None:
    """Play the whole demo; raises Failed when anything is not as it must be."""
    ledger = service.state.parent / "ledger"
    ledger.touch()
    service.up()
    screen.say(f"fairlead up: a service of its own in {service.state}")
    submitted = submit_all(service, screen)
    before = watch(service, screen, lambda rows: in_the_middle(rows) or all_done(rows))
    marks = disaster(service, screen, before)
    rows = watch(service, screen, all_done)
    screen.stop()
    verdict = check(rows, submitted, ledger)
    history = history_of(service.state / "fairlead.db")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(page(history, title="Fairlead demo", marks=marks), encoding="utf-8")
    sharing(service, screen)
    screen.stop()
    service.down()
    summary(screen.console, history)
    screen.console.print(f"Checked: {verdict}.", soft_wrap=True)
    screen.console.print(f"Report: {REPORT}", soft_wrap=True, highlight=False)


def sharing(service: Service, screen: Screen) -> None:
    """Guests fill the machine with what the lab does not use; then the lab asks for its own."""

    def submit(queue: str, *words: str) -> int:
        return service.fairlead("submit", "--queue", queue, "--json", *words)["ids"][0]

    def job(number: int) -> Row:
        return service.api.get(f"/jobs/{number}")

    service.fairlead("queue", "create", "lab", "--quota", "cpus=1", "--json")
    service.fairlead("queue", "create", "guests", "--json")
    screen.say("two queues: lab, which is promised 1 core, and guests, who use what is free")
    loan = ("--name", "borrower", "--grace", "2s", "--", "sleep", "600")
    guests = [submit("guests", *loan) for _ in range(service.cores)]
    watch(service, screen, lambda rows: all(job(each)["phase"] == "RUNNING" for each in guests))
    screen.say(f"jobs {text_of(guests)} of guests have the whole machine, the lab's core included")
    owner = submit("lab", "--name", "owner", "--", "sleep", "1")
    watch(service, screen, lambda rows: job(owner)["phase"] in FINAL)
    gone = [each for each in guests if job(each)["preemptions"]]
    if len(gone) != 1:
        raise Failed(f"one job had to make room for the lab, but these did: {gone}")
    screen.say(
        f"job {owner} of lab: its core was taken back from job {text_of(gone)}, and no other"
    )
    watch(service, screen, lambda rows: job(gone[0])["phase"] == "RUNNING")
    screen.say(f"job {text_of(gone)} runs again on what is free once more")
    service.fairlead("cancel", "--now", *map(str, guests), "--json")
    watch(service, screen, all_done)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def text_of(ids: list[int]) -> str:
    return ", ".join(map(str, ids))


def main() -> int:
    """Run the demo in a folder that is gone afterwards; keep it when something went wrong."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    folder = Path(tempfile.mkdtemp(prefix="fairlead-demo-"))
    (folder / "config.toml").write_text(CONFIG)
    os.environ |= {
        "FAIRLEAD_CONFIG": str(folder / "config.toml"),
        "DEMO_LEDGER": str(folder / "ledger"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
    }
    service = Service(folder / "state", EXAMPLES, min(CORES, cores_here()))
    screen = Screen()
    keep = True
    try:
        run(service, screen)
        keep = False
        return 0
    except (Failed, Failure) as wrong:
        screen.stop()
        print(f"demo: {wrong}", file=sys.stderr)
        print(f"  the state is kept in {folder}", file=sys.stderr)
        for line in service.log_tail():
            print(f"  service.log: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        keep = False
        screen.stop()
        print("demo: stopped; everything it started is being ended", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave jobs behind
        screen.stop()
        service.end_everything()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
