"""What should be on a node now, for its agent: derived from the jobs, level-triggered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairlead.core.jobs import Job
from fairlead.model.base import NodeId
from fairlead.model.jobs import Phase
from fairlead.model.messages import Desired, Launch, MemberKey

if TYPE_CHECKING:
    from fairlead.core.engine import Core


def desired(core: Core, node: NodeId) -> Desired:
    """Return all that should be on a node, derived from the log up to `seq`."""
    run: list[Launch] = []
    keep: list[MemberKey] = []
    stop: list[MemberKey] = []
    kill: list[MemberKey] = []
    for key, job in sorted(core.nodes[node].members.items(), key=_by_key):
        rank = key[2]
        if job.phase is Phase.STOPPING:
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
    )


def _launch(core: Core, job: Job, rank: int) -> Launch:
    slot = job.slots[rank]
    nodes = [core.nodes[other.node].spec for other in job.slots]
    return Launch(
        job=job.id,
        attempt=job.attempt,
        rank=rank,
        spec=job.spec,
        placed=job.token_placed,
        devices=slot.devices,
        nodes=tuple(node.address or node.name for node in nodes),
        local_rank=sum(other.node == slot.node for other in job.slots[:rank]),
    )


def _by_key(member: tuple[MemberKey, Job]) -> MemberKey:
    return member[0]
