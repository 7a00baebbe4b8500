"""What there is of each resource, what of it is promised to queues, and what each could ever have.

Of all machines that are known, also those that are down: what is promised, and what is refused at
submission, does not depend on who is up just now. `Shares` has the tree of the moment.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.core.cohort import Branch
from fairlead.model.base import Misuse
from fairlead.model.jobs import Queue
from fairlead.model.resources import DIMENSIONS, GPU, WHOLE_GPU_MILLI, Node

if TYPE_CHECKING:
    from fairlead.core.engine import Core

MODEL = f"{DIMENSIONS[GPU]}/"  # before the name of a GPU type, as a resource


def children(queues: Mapping[str, Queue], name: str) -> list[str]:
    """Return the queues right below a queue; "" is the cluster."""
    return sorted(each.name for each in queues.values() if each.parent == name)


def leaves(queues: Mapping[str, Queue], name: str) -> list[str]:
    """Return the queues below a queue that take jobs; itself where none is below it."""
    below = children(queues, name)
    return [leaf for each in below for leaf in leaves(queues, each)] if below else [name]


def above(queues: Mapping[str, Queue], name: str) -> list[str]:
    """Return a queue and all above it; a cycle ends where it meets itself."""
    path: list[str] = []
    while name in queues and name not in path:
        path.append(name)
        name = queues[name].parent
    return path


def there_is(core: Core, nodes: Sequence[Node] = ()) -> dict[str, int]:
    """Return what all known machines have, and these `nodes`, by resource; O(machines)."""
    known = {node.spec.name: node.spec for node in core.nodes} | {node.name: node for node in nodes}
    found = dict.fromkeys(DIMENSIONS, 0)
    for node in known.values():
        memory = sum(device.memory_mib for device in node.devices)
        gpus = WHOLE_GPU_MILLI * len(node.devices)
        amounts = (node.cpu_milli, node.memory_mib, node.disk_mib, gpus, memory)
        for name, amount in zip(DIMENSIONS, amounts, strict=True):
            found[name] += amount
        for device in node.devices:
            model = f"{MODEL}{device.model}"
            found[model] = found.get(model, 0) + WHOLE_GPU_MILLI
    return found


def effective(queues: Mapping[str, Queue], name: str) -> Queue | None:
    """Return a queue with what holds for its jobs from those above it, None if there is none.

    Its priorities are those that all of them take, its time limit is the shortest, its users are
    those of the nearest that names any.
    """
    path = [queues[each] for each in above(queues, name)]
    if not path:
        return None
    limits = [each.limit_ms for each in path if each.limit_ms is not None]
    return replace(
        path[0],
        priority_min=max(each.priority_min for each in path),
        priority_max=min(each.priority_max for each in path),
        limit_ms=min(limits, default=None),
        users=next((each.users for each in path if each.users), ()),
    )


def promised(queues: Mapping[str, Queue], resources: Iterable[str]) -> dict[str, int]:
    """Return what all queues together are guaranteed of these resources."""
    return {each: sum(queue.quota.get(each, 0) for queue in queues.values()) for each in resources}


def tree(
    queues: Mapping[str, Queue], there: Mapping[str, int]
) -> tuple[tuple[str, ...], dict[str, Branch]]:
    """Return the resources that the queues name, and a branch per queue; "" is the cluster."""
    named: set[str] = set()
    for queue in queues.values():
        named |= {*queue.quota, *queue.borrow, *queue.lend, *queue.most}
    rows = tuple(sorted(named))
    root = Branch("", None, len(rows))
    made = {"": root}
    for name in sorted(queues, key=lambda each: len(above(queues, each))):
        queue = queues[name]
        made[name] = branch = Branch(name, made.get(queue.parent, root), len(rows))
        branch.quota = [queue.quota.get(row, 0) for row in rows]
        branch.borrow = [queue.borrow.get(row) for row in rows]
        branch.lend = [queue.lend.get(row) for row in rows]
        branch.most = [queue.most.get(row) for row in rows]
    total = promised(queues, rows)
    root.quota = [max(0, there.get(row, 0) - total[row]) for row in rows]
    root.settle()
    return rows, made


def potentials(core: Core) -> dict[str, dict[str, int]]:
    """Return, by queue, the most of each governed resource it could have if all others were idle.

    O(queues x depth + machines); `Shares.ever` keeps it.
    """
    rows, branches = tree(core.queues, there_is(core))
    governed = {
        each
        for queue in core.queues.values()
        for each in (*queue.quota, *queue.borrow, *queue.lend)
    }
    return {
        name: {row: branch.potential(at) for at, row in enumerate(rows) if row in governed}
        for name, branch in branches.items()
    }


def missing(name: str, known: Iterable[str], what: str, field: str, code: str = "misuse") -> Misuse:
    """Return the error for a name that there is not, with the nearest that there is."""
    those = sorted(known)
    close = difflib.get_close_matches(name, those, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"the {what}s are: " + ", ".join(those[:20])
    hint = hint if those else f"there is no {what} yet"
    return Misuse(f"there is no {what} '{name}'", field=field, hint=hint, code=code)
