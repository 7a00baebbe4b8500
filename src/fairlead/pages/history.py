"""From a log of events to the story that people ask for: who ran where and when, who waited.

Times here are ms of the clock that fed the core; derived figures may be floats, nothing is
decided by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fairlead.model.base import JobId, Ms
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    Grown,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    Shrunk,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import Exit, JobSpec
from fairlead.model.resources import Node, Slot


@dataclass(slots=True)
class Member:
    """One rank of an attempt on one node. `ended` None: it still runs at the end of the log."""

    slot: Slot
    started: Ms | None = None
    ended: Ms | None = None
    exit: Exit | None = None
    joined: Ms | None = None  # when it was placed, if later than the attempt
    left: bool = False  # it was told to leave an elastic job that went on


@dataclass(slots=True)
class Attempt:
    """One try at a job, from the decision until the last member is gone."""

    number: int
    placed: Ms
    members: list[Member]
    stop: str = ""  # why it was stopped, when it was
    width: int = 0  # members at its start; those that joined an elastic job come after them

    @property
    def started(self) -> Ms | None:
        """When every member that it began with ran; None while one does not."""
        times = [member.started for member in self.members[: self.width or None]]
        return None if None in times else max(time for time in times if time is not None)

    @property
    def ended(self) -> Ms | None:
        """When the last member was gone; None while one is not."""
        times = [member.ended for member in self.members]
        return None if None in times else max(time for time in times if time is not None)

    @property
    def result(self) -> str:
        """How it ended, in a word or two: "ok", "exit 75", "signal 9", "stopped", "running"."""
        if self.ended is None:
            return "running"
        if self.stop:
            return "stopped"
        elastic = 0 < self.width < len(self.members)
        for member in self.members:
            if elastic and (member.left or member.ended != self.ended):
                continue  # the job went on without it
            if member.exit is not None and not member.exit.ok:
                return describe(member.exit)
        return "ok"


def describe(end: Exit) -> str:
    """Return how a member ended in words for people."""
    if end.why:
        return end.why
    return f"signal {end.signal}" if end.signal is not None else f"exit {end.code}"


@dataclass(slots=True)
class JobStory:
    """One job from submission to its last attempt."""

    id: JobId
    spec: JobSpec
    submitted: Ms
    attempts: list[Attempt] = field(default_factory=list)
    cancelled: bool = False  # while it waited

    @property
    def wait_ms(self) -> Ms | None:
        """From submission until it first ran; None if it never did."""
        for attempt in self.attempts:
            if attempt.started is not None:
                return attempt.started - self.submitted
        return None

    @property
    def run_ms(self) -> Ms:
        """How long its attempts ran, together; ended ones only."""
        return sum(
            attempt.ended - attempt.started
            for attempt in self.attempts
            if attempt.started is not None and attempt.ended is not None
        )

    @property
    def result(self) -> str:
        """How its last attempt ended; "waiting" or "cancelled" if it has none."""
        if self.cancelled:
            return "cancelled"
        return self.attempts[-1].result if self.attempts else "waiting"


@dataclass(slots=True)
class History:
    """Everything a report shows. `first` and `last`: times of the first and last event."""

    nodes: list[Node] = field(default_factory=list)
    jobs: dict[JobId, JobStory] = field(default_factory=dict)
    first: Ms = 0
    last: Ms = 0
    events: int = 0

    @property
    def span_ms(self) -> Ms:
        """From the first submission to the last event; at least 1."""
        submitted = [job.submitted for job in self.jobs.values()]
        return max(1, self.last - min(submitted, default=self.last))

    @property
    def tenants(self) -> list[str]:
        """All tenants with jobs, in order of their names."""
        return sorted({job.spec.tenant for job in self.jobs.values()})


def read(records: Iterable[tuple[int, Ms, AnyEvent]]) -> History:
    """Build the history of a log: (sequence number, time, event) in order."""
    history = History()
    for _, at, event in records:
        if not history.events:
            history.first = at
        history.last = at
        history.events += 1
        _take(history, at, event)
    return history


def _take(history: History, at: Ms, event: AnyEvent) -> None:
    match event:
        case NodeJoined():
            if event.node == len(history.nodes):
                history.nodes.append(event.spec)
            else:
                history.nodes[event.node] = event.spec
        case NodeLost():
            _lose(history, at, event.node)
        case Submitted():
            history.jobs[event.job] = JobStory(id=event.job, spec=event.spec, submitted=at)
        case Placed() if event.job in history.jobs:
            members = [Member(slot=slot) for slot in event.slots]
            attempt = Attempt(number=event.attempt, placed=at, members=members, width=len(members))
            history.jobs[event.job].attempts.append(attempt)
        case Grown():  # members are known by numbers: in order of their coming
            if (grown := _attempt(history, event.job, event.attempt)) is not None:
                grown.members += [Member(slot=slot, joined=at) for slot in event.slots]
        case Shrunk():
            if (shrunk := _attempt(history, event.job, event.attempt)) is not None:
                there = [each for each in shrunk.members if each.ended is None and not each.left]
                for member in there[event.members :]:
                    member.left = True
        case StopDecided():
            if (stopped := _attempt(history, event.job, event.attempt)) is not None:
                stopped.stop = event.because or str(event.then)
        case Cancelled() if event.job in history.jobs:
            history.jobs[event.job].cancelled = True
        case MemberStarted():
            if (begun := _attempt(history, event.job, event.attempt)) is not None:
                begun.members[event.rank].started = at
        case MemberEnded():
            if (done := _attempt(history, event.job, event.attempt)) is not None:
                member = done.members[event.rank]
                member.ended, member.exit = at, event.exit
        case _:
            pass  # quotas, policies, foreign use: not part of who ran where


def _attempt(history: History, job: JobId, number: int) -> Attempt | None:
    """Return an attempt; None for an event about one that the log does not know."""
    story = history.jobs.get(job)
    for attempt in reversed(story.attempts if story is not None else []):
        if attempt.number == number:
            return attempt
    return None


def _lose(history: History, at: Ms, node: int) -> None:
    """End what ran on a node that is gone."""
    for job in history.jobs.values():
        for attempt in job.attempts[-1:]:
            for member in attempt.members:
                if member.slot.node == node and member.ended is None:
                    member.ended, member.exit = at, Exit(why="lost")
