"""Fragmentation gradient descent: place a task where it spoils the least for those to come.

A GPU's free thousandths are fragments for a class of tasks that cannot use them there. A node's
fragmentation F is the sum over the classes of popularity x fragments (Weng et al., ATC 2023;
algorithms.md 8.2). Popularities are integer weights, so F is exact: thousandths x total weight.

What is *useful* is quicker to sum than what is not. A class of one GPU of size d can use a GPU
with R free thousandths if R >= d (then it also runs), a class of k whole GPUs all whole GPUs where
there are k. With weights summed up beforehand by cores and size, the useful part of a node is one
look per GPU, whatever the number of classes: F = total x free - useful.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Context
from typing import NamedTuple, TypeAlias

import numpy as np

from fairlead.core.ledger import Columns
from fairlead.model.base import Misuse
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape

NO = np.iinfo(np.int64).max
Kind: TypeAlias = tuple[str, ...]  # the models of a node's GPUs, each once; mostly one
WEIGHT_MAX = 2**40  # x 64 GPUs x 1000 still fits an int64


class Task(NamedTuple):
    """What one task takes of a node: thousandths of cores, and of each of its GPUs."""

    cpu: int
    milli: int = 0  # per GPU; below 1000 only with one GPU
    gpus: int = 0
    models: tuple[str, ...] = ()  # acceptable; empty: any

    def suits(self, kind: Kind) -> bool:
        """Whether a node with GPUs of these models has one that it may use."""
        return not self.models or any(model in self.models for model in kind)


def task_of(shape: Shape) -> Task:
    """Return what one member of a shape takes; of several shares, or shares beside whole GPUs, the
    part that is hardest to place."""
    if shape.gpus:
        return Task(shape.cpu_milli, WHOLE_GPU_MILLI, shape.gpus, shape.gpu_models)
    share = max(shape.shares, default=0)
    return Task(shape.cpu_milli, share, int(share > 0), shape.gpu_models)


class Workload:
    """Classes of tasks with their popularity, summed up for quick looks."""

    def __init__(self, weights: Mapping[Task, int], kinds: Iterable[Kind], devices: int) -> None:
        """Sum up for these kinds of nodes with at most so many GPUs; Misuse for bad classes."""
        for task, weight in weights.items():
            _check(task, weight)
        self.weights = dict(weights)
        self.total = sum(weights.values())
        if self.total > WEIGHT_MAX:
            raise Misuse(f"weights of classes sum to {self.total:,}, at most {WEIGHT_MAX:,}")
        self.kinds = {kind: index for index, kind in enumerate(dict.fromkeys(kinds))}
        asking = [task for task in weights if task.gpus]
        self.cpus = np.array(sorted({task.cpu for task in asking}), np.int64)
        sizes = np.array(sorted({task.milli for task in asking if task.gpus == 1}), np.int64)
        # How many of the sizes a GPU with 0 .. 1000 free thousandths has room for.
        self.room_for = np.searchsorted(sizes, np.arange(WHOLE_GPU_MILLI + 1), side="right")
        shape = len(self.kinds), len(self.cpus) + 1
        self.one: Columns = np.zeros((*shape, len(sizes) + 1), np.int64)
        self.several: Columns = np.zeros((*shape, devices + 1), np.int64)
        for task in asking:
            cpu = int(np.searchsorted(self.cpus, task.cpu)) + 1
            for kind, index in self.kinds.items():
                if not task.suits(kind):
                    continue
                if task.gpus == 1:
                    size = int(np.searchsorted(sizes, task.milli)) + 1
                    self.one[index, cpu, size] += weights[task]
                elif task.gpus <= devices:
                    self.several[index, cpu, task.gpus] += weights[task]
        for axis in (1, 2):  # of all that ask for no more cores and no larger size
            np.cumsum(self.one, axis=axis, out=self.one)
            np.cumsum(self.several, axis=axis, out=self.several)
        self.steps = _steps(self.total)


def _check(task: Task, weight: int) -> None:
    if weight < 0:
        raise Misuse(f"a class has the negative weight {weight}", field="weight")
    if task.cpu < 0 or task.gpus < 0:
        raise Misuse("a class asks for a negative amount", field="class")
    if task.gpus and not 0 < task.milli <= WHOLE_GPU_MILLI:
        raise Misuse(f"a class asks for {task.milli} thousandths of a GPU", field="milli")
    if task.gpus > 1 and task.milli != WHOLE_GPU_MILLI:
        raise Misuse("a share is of one GPU: several GPUs are whole ones", field="milli")


def _steps(total: int) -> Columns:
    """Return from which decrease on the published score is 1, 2, .. 99.

    It is floor(100 x sigmoid(decrease / 1000 thousandths)), so s begins at 1000 ln(s / (100 - s)).
    """
    exact = Context(prec=40)
    steps = []
    for score in range(1, 100):
        log = exact.subtract(exact.ln(score), exact.ln(100 - score))
        steps.append(
            exact.multiply(log, WHOLE_GPU_MILLI * total).to_integral_value("ROUND_CEILING")
        )
    return np.array([int(step) for step in steps], np.int64)


class Fragments:
    """The free cores and GPUs of many nodes, and what placing a task would do to F there."""

    def __init__(
        self,
        workload: Workload,
        cpu: Sequence[int],
        left: Sequence[Sequence[int]],
        kinds: Sequence[Kind],
        *,
        floored: bool = False,
    ) -> None:
        """Take each node's free cores, the free thousandths of its GPUs, and its kind.

        `floored`: `increase` gives minus the published score instead of the raw difference.
        """
        self.workload, self._floored = workload, floored
        width = workload.several.shape[2] - 1
        self.cpu: Columns = np.array(cpu, np.int64)
        self.left: Columns = np.zeros((len(cpu), width), np.int64)
        for node, free in enumerate(left):
            self.left[node, : len(free)] = free
        self.kind: Columns = np.array([workload.kinds[kind] for kind in kinds], np.int64)
        self.value: Columns = np.zeros(len(cpu), np.int64)  # F of each node
        self.mend(np.arange(len(cpu)))

    def set(self, node: int, cpu: int, left: Sequence[int]) -> None:
        """A node now has so much left; `mend` it before asking."""
        self.cpu[node] = cpu
        self.left[node, : len(left)] = left

    def mend(self, nodes: Columns) -> None:
        """Compute F anew for the nodes that changed."""
        useful, _ = self._useful(nodes, self.cpu[nodes])
        whole = self._whole(self.left[nodes])
        several = self._several(nodes, self.cpu[nodes], whole)
        free = self.left[nodes].sum(axis=1)
        self.value[nodes] = self.workload.total * free - useful.sum(axis=1) - several

    def increase(self, task: Task, nodes: Columns) -> Columns:
        """Return by how much F grows per node and GPU, NO where the task does not fit.

        One column per GPU for a share, else a single one: whole GPUs are taken by lowest index.
        """
        grown = self._increase(task, nodes)
        return self.floored(grown) if self._floored else grown

    def _increase(self, task: Task, nodes: Columns) -> Columns:
        cpu = self.cpu[nodes] - task.cpu
        left = self.left[nodes]
        # Without a GPU of the right model or enough cores it does not fit anywhere on the node.
        able = cpu >= 0
        if task.gpus and task.models:
            suits = [task.suits(kind) for kind in self.workload.kinds]
            able &= np.array(suits, np.bool_)[self.kind[nodes]]
        useful, looks = self._useful(nodes, np.maximum(cpu, 0))
        whole = self._whole(left)
        before = self.value[nodes]
        free = self.workload.total * left.sum(axis=1)
        if not task.gpus:
            several = self._several(nodes, np.maximum(cpu, 0), whole)
            grown = free - useful.sum(axis=1) - several - before
            return np.where(able, grown, NO)[:, None]
        if task.milli == WHOLE_GPU_MILLI:
            able &= whole >= task.gpus
            rest = np.maximum(whole - task.gpus, 0)
            several = self._several(nodes, np.maximum(cpu, 0), rest)
            each = WHOLE_GPU_MILLI * looks.one_whole  # what a whole GPU is worth on its own
            kept = useful.sum(axis=1) - task.gpus * each
            taken = self.workload.total * WHOLE_GPU_MILLI * task.gpus
            return np.where(able, free - taken - kept - several - before, NO)[:, None]
        rest = np.maximum(left - task.milli, 0)
        kept_here = rest * looks.of(rest)
        broken = left == WHOLE_GPU_MILLI
        several = np.where(
            broken,
            self._several(nodes, np.maximum(cpu, 0), np.maximum(whole - 1, 0))[:, None],
            self._several(nodes, np.maximum(cpu, 0), whole)[:, None],
        )
        kept = useful.sum(axis=1)[:, None] - useful + kept_here + several
        grown = (free - self.workload.total * task.milli - before)[:, None] - kept
        return np.where(able[:, None] & (left >= task.milli), grown, NO)

    def floored(self, grown: Columns) -> Columns:
        """Return minus the published score of 0..100 (fgd_score.go): many differences tie."""
        score = np.searchsorted(self.workload.steps, -grown, side="right")
        return np.where(grown == NO, NO, -score)

    def _useful(self, nodes: Columns, cpu: Columns) -> tuple[Columns, _Looks]:
        """Return what each GPU is worth to the classes of one GPU with so many cores left."""
        looks = _Looks(self.workload, self.kind[nodes], cpu)
        left = self.left[nodes]
        return left * looks.of(left), looks

    def _several(self, nodes: Columns, cpu: Columns, whole: Columns) -> Columns:
        """Return what so many whole GPUs are worth to the classes of several GPUs."""
        cores = np.searchsorted(self.workload.cpus, cpu, side="right")
        weight: Columns = self.workload.several[self.kind[nodes], cores, whole]
        return WHOLE_GPU_MILLI * whole * weight

    def _whole(self, left: Columns) -> Columns:
        count: Columns = np.count_nonzero(left == WHOLE_GPU_MILLI, axis=1)
        return count


class _Looks:
    """The weights of the classes of one GPU that run with so many cores, by free thousandths."""

    def __init__(self, workload: Workload, kind: Columns, cpu: Columns) -> None:
        cores = np.searchsorted(workload.cpus, cpu, side="right")
        self._one: Columns = workload.one[kind, cores]
        self._room_for = workload.room_for
        self.one_whole: Columns = self._one[:, -1]

    def of(self, left: Columns) -> Columns:
        """Return the weight of the classes that so much of a GPU is enough for."""
        found: Columns = np.take_along_axis(self._one, self._room_for[left], axis=1)
        return found
