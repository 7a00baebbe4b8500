"""What should be on a node now, for its agent: derived from the jobs, level-triggered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core.jobs import Job
from fairlead.core.team import Team
from fairlead.model.base import JobId, NodeId
from fairlead.model.jobs import Phase
from fairlead.model.messages import Desired, Launch, MemberKey, Membership
from fairlead.model.resources import Slot

if TYPE_CHECKING:
    from fairlead.core.engine import Core


def desired(core: Core, node: NodeId) -> Desired:
    """Return all that should be on a node, derived from the log up to `seq`."""
    run: list[Launch] = []
    keep: list[MemberKey] = []
    stop: list[MemberKey] = []
    kill: list[MemberKey] = []
    teams: dict[JobId, Membership] = {}
    for key, job in sorted(core.nodes[node].members.items(), key=_by_key):
        rank = key[2]
        if job.team is not None and job.id not in teams:
            teams[job.id] = _membership(core, job, job.team)
        if job.phase is Phase.STOPPING or (job.team is not None and rank in job.team.leaving):
            stop.append(key)
            if job.kill:
                kill.append(key)
        elif rank in job.started:
            keep.append(key)
        else:
            run.append(_launch(core, job, rank))
    return Desired(
        version=core.seq,
        boot=core.nodes[node].spec.boot,
        run=tuple(run),
        keep=tuple(keep),
        stop=tuple(stop),
        kill=tuple(kill),
        teams=tuple(teams.values()),
    )


def _launch(core: Core, job: Job, rank: int) -> Launch:
    slot, team, present = job.slot(rank), job.team, job.staying
    place = rank if team is None else team.staying().index(rank)
    return Launch(
        job=job.id,
        attempt=job.attempt,
        rank=rank,
        spec=job.spec,
        placed=job.launched_by(rank),
        devices=slot.devices,
        nodes=_addresses(core, present),
        local_rank=sum(other.node == slot.node for other in present[:place]),
        place=None if team is None else place,
        generation=0 if team is None else team.generation,
    )


def _membership(core: Core, job: Job, team: Team) -> Membership:
    return Membership(
        job=job.id,
        attempt=job.attempt,
        generation=team.generation,
        numbers=tuple(team.staying()),
        nodes=_addresses(core, job.staying),
    )


def _addresses(core: Core, slots: tuple[Slot, ...]) -> tuple[str, ...]:
    nodes = [core.nodes[slot.node].spec for slot in slots]
    return tuple(node.address or node.name for node in nodes)


def _by_key(member: tuple[MemberKey, Job]) -> MemberKey:
    return member[0]
