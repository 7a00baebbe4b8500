"""Placement by fragmentation gradient descent over the ledger: `Fit` with the keys of fgd.py.

A node's key is by how much its fragmentation grows; a share goes to the GPU where it grows least.
The keys of a shape are kept, and only those of the nodes that changed are computed anew. The
classes and their popularity come from `popular`: when they change, all keys start afresh.

Members of a gang that must share a node take devices as `Devices.pick` says, and plans of the
future (backfilling, preemption) compare nodes by best fit: there is no fragmentation of a future.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from fairlead.core.engine import Core
from fairlead.core.ledger import Columns, Devices, Ledger, Request
from fairlead.model.resources import CPU, WHOLE_GPU_MILLI, Slot
from fairlead.policy.place.fgd import NO, Fragments, Kind, Task, Workload, task_of
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.prospects import Host, Prospects
from fairlead.policy.place.score import BestFit
from fairlead.policy.place.trial import Trial

# How often the weights have changed, and the weights.
Popular: TypeAlias = Callable[[], tuple[int, Mapping[Task, int]]]
KEPT = 1024  # shapes whose keys are kept


class Measure(Protocol):
    """What a placement spoils, over the free cores and GPUs of all nodes (fgd.py, prospects.py)."""

    def set(self, node: int, cpu: int, left: Sequence[int]) -> None:
        """A node now has so much left; `mend` it before asking."""
        ...

    def mend(self, nodes: Columns) -> None:
        """Bring up to date what is kept about these nodes."""
        ...

    def increase(self, task: Task, nodes: Columns) -> Columns:
        """Return how much is spoilt per node and GPU, NO where the task does not fit."""
        ...


class LeastFragments(Fit):
    """Answers where members fit with the least growth of fragmentation."""

    def __init__(
        self,
        ledger: Ledger,
        popular: Popular,
        *,
        floored: bool = False,
        gpus_last: bool = True,
    ) -> None:
        """`floored`: compare the published score of 0..100 instead of the raw difference."""
        super().__init__(ledger, BestFit(), gpus_last=gpus_last)
        self._popular, self._floored = popular, floored
        self._version = self._made = -1
        self._measure: Measure
        self._best: dict[Request, tuple[Columns, int]] = {}  # keys, and the changes they know
        self._mended = 0

    def one(self, request: Request) -> Slot | None:
        """Return the best slot for one member, None if nothing fits. Ties: lowest node and GPU."""
        keys = self._keys(request)
        while keys.size:
            node = int(keys.argmin())
            if keys[node] == NO:
                return None
            devices = self._pick(request, node, self.ledger.devices[node])
            if devices is not None:
                return Slot(node=node, devices=devices)
            keys[node] = NO  # room, but not on one device of the right model and memory
        return None

    def run(self, request: Request, count: int) -> list[Slot]:
        """Return up to `count` slots for single members, in order, as if placed one by one."""
        keys = self._keys(request).copy()
        trials: dict[int, Trial] = {}
        slots: list[Slot] = []
        while len(slots) < count and keys.size:
            node = int(keys.argmin())
            if keys[node] == NO:
                break
            trial = trials.get(node) or Trial.now(self.ledger, node)
            devices = self._pick(request, node, trial.devices) if trial.fits(request) else None
            if devices is None:
                keys[node] = NO
                continue
            trials[node] = trial
            trial.move(request, devices, -1)
            slots.append(Slot(node=node, devices=devices))
            self._set(node, trial.free[CPU], trial.devices)
            keys[node] = self._grown(request, np.array([node]))[0]
            if not trial.fits(request):
                keys[node] = NO
        for node in trials:
            self._set(node, int(self.ledger.room[CPU, node]), self.ledger.devices[node])
        return slots

    def _set(self, node: int, cpu: int, devices: Devices) -> None:
        self._measure.set(node, cpu, _left(devices))
        self._measure.mend(np.array([node]))

    def _pick(self, request: Request, node: int, devices: Devices) -> tuple[int, ...] | None:
        """Return the devices of one more member on a node: for a share the least growth."""
        # Whole GPUs are all alike; of several shares the ledger knows where they fit together.
        if request.milli in (0, WHOLE_GPU_MILLI) or request.picks > 1:
            return devices.pick(request)
        grown = self._measure.increase(task_of(request.shape), np.array([node]))
        values: list[int] = grown[0].tolist()
        usable = [index for index in range(len(devices.size)) if devices.free(index, request)]
        return (min(usable, key=lambda index: (values[index], index)),) if usable else None

    def _grown(self, request: Request, nodes: Columns) -> Columns:
        least: Columns = self._measure.increase(task_of(request.shape), nodes).min(axis=1)
        if self._last is not None and not request.picks:
            least = np.where(least == NO, NO, least + self._last[nodes])
        return least

    def _keys_of_nodes(self, request: Request, nodes: Columns) -> Columns:
        keys = self._grown(request, nodes)
        room = self.ledger.room
        for row, amount in request.need:
            keys[room[row, nodes] < amount] = NO
        return keys

    def _keys(self, request: Request) -> Columns:
        self._sync()
        ledger = self.ledger
        known = self._best.pop(request, None)
        if known is None or known[1] < ledger.forgotten:
            keys = self._keys_of_nodes(request, np.arange(ledger.count))
            if len(self._best) >= KEPT:
                del self._best[next(iter(self._best))]
        else:
            keys, seen = known
            if seen < ledger.changes:
                changed = set(ledger.touched[seen - ledger.forgotten :])
                nodes = np.fromiter(changed, np.int64, len(changed))
                keys[nodes] = self._keys_of_nodes(request, nodes)
        self._best[request] = keys, ledger.changes
        return keys

    def _sync(self) -> None:
        """Bring the fragments up to the ledger and the popularity of classes."""
        ledger = self.ledger
        version, popular = self._popular()
        self._lay_out()
        if self._made != ledger.layout or self._version != version:
            self._made, self._version = ledger.layout, version
            self._measure = self._measured(popular)
            self._best.clear()
        elif self._mended < ledger.forgotten:
            self._measure = self._measured(popular)
        elif self._mended < ledger.changes:
            changed = set(ledger.touched[self._mended - ledger.forgotten :])
            for node in changed:
                self._measure.set(node, int(ledger.room[CPU, node]), _left(ledger.devices[node]))
            self._measure.mend(np.fromiter(changed, np.int64, len(changed)))
        self._mended = ledger.changes

    def _measured(self, popular: Mapping[Task, int]) -> Measure:
        """Return the measure of the nodes as they are, for classes of this popularity."""
        ledger = self.ledger
        kinds = [_kind(devices) for devices in ledger.devices]
        most = max((len(devices.size) for devices in ledger.devices), default=0)
        return Fragments(
            Workload(popular, kinds, max(most, 1)),
            ledger.room[CPU, : ledger.count].tolist(),
            [_left(devices) for devices in ledger.devices],
            kinds,
            floored=self._floored,
        )


class BestProspects(LeastFragments):
    """Answers where members fit with the least loss of what free GPUs are still good for."""

    def _measured(self, popular: Mapping[Task, int]) -> Measure:
        ledger = self.ledger
        cores = ledger.capacity[CPU, : ledger.count].tolist()
        hosts = [
            Host(_kind(devices), cpu, len(devices.size))
            for devices, cpu in zip(ledger.devices, cores, strict=True)
        ]
        return Prospects(
            popular,
            ledger.room[CPU, : ledger.count].tolist(),
            [_left(devices) for devices in ledger.devices],
            hosts,
        )


class LiveShapes:
    """The popularity of classes as the core knows it: the members of all jobs that have come.

    As of the last settling (core/demand.py), so that the keys of placements last for a while.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._version = -1
        self._weights: Counter[Task] = Counter()

    def __call__(self) -> tuple[int, Mapping[Task, int]]:
        """Return which settling it is, and the number of members per class."""
        demand = self._core.demand
        if self._version != demand.next_job:
            self._version = demand.next_job
            self._weights = Counter()
            for shape, members in demand.settled.items():
                self._weights[task_of(shape)] += members
        return self._version, self._weights


def _left(devices: Devices) -> list[int]:
    """Return the free thousandths of each GPU; what others occupy is not there."""
    if not devices.foreign:
        return devices.milli
    return [0 if i in devices.foreign else milli for i, milli in enumerate(devices.milli)]


def _kind(devices: Devices) -> Kind:
    """Return the models of a node's GPUs, each once."""
    return tuple(dict.fromkeys(device.model for device in devices.spec))
