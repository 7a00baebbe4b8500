"""What a report of an agent proves, as ordinary events. Reads only."""

from __future__ import annotations

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import Ms
from fairlead.model.events import (
    AnyEvent,
    Checkpointed,
    MemberEnded,
    MemberStarted,
    NodeLost,
    Progressed,
)
from fairlead.model.jobs import Exit
from fairlead.model.messages import MemberKey, MemberState, Report

PROGRESS_MS: Ms = 10_000  # at least so long between two lines of a job's progress
PROGRESS_PARTS = 50  # or that part of the time since its first


def reconcile(core: Core, report: Report) -> tuple[list[AnyEvent], tuple[MemberKey, ...]]:
    """Return the events that a report proves, and the ended members the agent may forget.

    The caller puts the events through a turn. A member may be forgotten only when the core no
    longer counts it as there, which is so from the turn on after the one that logged its end.
    A member that should be there, is absent, and whose launch the agent had seen, is lost.
    """
    node = core.node_ids.get(report.node)
    if node is None:
        return [], ()
    if core.nodes[node].spec.boot != report.boot:
        # The machine started anew (or this is a late word from an earlier life of it): whatever
        # ran is gone, but only its new capacity, sent by NodeJoined, makes the node usable.
        return [], ()
    there = core.nodes[node].members
    events: list[AnyEvent] = []
    forget: list[MemberKey] = []
    present: set[MemberKey] = set()
    for member in report.members:
        present.add(member.key)
        _compare(there, member, events, forget)
    for key, job in there.items():
        if key not in present and report.seen >= job.launched_by(key[2]):
            gone = Exit(why="lost", detail=f"{report.node}: the agent has no record of it")
            events.append(MemberEnded(job=key[0], attempt=key[1], rank=key[2], exit=gone))
    return events, tuple(forget)


def _compare(
    there: dict[MemberKey, Job],
    member: MemberState,
    events: list[AnyEvent],
    forget: list[MemberKey],
) -> None:
    job = there.get(member.key)
    if job is None:  # confirmed gone before, never ours, or the agent of another node speaks of it
        if member.state == "ended":
            forget.append(member.key)
        return
    key = {"job": member.job, "attempt": member.attempt, "rank": member.rank}
    if _has_run(member) and member.rank not in job.started:
        # Also of one that has ended since: how long it ran is known then.
        events.append(MemberStarted(**key, at_ms=member.started_ms))
    saved = member.checkpoint_ms
    # What was saved before this attempt was placed is of an earlier one.
    if saved is not None and saved >= (job.placed_ms or 0) and saved > (job.checkpoint_ms or 0):
        events.append(Checkpointed(job=member.job, attempt=member.attempt, at_ms=saved))
    steps = _progress(job, member)
    if steps is not None:
        events.append(steps)
    if member.state == "ended":
        assert member.exit is not None
        events.append(MemberEnded(**key, exit=member.exit, at_ms=member.ended_ms))


def _progress(job: Job, member: MemberState) -> Progressed | None:
    """Return how far the job is, if that is news worth a line in the log.

    In a gang the first member speaks for all: one clock, and it does not lag behind itself. The
    longer an attempt runs the rarer are the lines: a few hundred, however long it takes.
    """
    said = member.progress
    if said is None or said.steps < 0 or member.rank != job.ranks[0]:
        return None
    known = job.progress
    if known is not None and known.attempt == job.attempt:
        every_ms = max(PROGRESS_MS, (known.at_ms - known.from_ms) // PROGRESS_PARTS)
        # What it says once others have come to its device begins a new measurement.
        now = known.disturbed or member.state == "ended"
        early = said.at_ms - known.at_ms < every_ms and not now
        if early or said.at_ms <= known.at_ms or said.steps <= known.steps:
            return None
    return Progressed(job=job.id, attempt=job.attempt, steps=said.steps, at_ms=said.at_ms)


def _has_run(member: MemberState) -> bool:
    """Whether it started: one that is told to stop before it was executed may never do so."""
    return member.state == "running" or member.started_ms is not None


def lost_node(core: Core, name: str, because: str) -> list[AnyEvent]:
    """Return the event that gives a node up, if it is known and up."""
    node = core.node_ids.get(name)
    if node is None or not core.nodes[node].up:
        return []
    return [NodeLost(node=node, because=because)]
