"""One configuration (type and number of GPUs) per elastic job and round: Sia's program.

Jayaram Subramanya et al., SOSP 2023; algorithms.md 5.3. Minimise, over the jobs, (r g)^p of the
chosen configuration or lambda for none, with p < 0; g is the goodput relative to the job's least,
r what it keeps if it restarts, 1 where it stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairlead.model.base import Misuse
from fairlead.solve.lp import Program, Status, mixed

POWER = -0.5
LEFT_OUT = 1.1  # lambda: above 1, so that having something is always better


@dataclass(frozen=True)
class Config:
    """So many GPUs of one type."""

    type: str
    gpus: int


@dataclass(frozen=True)
class Elastic:
    """What a job makes of each configuration, None where it cannot run."""

    goodput: tuple[float | None, ...]  # relative to the least, so at least 1
    restart: float = 1.0  # of its speed, kept when the configuration changes
    current: int | None = None
    fixed: bool = False  # not preemptible: it keeps its current configuration

    def kept(self, config: int) -> float:
        """Return the factor r: a job that does not run has nothing to restart."""
        return 1.0 if self.current in (None, config) else self.restart


@dataclass(frozen=True)
class Round:
    """The configuration per job, None for none; `gap` 0 for a proven optimum."""

    status: Status
    choice: list[int | None]
    objective: float | None
    gap: float | None


def configs_of(node_gpus: Mapping[str, int], nodes: Mapping[str, int]) -> list[Config]:
    """Return the configurations of each type: powers of two on one node, then whole nodes."""
    found = []
    for name in sorted(node_gpus):
        size, count = node_gpus[name], nodes[name]
        if count < 1:
            continue
        within = [2**power for power in range(size.bit_length()) if 2**power < size]
        found += [Config(name, gpus) for gpus in within]
        found += [Config(name, size * number) for number in range(1, count + 1)]
    return found


def relative(goodputs: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return goodputs over the least of those above zero; zero is as None: it cannot run there."""
    usable = [value for value in goodputs if value is not None and value > 0]
    if not usable:
        return (None,) * len(goodputs)
    least = min(usable)
    return tuple(value / least if value is not None and value > 0 else None for value in goodputs)


def choose(
    jobs: Sequence[Elastic],
    configs: Sequence[Config],
    capacity: Mapping[str, int],
    *,
    power: float = POWER,
    left_out: float = LEFT_OUT,
    time_limit_s: float | None = None,
) -> Round:
    """Return the best configuration of every job within the capacity of each type.

    With a power above 0 the sum is maximised, and `left_out` is what having nothing counts.
    Infeasible only where fixed jobs hold more than there is.
    """
    if power == 0:
        raise Misuse("the power must not be 0", field="p")
    sign = -1.0 if power > 0 else 1.0
    program, columns = Program(), []
    for number, job in enumerate(jobs):
        _check(number, job, configs, capacity)
        mine = {}
        for at, value in enumerate(job.goodput):
            if value is not None and (not job.fixed or at == job.current):
                # Relative to having nothing, which is what all columns at 0 mean.
                worth = _worth(job.kept(at) * value, power)
                mine[at] = program.binary(sign * (worth - left_out))
        columns.append(mine)
        if mine:
            terms = dict.fromkeys(mine.values(), 1.0)
            program.row(terms, least=1.0 if job.fixed else 0.0, most=1.0)
    for name in sorted(capacity):
        terms = {
            column: float(configs[at].gpus)
            for mine in columns
            for at, column in mine.items()
            if configs[at].type == name
        }
        if terms:
            program.row(terms, most=float(capacity[name]))
    answer = mixed(program, time_limit_s)
    if answer.value is None:
        return Round(answer.status, [None] * len(jobs), None, None)
    choice = [
        next((at for at, column in mine.items() if answer.x[column] > 0.5), None)
        for mine in columns
    ]
    return Round(answer.status, choice, value_of(jobs, choice, power, left_out), answer.gap)


def value_of(
    jobs: Sequence[Elastic],
    choice: Sequence[int | None],
    power: float = POWER,
    left_out: float = LEFT_OUT,
) -> float:
    """Return the objective of a choice."""
    return math.fsum(_value(job, at, power, left_out) for job, at in zip(jobs, choice, strict=True))


def _value(job: Elastic, at: int | None, power: float, left_out: float) -> float:
    if at is None:
        return left_out
    value = job.goodput[at]
    assert value is not None
    return _worth(job.kept(at) * value, power)


def _worth(speed: float, power: float) -> float:
    """Return speed^p; a speed of nearly nothing is worth a large finite number if p < 0."""
    result: float = max(speed, 1e-6) ** power
    return result


def _check(
    number: int, job: Elastic, configs: Sequence[Config], capacity: Mapping[str, int]
) -> None:
    if len(job.goodput) != len(configs):
        raise Misuse(
            f"job {number} has {len(job.goodput)} goodputs for {len(configs)} configurations",
            field="goodput",
        )
    for config in configs:
        if config.type not in capacity:
            raise Misuse(f"a configuration is of the unknown type '{config.type}'", field="configs")
    if any(value is not None and not value > 0 for value in job.goodput):
        raise Misuse(
            f"job {number} has a goodput of zero", field="goodput", hint="say None: it cannot run"
        )
    if not 0 <= job.restart <= 1:
        raise Misuse(f"job {number} keeps {job.restart} of its speed", field="restart")
    if job.fixed and (job.current is None or job.goodput[job.current] is None):
        raise Misuse(f"job {number} is fixed to no configuration", field="current")
