"""Which jobs share a GPU: pairs and singles of greatest total rate (algorithms.md 11).

Rates are relative to running alone on the same type of GPU. A pair is allowed where both rates
are known, neither is too slow, the pair gains enough, and both fit its memory. Unknown pairs do
not share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairlead.model.base import Misuse
from fairlead.solve.lp import Program, Status, mixed

Pair = tuple[str, str]


@dataclass(frozen=True)
class Sharing:
    """Who shares with whom, who has a GPU alone, who has none; `total` is the sum of rates."""

    status: Status
    pairs: list[Pair]
    alone: list[str]
    waiting: list[str]
    total: float


def allowed(
    rates: Mapping[Pair, tuple[float, float]],
    *,
    min_gain: float,
    min_rate: float,
    memory: Mapping[str, int] | None = None,
    gpu_memory: int | None = None,
    never: frozenset[str] = frozenset(),
) -> dict[Pair, float]:
    """Return the total rate of every pair that may share, its names in order.

    `never`: jobs that must not share, as those that answer within a time. With memory given,
    both together must fit `gpu_memory`, and a job whose memory is unknown shares with nobody.
    """
    found: dict[Pair, float] = {}
    for (one, other), (rate, its) in rates.items():
        if one == other or not (rate >= 0 and its >= 0):
            raise Misuse(f"the rates of {one} and {other} make no sense", field="pair_rate")
        if {one, other} & never or min(rate, its) < min_rate or rate + its < 1 + min_gain:
            continue
        if memory is not None and gpu_memory is not None:
            needed = [memory.get(name) for name in (one, other)]
            if None in needed or sum(size or 0 for size in needed) > gpu_memory:
                continue
        found[min(one, other), max(one, other)] = rate + its
    return found


def share(
    jobs: Sequence[str],
    pairs: Mapping[Pair, float],
    gpus: int,
    time_limit_s: float | None = None,
) -> Sharing:
    """Return pairs and singles on at most so many GPUs with the greatest total rate.

    A mixed program: at most once per job, at most so many GPUs. Never below running as many alone
    as there are GPUs, since that is allowed too. The same for any order of the jobs.
    """
    if gpus < 0 or len(set(jobs)) < len(jobs):
        raise Misuse("GPUs must not be negative, nor jobs come twice", field="jobs")
    names = sorted(jobs)
    program = Program()
    single = {name: program.binary(-1.0) for name in names}
    double = {
        pair: program.binary(-pairs[pair])
        for pair in sorted(pairs)
        if pair[0] in single and pair[1] in single
    }
    of: dict[str, dict[int, float]] = {name: {single[name]: 1.0} for name in names}
    for pair, column in double.items():
        for name in pair:
            of[name][column] = 1.0
    for name in names:
        program.row(of[name], most=1.0)
    program.row(dict.fromkeys([*single.values(), *double.values()], 1.0), most=float(gpus))
    answer = mixed(program, time_limit_s)
    if answer.value is None:  # no time: as many alone as there are GPUs
        return Sharing("feasible", [], names[:gpus], names[gpus:], float(min(gpus, len(names))))
    together = [pair for pair, column in double.items() if answer.x[column] > 0.5]
    alone = [name for name in names if answer.x[single[name]] > 0.5]
    busy = {name for pair in together for name in pair} | set(alone)
    return Sharing(
        answer.status,
        together,
        alone,
        [name for name in names if name not in busy],
        sum(pairs[pair] for pair in together) + len(alone),
    )


def keep(rates: tuple[float, float], *, min_gain: float, min_rate: float, slack: float) -> bool:
    """Whether a pair that shares should go on, by what was measured.

    With hysteresis: it is parted only when it is below what lets pairs share by more than `slack`,
    so that noise around the threshold does not part and pair it for ever.
    """
    return min(rates) >= min_rate - slack and sum(rates) >= 1 + min_gain - slack
