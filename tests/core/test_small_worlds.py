"""Every order of events in a small world: two nodes, three jobs, all invariants after each step.

A breadth-first walk over all reachable states. Time stands still and an attempt number beyond a
bound is not explored further, so the world is finite. Stale and repeated reports are part of the
menu: where they change a state, the walk would find it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.jobs import TRANSITIONS
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    Placed,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import LIVE, Phase
from fairlead.model.resources import Slot
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.score import BestFit
from strategies import FAILED, LOST, OK, cluster, node, spec

STATES_MAX = 10_000


def key_of(core: Core) -> bytes:
    """Return what tells states apart: the image, without counts of events and without words."""
    image = msgspec.json.decode(core.dump())
    del image["seq"], image["now"]
    for job in image["jobs"]:
        for name in ("token", "token_placed", "because", "worst"):
            job.pop(name, None)
        job["exits"] = sorted(
            (rank, exit.get("code") == 0 if "why" not in exit else False)
            for rank, exit in job.get("exits", ())
        )
    return msgspec.json.encode(image)


def menu(core: Core, exits, preempt: bool, attempts: int) -> Iterator[AnyEvent]:
    """Yield all that may happen next."""
    for job in core.jobs.values():
        if job.phase is Phase.PENDING:
            yield Cancelled(job=job.id)
            if job.attempt < attempts:
                for slots in placements(core, job):
                    yield Placed(job=job.id, attempt=job.attempt + 1, slots=slots)
            continue
        for rank in range(len(job.slots)):
            for attempt in {job.attempt, max(job.attempt - 1, 1)}:
                yield MemberStarted(job=job.id, attempt=attempt, rank=rank)
                for exit in exits:
                    yield MemberEnded(job=job.id, attempt=attempt, rank=rank, exit=exit)
        yield StopDecided(job=job.id, attempt=job.attempt, then=Phase.CANCELLED)
        if preempt and job.phase is not Phase.STOPPING:
            yield StopDecided(job=job.id, attempt=job.attempt, then=Phase.PENDING)
    for index, each in enumerate(core.nodes):
        if each.up:
            yield NodeLost(node=index)
        yield NodeJoined(node=index, spec=each.spec)


def placements(core: Core, job) -> list[tuple[Slot, ...]]:
    slots = Fit(core.ledger, BestFit()).gang(core.shapes[job.shape_id])
    return [] if slots is None else [slots]


def walk(core: Core, exits=(OK,), preempt: bool = True, attempts: int = 1) -> tuple[int, Counter]:
    """Visit every reachable state; return how many there are and which transitions were seen."""
    seen = {key_of(core)}
    frontier = [core.dump()]
    transitions: Counter = Counter()
    while frontier:
        following = []
        for body in frontier:
            for event in menu(Core.load(body), exits, preempt, attempts):
                core = Core.load(body)
                before = {job.id: job.phase for job in core.jobs.values()}
                core.apply(0, event)
                check(core)
                for status in core.drain().statuses:
                    if status.phase is not before.get(status.id):
                        transitions[before.get(status.id), type(event), status.phase] += 1
                key = key_of(core)
                if key not in seen:
                    seen.add(key)
                    following.append(core.dump())
        frontier = following
        assert len(seen) < STATES_MAX, "the world is not small"
    return len(seen), transitions


def world(*jobs) -> Core:
    core = cluster(node("n0", cpus=2), node("n1", cpus=1, gpus=1))
    for number, each in enumerate(jobs, 1):
        core.apply(0, Submitted(job=number, spec=each))
    return core


def allowed(transitions: Counter) -> None:
    for before, kind, after in transitions:
        kinds = (NodeLost,) if kind is NodeJoined else (kind,)
        assert any(after in TRANSITIONS.get((before, each), ()) for each in kinds)


def test_three_jobs_that_compete_in_all_orders():
    count, transitions = walk(world(spec(), spec(2), spec(gpus=1)), preempt=False)
    assert count > 500
    allowed(transitions)


def test_a_gang_and_a_competitor_in_all_orders():
    gang = spec(members=2, spread="distinct-nodes")
    count, transitions = walk(world(gang, spec()), exits=(OK, LOST))
    assert count > 500
    allowed(transitions)
    assert transitions[Phase.RUNNING, MemberEnded, Phase.STOPPING]
    assert transitions[Phase.STARTING, NodeLost, Phase.STOPPING]


def test_a_gang_with_every_exit_in_all_orders_reaches_every_phase_that_it_can():
    gang = spec(members=2, retries=1)
    _, transitions = walk(world(gang), exits=(OK, FAILED, LOST), attempts=2)
    allowed(transitions)
    assert {after for _, _, after in transitions} == {
        *(Phase.PENDING, *LIVE, Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED),
    }
