"""From a seed to queues and users: trees, quotas, limits, and how they change."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from fairlead.model.base import Ms
from fairlead.model.jobs import EVERYBODY, Queue, Resource, User
from fairlead.model.resources import DIMENSIONS, GPU, WHOLE_GPU_MILLI, Node
from fairlead.sim.faults.plan import JobPlan

USERS = ("ada", "bob", "eve")
# Name and parent. Jobs go to those that have nothing below them.
TREES = (
    (),
    (("nlp", ""), ("vision", "")),
    (("org", ""), ("nlp", "org"), ("vision", "org"), ("web", "")),
)


def queues(rng: Random, nodes: tuple[Node, ...]) -> tuple[Queue, ...]:
    """Return a tree, parents first; () for a cluster without one."""
    return tuple(queue(rng, nodes, Queue(name=n, parent=p)) for n, p in rng.choice(TREES))


def leaves(tree: tuple[Queue, ...]) -> list[str]:
    """Return the queues that take jobs."""
    inner = {each.parent for each in tree}
    return ["default", *(each.name for each in tree if each.name not in inner)]


def _resources(nodes: tuple[Node, ...]) -> dict[str, int]:
    """Return what there is of everything that may be shared out."""
    devices = [device for node in nodes for device in node.devices]
    found = {DIMENSIONS[0]: sum(node.cpu_milli for node in nodes)}
    if devices:
        found[DIMENSIONS[GPU]] = WHOLE_GPU_MILLI * len(devices)
        model = devices[0].model
        count = sum(device.model == model for device in devices)
        found[f"{DIMENSIONS[GPU]}/{model}"] = WHOLE_GPU_MILLI * count
    return found


def queue(rng: Random, nodes: tuple[Node, ...], base: Queue) -> Queue:
    """Return a queue with other quotas and limits, now and then none at all."""
    there = _resources(nodes)
    names = [name for name in there if rng.random() < 0.5]

    def part(chance: float) -> dict[str, int]:
        return {
            name: there[name] * rng.choice((0, 1, 2, 3, 5)) // 8
            for name in names
            if rng.random() < chance
        }

    quota = part(0.8)
    return replace(
        base,
        weight=rng.randint(1, 4),
        quota=quota,
        borrow=part(0.3),
        lend={name: most // 2 for name, most in quota.items() if rng.random() < 0.3},
        most=part(0.15),
        live_max=rng.choice((None, None, None, 1, 3)),
    )


def resources(rng: Random) -> tuple[Resource, ...]:
    """Return named resources of every kind."""
    return (
        Resource(name="matlab", kind="licence", amount=rng.randint(2, 4)),
        Resource(name="data", kind="volume", amount=rng.randint(1, 2)),
        Resource(name="gate", kind="lock", amount=1),
    )


def needs(rng: Random, job: JobPlan, there: tuple[Resource, ...]) -> JobPlan:
    """Return a job that needs some of them, from its start or while it runs."""
    if rng.random() < 0.7:
        return job
    counted: dict[str, int] = {}
    takes: list[tuple[str, int, Ms, Ms | None]] = []
    most: dict[str, int] = {}
    for each in rng.sample(there, rng.randint(1, len(there))):
        if rng.random() < 0.4:
            counted[each.name] = 1
        elif each.amount:
            amount = rng.randint(1, each.amount)
            length = rng.choice((None, 1_000, 60_000))
            takes.append((each.name, amount, rng.choice((0, 100, 5_000)), length))
            most[each.name] = amount
    spec = replace(
        job.spec,
        counted=tuple(sorted(counted.items())),
        may_acquire=tuple(sorted(most.items())),
        deadline_ms=None,
    )
    return replace(job, spec=spec, takes=tuple(takes))


def user(rng: Random, nodes: tuple[Node, ...]) -> User:
    """Return limits of one user, or of everybody."""
    there = _resources(nodes)
    return User(
        name=rng.choice((*USERS, EVERYBODY)),
        weight=rng.randint(1, 4),
        most={name: most // 3 for name, most in there.items() if rng.random() < 0.3},
        live_max=rng.choice((None, 1, 2, 5)),
    )
