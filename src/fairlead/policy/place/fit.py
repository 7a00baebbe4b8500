"""The best nodes for a request, exactly, without looking at every node every time.

For each request shape one column of keys is kept: the node's score, or NO where it does not fit.
Placing or releasing changes a node or two; the ledger writes down which (`touched`), and the next
question about the shape mends just those keys and takes the least. A shape asked again costs one
argmin; a shape never seen before costs one pass over the columns.

Equal requests are placed as a run: with best fit a node just used becomes better still, so nodes
are filled in the order of their keys by division; other scorers use a heap in which only the node
just used changes. Both give what one-by-one placement gives (tests/policy).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import numpy as np

from fairlead.core.ledger import HOST, WHOLE, Columns, Ledger, Request
from fairlead.core.pack import Packing, pack
from fairlead.model.base import NodeId
from fairlead.model.resources import DIMENSIONS, GPU, Slot
from fairlead.policy.place.score import Scorer, weights
from fairlead.policy.place.seats import close, take
from fairlead.policy.place.trial import Trial

NO = np.iinfo(np.int64).max
FEW = 8  # up to so many changed nodes are mended one by one: below numpy's fixed costs
LAST = 2**62  # added to the key of a node that is to be used last; scores are smaller than half
CELLS_MAX = 8_000_000  # keys kept over all shapes: 64 MB
PACKED_MAX = 1_000  # answers kept for gangs with different workers
D = len(DIMENSIONS)
NODE_0 = Slot(node=0)


class _Keys:
    __slots__ = ("keys", "seen")

    def __init__(self, keys: Columns, seen: int) -> None:
        self.keys, self.seen = keys, seen


class Fit:
    """Answers where members fit. Reads the ledger, never writes to it."""

    def __init__(self, ledger: Ledger, scorer: Scorer, *, gpus_last: bool = True) -> None:
        """`gpus_last`: what asks for no GPU goes to nodes with GPUs only if no other has room."""
        self.ledger, self.scorer, self.gpus_last = ledger, scorer, gpus_last
        self._cache: dict[Request, _Keys] = {}
        self._packed: dict[Request, tuple[int, Packing]] = {}
        self._layout = -1
        self._weights: list[int] = []
        self._last: Columns | None = None  # LAST for nodes with GPUs; None: all have some, or none

    def one(self, request: Request) -> Slot | None:
        """Return the best slot for one member, None if nothing fits. Ties: lowest node id."""
        if self.ledger.count == 1:
            return self._only(request)
        keys = self._keys(request)
        if keys.size == 0:
            return None
        while True:
            node = int(keys.argmin())
            if keys[node] == NO:
                return None
            if not (request.gpus or request.milli):
                return Slot(node=node)
            devices = self.ledger.devices[node].pick(request)
            if devices is not None:
                return Slot(node=node, devices=devices)
            keys[node] = NO  # the rows promised more than one device holds; so until it changes

    def _only(self, request: Request) -> Slot | None:
        """Return the slot on the only node: nothing to compare, so no keys."""
        room = self.ledger.room.item
        for row, amount in request.need:
            if room(row, 0) < amount:
                return None
        if not request.picks:
            return NODE_0
        devices = self.ledger.devices[0].pick(request)
        return None if devices is None else Slot(node=0, devices=devices)

    def tester(self) -> Callable[[Request], bool]:
        """Return a test of whether a request fits now; it holds while nothing changes."""
        if self.ledger.count != 1:
            return lambda request: self.gang(request) is not None
        room = self.ledger.room[:, 0].tolist()

        def fits(request: Request) -> bool:
            for row, amount in request.need:
                if room[row] < amount:
                    return False
            simple = request.members == 1 and not request.picks
            return simple or self.gang(request) is not None

        return fits

    def gang(self, request: Request) -> tuple[Slot, ...] | None:
        """Return slots for all members by the spread rule, rank by rank, or None."""
        if request.members == 1:
            slot = self.one(request)
            return None if slot is None else (slot,)
        if request.parts:
            return self.kinds(request).slots
        spread = request.shape.spread
        if request.tree:
            slots = self._close(request)
        elif spread == "any":
            if self.scorer.fills and request.simple and self._room(request) < request.members:
                return None
            slots = self.run(request, request.members)
        elif spread == "same-node":
            slots = self._same_node(request)
        else:
            slots = self._distinct(request)
        return tuple(slots) if len(slots) == request.members else None

    def kinds(self, request: Request) -> Packing:
        """Return slots for a gang with different workers; asked again, only if anything changed."""
        self._lay_out()
        ledger = self.ledger
        changes, found = self._packed.get(request, (-1, Packing(None)))
        if changes != ledger.changes:
            found = pack(ledger, request, self.in_order, lambda node: Trial.now(ledger, node))
            if len(self._packed) > PACKED_MAX:
                self._packed.clear()
            self._packed[request] = (ledger.changes, found)
        return found

    def run(self, request: Request, count: int) -> list[Slot]:
        """Return up to `count` slots for single members, in order, as if placed one by one."""
        if self.scorer.fills and request.simple:
            nodes, counts = self.fill(request, count)
            return list(self._fill_slots(request, nodes, counts))
        return self._heap(request, count)

    def fill(self, request: Request, count: int) -> tuple[Columns, Columns]:
        """Return (nodes, members on each) for a run of `count` by the closed form of best fit."""
        keys = self._keys(request)
        nodes = np.flatnonzero(keys != NO)
        nodes = nodes[np.argsort(keys[nodes], kind="stable")]
        counts = self._counts(request, nodes, count)
        before = np.cumsum(counts) - counts
        used = int(np.searchsorted(before, count))
        counts = np.minimum(counts[:used], count - before[:used])
        return nodes[:used], counts

    def _counts(self, request: Request, nodes: Columns, most: int) -> Columns:
        """Return how many members fit on each of these nodes, at most `most`, by its rows."""
        counts = np.full(len(nodes), most, np.int64)
        for row, amount in request.need:
            if row < HOST or row == WHOLE:
                np.minimum(counts, self.ledger.room[row, nodes] // amount, out=counts)
        return counts

    def _room(self, request: Request) -> int:
        """Return how many members fit on all nodes together: a gang that does not is not sorted."""
        nodes = np.flatnonzero(self._keys(request) != NO)
        return int(self._counts(request, nodes, request.members).sum())

    def _fill_slots(self, request: Request, nodes: Columns, counts: Columns) -> Iterator[Slot]:
        for node, members in zip(nodes.tolist(), counts.tolist(), strict=True):
            if not request.gpus:
                slot = Slot(node=node)
                for _ in range(members):
                    yield slot
                continue
            trial = Trial.now(self.ledger, node)
            for _ in range(members):
                devices = trial.take(request)
                assert devices is not None
                yield Slot(node=node, devices=devices)

    def in_order(self, request: Request) -> Iterator[int]:
        """Yield every node that may fit now, best first."""
        for _, node in self._in_order(request):
            yield node

    def score(self, request: Request, node: NodeId, free: list[int]) -> int:
        """Return how good a node is for a request when so much is free: smaller is better."""
        self._keys(request)  # the weights are those of the present layout
        return self._scalar(request, node, free)

    def unsuited(self, request: Request, node: NodeId) -> bool:
        """Whether a node is to be used last by a request, since it has GPUs that it has not
        asked for."""
        self._lay_out()
        return self._last is not None and not request.picks and bool(self._last[node])

    def _in_order(self, request: Request) -> Iterator[tuple[int, int]]:
        """Yield (key, node) of every node that may fit, best first."""
        keys = self._keys(request)
        nodes = np.flatnonzero(keys != NO)
        nodes = nodes[np.argsort(keys[nodes], kind="stable")]
        yield from zip(keys[nodes].tolist(), nodes.tolist(), strict=True)

    def _heap(self, request: Request, count: int) -> list[Slot]:
        fresh = self._in_order(request)
        upcoming = next(fresh, None)
        used: list[tuple[int, int]] = []
        trials: dict[int, Trial] = {}
        slots: list[Slot] = []
        while len(slots) < count:
            if upcoming is not None and (not used or upcoming < used[0]):
                node = upcoming[1]
                upcoming = next(fresh, None)
                trials[node] = Trial.now(self.ledger, node)
            elif used:
                node = heapq.heappop(used)[1]
            else:
                break
            trial = trials[node]
            devices = trial.take(request)
            if devices is None:
                continue
            slots.append(Slot(node=node, devices=devices))
            if trial.fits(request):
                key = self._scalar(request, node, trial.free)
                heapq.heappush(used, (key, node))
        return slots

    def _same_node(self, request: Request) -> list[Slot]:
        for _, node in self._in_order(request):
            trial = Trial.now(self.ledger, node)
            slots: list[Slot] = []
            while len(slots) < request.members and trial.fits(request):
                devices = trial.take(request)
                if devices is None:
                    break
                slots.append(Slot(node=node, devices=devices))
            if len(slots) == request.members:
                return slots
        return []

    def _close(self, request: Request) -> list[Slot]:
        nodes = np.flatnonzero(self._keys(request) != NO)
        most = 1 if request.shape.spread == "distinct-nodes" else request.members
        if request.simple:
            counts = self._counts(request, nodes, most).tolist()
        else:
            counts = [Trial.now(self.ledger, node).copies(request, most) for node in nodes.tolist()]
        split = close(self, request, dict(zip(nodes.tolist(), counts, strict=True)), {}) or {}
        slots: list[Slot] = []
        for node, count in split.items():
            slots += take(request, node, Trial.now(self.ledger, node), count)
        return slots

    def _distinct(self, request: Request) -> list[Slot]:
        slots: list[Slot] = []
        for _, node in self._in_order(request):
            devices = self.ledger.devices[node].pick(request)
            if devices is not None:
                slots.append(Slot(node=node, devices=devices))
                if len(slots) == request.members:
                    break
        return slots

    def _keys(self, request: Request) -> Columns:
        ledger = self.ledger
        self._lay_out()
        entry = self._cache.get(request)
        behind = ledger.changes - entry.seen if entry is not None else 0
        if entry is None or behind > ledger.count // 2 + FEW or entry.seen < ledger.forgotten:
            if entry is None and len(self._cache) * max(ledger.count, 1) > CELLS_MAX:
                del self._cache[next(iter(self._cache))]
            entry = _Keys(self._scan(request), ledger.changes)
            self._cache[request] = entry
        elif behind:
            changed = ledger.touched[entry.seen - ledger.forgotten :]
            if 1 < behind <= 8 * FEW:
                # The same few nodes change again and again: good packing fills one by one.
                changed = list(set(changed))
            if len(changed) <= FEW:
                for node in changed:
                    self._mend(request, entry.keys, node)
            else:
                self._mend_many(request, entry.keys, changed)
            entry.seen = ledger.changes
        return entry.keys

    def _lay_out(self) -> None:
        """See to it that what follows from the capacity of nodes is that of the present layout."""
        ledger = self.ledger
        if self._layout != ledger.layout:
            self._layout = ledger.layout
            capacity = ledger.capacity[:, : ledger.count]
            self._weights = weights(capacity, self.scorer.bits, fixed=self.scorer.fixed)
            with_gpus = capacity[GPU] > 0
            mixed = self.gpus_last and with_gpus.any() and not with_gpus.all()
            self._last = with_gpus * np.int64(LAST) if mixed else None
            self._cache.clear()
            self._packed.clear()

    def _scalar(self, request: Request, node: NodeId, free: list[int]) -> int:
        key = self.scorer.scalar(request, free, self._weights)
        if self._last is None or request.picks:
            return key
        return key + self._last.item(node)

    def _scan(self, request: Request) -> Columns:
        room = self.ledger.room[:, : self.ledger.count]
        return self._keys_of(request, room, self._last)

    def _keys_of(self, request: Request, room: Columns, last: Columns | None) -> Columns:
        misfit = np.zeros(room.shape[1], np.bool_)
        for row, amount in request.need:
            misfit |= room[row] < amount
        keys = self.scorer.columns(request, room[:D], self._weights)
        if last is not None and not request.picks:
            keys += last
        keys[misfit] = NO
        return keys

    def _mend(self, request: Request, keys: Columns, node: int) -> None:
        column = self.ledger.room[:, node].tolist()
        for row, amount in request.need:
            if column[row] < amount:
                keys[node] = NO
                return
        keys[node] = self._scalar(request, node, column)

    def _mend_many(self, request: Request, keys: Columns, changed: list[int]) -> None:
        nodes = np.array(changed, np.int64)
        last = None if self._last is None else self._last[nodes]
        keys[nodes] = self._keys_of(request, self.ledger.room[:, nodes], last)
