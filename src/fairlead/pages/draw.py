"""Geometry of the drawings: from a history to rectangles, ticks and paths in drawing units.

The page's template turns these into SVG and escapes every text, so nothing here is markup.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from fairlead.model import limits
from fairlead.model.base import Ms
from fairlead.model.resources import Shape
from fairlead.pages.figures import held_ms, quantile, use_over_time
from fairlead.pages.history import Attempt, History, JobStory

GUTTER = 96  # left of every drawing, for names
WIDTH = 904  # of the drawing itself
NODES_SHOWN_MAX = 32
BARS_SHOWN_MAX = 4_000
STEPS_SHOWN_MAX = 1_000
BINS = 36
LETTER = 6.3  # width of one letter of a bar's label


@dataclass(frozen=True, slots=True)
class Bar:
    """One piece of an attempt on a node. `tenant` is an index into the shown tenants."""

    x: float
    y: float
    width: float
    height: float
    tenant: int
    label: str
    title: str
    ended_well: bool


@dataclass(frozen=True, slots=True)
class Lane:
    """One node: its name and where its cores are."""

    name: str
    y: float
    height: float
    rows: tuple[float, ...]  # the lines between its cores


@dataclass(frozen=True, slots=True)
class Held:
    """What one member of an attempt held, and when."""

    start: Ms
    end: Ms
    job: JobStory
    attempt: Attempt
    rank: int

    @property
    def shape(self) -> Shape:
        """What this member asked for."""
        return self.job.spec.shape.of(self.rank)


@dataclass(slots=True)
class Timeline:
    """Who ran where. `left_out` says in words what is not drawn, "" if all is."""

    height: float = 0
    lanes: list[Lane] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How long the jobs of one tenant waited: the share of the fullest bin, bin by bin."""

    tenant: str
    bins: tuple[float, ...]
    counts: tuple[int, ...]
    median_s: float | None
    p90_s: float | None
    max_s: float | None


@dataclass(frozen=True, slots=True)
class Scale:
    """From ms to drawing units."""

    first: Ms
    last: Ms

    def x(self, at: Ms) -> float:
        """Return where a time is."""
        return round(GUTTER + WIDTH * (at - self.first) / max(1, self.last - self.first), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Return at most nine marks with round numbers: (where, text)."""
        return [
            (self.x(self.first + round(seconds * 1000)), text)
            for seconds, text in round_ticks((self.last - self.first) / 1000)
        ]


def round_ticks(span_s: float, most: int = 9) -> list[tuple[float, str]]:
    """Return round times from 0 to `span_s`, in the unit that reads best."""
    for unit, name in ((1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d")):
        for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30):
            if unit > 1 and step < 1:
                continue
            if span_s / (step * unit) < most:
                count = int(span_s / (step * unit))
                return [(i * step * unit, f"{i * step:g} {name}") for i in range(count + 1)]
    days = max(1, int(span_s / 86400 / most) + 1)
    return [(i * days * 86400.0, f"{i * days} d") for i in range(int(span_s / 86400 / days) + 1)]


class Packer:
    """Gives each piece of work its rows on one node, so that nothing is drawn over another."""

    def __init__(self, capacity: int):
        self.capacity = self.height = max(1, capacity)
        self.free: list[tuple[int, int]] = [(0, self.capacity)]
        self.active: list[tuple[Ms, list[tuple[int, int]]]] = []

    def take(self, start: Ms, end: Ms, need: int) -> list[tuple[int, int]]:
        """Return (from, to) rows for the time from `start` on; calls come in order of `start`."""
        while self.active and self.active[0][0] <= start:
            self.free = merged(self.free + heapq.heappop(self.active)[1])
        pieces = self._pieces(need)
        heapq.heappush(self.active, (end, pieces))
        return pieces

    def _pieces(self, need: int) -> list[tuple[int, int]]:
        whole = next((each for each in self.free if each[1] - each[0] >= need), None)
        pieces: list[tuple[int, int]] = []
        for segment in [whole] if whole is not None else list(self.free):
            low, high = segment[0], min(segment[1], segment[0] + need)
            self.free.remove(segment)
            if high < segment[1]:
                self.free = merged([*self.free, (high, segment[1])])
            pieces.append((low, high))
            need -= high - low
            if not need:
                return pieces
        # More than the node has: it shrank, or the log begins in the middle. Draw it above.
        pieces.append((self.height, self.height + need))
        self.height += need
        return merged(pieces)


def merged(segments: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the segments in order, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(segments):
        if joined and joined[-1][1] == low:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined


def timeline(history: History, tenants: Sequence[str], scale: Scale) -> Timeline:
    """Return who ran where: one lane per node, one bar per member of an attempt."""
    held: list[list[Held]] = [[] for _ in history.nodes]
    for job in history.jobs.values():
        for attempt in job.attempts:
            for rank, member in enumerate(attempt.members):
                start, end = held_ms(member, attempt.placed, history.last)
                held[member.slot.node].append(Held(start, end, job, attempt, rank))
    drawing = Timeline()
    index = {tenant: place for place, tenant in enumerate(tenants)}
    y = 4.0
    drawn = 0
    for node, work in list(zip(history.nodes, held, strict=True))[:NODES_SHOWN_MAX]:
        packer = Packer(node.cpu_milli)
        unit = lane_height(node.cpu_milli) / packer.capacity
        for each in sorted(work, key=lambda each: (each.start, each.job.id, each.rank)):
            pieces = packer.take(each.start, each.end, each.shape.cpu_milli)
            drawn += 1
            if drawn <= BARS_SHOWN_MAX:
                tenant = index.get(each.job.spec.tenant, len(tenants) - 1)
                rows = [(y + low * unit, (high - low) * unit) for low, high in pieces]
                drawing.bars += _bars(scale, each, tenant, rows)
        height = packer.height * unit
        cores = range(1000, node.cpu_milli, 1000) if unit * 1000 >= 8 else range(0)
        lines = tuple(round(y + core * unit, 2) for core in cores)
        drawing.lanes.append(Lane(node.name, y, round(height, 2), lines))
        y += height + 10
    drawing.height = y
    drawing.left_out = _left_out(len(history.nodes), drawn)
    return drawing


def lane_height(cpu_milli: int) -> float:
    """Return how tall a node is drawn: 26 units a core, but no more than 208."""
    return min(208.0, max(26.0, 26.0 * cpu_milli / 1000))


def _bars(scale: Scale, held: Held, tenant: int, rows: list[tuple[float, float]]) -> list[Bar]:
    """Return one bar per piece; `rows`: where each piece begins and how tall it is."""
    left, right = scale.x(held.start), scale.x(held.end)
    width = round(max(1.0, right - left - 0.6), 2)
    title, label = _title(scale, held), _label(held.job, held.attempt, width)
    well = held.attempt.result in ("ok", "running", f"exit {limits.EXIT_REQUEUE}")
    bars = []
    for top, tall in rows:
        height = round(max(1.0, tall - 1), 2)
        text = label if height >= 10 else ""
        bars.append(Bar(left, round(top + 0.5, 2), width, height, tenant, text, title, well))
    return bars


def _label(job: JobStory, attempt: Attempt, width: float) -> str:
    index = f"[{job.spec.array_index}]" if job.spec.array is not None else ""
    again = f"exit {limits.EXIT_REQUEUE}"
    mark = {"ok": "", "running": "", again: " ↻"}.get(attempt.result, " ✕")
    for text in (f"{job.spec.name}{index}{mark}", f"{job.id}{mark}", mark.strip()):
        if text and len(text) * LETTER + 6 <= width:
            return text
    return ""


def _title(scale: Scale, held: Held) -> str:
    job, spec = held.job, held.job.spec
    index = f"[{spec.array_index}]" if spec.array is not None else ""
    member = f", member {held.rank} of {spec.shape.members}" if spec.shape.members > 1 else ""
    began, ended = (held.start - scale.first) / 1000, (held.end - scale.first) / 1000
    return (
        f"{spec.name or 'job'}{index} (job {job.id}, attempt {held.attempt.number}{member}) of "
        f"{spec.tenant}: {held.shape.cpu_milli / 1000:g} cores, {began:.1f} s to {ended:.1f} s, "
        f"{held.attempt.result}"
    )


def _left_out(nodes: int, bars: int) -> str:
    parts = []
    if nodes > NODES_SHOWN_MAX:
        parts.append(f"the first {NODES_SHOWN_MAX} of {nodes} nodes")
    if bars > BARS_SHOWN_MAX:
        parts.append(f"{BARS_SHOWN_MAX:,} of {bars:,} bars")
    return f"Drawn are {' and '.join(parts)}; the tables count all." if parts else ""


def use_paths(history: History, tenants: Sequence[str], scale: Scale, height: float) -> list[str]:
    """Return one closed path per tenant: cores in use over time, stacked; full is `height`."""
    steps = use_over_time(history, tenants)
    stride = -(-len(steps) // STEPS_SHOWN_MAX) or 1
    steps = steps[::stride]
    full = max(sum(node.cpu_milli for node in history.nodes), *(sum(now) for _, now in steps), 1)
    paths = []
    for place in range(len(tenants)):
        upper: list[tuple[float, float]] = []
        lower: list[tuple[float, float]] = []
        for number, (at, now) in enumerate(steps):
            left = scale.x(at)
            right = scale.x(steps[number + 1][0] if number + 1 < len(steps) else history.last)
            below, above = sum(now[:place]), sum(now[: place + 1])
            for line, value in ((upper, above), (lower, below)):
                where = round(height * (1 - value / full), 2)
                line += [(left, where), (right, where)]
        points = [*upper, *reversed(lower)]
        paths.append("M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "Z" if points else "")
    return paths


def wait_histograms(history: History, tenants: Sequence[str]) -> tuple[float, list[Histogram]]:
    """Return the end of the common axis in seconds, and one histogram per tenant."""
    waits: dict[str, list[float]] = {tenant: [] for tenant in tenants}
    for job in history.jobs.values():
        if job.wait_ms is not None:
            tenant = job.spec.tenant if job.spec.tenant in waits else tenants[-1]
            waits[tenant].append(job.wait_ms / 1000)
    longest = max((wait for each in waits.values() for wait in each), default=0.0)
    axis = max(longest * 1.0001, 1.0)
    found = []
    for tenant, each in waits.items():
        counts = [0] * BINS
        for wait in each:
            counts[min(BINS - 1, int(wait / axis * BINS))] += 1
        most = max(counts) or 1
        ordered = sorted(each)
        found.append(
            Histogram(
                tenant,
                tuple(round(count / most, 3) for count in counts),
                tuple(counts),
                quantile(ordered, 0.5),
                quantile(ordered, 0.9),
                quantile(ordered, 1.0),
            )
        )
    return axis, found
