"""One configuration (type and number of GPUs) per elastic job and round: Sia's program.

Jayaram Subramanya et al., SOSP 2023; algorithms.md 5.3. Minimise, over the jobs, (r g)^p of the
chosen configuration or lambda for none, with p < 0; g is the goodput relative to the job's least,
r what it keeps if it restarts, 1 where it stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.model.base import Misuse
from fairlead.solve.lp import Program, Status, Vector, linear, mixed
from fairlead.solve.mip import Clock

POWER = -0.5
LEFT_OUT = 1.1  # lambda: above 1, so that having something is always better
SMALL = 500  # columns up to which the program is solved as it is
FIRST_COLUMNS = 3  # per job, those nearest to their job's best, are tried first
PLANES_MAX = 60
CLOSE = 1e-7  # relative: how near the top of the dual is near enough


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
    precedence: float = 0.0  # what having anything counts beyond its worth: breaks ties

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
    Infeasible only where fixed jobs hold more than there is. Large rounds are cut down first to
    the columns that can be in a best choice (`_useful`); the answer is exact all the same.
    """
    if power == 0:
        raise Misuse("the power must not be 0", field="p")
    for number, job in enumerate(jobs):
        _check(number, job, configs, capacity)
    choice = [job.current if job.fixed else None for job in jobs]
    room = dict(capacity)
    for at in choice:
        if at is not None:
            room[configs[at].type] -= configs[at].gpus
    if min(room.values(), default=0) < 0:
        return Round("infeasible", [None] * len(jobs), None, None)
    free = [number for number, job in enumerate(jobs) if not job.fixed]
    names = sorted(room)
    board = _Board(
        cost=_costs([jobs[number] for number in free], len(configs), power, left_out),
        size=np.array([config.gpus for config in configs], float),
        kind=np.array([names.index(config.type) for config in configs], np.int64),
        room=np.array([room[name] for name in names], float),
    )
    answer = _best(board, Clock(time_limit_s))
    if answer.choice is None:
        return Round(answer.status, [None] * len(jobs), None, None)
    for number, found in zip(free, answer.choice, strict=True):
        choice[number] = found
    return Round(answer.status, choice, value_of(jobs, choice, power, left_out), answer.gap)


class _Board(NamedTuple):
    """A round as vectors: the cost of each job's columns relative to nothing, inf: it cannot."""

    cost: Vector
    size: Vector
    kind: npt.NDArray[np.int64]
    room: Vector


class _Best(NamedTuple):
    status: Status
    choice: list[int | None] | None
    gap: float | None


def _costs(jobs: Sequence[Elastic], width: int, power: float, left_out: float) -> Vector:
    sign = -1.0 if power > 0 else 1.0
    cost = np.full((len(jobs), width), np.inf)
    for row, job in zip(cost, jobs, strict=True):
        for at, value in enumerate(job.goodput):
            if value is not None:
                worth = sign * (_worth(job.kept(at) * value, power) - left_out)
                row[at] = worth - job.precedence
    return cost


def _best(board: _Board, clock: Clock) -> _Best:
    """Return the cheapest choice, exact unless the time is over."""
    useful = np.isfinite(board.cost)
    if useful.sum() <= SMALL:
        found, status, gap = _program(board, useful, clock)
        return _Best(status, found, gap)
    reduced, bound = _prices(board)
    few = min(FIRST_COLUMNS * len(board.cost), int(useful.sum()) - 1)
    margin = float(np.partition(reduced[useful], few)[few])
    while True:
        within = useful & (reduced <= margin)
        found, status, gap = _program(board, within, clock)
        if found is None or status != "optimal" or within.sum() == useful.sum():
            return _Best(status, found, gap)
        value = math.fsum(
            float(row[at]) for row, at in zip(board.cost, found, strict=True) if at is not None
        )
        # A choice with a column that costs more than this beyond the bound is worse than it.
        needed = value - bound + 1e-9 * (1 + abs(value))
        if needed <= margin:
            return _Best(status, found, gap)
        margin = needed


def _prices(board: _Board) -> tuple[Vector, float]:
    """Return what each column costs beyond its job's best, at the best prices, and their bound.

    The prices of GPUs by type maximise the dual; it is concave, so planes above it close in on its
    top (Kelley 1960). Any prices give a valid bound.
    """
    types = len(board.room)
    highest = float(np.abs(board.cost[np.isfinite(board.cost)]).max()) / float(board.size.min())
    planes: list[tuple[float, Vector]] = []
    at = np.full(types, highest / 8)
    best, prices = -np.inf, at
    for _ in range(PLANES_MAX):
        value, slope = _dual(board, at)
        if value > best:
            best, prices = value, at
        planes.append((value - float(slope @ at), slope))
        program = Program()
        top = program.column(-1.0, -np.inf)
        columns = [program.column(0.0, 0.0, highest) for _ in range(types)]
        for offset, each in planes:
            terms = dict(zip(columns, (-each).tolist(), strict=True))
            program.row({top: 1.0, **terms}, most=offset)
        answer = linear(program)
        assert answer.value is not None, "all prices at zero are allowed"
        if -answer.value - best <= CLOSE * (1 + abs(best)):
            break
        at = answer.x[1:]
    paid = board.cost + prices[board.kind] * board.size
    return paid - np.minimum(paid.min(axis=1), 0.0)[:, None], best


def _dual(board: _Board, prices: Vector) -> tuple[float, Vector]:
    """Return the dual's value at these prices, and its slope: GPUs wanted beyond the room."""
    paid = board.cost + prices[board.kind] * board.size
    at = paid.argmin(axis=1)
    least = paid[np.arange(len(paid)), at]
    chosen = at[least < 0]
    wanted = np.bincount(board.kind[chosen], board.size[chosen], len(board.room))
    value = float(np.minimum(least, 0.0).sum() - prices @ board.room)
    return value, wanted - board.room


def _program(
    board: _Board, useful: npt.NDArray[np.bool_], clock: Clock
) -> tuple[list[int | None] | None, Status, float | None]:
    """Return the best choice among some columns, its status and its gap."""
    program, limits = Program(), [dict[int, float]() for _ in board.room]
    rows, columns = np.nonzero(useful)
    mine: list[dict[int, int]] = [{} for _ in board.cost]
    for row, at in zip(rows.tolist(), columns.tolist(), strict=True):
        column = program.binary(float(board.cost[row, at]))
        mine[row][column] = at
        limits[int(board.kind[at])][column] = float(board.size[at])
    for each in mine:
        if each:
            program.row(dict.fromkeys(each, 1.0), most=1.0)
    for terms, most in zip(limits, board.room.tolist(), strict=True):
        if terms:
            program.row(terms, most=most)
    answer = mixed(program, None if clock.left() == math.inf else max(clock.left(), 0.0))
    if answer.value is None:
        return None, answer.status, None
    choice = [
        next((at for column, at in each.items() if answer.x[column] > 0.5), None) for each in mine
    ]
    return choice, answer.status, answer.gap


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
