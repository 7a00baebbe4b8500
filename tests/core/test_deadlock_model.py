"""Gangs cannot lock each other out: every interleaving of a few, with a crash at every step.

The proof obligations 1, 4 and 6 of algorithms.md 12.4, on the product's own core and pipeline. A
breadth-first walk over all states that gangs, agents and nodes can bring about, on a clock that
stands still. Every single step is made by a service that was just started: from an image of the
core (a snapshot), with a policy that remembers nothing. And in every state replaying the log, and
a second restart, change nothing.

The same gangs with workers that are allocated one by one, in a model of this file alone, do lock
each other out: the case wfg-3.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from fairlead.core.engine import Core
from fairlead.core.invariants import check
from fairlead.core.turn import Scheduler
from fairlead.model.events import (
    AnyEvent,
    Cancelled,
    MemberEnded,
    MemberStarted,
    NodeJoined,
    NodeLost,
    PolicySet,
    ResourceSet,
    StopDecided,
    Submitted,
)
from fairlead.model.jobs import JobSpec, Phase, Resource
from fairlead.model.resources import GPU, Shape
from fairlead.policy.deadlock.detect import Waiter, cycle, deadlocked, victim
from fairlead.policy.registry import build, policy_config
from strategies import FAILED, OK, node

STATES_MAX = 30_000


class Scene(msgspec.Struct, frozen=True):
    """GPUs per node, the members of each gang (with one GPU each), and how often nodes are lost."""

    gpus: tuple[int, ...]
    gangs: tuple[int, ...]
    policy: str
    losses: int = 1
    licences: int = 0  # so many; each gang needs one
    kills: bool = False  # whether gangs fail, are cancelled and are preempted, too

    def core(self) -> Core:
        core = Core()
        core.apply(0, PolicySet(policy=policy_config(self.policy)))
        for index, gpus in enumerate(self.gpus):
            core.apply(0, NodeJoined(node=index, spec=self.node(index)))
            assert gpus
        if self.licences:
            core.apply(0, ResourceSet(resource=Resource(name="lic", amount=self.licences)))
        return core

    def node(self, index: int):
        return node(name=f"n{index}", gpus=self.gpus[index])

    def spec(self, number: int) -> JobSpec:
        shape = Shape(cpu_milli=100, gpus=1, members=self.gangs[number])
        return JobSpec(shape=shape, counted=(("lic", 1),) if self.licences else ())


def menu(core: Core, scene: Scene, lost: int) -> Iterator[tuple[AnyEvent, int]]:
    """Yield all that may happen next from outside, and how many nodes were lost then.

    The first is what happens at last if everybody does their part: fair scheduling.
    """
    for index, each in enumerate(core.nodes):
        if not each.up:
            yield NodeJoined(node=index, spec=each.spec), lost
    if core.next_job <= len(scene.gangs):
        yield Submitted(job=core.next_job, spec=scene.spec(core.next_job - 1)), lost
    for job in core.jobs.values():
        for rank in range(len(job.slots)):
            where = {"job": job.id, "attempt": job.attempt, "rank": rank}
            if job.phase is not Phase.PENDING and rank not in job.exits:
                if rank not in job.started:
                    yield MemberStarted(**where), lost
                else:
                    yield MemberEnded(**where, exit=OK), lost
    if scene.kills:
        yield from ((event, lost) for event in kills(core))
    if lost < scene.losses:
        for index, each in enumerate(core.nodes):
            if each.up:
                yield NodeLost(node=index), lost + 1


def kills(core: Core) -> Iterator[AnyEvent]:
    """Yield the bad ends of gangs, and preemptions of their first attempts."""
    for job in core.jobs.values():
        if job.phase is Phase.PENDING:
            yield Cancelled(job=job.id)
            continue
        for rank in job.started - set(job.exits):
            yield MemberEnded(job=job.id, attempt=job.attempt, rank=rank, exit=FAILED)
        if job.phase is not Phase.STOPPING:
            yield StopDecided(job=job.id, attempt=job.attempt, then=Phase.CANCELLED)
            if not job.preemptions:
                yield StopDecided(job=job.id, attempt=job.attempt, then=Phase.PENDING)


def key_of(core: Core, lost: int) -> bytes:
    """Return what tells states apart: the image, without counts of events and without words."""
    image = msgspec.json.decode(core.dump())
    del image["seq"]
    for job in image["jobs"]:
        for name in ("token", "token_placed", "because", "worst", "attempt"):
            job.pop(name, None)
    image.pop("services", None), image.pop("services_seen", None)
    return msgspec.json.encode([image, lost])


def restarted(body: bytes) -> Scheduler:
    return Scheduler(Core.load(body), build)


def all_or_nothing(core: Core, scene: Scene) -> None:
    """1: a gang holds all it asked for, or nothing; no holder waits, so nobody waits in a ring."""
    held = 0
    for job in core.jobs.values():
        held += len(job.slots) if job.phase is not Phase.PENDING else 0
        if job.phase is not Phase.PENDING:
            assert len(job.slots) == job.spec.shape.members
    room = sum(int(core.ledger.room[GPU, index]) for index in range(len(core.nodes)))
    assert room == 1000 * (sum(scene.gpus) - held), "released once, and never twice"
    live = sum(job.phase is not Phase.PENDING for job in core.jobs.values())
    if scene.licences:
        assert core.named.held["lic"] == live <= scene.licences


def walk(scene: Scene) -> int:
    """Check every state that can be reached; return how many there are."""
    first = scene.core()
    bodies = {key_of(first, 0): (first.dump(), 0)}
    fair: dict[bytes, bytes | None] = {}  # where a state goes under fair scheduling
    frontier = list(bodies)
    for key in frontier:  # it grows meanwhile
        assert len(bodies) <= STATES_MAX
        body, lost = bodies[key]
        core = Core.load(body)
        check(core)
        all_or_nothing(core, scene)
        assert list(build(core.policy).decide(core)) == [], "a restart decides nothing anew"
        fair[key] = None
        for event, then_lost in menu(core, scene, lost):
            scheduler = restarted(body)
            events = scheduler.turn(0, [event]).events
            after = scheduler.core
            after_key = key_of(after, then_lost)
            if fair[key] is None:
                fair[key] = after_key
            if after_key not in bodies:
                bodies[after_key] = (after.dump(), then_lost)
                frontier.append(after_key)
                twin = Core.load(body)  # the log as it is on disk, read again
                for each in events:
                    twin.apply(0, each)
                assert key_of(twin, then_lost) == after_key
    every_gang_finishes(fair, {key: Core.load(body) for key, (body, _) in bodies.items()}, scene)
    return len(bodies)


def every_gang_finishes(fair, cores, scene: Scene) -> None:
    """4: from every state fair scheduling leads to the end of every gang, in so many steps."""
    good: set[bytes] = set()
    for key in fair:
        path: list[bytes] = []
        seen: set[bytes] = set()
        while key not in good:
            assert key not in seen, "it goes round and round"
            seen.add(key)
            path.append(key)
            after = fair[key]
            if after is None:
                core = cores[key]
                assert not core.jobs and core.next_job == len(scene.gangs) + 1, "stuck"
                break
            key = after
        good.update(path)


SCENES = [
    Scene(gpus=(2, 2), gangs=(3, 3), policy="priority"),
    Scene(gpus=(2, 2), gangs=(2, 3), policy="easy"),
    Scene(gpus=(2, 1), gangs=(2, 2, 1), policy="priority"),
    Scene(gpus=(2, 1), gangs=(1, 2, 2), policy="fifo-skip", licences=1),
    Scene(gpus=(3,), gangs=(2, 2, 2), policy="fifo", losses=2),
    Scene(gpus=(2, 1), gangs=(2, 2), policy="priority", losses=0, licences=1, kills=True),
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.gangs} on {scene.gpus}")
def test_in_every_interleaving_with_a_crash_at_every_step_gangs_hold_all_or_nothing_and_end(scene):
    assert walk(scene) > 100


# ---- the same, worker by worker ---------------------------------------------------------------


def stuck_states(gpus: int, gangs: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return where gangs that take one GPU after the other, in any interleaving, are stuck.

    A state says how many workers each gang has; -1: it has run and given all back.
    """
    first = (0,) * len(gangs)
    seen, frontier, stuck = {first}, [first], []
    for state in frontier:
        free = gpus - sum(max(has, 0) for has in state)
        moves = []
        for gang, has in enumerate(state):
            if has == gangs[gang]:
                moves.append((*state[:gang], -1, *state[gang + 1 :]))
            elif has >= 0 and free:
                moves.append((*state[:gang], has + 1, *state[gang + 1 :]))
        if not moves and any(has >= 0 for has in state):
            stuck.append(state)
        for after in moves:
            if after not in seen:
                seen.add(after)
                frontier.append(after)
    return stuck


def test_worker_by_worker_two_gangs_of_three_on_four_gpus_lock_each_other_out():
    assert stuck_states(4, (3, 3)) == [(2, 2)]
    (state,) = stuck_states(4, (3, 3))
    waiters = {
        name: Waiter({"gpu": has}, {"gpu": 1}, (priority, has))
        for name, has, priority in zip("AB", state, (2, 1), strict=True)
    }
    assert deadlocked(waiters, {"gpu": 0}) == ["A", "B"], "wfg-3"
    assert cycle(waiters, {"gpu": 0}) is None and victim(waiters, {"gpu": 0}) == "B"


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.gangs} on {scene.gpus}")
def test_worker_by_worker_it_is_a_matter_of_luck(scene):
    """Where the gangs do not all fit at once, some interleaving is a deadlock."""
    stuck = stuck_states(sum(scene.gpus), scene.gangs)
    for state in stuck:
        waiters = {
            gang: Waiter({"gpu": has}, {"gpu": scene.gangs[gang] - has})
            for gang, has in enumerate(state)
            if has >= 0
        }
        assert deadlocked(waiters, {"gpu": 0}), "the product's detection finds it"
    several = sum(members > 1 for members in scene.gangs) > 1
    tight = sum(members - 1 for members in scene.gangs) >= sum(scene.gpus)
    assert bool(stuck) == (several and tight)
