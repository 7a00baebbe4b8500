"""What free GPUs are still good for: place a task where the least of that is lost.

Ours, found by experiment on the openb workloads (docs/reference/policies.md, `pack`). Fragmentation
gradient descent (fgd.py) counts all of a GPU's free thousandths as useful to a class that fits, and
each class by how often it comes. Here a free GPU is worth what it will still carry, which is

    best(R) x few(kind, cores, R) / few(best kind, ample cores, R)

for R free thousandths. `best` is what they carry if they may choose among MANY tasks that come one
by one, each taken only if the sum gains by it: a stochastic knapsack, which knows that 190 of 1000
are hardly ever filled, and that 530 are by another 470. `few` is the same for FEW tasks, and there
the cores count, and which tasks can come at all: those that fit few kinds of nodes come to those as
much more often. So GPUs with few cores left are worth less, scarce ones more, and what is worth
less is used first. Whole GPUs side by side are worth a bit more for those who need several.

All in integers: thousandths of a GPU x UNIT. Tables by hundredths of a GPU and cells of cores are
computed once per popularity of the classes; a node's worth is a look per GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fairlead.core.ledger import Columns
from fairlead.model.resources import WHOLE_GPU_MILLI
from fairlead.policy.place.fgd import NO, Kind, Task

MANY, FEW = 60, 3  # tasks that come by: found by experiment, as is the share of SEVERAL
SEVERAL = 3, 20  # of a whole GPU's thousandths, per task that would use it beside others
RATE, UNIT = 20, 10  # bits behind the point: of a task's share of all that come, of worth
PARTS = 101  # 0, 1, .. 100 hundredths of a GPU
CELLS = 64  # of cores per GPU; the last stands for all beyond
ASKED_CELLS = 48  # at most so many for one task, so that some are left beside it


class Host(NamedTuple):
    """What makes nodes alike for tasks that come to them empty."""

    kind: Kind
    cpu: int
    gpus: int

    def takes(self, task: Task) -> bool:
        """Whether a task fits it while it is empty."""
        return task.suits(self.kind) and task.cpu <= self.cpu and task.gpus <= self.gpus


class Worth:
    """What GPUs of each group of hosts are worth, by free cores per GPU and free thousandths."""

    def __init__(self, weights: Mapping[Task, int], hosts: Mapping[Host, int]) -> None:
        """Sum up for classes with their popularity, and for so many hosts of each group."""
        self.hosts = {host: index for index, host in enumerate(hosts)}
        asking = [task for task in weights if task.gpus and weights[task]]
        rates = _rates(asking, weights, hosts)
        single = {task: rates[task] for task in asking if task.gpus == 1}
        longest = max((task.cpu for task in single), default=0)
        self.step = WHOLE_GPU_MILLI * max(1, -(-longest // (ASKED_CELLS * WHOLE_GPU_MILLI)))
        few = self._few(single)
        most = np.maximum(few[:, -1].max(axis=0), 1)
        best = _best(weights, single)
        self.one: Columns = (best * few // most) >> (RATE - UNIT)
        self._several({task: rates[task] for task in asking if task.gpus > 1})

    def _few(self, single: Mapping[Task, Columns]) -> Columns:
        """Return few[group, cells of cores, hundredths] in thousandths x 2**RATE."""
        few: Columns = np.zeros((max(len(self.hosts), 1), CELLS, PARTS), np.int64)
        sums: dict[tuple[int, int, int], Columns] = {}
        for task, rate in single.items():
            key = -(-task.cpu // self.step), -(-task.milli // 10), task.milli
            sums[key] = sums.get(key, 0) + rate
        for _ in range(FEW):
            before = few.copy()
            for (cells, parts, milli), rate in sums.items():
                after = before[:, : CELLS - cells, : PARTS - parts]
                gain = (milli << RATE) + after - before[:, cells:, parts:]
                few[:, cells:, parts:] += np.maximum(gain, 0) * rate[:, None, None] >> RATE
        return few

    def _several(self, tasks: Mapping[Task, Columns]) -> None:
        """Sum up what whole GPUs side by side are worth, by cores and their number."""
        widest = max((host.gpus for host in self.hosts), default=0)
        self.cpus = np.array(sorted({task.cpu for task in tasks}), np.int64)
        shape = max(len(self.hosts), 1), len(self.cpus) + 1, widest + 1
        self.several: Columns = np.zeros(shape, np.int64)
        part, whole = SEVERAL
        counts = np.arange(widest + 1)
        for task, rate in tasks.items():
            cores = int(np.searchsorted(self.cpus, task.cpu)) + 1
            each = (rate * (WHOLE_GPU_MILLI * part) // whole) >> (RATE - UNIT)
            useful = np.where(counts >= task.gpus, counts, 0)
            self.several[:, cores:] += (each[:, None] * useful)[:, None]

    def of(self, group: Columns, cpu: Columns, left: Columns) -> Columns:
        """Return the worth of nodes: their groups, free cores, and free thousandths per GPU."""
        free = left.sum(axis=1)
        share = cpu[:, None] * left // np.maximum(free, 1)[:, None]
        cell = np.minimum(share // self.step, CELLS - 2)
        over = np.minimum(share - cell * self.step, self.step)
        table, rows, parts = self.one, group[:, None], left // 10
        low, high = table[rows, cell, parts], table[rows, cell + 1, parts]
        worth = (low + (high - low) * over // self.step).sum(axis=1)
        whole = np.count_nonzero(left == WHOLE_GPU_MILLI, axis=1)
        cores = np.searchsorted(self.cpus, cpu, side="right")
        total: Columns = worth + self.several[group, cores, whole]
        return total


def _rates(
    asking: Sequence[Task], weights: Mapping[Task, int], hosts: Mapping[Host, int]
) -> dict[Task, Columns]:
    """Return how often each task comes to a GPU of each group, in 2**-RATE of all that come."""
    total = max(sum(weights.values()), 1)
    gpus = sum(host.gpus * count for host, count in hosts.items())
    rates = {}
    for task in asking:
        takes = np.array([host.takes(task) for host in hosts], np.bool_)
        able = sum(host.gpus * count for host, count in hosts.items() if host.takes(task))
        rate = min((weights[task] * gpus << RATE) // (total * max(able, 1)), 1 << RATE)
        rates[task] = np.where(takes, rate, 0)
    return rates


def _best(weights: Mapping[Task, int], single: Mapping[Task, Columns]) -> Columns:
    """Return best[hundredths] in thousandths x 2**RATE."""
    total = max(sum(weights.values()), 1)
    sums: dict[int, int] = {}
    for task in single:
        sums[task.milli] = sums.get(task.milli, 0) + weights[task]
    best: Columns = np.zeros(PARTS, np.int64)
    for _ in range(MANY):
        before = best.copy()
        for milli, weight in sums.items():
            parts = -(-milli // 10)
            gain = (milli << RATE) + before[: PARTS - parts] - before[parts:]
            best[parts:] += np.maximum(gain, 0) * ((weight << RATE) // total) >> RATE
    return best


class Prospects:
    """The free cores and GPUs of many nodes, and what placing a task would lose there."""

    def __init__(
        self,
        weights: Mapping[Task, int],
        cpu: Sequence[int],
        left: Sequence[Sequence[int]],
        hosts: Sequence[Host],
    ) -> None:
        """Take each node's free cores, the free thousandths of its GPUs, and what it is empty."""
        groups: dict[Host, int] = {}
        for host in hosts:
            groups[host] = groups.get(host, 0) + 1
        self.worth = Worth(weights, groups)
        self._groups = list(groups)
        self.group: Columns = np.array([self.worth.hosts[host] for host in hosts], np.int64)
        self.cpu: Columns = np.array(cpu, np.int64)
        self.left: Columns = np.zeros((len(cpu), max(map(len, left), default=0) or 1), np.int64)
        for node, free in enumerate(left):
            self.left[node, : len(free)] = free
        self.value: Columns = np.zeros(len(cpu), np.int64)
        self.mend(np.arange(len(cpu)))

    def set(self, node: int, cpu: int, left: Sequence[int]) -> None:
        """A node now has so much left; `mend` it before asking."""
        self.cpu[node] = cpu
        self.left[node, : len(left)] = left

    def mend(self, nodes: Columns) -> None:
        """Compute the worth anew of the nodes that changed."""
        cpu = np.maximum(self.cpu[nodes], 0)
        self.value[nodes] = self.worth.of(self.group[nodes], cpu, self.left[nodes])

    def increase(self, task: Task, nodes: Columns) -> Columns:
        """Return what is lost per node and GPU, NO where the task does not fit.

        One column per GPU for a share, else a single one: whole GPUs are taken by lowest index.
        """
        cpu = self.cpu[nodes] - task.cpu
        able = cpu >= 0
        if task.models:
            suits = [task.suits(host.kind) for host in self._groups]
            able &= np.array(suits, np.bool_)[self.group[nodes]]
        cpu, left, group = np.maximum(cpu, 0), self.left[nodes], self.group[nodes]
        before = self.value[nodes]
        if not task.gpus or task.milli == WHOLE_GPU_MILLI:
            whole = left == WHOLE_GPU_MILLI
            able &= np.count_nonzero(whole, axis=1) >= task.gpus
            after = np.where(whole & (np.cumsum(whole, axis=1) <= task.gpus), 0, left)
            lost = before - self.worth.of(group, cpu, after)
            return np.where(able, lost, NO)[:, None]
        lost = np.full(left.shape, NO, np.int64)
        # GPUs of a node that are equally free are alike: only the first of them is looked at.
        first = (left[:, :, None] == left[:, None, :]).argmax(axis=2)
        new = first == np.arange(left.shape[1])
        node, gpu = np.nonzero(able[:, None] & (left >= task.milli) & new)
        after = left[node]
        after[np.arange(len(node)), gpu] -= task.milli
        lost[node, gpu] = before[node] - self.worth.of(group[node], cpu[node], after)
        found: Columns = np.take_along_axis(lost, first, axis=1)
        return found
