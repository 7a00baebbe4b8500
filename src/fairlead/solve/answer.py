"""What a solver answers: a plan with its proof, why there is none, or what is known so far."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from typing import Any

import msgspec

from fairlead.model.base import Record


class Status(StrEnum):
    """How an answer is to be taken."""

    OPTIMAL = "optimal"  # proven: no plan is better
    FEASIBLE = "feasible"  # the plan keeps every rule; how far it may be from the best is known
    INFEASIBLE = "infeasible"  # proven: no plan keeps every rule
    UNKNOWN = "unknown"  # neither a plan nor a proof that there is none, within the time


class Explanation(Record, frozen=True):
    """Why no plan keeps every rule.

    `rows` are the rules that contradict each other, in words; with `irreducible` any of them may be
    dropped and the rest has a plan. `tasks` need more than `resources`, all that they may use, can
    give: `shortage` too few; `smallest`: no smaller set of tasks is short.
    """

    rows: tuple[str, ...]
    irreducible: bool
    tasks: tuple[int, ...] = ()
    resources: tuple[int, ...] = ()
    shortage: int = 0
    placeable: int | None = None
    smallest: bool = False


class Duals(Record, frozen=True):
    """Prices that prove a plan: u_i + v_j <= c_ij everywhere, v <= 0, sum u + capacity·v = cost.

    To be left out counts as one more resource, of price `left_out` and capacity `left_out_most`.
    """

    u: tuple[int, ...]
    v: tuple[int, ...]
    left_out: int = 0
    left_out_most: int = 0


class Answer(Record, frozen=True):
    """The answer under one reading; amounts in units of 1/scale of the problem.

    `plan` has a resource per task, None for a task left out. `orders` has the tasks of each
    resource one after another, where a reading has an order. `bound` is a lower bound of the value,
    an integer because costs are; `bound_name` says whose. `smallest`: no plan of this value is
    lexicographically smaller.
    """

    status: Status
    reading: str
    value: int | None = None
    plan: tuple[int | None, ...] = ()
    orders: tuple[tuple[int, ...], ...] = ()
    bound: int | None = None
    bound_name: str = ""
    duals: Duals | None = None
    prices: tuple[Fraction, ...] = ()  # per resource: they prove a bound that is no plan's cost
    relaxed: Fraction | None = None  # what the prices prove, where a search proved more
    longest: int | None = None  # makespan: the prices count for pairs below this
    smallest: bool = False
    explanation: Explanation | None = None
    counter_offer: Answer | None = None
    reason: str = ""  # of `unknown`, or why a search ended early

    @property
    def gap(self) -> Fraction | None:
        """Return (value - bound) / |bound|; None where there is no bound, or it is zero."""
        if self.value is None or self.bound is None:
            return None
        if self.value == self.bound:
            return Fraction(0)
        return Fraction(self.value - self.bound, abs(self.bound)) if self.bound else None

    @property
    def placed(self) -> int:
        """Return how many tasks have a resource."""
        return sum(each is not None for each in self.plan)


def encode(answer: Answer) -> bytes:
    """Return an answer as JSON; fractions as "a/b"."""
    return msgspec.json.encode(answer, enc_hook=str)


def decode(data: bytes) -> Answer:
    """Return the answer that `encode` wrote."""
    return msgspec.json.decode(data, type=Answer, dec_hook=_fraction)


def _fraction(kind: type, value: Any) -> Any:
    if kind is Fraction:
        return Fraction(value)
    raise NotImplementedError(kind)
