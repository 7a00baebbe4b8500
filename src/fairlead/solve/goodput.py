"""How much useful work an elastic job does: throughput x statistical efficiency (Pollux).

algorithms.md 5.2; Qiao et al., OSDI 2021. A step on K replicas with local batch m and s extra
steps of accumulation takes M = K m (s + 1) samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fairlead.model.base import Misuse
from fairlead.solve.lp import Vector


@dataclass(frozen=True)
class Model:
    """Seconds of a step by its parts, and how noisy gradients are at the initial batch size."""

    alpha_c: float  # a local step, and per sample of it
    beta_c: float
    alpha_n: float  # synchronising over several nodes, and per replica beyond two
    beta_n: float
    alpha_r: float  # the same on one node
    beta_r: float
    gamma: float  # how far computing and synchronising overlap: 1 not at all
    init_batch: int
    sqr: float  # squared norm of the gradient
    var: float  # its variance


class Batch(NamedTuple):
    """What to run with, and the goodput in samples/s that it gives."""

    local: int
    accumulation: int
    goodput: float


def sync_s(model: Model, nodes: int, replicas: int) -> float:
    """Return the seconds that replicas on so many nodes need to agree on a step."""
    if not 1 <= nodes <= replicas:
        raise Misuse(f"{replicas} replicas cannot be on {nodes} nodes", field="nodes")
    if replicas == 1:
        return 0.0
    if nodes == 1:
        return model.alpha_r + model.beta_r * (replicas - 2)
    return model.alpha_n + model.beta_n * (replicas - 2)


def step_s(model: Model, nodes: int, replicas: int, local: float, accumulation: int) -> float:
    """Return the seconds of one step."""
    grad = model.alpha_c + model.beta_c * local
    sync = sync_s(model, nodes, replicas)
    last: float = (grad**model.gamma + sync**model.gamma) ** (1 / model.gamma)
    return accumulation * grad + last


def throughput(model: Model, nodes: int, replicas: int, local: float, accumulation: int) -> float:
    """Return samples/s."""
    total = replicas * local * (accumulation + 1)
    return total / step_s(model, nodes, replicas, local, accumulation)


def efficiency(model: Model, batch: float) -> float:
    """Return progress per sample relative to the initial batch size, which is the least allowed.

    Raises Misuse for a smaller batch: there the model says nothing.
    """
    if batch < model.init_batch:
        raise Misuse(
            f"a batch of {batch:g} is smaller than the initial {model.init_batch}",
            field="local_batch",
        )
    noise = model.init_batch * model.var / model.sqr
    return (noise + model.init_batch) / (noise + batch)


def goodput(model: Model, nodes: int, replicas: int, local: float, accumulation: int) -> float:
    """Return useful samples/s."""
    batch = replicas * local * (accumulation + 1)
    rate = throughput(model, nodes, replicas, local, accumulation)
    return rate * efficiency(model, batch)


def best_batch(
    model: Model,
    nodes: int,
    replicas: int,
    *,
    local_max: int,
    batch_max: int | None = None,
    accumulation_max: int = 0,
) -> Batch | None:
    """Return the local batch and accumulation of greatest goodput, None if none is allowed.

    `local_max` is what fits the memory of one replica, `batch_max` the most samples of a step.
    Exact over all integers; ties: least accumulation, then the smallest batch.
    """
    best: Batch | None = None
    for accumulation in range(accumulation_max + 1):
        each = replicas * (accumulation + 1)
        low = -(-model.init_batch // each)
        high = local_max if batch_max is None else min(local_max, batch_max // each)
        if low > high:
            continue
        local = np.arange(max(low, 1), high + 1, dtype=float)
        values = _goodputs(model, nodes, replicas, local, accumulation)
        at = int(values.argmax())
        if best is None or values[at] > best.goodput * (1 + 1e-9):
            best = Batch(int(local[at]), accumulation, float(values[at]))
    return best


def _goodputs(model: Model, nodes: int, replicas: int, local: Vector, accumulation: int) -> Vector:
    """Return the goodput for each local batch: the formulas above, all at once."""
    sync = sync_s(model, nodes, replicas)
    grad = model.alpha_c + model.beta_c * local
    seconds = accumulation * grad + (grad**model.gamma + sync**model.gamma) ** (1 / model.gamma)
    batch = replicas * local * (accumulation + 1)
    noise = model.init_batch * model.var / model.sqr
    values: Vector = batch / seconds * (noise + model.init_batch) / (noise + batch)
    return values


def power_mean(speedups: Sequence[float], power: float = -1.0) -> float:
    """Return the cluster's objective: (mean of speedup^p)^(1/p); 0 if p < 0 and some job has 0."""
    if not speedups or (power < 0 and min(speedups) <= 0):
        return 0.0
    mean = math.fsum(speed**power for speed in speedups) / len(speedups)
    total: float = mean ** (1 / power)
    return total


def restart_factor(age_s: float, restarts: int, cost_s: float) -> float:
    """Return what a job keeps of its speed if it restarts once more: (T - R d) / (T + d)."""
    return max(age_s - restarts * cost_s, 0.0) / (age_s + cost_s) if age_s + cost_s > 0 else 0.0


def best_replicas(
    speedups: Sequence[Sequence[float]], gpus: int, *, power: float = -1.0, waiting: float = 0.01
) -> list[int]:
    """Return the replicas per job, of equal GPUs, with the best power mean: exact, O(jobs G K).

    speedups[i][k - 1] is the speedup of job i on k replicas; a job without any counts as
    `waiting`. Ties: fewer GPUs to the earlier jobs.
    """
    if power == 0 or gpus < 0:
        raise Misuse("the power must not be 0, nor GPUs negative", field="p")
    sign = 1.0 if power > 0 else -1.0
    # value[g]: the best sum of signed powers over the jobs from here on, with g GPUs left.
    value = np.zeros(gpus + 1)
    choices = []
    for row in reversed(speedups):
        options = [waiting, *row[:gpus]]
        best = np.full(gpus + 1, -np.inf)
        choice = np.zeros(gpus + 1, np.int64)
        for count, speed in enumerate(options):
            gain = sign * max(speed, waiting) ** power
            total = np.full(gpus + 1, -np.inf)
            total[count:] = value[: gpus + 1 - count] + gain
            better = total > best + 1e-12 * np.abs(np.where(np.isfinite(best), best, 1.0))
            best[better], choice[better] = total[better], count
        choices.append(choice)
        value = best
    found, left = [], gpus
    for choice in reversed(choices):
        found.append(int(choice[left]))
        left -= found[-1]
    return found
