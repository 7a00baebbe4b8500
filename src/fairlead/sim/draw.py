"""Geometry of the page of a comparison: scales, ticks, and paths in a grid of WIDE x HIGH units.

The template stretches the grid over whatever room there is and sets the words beside it at their
own size, so that a phone shrinks the lines but not the letters. Nothing here is markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fairlead.sim.metrics import percentile

WIDE, HIGH = 600, 400  # about the pixels of a figure on a desk: finer steps would not be seen
GAP = 0.12  # least distance of two ticks, as a part of the axis: the width of "10m" on a phone
# Beyond so many lines in one figure nobody can tell them apart; each then gets a panel.
LINES_MAX = 6

Numbers: TypeAlias = npt.NDArray[Any]
Tick: TypeAlias = tuple[float, str]  # where, in per cent of the axis, and the words there

_WAITS = (
    (0, "0"),
    (1, "1s"),
    (10, "10s"),
    (60, "1m"),
    (600, "10m"),
    (3600, "1h"),
    (36_000, "10h"),
    (4 * 86_400, "4d"),
    (40 * 86_400, "40d"),
    (400 * 86_400, "400d"),
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from values to parts of an axis, 0 to 1, with its ticks."""

    part: Callable[[Numbers], Numbers]
    ticks: tuple[Tick, ...]

    def percent(self, value: float) -> float:
        """Return where one value is, in per cent of the axis."""
        return round(100 * float(self.part(np.array([value]))[0]), 2)

    def grid(self, values: Numbers) -> npt.NDArray[np.int64]:
        """Return where values are, in whole units of the grid's width."""
        units: npt.NDArray[np.int64] = np.rint(WIDE * self.part(values)).astype(np.int64)
        return units


@dataclass(frozen=True, slots=True)
class Box:
    """Where a distribution lies along an axis, in per cent of it, and the same in words."""

    words: str
    low: float
    first: float
    median: float
    third: float
    high: float
    mean: float
    most: float


@dataclass(frozen=True, slots=True)
class Series:
    """What is drawn for one policy: a path, and the area below it where the figure fills it."""

    path: str
    area: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the page: what it shows, how to read it, and what there is to draw."""

    id: str
    title: str
    caption: str
    kind: str  # "lines" (all in one), "panels" (one for each) or "boxes"
    x_label: str
    x: tuple[Tick, ...]
    y: tuple[Tick, ...] = ()
    series: list[Series] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)

    @property
    def few(self) -> tuple[Tick, ...]:
        """Return the ticks that a panel of half the width has room for."""
        return spaced([(at / 100, words) for at, words in self.x], 2.5 * GAP)


def wait_axis(most_s: float) -> Axis:
    """Return the scale of log(1 + seconds): as good as logarithmic, and it has a place for 0."""
    top = math.log1p(max(most_s, 1.0))
    ticks = [(math.log1p(at) / top, words) for at, words in _WAITS]
    return Axis(lambda seconds: np.log1p(seconds) / top, spaced(ticks))


def slowdown_axis(most: float) -> Axis:
    """Return the logarithmic scale of slowdowns: from 1 to at least 10."""
    top = math.log10(max(most, 10.0))
    steps = (1, 2, 5) if top < 2.3 else (1,)
    marks = [step * 10**power for power in range(math.ceil(top) + 1) for step in steps]
    return Axis(
        lambda values: np.log10(values) / top,
        spaced([(math.log10(mark) / top, f"{mark:,}") for mark in marks]),
    )


def spaced(ticks: Sequence[Tick], gap: float = GAP) -> tuple[Tick, ...]:
    """Return, in per cent, those ticks in [0, 1] that stand far enough from the one before."""
    kept: list[Tick] = []
    for at, words in ticks:
        if 0 <= at <= 1.0001 and (not kept or at - kept[-1][0] >= gap):
            kept.append((at, words))
    return tuple((round(100 * at, 2), words) for at, words in kept)


def round_step(most: float, parts: int) -> float:
    """Return the least of 1, 2, 5, 10, 20 … (or .1, .2, …) that divides `most` into `parts`."""
    power = 10.0 ** math.floor(math.log10(most / parts))
    return next(step * power for step in (1, 2, 5, 10) if step * power * parts >= most * 0.9999)


def count_axis(most: float) -> tuple[float, tuple[Tick, ...]]:
    """Return a round top for amounts from 0 to `most`, and the ticks up to it."""
    step = max(round_step(max(most, 1.0), 4), 1.0)
    top = step * math.ceil(max(most, 1.0) / step - 1e-9)
    count = round(top / step)
    return top, tuple((round(100 * i / count, 2), f"{step * i:,.10g}") for i in range(count + 1))


def time_axis(span_ms: int) -> tuple[tuple[Tick, ...], str]:
    """Return the ticks of a span of time, and the label that names their unit."""
    units = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1000, "seconds"))
    unit_ms, unit = next((each for each in units if span_ms >= 3 * each[0]), units[-1])
    span = max(span_ms, 1) / unit_ms
    step = round_step(span, 6)
    marks = [(step * i / span, f"{step * i:.10g}") for i in range(int(span / step + 1e-9) + 1)]
    return spaced(marks), f"{unit} since the first submission"


def cdf(values: Numbers, axis: Axis) -> str:
    """Return the path of the share of values up to each place of the axis: exact on the grid."""
    where, counts = np.unique(axis.grid(values), return_counts=True)
    heights = np.rint(HIGH * np.cumsum(counts) / len(values)).astype(np.int64)
    path, x, y = [f"M0 {HIGH}"], 0, 0
    for at, up in zip(where.tolist(), heights.tolist(), strict=True):
        if up > y:
            path.append((f"h{at - x}" if at > x else "") + f"v{y - up}")
            x, y = at, up
    if x < WIDE:
        path.append(f"h{WIDE - x}")
    return "".join(path)


def stairs(values: Numbers, top: float) -> str:
    """Return the path of equally wide steps over the whole width, `top` being the height."""
    heights = np.rint(HIGH * np.clip(values / top, 0, 1)).astype(np.int64).tolist()
    edges = [round(WIDE * i / len(heights)) for i in range(len(heights) + 1)]
    path, x, y = [f"M0 {HIGH - heights[0]}"], 0, heights[0]
    for at, height in zip(edges, heights, strict=False):
        if height != y:
            path.append((f"h{at - x}" if at > x else "") + f"v{y - height}")
            x, y = at, height
    path.append(f"h{WIDE - x}")
    return "".join(path)


def below(path: str) -> str:
    """Return the closed path of the area below a path that goes over the whole width."""
    return f"{path}V{HIGH}H0z"


def box(values: Numbers, axis: Axis, words: Callable[[float], str]) -> Box:
    """Return where the middle half, the 5th to 95th percentile, mean and maximum lie."""
    quantiles = [float(percentile(values, percent)) for percent in (5, 25, 50, 75, 95)]
    mean, most = float(values.mean()), float(values.max())
    low, first, median, third, high = quantiles
    text = (
        f"median {words(median)}, middle half {words(first)} to {words(third)}, "
        f"5th to 95th percentile {words(low)} to {words(high)}, mean {words(mean)}, "
        f"most {words(most)}"
    )
    return Box(text, *(axis.percent(value) for value in (*quantiles, mean, most)))
