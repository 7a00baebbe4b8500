"""Slots for all members of a job on nodes of which somebody knows what is free, now or later.

By the rules of the job's shape: how its members are spread, and how close together they are to be
(algorithms.md 8.3). Without any, the best nodes by the placement come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from fairlead.core.ledger import UP, Ledger, Request
from fairlead.core.pack import pack
from fairlead.core.tree import Domain, Tally
from fairlead.model.base import NodeId
from fairlead.model.resources import CPU, GPU, LEVELS, Shape, Slot
from fairlead.policy.place.topology import lowest
from fairlead.policy.place.trial import Trial

if TYPE_CHECKING:
    from fairlead.policy.place.fit import Fit

CLUSTER: Domain = ()


def seat(fit: Fit, request: Request, states: Mapping[NodeId, Trial]) -> tuple[Slot, ...] | None:
    """Return slots for all members on these nodes, None if they do not fit.

    `states` are what is free there; they are changed, but not where workers differ.
    """
    if request.parts:
        return pack(fit.ledger, request, partial(_ranked, fit, states), states.__getitem__).slots
    most = 1 if request.shape.spread == "distinct-nodes" else request.members
    if request.tree:
        counts = {node: state.copies(request, most) for node, state in states.items()}
        row = _row(request)
        split = close(fit, request, counts, {n: state.free[row] for n, state in states.items()})
        if split is None:
            return None
    else:
        split = dict.fromkeys(_ranked(fit, states, request), most)
    slots: list[Slot] = []
    for node, count in split.items():
        here = list(take(request, node, states[node], min(count, request.members - len(slots))))
        if request.shape.spread != "same-node" or len(here) == request.members:
            slots += here
        if len(slots) == request.members:
            return tuple(slots)
    return None


def _ranked(fit: Fit, states: Mapping[NodeId, Trial], request: Request) -> list[NodeId]:
    ranked = sorted((fit.score(request, node, states[node].free), node) for node in states)
    return [node for _, node in ranked]


class Seats:
    """How many members of each kind of a request fit on every node, kept up node by node; whether
    all of them fit together, and where."""

    def __init__(self, fit: Fit, request: Request) -> None:
        self.fit, self.request = fit, request
        kinds = request.parts or (request,)
        self.tallies = [(kind, Tally(fit.ledger, kind)) for kind in kinds]
        self._slots: tuple[Slot, ...] | None = None  # of different workers, as nodes were counted
        self._looked = False

    def set(self, node: NodeId, state: Trial | None) -> None:
        """So much is free on a node now; None: nothing of it may be used."""
        for kind, tally in self.tallies:
            tally.set(node, 0 if state is None else state.copies(kind, kind.members))
        self._looked = False

    def nodes(self) -> Iterable[NodeId]:
        """Return the nodes on which there is room for any."""
        if not self.request.parts:
            return self.tallies[0][1].counts
        return {node for _, tally in self.tallies for node in tally.counts}

    def enough(self, state: Callable[[NodeId], Trial]) -> bool:
        """Whether all members fit together, on nodes with so much free.

        Different workers may fit kind by kind, but not together: then their places are looked for.
        """
        if not all(tally.enough() for _, tally in self.tallies):
            return False
        if self.request.parts and not self._looked:
            states = {node: state(node) for node in self.nodes()}
            self._looked, self._slots = True, seat(self.fit, self.request, states)
        return not self.request.parts or self._slots is not None

    def slots(self, states: Mapping[NodeId, Trial]) -> tuple[Slot, ...]:
        """Return slots for all members, who fit on these nodes; `states` as for `seat`."""
        slots = self._slots if self._looked else seat(self.fit, self.request, states)
        assert slots is not None, "what was counted can be placed"
        return slots


def take(request: Request, node: NodeId, state: Trial, most: int) -> Iterator[Slot]:
    """Yield slots for up to `most` members on a node, taken of what is free there."""
    for _ in range(most):
        devices = state.take(request) if state.fits(request) else None
        if devices is None:
            return
        yield Slot(node=node, devices=devices)


def _row(request: Request) -> int:
    return GPU if request.picks else CPU


def _domain(ledger: Ledger, level: int | None, node: NodeId) -> Domain:
    return CLUSTER if level is None else ledger.domains[node][level]


def close(
    fit: Fit, request: Request, counts: Mapping[NodeId, int], free: Mapping[NodeId, int]
) -> dict[NodeId, int] | None:
    """Return how many members go on which node, in order, so that they are close together.

    `counts` says how many fit, `free` how many GPUs (or cores) are left where that is not what
    the ledger has now. Levels are tried from the one that the shape prefers (a closer one saves
    nothing) to the one that it requires, then the whole cluster. None: they do not fit so.
    """
    shape, ledger, members = request.shape, fit.ledger, request.members
    if shape.spread == "same-node":
        counts = {node: count for node, count in counts.items() if count >= members}
    first = LEVELS.index(shape.near) if shape.near else 0
    last = LEVELS.index(shape.within) + 1 if shape.within else len(LEVELS)
    levels = [partial(_domain, ledger, level) for level in range(first, last)]
    if not shape.within:
        levels.append(partial(_domain, ledger, None))
    left = (ledger.room[_row(request), : ledger.count] * ledger.room[UP, : ledger.count]).tolist()
    all_free = dict(enumerate(left)) | dict(free)
    suited = {node: count for node, count in counts.items() if not fit.unsuited(request, node)}
    found = lowest(levels, suited, all_free, members)
    if found is None and len(suited) < len(counts):
        found = lowest(levels, counts, all_free, members)
    return None if found is None else found.split


def nearest(
    ledger: Ledger, shape: Shape, slots: Sequence[Slot], nodes: Iterable[NodeId]
) -> Iterable[NodeId]:
    """Return the nodes on which a member may join others: in their order, but those within the
    levels that the shape prefers first, and none beyond what it requires."""
    if not (shape.within or shape.near):
        return nodes
    first = LEVELS.index(shape.near) if shape.near else 0
    last = LEVELS.index(shape.within) + 1 if shape.within else len(LEVELS)
    theirs = [{ledger.domains[slot.node][level] for slot in slots} for level in range(first, last)]
    found: list[list[NodeId]] = [[] for _ in range(last - first + 1)]
    for node in nodes:
        near = (at for at, own in enumerate(theirs) if ledger.domains[node][first + at] in own)
        found[next(near, last - first)].append(node)
    return chain(*(found[:-1] if shape.within else found))
