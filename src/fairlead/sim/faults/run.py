"""Running plans: one history, or many; a failure becomes a report with its story."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from itertools import pairwise

from fairlead.model.base import JobId, Ms, Record
from fairlead.sim.faults.known import Violation
from fairlead.sim.faults.menu import draw
from fairlead.sim.faults.plan import Plan
from fairlead.sim.faults.world import Outcome, World

STORY_LINES_MAX = 200


class Failure(Record, frozen=True):
    """A history that went wrong: which check failed, about whom, and what had happened."""

    plan: Plan
    name: str  # of the check; a shrunk plan has to fail the same one
    message: str
    at_ms: Ms
    job: JobId = 0
    where: str = ""  # the innermost lines of the program, for what is not a Violation
    story: tuple[str, ...] = ()
    log: tuple[str, ...] = ()  # the durable events, as JSON


def run_plan(plan: Plan) -> Outcome | Failure:
    """Run one history. A failure is run again to write down its story."""
    failure = attempt(World(plan))
    if isinstance(failure, Failure):
        return attempt(World(plan, tell=True))
    return failure


def run_seed(seed: int, hours: float = 1.0) -> Outcome | Failure:
    """Draw and run the plan of a seed."""
    return run_plan(draw(seed, hours))


def run_seeds(seeds: range, hours: float = 1.0) -> Iterator[Outcome | Failure]:
    """Yield the outcome of every seed."""
    for seed in seeds:
        yield run_seed(seed, hours)


def attempt(world: World) -> Outcome | Failure:
    """Run a world; return how it went, whatever went wrong in it."""
    try:
        return world.run()
    except Violation as violation:
        return _failure(world, violation.name, violation.message, violation.job)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        inner = [frame for frame in frames if "/fairlead/" in frame.filename][-4:]
        where = " > ".join(f"{frame.name}:{frame.lineno}" for frame in inner)
        name = f"{type(error).__name__} in {inner[-1].name if inner else '?'}"
        return _failure(world, name, str(error), _job_in(str(error)), where)


def _job_in(text: str) -> JobId:
    """Return the first job that an assertion's text names."""
    words = text.replace(",", " ").replace(":", " ").split()
    for word, after in pairwise(words):
        if word == "job" and after.isdigit():
            return int(after)
    return 0


def _failure(world: World, name: str, message: str, job: JobId, where: str = "") -> Failure:
    facts = world.facts or []
    story = [(at, text) for at, about, text in facts if about in (0, job) or not job]
    return Failure(
        plan=world.plan,
        name=name,
        message=message,
        at_ms=world.now,
        job=job,
        where=where,
        story=tuple(f"{_clock(at)} {text}" for at, text in story[-STORY_LINES_MAX:]),
        log=tuple(f"{seq} {at} {body}" for seq, at, body in world.disk.rows()) if facts else (),
    )


def _clock(ms: Ms) -> str:
    return f"{ms // 3_600_000}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
