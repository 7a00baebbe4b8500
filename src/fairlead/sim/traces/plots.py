"""The page about a trace: one file with its plots inside, for any screen, in light or dark."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fairlead
from fairlead.model.base import Misuse
from fairlead.sim.traces.info import TraceInfo, milli
from fairlead.sim.workload import Trace

BINS = 150
POINTS = 400  # of a distribution: as many as a page has pixels to show
WIDTHS_MAX = 12  # bars; the rest share one
TENANTS_MAX = 12
LABEL_CHARS_MAX = 18
WIDTH_INCHES = 5.4  # narrow, so that labels stay readable when a phone shrinks the figure

# Two hues that differ in lightness too, so that they can be told apart in grey.
_DARK, _LIGHT = "#0072b2", "#e69f00"
_INK = "#010203"  # stands for the text colour of the page, which follows its theme
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's font
    "svg.hashsalt": "fairlead",  # the same trace gives the same bytes
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "text.parse_math": False,  # names of tenants are not formulas
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_UNITS_OF_TIME = ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes"), (1000, "s"))
_RUN_TICKS = (
    *((0, "0"), (1, "1s"), (10, "10s"), (60, "1m"), (600, "10m"), (3600, "1h")),
    *((36_000, "10h"), (4 * 86_400, "4d"), (40 * 86_400, "40d"), (400 * 86_400, "400d")),
)


def need_matplotlib() -> None:
    """Raise Misuse if matplotlib, which is an extra, is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise Misuse(
            "the plots need matplotlib, which is not installed",
            field="plots",
            hint="pip install 'fairlead[sim]'",
            code="missing-extra",
        ) from None


def render(trace: Trace, found: TraceInfo) -> str:
    """Return the page. Misuse if matplotlib, which is an extra, is not installed."""
    need_matplotlib()
    import matplotlib

    # Imported late: nothing else that reads traces needs a template engine.
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("fairlead.sim"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts: list[tuple[str, str, Callable[[Trace, str], str]]] = [
        ("Arrivals", "Jobs submitted in each part of the time.", _arrivals),
        ("Run times", "Share of the jobs, and of their work, that ran no longer.", _runs),
        ("Widths", "Share of the jobs, and of their work, by what each asks for.", _widths),
        ("Tenants", "Share of the jobs, and of their work; those with most work.", _tenants),
    ]
    if found.deadlines:
        about = "Time to the deadline over run time, of the jobs that have one; 1 leaves no slack."
        parts.append(("Deadlines", about, _deadlines))
    with matplotlib.rc_context(_STYLE):
        figures = [(title, about, draw(trace, found.unit)) for title, about, draw in parts]
    return environment.get_template("trace.html.j2").render(
        name=Path(trace.path).name,
        found=found,
        figures=figures,
        version=fairlead.__version__,
    )


def _figure(height: float = 3.2) -> tuple[Any, Any]:
    """Return an empty figure in the ink of the page, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(True, color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, label: str) -> str:
    """Return the figure as an element of the page."""
    target = io.StringIO()
    figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    text = target.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r' (width|height)="[0-9.]+pt"', "", text, count=2)
    # Ids are unique per figure only; the page has several.
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{label}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _legend(figure: Any, axes: Any) -> None:
    lines, labels = axes.get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper left", ncols=2, frameon=False)


def _percent(axis: Any) -> None:
    axis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")


def _work(trace: Trace, unit: str) -> Any:
    """Return the work of each job."""
    return np.array([float(job.run_ms) * milli(job, unit) for job in trace.jobs])


def _arrivals(trace: Trace, unit: str) -> str:
    at = np.array([job.submit_ms for job in trace.jobs], dtype=float) - trace.jobs[0].submit_ms
    span = max(float(at[-1]), 1.0)
    unit_ms, words = next((each for each in _UNITS_OF_TIME if span >= 3 * each[0]), (1000, "s"))
    counts, edges = np.histogram(at / unit_ms, BINS, (0, span / unit_ms))
    figure, axes = _figure()
    axes.stairs(counts, edges, fill=True, color=_DARK, alpha=0.85)
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"{words} since the first submission")
    axes.set_ylabel("jobs")
    return _svg(figure, "arrivals")


def _runs(trace: Trace, unit: str) -> str:
    run = np.array([job.run_ms / 1000 for job in trace.jobs])
    order = np.argsort(run, kind="stable")
    run, work = run[order], np.cumsum(_work(trace, unit)[order])
    # Even steps of both curves: most of the work is often that of few jobs.
    even = np.searchsorted(work, np.linspace(0, work[-1], POINTS)[:-1])
    at = np.unique([*np.linspace(0, len(run) - 1, POINTS).astype(int), *even])
    figure, axes = _figure()
    axes.step(run[at], (at + 1) / len(run), where="post", label="jobs", color=_DARK, linewidth=2)
    if work[-1] > 0:
        axes.step(
            *(run[at], work[at] / work[-1]),
            where="post",
            **{"label": "work", "color": _LIGHT, "linewidth": 2, "linestyle": "--"},
        )
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    ticks = [tick for tick in _RUN_TICKS if tick[0] <= axes.get_xlim()[1]]
    axes.set_xticks([each for each, _ in ticks], [text for _, text in ticks])
    axes.minorticks_off()
    _percent(axes.yaxis)
    axes.set_xlabel("run time")
    _legend(figure, axes)
    return _svg(figure, "runs")


def _widths(trace: Trace, unit: str) -> str:
    keys = [milli(job, unit) for job in trace.jobs]
    rows = _shares(keys, _work(trace, unit), WIDTHS_MAX, by_work=False)
    rows = sorted(rows[:-1]) + rows[-1:] if rows[-1][0] is None else sorted(rows)
    named = [("others" if key is None else f"{key / 1000:,.10g}", *rest) for key, *rest in rows]
    return _bars(named, unit, "widths")


def _tenants(trace: Trace, unit: str) -> str:
    keys = [job.tenant for job in trace.jobs]
    rows = _shares(keys, _work(trace, unit), TENANTS_MAX, by_work=True)
    return _bars([("others" if key is None else key, *rest) for key, *rest in rows], "", "tenants")


def _shares(keys: Sequence[Any], work: Any, most: int, *, by_work: bool) -> list[Any]:
    """Return (key, share of jobs, share of work), largest first; key None is all the others."""
    jobs = Counter(keys)
    works: dict[Any, float] = dict.fromkeys(jobs, 0.0)
    for key, each in zip(keys, work.tolist(), strict=True):
        works[key] += each
    total = sum(works.values()) or 1.0
    size = works if by_work else jobs
    order = sorted(jobs, key=lambda key: (-size[key], key))
    most += len(order) == most + 1  # others are several
    rows: list[Any] = [(key, jobs[key] / len(keys), works[key] / total) for key in order[:most]]
    if rest := order[most:]:
        share = sum(jobs[key] for key in rest) / len(keys)
        rows.append((None, share, sum(works[key] for key in rest) / total))
    return rows


def _bars(rows: Sequence[tuple[str, float, float]], label: str, name: str) -> str:
    """Draw two bars per row, the first row on top."""
    figure, axes = _figure(1.1 + 0.36 * len(rows))
    at = np.arange(len(rows))
    axes.barh(at - 0.19, [row[1] for row in rows], 0.36, color=_DARK, label="jobs")
    axes.barh(
        *(at + 0.19, [row[2] for row in rows], 0.36),
        **{"color": _LIGHT, "edgecolor": _INK, "linewidth": 0.5, "hatch": "///", "label": "work"},
    )
    axes.set_yticks(at, [_short(row[0]) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xlim(left=0)
    _percent(axes.xaxis)
    if label:
        axes.set_ylabel(label)
    _legend(figure, axes)
    return _svg(figure, name)


def _short(text: str) -> str:
    """Return foreign text as a label: short, and nothing that no font can draw."""
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= LABEL_CHARS_MAX else text[: LABEL_CHARS_MAX - 1] + "…"


def _deadlines(trace: Trace, unit: str) -> str:
    slack = np.sort(
        [
            (job.deadline_ms - job.submit_ms) / max(job.run_ms, 1)
            for job in trace.jobs
            if job.deadline_ms is not None
        ]
    )
    at = np.unique(np.linspace(0, len(slack) - 1, POINTS).astype(int))
    figure, axes = _figure()
    axes.step(np.maximum(slack[at], 0.1), (at + 1) / len(slack), where="post", color=_DARK)
    axes.axvline(1, color=_INK, linewidth=1, linestyle=":")
    axes.set_xscale("log")
    low, high = max(min(float(slack[0]), 1.0), 0.1), max(float(slack[-1]), 10.0)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    _percent(axes.yaxis)
    axes.set_xlabel("time to the deadline ÷ run time")
    return _svg(figure, "deadlines")
