"""Mean response times in closed form: what a right simulator must come close to.

Poisson arrivals, times in seconds. The formulas are those of queueing theory's textbooks
(Harchol-Balter, Performance Modeling and Design of Computer Systems, 2013: M/M/c, M/G/1 under
FCFS, PS, SJF, SRPT and FB, priority classes); partial moments are exact, what remains to integrate
is done by Gauss-Legendre quadrature on panels, to a relative error far below 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fairlead.model.base import Misuse

Floats: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Callable[[Floats], Floats]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANELS = 240
_TAIL = 80.0  # mean sizes after which an exponential tail is below 1e-34
_FINEST = 1e-7  # of the largest size: the first panel


class Size(Protocol):
    """A distribution of job sizes (run times alone, in seconds)."""

    def mean(self) -> float:
        """Return E[S]."""
        ...

    def square(self) -> float:
        """Return E[S^2]."""
        ...

    def tail(self, x: Floats) -> Floats:
        """Return P(S > x)."""
        ...

    def density(self, x: Floats) -> Floats:
        """Return the density at x."""
        ...

    def part(self, x: Floats, power: int) -> Floats:
        """Return the integral of t^power over sizes up to x; power 1 or 2."""
        ...

    def grid(self) -> tuple[float, float]:
        """Return the least and the largest size that count."""
        ...


@dataclass(frozen=True)
class Hyperexponential:
    """With probability weights[i] exponential of mean means[i]."""

    weights: tuple[float, ...]
    means: tuple[float, ...]

    def mean(self) -> float:
        """Return E[S]."""
        return sum(p * m for p, m in zip(self.weights, self.means, strict=True))

    def square(self) -> float:
        """Return E[S^2]."""
        return sum(2 * p * m * m for p, m in zip(self.weights, self.means, strict=True))

    def tail(self, x: Floats) -> Floats:
        """Return P(S > x)."""
        return self._sum(lambda m: np.exp(-x / m))

    def density(self, x: Floats) -> Floats:
        """Return the density at x."""
        return self._sum(lambda m: np.exp(-x / m) / m)

    def part(self, x: Floats, power: int) -> Floats:
        """Return the integral of t^power over sizes up to x."""
        if power == 1:
            return self._sum(lambda m: m - np.exp(-x / m) * (x + m))
        return self._sum(lambda m: 2 * m * m - np.exp(-x / m) * (x * x + 2 * m * x + 2 * m * m))

    def grid(self) -> tuple[float, float]:
        """Return the least and the largest size that count."""
        return 0.0, _TAIL * max(self.means)

    def _sum(self, each: Callable[[float], Floats]) -> Floats:
        parts = [p * each(m) for p, m in zip(self.weights, self.means, strict=True)]
        total: Floats = np.sum(parts, axis=0)
        return total


def exponential(mean: float) -> Hyperexponential:
    """Return the exponential distribution."""
    return Hyperexponential((1.0,), (mean,))


@dataclass(frozen=True)
class Uniform:
    """Any size from low to high alike."""

    low: float
    high: float

    def mean(self) -> float:
        """Return E[S]."""
        return (self.low + self.high) / 2

    def square(self) -> float:
        """Return E[S^2]."""
        return (self.low**2 + self.low * self.high + self.high**2) / 3

    def tail(self, x: Floats) -> Floats:
        """Return P(S > x)."""
        return (self.high - np.clip(x, self.low, self.high)) / (self.high - self.low)

    def density(self, x: Floats) -> Floats:
        """Return the density at x."""
        inside = (x >= self.low) & (x <= self.high)
        return np.where(inside, 1 / (self.high - self.low), 0.0)

    def part(self, x: Floats, power: int) -> Floats:
        """Return the integral of t^power over sizes up to x."""
        order = power + 1
        upto: Floats = np.clip(x, self.low, self.high) ** order - self.low**order
        return upto / (order * (self.high - self.low))

    def grid(self) -> tuple[float, float]:
        """Return the least and the largest size that count."""
        return self.low, self.high


@dataclass(frozen=True)
class BoundedPareto:
    """Heavy-tailed between low and high: density proportional to x^(-alpha - 1)."""

    alpha: float
    low: float
    high: float

    def _scale(self) -> float:
        share = 1 - (self.low / self.high) ** self.alpha
        return float(self.alpha * self.low**self.alpha / share)

    def mean(self) -> float:
        """Return E[S]."""
        return float(self.part(np.array(self.high), 1))

    def square(self) -> float:
        """Return E[S^2]."""
        return float(self.part(np.array(self.high), 2))

    def tail(self, x: Floats) -> Floats:
        """Return P(S > x)."""
        beyond: Floats = np.clip(x, self.low, self.high) ** -self.alpha - self.high**-self.alpha
        return beyond * (self._scale() / self.alpha)

    def density(self, x: Floats) -> Floats:
        """Return the density at x."""
        inside = (x >= self.low) & (x <= self.high)
        return np.where(inside, self._scale() * np.maximum(x, self.low) ** (-self.alpha - 1), 0.0)

    def part(self, x: Floats, power: int) -> Floats:
        """Return the integral of t^power over sizes up to x."""
        upto: Floats = np.clip(x, self.low, self.high)
        order = power - self.alpha
        if order == 0:
            logs: Floats = np.log(upto / self.low)
            return logs * self._scale()
        powers: Floats = upto**order - self.low**order
        return powers * (self._scale() / order)

    def grid(self) -> tuple[float, float]:
        """Return the least and the largest size that count."""
        return self.low, self.high


@dataclass(frozen=True)
class Constant:
    """Always the same size."""

    size: float

    def mean(self) -> float:
        """Return E[S]."""
        return self.size

    def square(self) -> float:
        """Return E[S^2]."""
        return self.size**2

    def tail(self, x: Floats) -> Floats:
        """Return P(S > x)."""
        return np.where(x < self.size, 1.0, 0.0)

    def density(self, x: Floats) -> Floats:
        """Raise Misuse: there is none."""
        raise Misuse("sizes that are all equal have no density")

    def part(self, x: Floats, power: int) -> Floats:
        """Return the integral of t^power over sizes up to x."""
        return np.where(x < self.size, 0.0, self.size**power)

    def grid(self) -> tuple[float, float]:
        """Return the least and the largest size that count."""
        return self.size, self.size


# ---- one server ---------------------------------------------------------------------------------


def conditional(policy: str, rate: float, size: Size, x: float) -> float:
    """Return E[T(x)]: the mean response time of a job of size x at `rate` arrivals per second."""
    _check_load(rate * size.mean())
    return float(_response(policy, rate, size, np.array([x]))[0])


def mean_response(policy: str, rate: float, size: Size) -> float:
    """Return E[T] of an M/G/1 under fcfs, ps, srpt, fb or sjf (which does not preempt)."""
    load = rate * size.mean()
    _check_load(load)
    if policy == "ps":
        return size.mean() / (1 - load)
    if policy == "fcfs" or (isinstance(size, Constant) and policy in ("sjf", "srpt")):
        return size.mean() + rate * size.square() / (2 * (1 - load))
    if isinstance(size, Constant):
        return conditional(policy, rate, size, size.size)
    low, high = size.grid()
    if policy == "srpt":  # the time in service, integrated by parts: P(S > t) / (1 - rho(t))
        served = _integral(lambda t: size.tail(t) / (1 - rate * size.part(t, 1)), 0.0, high)
        waited = _integral(lambda x: size.density(x) * _srpt_wait(rate, size, x), low, high)
        return served + waited
    return _integral(lambda x: size.density(x) * _response(policy, rate, size, x), low, high)


def _check_load(load: float) -> None:
    if not 0 < load < 1:
        raise Misuse(
            f"a load of {load:g} has no mean response time", field="load", hint="between 0 and 1"
        )


def _response(policy: str, rate: float, size: Size, x: Floats) -> Floats:
    """Return E[T(x)] for each x (srpt: one at a time)."""
    load = rate * size.mean()
    if policy == "fcfs":
        return x + rate * size.square() / (2 * (1 - load))
    if policy == "ps":
        return x / (1 - load)
    if policy == "sjf":
        return x + rate * size.square() / (2 * (1 - rate * size.part(x, 1)) ** 2)
    if policy == "fb":
        left = 1 - rate * (size.part(x, 1) + x * size.tail(x))
        return x / left + rate * (size.part(x, 2) + x * x * size.tail(x)) / (2 * left**2)
    if policy == "srpt":
        ends = [_integral(lambda t: 1 / (1 - rate * size.part(t, 1)), 0.0, float(e)) for e in x]
        return np.array(ends) + _srpt_wait(rate, size, x)
    raise Misuse(
        f"there is no closed form for '{policy}'",
        field="policy",
        hint="one of fcfs, ps, srpt, fb, sjf",
    )


def _srpt_wait(rate: float, size: Size, x: Floats) -> Floats:
    square = size.part(x, 2) + x * x * size.tail(x)
    return rate * square / (2 * (1 - rate * size.part(x, 1)) ** 2)


def _integral(function: Function, low: float, high: float) -> float:
    """Return the integral from low to high, on panels that grow with the distance from 0."""
    if high <= low:
        return 0.0
    first = max(low, high * _FINEST)
    edges = np.unique(np.concatenate(([low], np.geomspace(first, high, _PANELS + 1))))
    half = np.diff(edges)[:, None] / 2
    at = edges[:-1, None] + half * (1 + _NODES[None, :])
    values = function(at.ravel()).reshape(at.shape)
    return float(np.sum(values * _WEIGHTS[None, :] * half))


# ---- several servers, several classes ----------------------------------------------------------


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that an arrival at an M/M/c has to wait; offered = rate / mu."""
    _check_load(offered / servers)
    blocked = 1.0  # Erlang B by recursion
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - (offered / servers) * (1 - blocked))


def mmc_response(rate: float, mu: float, servers: int) -> float:
    """Return E[T] of an M/M/c: 1/mu + C/(c mu - rate)."""
    return 1 / mu + erlang_c(servers, rate / mu) / (servers * mu - rate)


def priority_responses(classes: Sequence[tuple[float, Size]], *, preemptive: bool) -> list[float]:
    """Return E[T] per class of an M/G/1, best first; classes are (rate, size).

    Non-preemptive (Cobham) or preemptive-resume.
    """
    _check_load(sum(rate * size.mean() for rate, size in classes))
    residual = sum(rate * size.square() for rate, size in classes) / 2
    above = above_residual = 0.0
    responses = []
    for rate, size in classes:
        upto = above + rate * size.mean()
        above_residual += rate * size.square() / 2
        if preemptive:
            wait = above_residual / ((1 - above) * (1 - upto))
            responses.append(size.mean() / (1 - above) + wait)
        else:
            responses.append(size.mean() + residual / ((1 - above) * (1 - upto)))
        above = upto
    return responses
