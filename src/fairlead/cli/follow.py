"""`logs`, `wait`, and the second half of `run`: staying with a job until it ends.

All three outlive a restart of the service: they connect again and go on where they were.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from fairlead.cli import output, selectors
from fairlead.cli.client import Client, Disconnected, NoService, connect
from fairlead.cli.errors import FAILED, INTERRUPTED, SERVICE_FAILED, Failure, notice
from fairlead.cli.times import localised

RECONNECT_S = 60.0  # how long a service that went away is waited for
RECONNECT_PAUSE_S = 0.2
WAIT_S = 55.0  # of one question; the service allows 60
TIME_LIMIT_CODE = 124
Answer = TypeVar("Answer")


@contextlib.contextmanager
def as_service_failure() -> Iterator[None]:
    """Turn exit code 1 into 125: in `run` and `wait`, 1 is a code of the job."""
    try:
        yield
    except Failure as failure:
        if failure.exit_code == FAILED:
            failure.exit_code = SERVICE_FAILED
        raise


def patiently(call: Callable[[], Answer]) -> Answer:
    """Return the answer of the service, waiting for it to come back when it went away."""
    until, told = 0.0, False
    while True:
        try:
            return call()
        except (Disconnected, NoService) as gone:
            now = time.monotonic()
            until = until or now + RECONNECT_S
            if now > until:
                raise
            if isinstance(gone, NoService) and not told:
                told = True
                notice("the service is gone; waiting for it to come back")
            time.sleep(RECONNECT_PAUSE_S)


def exit_code_of(job: dict[str, Any]) -> int:
    """Return the exit code of `run` and `wait` for a job that has ended."""
    phase, code, signal = job["phase"], job["exit_code"], job["exit_signal"]
    if phase == "SUCCEEDED":
        return 0
    if phase == "TIMEOUT":
        return TIME_LIMIT_CODE
    if signal is not None:
        return 128 + int(signal)
    return int(code) if code else SERVICE_FAILED  # cancelled before it ran, node lost, …


@click.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends; exit as it did.")
@click.option("-n", "--tail", type=click.IntRange(0), help="Only the last so many lines.")
@click.option("-r", "--rank", type=click.IntRange(0), default=0, help="Of which member [0].")
@click.option("--attempt", type=click.IntRange(1), help="Of an earlier attempt [the last].")
@click.option("--json", "as_json", is_flag=True, help="Print pieces as JSON lines.")
def logs(
    job: str, follow: bool, tail: int | None, rank: int, attempt: int | None, as_json: bool
) -> int:
    """Show what a job wrote (standard output and error)."""
    client = connect()
    found = client.get(f"/jobs/{selectors.one(job)}")
    stream = Stream(client, int(found["id"]), rank, attempt, as_json=as_json)
    if not follow:
        stream.copy({"tail": tail})
        return 0
    with as_service_failure():
        _tell_wait(found)
        ended = stream.follow(found, tail)
    return exit_code_of(ended) if attempt is None else 0


class Stream:
    """Copies the output of one member to stdout, and knows how far it is."""

    def __init__(
        self, client: Client, job: int, rank: int = 0, attempt: int | None = None, *, as_json: bool
    ) -> None:
        self.client, self.job, self.as_json = client, job, as_json
        self.query: dict[str, object] = {"rank": rank or None, "attempt": attempt}
        self.offset = 0
        self.attempt = 0  # that the offset belongs to
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def copy(self, query: dict[str, object]) -> None:
        """Copy one answer of the service to its end."""
        reply = self.client.stream(f"/jobs/{self.job}/logs", {**self.query, **query})
        self.offset = int(reply.headers.get("x-fairlead-offset", "0"))
        self.attempt = int(reply.headers.get("x-fairlead-attempt", "0"))
        try:
            for piece in reply.pieces():
                if self.as_json:
                    text = json.dumps({"offset": self.offset, "text": self.decode(piece)})
                    print(text, flush=True)
                else:
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
                self.offset += len(piece)
        finally:
            reply.close()

    def follow(self, job: dict[str, Any], tail: int | None = None) -> dict[str, Any]:
        """Copy until the job has ended, across restarts of the service; return the ended job."""
        query: dict[str, object] = {"follow": 1, "tail": tail}
        while True:
            try:
                self.copy(query)
            except Disconnected:
                notice("the connection to the service broke")
            except NoService:
                patiently(lambda: self.client.get("/status"))
            job = patiently(lambda: self.client.get(f"/jobs/{self.job}"))
            if job["phase"] in output.FINAL:
                return job
            if (pinned := self.query["attempt"]) is not None and (
                job["phase"] == "PENDING" or job["attempt"] != pinned
            ):
                return job  # the attempt that was asked for is over
            time.sleep(RECONNECT_PAUSE_S)  # the service stops: its stream ended, the job did not
            # Where this attempt was; in a later one, from its beginning.
            same = job["attempt"] <= max(self.attempt, 1)
            query = {"follow": 1, "offset": self.offset if same else 0}


def _tell_wait(job: dict[str, Any]) -> None:
    if job["phase"] == "PENDING":
        notice(f"job {job['id']} waits: {localised(job['reason']) or 'to be looked at'}")


def run_to_end(client: Client, job: dict[str, Any], *, as_json: bool) -> int:
    """Show a job's output until it ends; return the exit code for `run`."""
    _tell_wait(job)
    stream = Stream(client, int(job["id"]), as_json=False)
    cancelled = False
    while True:
        try:
            ended = _ended(client, [stream.job], None)[0] if as_json else stream.follow(job)
            break
        except KeyboardInterrupt:
            choice = _ask(stream.job, cancelled)
            if choice == "detach":
                notice(f"job {stream.job} goes on; see: fairlead logs -f {stream.job}")
                return 0
            if choice == "cancel":
                cancelled = True
                patiently(lambda: client.post("/jobs:cancel", {"ids": [stream.job]}))
                notice(f"job {stream.job} is being stopped")
    if as_json:
        output.print_json(ended)
    elif ended["phase"] != "SUCCEEDED":
        because = f": {ended['because']}" if ended["because"] else ""
        notice(f"job {ended['id']} {ended['phase']}{because}")
    return INTERRUPTED if cancelled else exit_code_of(ended)


def _ask(job: int, cancelled: bool) -> str:
    """Return "detach", "cancel" or "go on". Where nobody can be asked, Ctrl-C cancels."""
    if cancelled:
        return "detach"  # a second Ctrl-C: do not even wait for the end
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "cancel"
    print(
        f"\njob {job} runs: [d]etach, [c]ancel, or [g]o on? ", end="", file=sys.stderr, flush=True
    )
    try:
        answer = sys.stdin.readline().strip().lower()[:1]
    except KeyboardInterrupt:
        answer = "c"
    return {"d": "detach", "c": "cancel"}.get(answer, "go on")


@click.command()
@click.argument("jobs", nargs=-1, required=True, metavar="JOB…")
@click.option("--timeout", metavar="DURATION", help="Give up after it, with exit code 125.")
@click.option("--json", "as_json", is_flag=True, help="Print the ended jobs as JSON.")
def wait(jobs: tuple[str, ...], timeout: str | None, as_json: bool) -> int:
    """Wait until jobs have ended, and exit as they did.

    With several jobs: 0 if all succeeded, else the code of the first that did not.
    """
    from fairlead.cli.jobs import ids_of
    from fairlead.model.units import parse_duration_ms

    until = time.monotonic() + parse_duration_ms(timeout, "--timeout") / 1000 if timeout else None
    client = connect()
    with as_service_failure():
        ended = _ended(client, ids_of(client, jobs), until)
        if as_json:
            output.print_json({"jobs": ended})
        else:
            outcomes = (
                (job["id"], f"{job['phase']} {output.ending(job)}".strip()) for job in ended
            )
            print("\n".join(selectors.by_outcome(outcomes)))
    return next((code for job in ended if (code := exit_code_of(job))), 0)


def _ended(client: Client, ids: list[int] | str, until: float | None) -> list[dict[str, Any]]:
    """Return the jobs, in the order of their ids, when all have ended."""
    wanted = ids if isinstance(ids, str) else ",".join(map(str, ids))
    if not wanted:
        return []
    while True:
        found = patiently(lambda: selectors.listing(client, "/jobs", {"ids": wanted}))
        jobs = [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]
        jobs.sort(key=lambda job: int(job["id"]))
        if not jobs:
            raise Failure(f"there is no job {wanted}", code="not-found")
        waiting = [job["id"] for job in jobs if job["phase"] not in output.FINAL]
        if not waiting:
            return jobs
        # The newest probably ends last: few questions, however many jobs.
        _wait_for(client, waiting[-1], len(waiting), until)


def _wait_for(client: Client, job: int, others: int, until: float | None) -> None:
    wait_s = WAIT_S if until is None else min(until - time.monotonic(), WAIT_S)
    if wait_s <= 0:
        what = "1 job has" if others == 1 else f"{others} jobs have"
        raise Failure(
            f"the time is over; {what} not ended", code="timeout", exit_code=SERVICE_FAILED
        )
    patiently(lambda: client.get(f"/jobs/{job}", {"wait": f"{wait_s:.3f}"}))
