"""The greatest common level of many classes of jobs, by an interior-point method of our own.

maximise t subject to
    sum_j a_ij x_ij >= t              the level of class i
    sum_j x_ij <= 1                   its time
    sum_i size_i x_ij <= devices_j    the devices of each type
Classes meet only in the few device rows and in t. So a step of Mehrotra's predictor-corrector
method (SIAM J. Optim. 1992) solves 2 x 2 systems per class, all at once, and one small system of
types + 1: thousands of classes take milliseconds per step, where a general solver factors
everything. The end is proven: the shares are cut to what there is, their least level is the value,
and any prices give a bound (`bound`). The answer lies in the middle of the best ones, so it does
not depend on the order of the classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fairlead.solve.lp import SolverFailed, Vector

STEPS_MAX = 80
GOOD = 1e-8  # relative gap that is accepted where rounding allows no less
PROVEN = 1e-10  # relative gap at which it ends
NEAR_EDGE = 0.995  # of the way to the boundary that a step goes


@dataclass(frozen=True)
class Levels:
    """Shares per class and type, the least level, a bound above it, and the price of each level."""

    shares: Vector
    level: float
    bound: float
    prices: Vector  # of each level, they sum to 1; above 0: it cannot rise


@dataclass
class _Point:
    """The variables, then the prices; `open` says which shares may be above zero."""

    x: Vector
    time: Vector
    over: Vector
    spare: Vector
    t: float
    zx: Vector
    u: Vector
    y: Vector
    q: Vector
    zt: float


class _Model:
    def __init__(self, rates: Vector, sizes: Vector, devices: Vector, per_level: Vector) -> None:
        # Types in rows, classes in columns: sums over the few types are then quick.
        self.open: npt.NDArray[np.bool_] = (rates.T > 0) & (devices > 0)[:, None]
        self.a: Vector = np.where(self.open, rates.T, 0.0)
        self.c = sizes
        self.d = per_level  # what each row must have for a level of 1
        self.n = np.where(devices > 0, devices, 1.0)  # a row of closed shares binds nothing
        self.pairs = int(self.open.sum()) + 2 * len(sizes) + len(devices) + 1

    def start(self) -> _Point:
        count = len(self.c)
        each = 1.0 / count
        x = np.where(self.open, 0.5 / np.maximum(self.open.sum(axis=0), 1), 0.0)
        ones = np.ones(count)
        q = np.full(len(self.n), each / float(self.c.mean()))
        return _Point(
            x, 0.5 * ones, ones, 0.5 * self.n, 1.0, np.full(x.shape, each), each * ones,
            each * ones, q, each,
        )  # fmt: skip

    def products(self, p: _Point) -> float:
        """Return the sum of variable x price: the gap, once both are feasible."""
        return float((p.x * p.zx).sum() + p.time @ p.u + p.over @ p.y + p.spare @ p.q + p.t * p.zt)

    def step(self, p: _Point, system: _System, aim: float, first: _Point | None) -> _Point:
        """Return the step towards products of `aim` each; `first` is the predictor's own step."""
        a, c, d = self.a, self.c, self.d
        second = _Point(*(0.0,) * 10) if first is None else first  # type: ignore[arg-type]
        kx = np.where(self.open, aim - p.x * p.zx - second.x * second.zx, 0.0)
        ks = aim - p.time * p.u - second.time * second.u
        kw = aim - p.over * p.y - second.over * second.y
        kv = aim - p.spare * p.q - second.spare * second.q
        kt = aim - p.t * p.zt - second.t * second.zt
        r1 = 1.0 - p.x.sum(axis=0) - p.time
        r2 = -(a * p.x).sum(axis=0) + d * p.t + p.over
        r3 = self.n - p.x @ c - p.spare
        rx = np.where(self.open, p.u + c * p.q[:, None] - a * p.y - p.zx, 0.0)
        rt = float(d @ p.y) - 1.0 - p.zt
        base = kx / p.zx - system.ratio * rx
        du, dy, dq, dt = system.solve(
            base, ks / p.u - r1, r2 + kw / p.y, kv / p.q - r3, kt / p.t - rt
        )
        dzx = np.where(self.open, du + c * dq[:, None] - a * dy + rx, 0.0)
        return _Point(
            np.where(self.open, (kx - p.x * dzx) / p.zx, 0.0),
            (ks - p.time * du) / p.u,
            (kw - p.over * dy) / p.y,
            (kv - p.spare * dq) / p.q,
            dt, dzx, du, dy, dq, float(d @ dy) + rt,
        )  # fmt: skip

    def lengths(self, p: _Point, d: _Point) -> tuple[float, float]:
        """Return how far the step may go, for the variables and for the prices."""
        first = _room(
            (p.x[self.open], d.x[self.open]), (p.time, d.time), (p.over, d.over),
            (p.spare, d.spare), (np.array([p.t]), np.array([d.t])),
        )  # fmt: skip
        last = _room(
            (p.zx[self.open], d.zx[self.open]), (p.u, d.u), (p.y, d.y), (p.q, d.q),
            (np.array([p.zt]), np.array([d.zt])),
        )  # fmt: skip
        return first, last

    def moved(self, p: _Point, d: _Point, far: float, wide: float) -> _Point:
        return _Point(
            p.x + far * d.x, p.time + far * d.time, p.over + far * d.over,
            p.spare + far * d.spare, p.t + far * d.t, p.zx + wide * d.zx, p.u + wide * d.u,
            p.y + wide * d.y, p.q + wide * d.q, p.zt + wide * d.zt,
        )  # fmt: skip

    def value(self, x: Vector) -> tuple[Vector, float]:
        """Return the shares cut to what there is, and the least level that they give."""
        x = np.where(self.open, np.maximum(x, 0.0), 0.0)
        x = x / np.maximum(x.sum(axis=0), 1.0)
        x = x * np.minimum(1.0, self.n / np.maximum(x @ self.c, 1e-300))[:, None]
        return x, float(((self.a * x).sum(axis=0) / self.d).min())

    def bound(self, y: Vector, q: Vector) -> tuple[Vector, float]:
        """Return a level that no shares exceed, by any prices: those of levels sum to one."""
        y = np.maximum(y, 0.0)
        y = y / float(self.d @ y)
        q = np.maximum(q, 0.0)
        gain = np.where(self.open, self.a * y - self.c * q[:, None], 0.0)
        most = np.maximum(gain.max(axis=0), 0.0)
        return y, float(q @ self.n + most.sum())


_Change: TypeAlias = tuple[Vector, Vector, Vector, float]


class _System:
    """The equations of a step, with each class eliminated: types + 1 of them are left.

    With D = x / zx and flow = D (du + c dq - a dy) they are
        sum_j flow + (time / u) du = sum_j base + e1
        -sum_j a flow + (over / y) dy - d dt = -sum_j a base + e2
        sum_i c flow + (spare / q) dq = sum_i c base + e3
        sum_i d dy + (zt / t) dt = e4
    Near the end D is huge for the one type that a class is on and tiny for the others. Whatever
    would be a small difference of large numbers then is written as a sum of what is small.
    """

    def __init__(self, model: _Model, p: _Point) -> None:
        a, c, d = model.a, model.c, model.d
        self.a, self.c, self.d = a, c, d
        self.ratio: Vector = np.where(model.open, p.x / p.zx, 0.0)
        ratio = self.ratio
        self.by_time, self.by_over = p.time / p.u, p.over / p.y
        self.by_spare, self.by_t = p.spare / p.q, p.zt / p.t
        types = range(len(a))
        self.first = ratio.sum(axis=0) + self.by_time  # the pivot of du
        self.mean = (a * ratio).sum(axis=0) / self.first
        self.apart = self.mean - a
        # The pivot of dy: sum_j a^2 D + over / y - (sum_j a D)^2 / first.
        pivot = self.by_time * (a * a * ratio).sum(axis=0)
        for j in types:
            for k in range(j):
                pivot += ratio[j] * ratio[k] * (a[j] - a[k]) ** 2
        self.second = pivot / self.first + self.by_over
        self.link = c * ratio
        self.turned = np.concatenate((self.link * self.apart, -d[None]))
        small = np.zeros((len(types) + 1,) * 2)
        scaled = self.link / self.first
        small[:-1, :-1] = -self.link @ scaled.T
        for j in types:
            others = self.by_time + sum(ratio[k] for k in types if k != j)
            small[j, j] = self.by_spare[j] + float((c * scaled[j] * others).sum())
        small[-1, -1] = -self.by_t
        self.small = small - self.turned @ (self.turned / self.second).T

    def solve(self, base: Vector, e1: Vector, e2: Vector, e3: Vector, e4: float) -> _Change:
        """Return du, dy, dq, dt."""
        g1 = base.sum(axis=0) + e1
        g2 = (self.apart * base).sum(axis=0) + self.mean * e1 + e2
        by_first, by_second = g1 / self.first, g2 / self.second
        # sum_i c base - link g1 / first, where a class's own base and its pivot are alike.
        own = (base - self.ratio * by_first) @ self.c
        right = np.append(own + e3, -e4) - self.turned @ by_second
        linked = np.linalg.solve(self.small, right)
        dq: Vector = linked[:-1]
        dy = by_second - (linked @ self.turned) / self.second
        du = by_first + self.mean * dy - (dq @ self.link) / self.first
        return du, dy, dq, float(linked[-1])


def _room(*pairs: tuple[Vector, Vector]) -> float:
    far = 1.0 / NEAR_EDGE
    for value, change in pairs:
        falling = change < 0
        if falling.any():
            far = min(far, float((value[falling] / -change[falling]).min()))
    return min(1.0, NEAR_EDGE * far)


def greatest(rates: Vector, sizes: Vector, devices: Vector) -> Levels:
    """Return the shares of greatest least level: rates[class, type], sizes, devices[type].

    Every class has a type that it can run on. Raises SolverFailed where no proof comes.
    """
    # Rows of like size and a level of about one: the numbers of a step then are too.
    largest = np.where(devices > 0, rates, 0.0).max(axis=1)
    unit = float(np.median(largest))
    model = _Model(rates / largest[:, None], sizes, devices, unit / largest)
    with np.errstate(all="ignore"):  # what is not finite ends it
        found = _search(model)
    if found is None:
        raise SolverFailed("the interior-point method came to no proof")
    shares, level, bound, prices = found
    return Levels(shares.T, level * unit, bound * unit, prices * unit / largest)


def _search(model: _Model) -> tuple[Vector, float, float, Vector] | None:
    """Return the shares, the level, its bound and the prices; None if they do not meet."""
    p = model.start()
    best, lowest, shares, prices = -np.inf, np.inf, p.x, p.y
    for _ in range(STEPS_MAX):
        cut, level = model.value(p.x)
        priced, bound = model.bound(p.y, p.q)
        if level > best:
            best, shares = level, cut
        if bound < lowest:
            lowest, prices = bound, priced
        if lowest - best <= PROVEN * lowest:
            break
        try:
            p = _moved(model, p)
        except np.linalg.LinAlgError:
            break
        if not np.isfinite(p.t):
            break
    return (shares, best, lowest, prices) if lowest - best <= GOOD * lowest else None


def _moved(model: _Model, p: _Point) -> _Point:
    """Return the next point: a look ahead says how much to keep to the middle, then the step."""
    system = _System(model, p)
    mean = model.products(p) / model.pairs
    first = model.step(p, system, 0.0, None)
    after = model.products(model.moved(p, first, *model.lengths(p, first))) / model.pairs
    step = model.step(p, system, mean * min((after / mean) ** 3, 1.0), first)
    return model.moved(p, step, *model.lengths(p, step))
