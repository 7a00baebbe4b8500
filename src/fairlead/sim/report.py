"""The page of a comparison: one file with its plots inside, for any screen, in light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fairlead
from fairlead.model.base import Misuse
from fairlead.model.units import format_duration
from fairlead.policy.registry import describe, policy_config
from fairlead.sim.cluster import Cluster
from fairlead.sim.metrics import Columns, Summary, binned, busy_milli, columns, queue_length
from fairlead.sim.replay import Outcome

BINS = 300  # points of a line over time: more than a page has pixels to show
ECDF_POINTS = 400
WIDTH_INCHES = 5.4  # narrow, so that labels stay readable when a phone shrinks the figure
# Policies differ by line style and lightness as well as by hue, so that they can be told apart in
# grey; these hues (Okabe and Ito) can be told apart by people who see fewer of them.
STYLES = (
    ("#0072b2", "-"),
    ("#d55e00", "--"),
    ("#009e73", "-."),
    ("#cc79a7", ":"),
    ("#e69f00", (0, (5, 1))),
    ("#56b4e9", (0, (3, 1, 1, 1, 1, 1))),
)
_INK = "#010203"  # stands for the text colour of the page, which follows its theme


def render(trace: str, cluster: Cluster, outcomes: Sequence[tuple[Outcome, Summary]]) -> str:
    """Return the page. Misuse if matplotlib, which is an extra, is not installed."""
    need_matplotlib()
    import matplotlib

    # Imported late: a service that never writes a page need not load a template engine.
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    runs = [(outcome.policy, columns(outcome)) for outcome, _ in outcomes]
    span = (
        min(int(cols.submit.min()) for _, cols in runs),
        max(int(cols.end.max()) for _, cols in runs),
    )
    environment = Environment(
        loader=PackageLoader("fairlead.sim"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with matplotlib.rc_context(_STYLE):
        figures = [
            ("Waiting time", _WAITS, _ecdf(runs)),
            ("Jobs waiting", _QUEUE, _queue(runs, span)),
            ("Use of the cluster", _USE, _use(runs, span, cluster)),
        ]
    return environment.get_template("compare.html.j2").render(
        trace=Path(trace).name,
        cluster=cluster,
        version=fairlead.__version__,
        rows=[_row(summary) for _, summary in outcomes],
        first=outcomes[0][1],
        figures=figures,
    )


_WAITS = "Share of jobs that had started after waiting so long. Higher and further left is better."
_QUEUE = "Jobs that wait, on average over each part of the time shown."
_USE = "Share of the processors in use, on average over each part of the time shown."


def need_matplotlib() -> None:
    """Raise Misuse if matplotlib, which is an extra, is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise Misuse(
            "the HTML page needs matplotlib, which is not installed",
            field="html",
            hint="pip install 'fairlead[sim]'",
            code="missing-extra",
        ) from None


def _row(summary: Summary) -> dict[str, str]:
    """Return one policy's figures as people read them."""
    return {
        "policy": summary.policy,
        "about": describe(policy_config(summary.policy)),
        "mean_wait": duration(summary.mean_wait_s),
        "p99_wait": duration(summary.p99_wait_s),
        "mean_completion": duration(summary.mean_completion_s),
        "slowdown": f"{summary.mean_bounded_slowdown:,.2f}",
        "makespan": duration(summary.makespan_s),
        "utilisation": f"{100 * summary.utilisation_ratio:.1f} %",
        "timeouts": f"{summary.timeouts:,}",
        "digest": summary.digest,
    }


def duration(seconds: float) -> str:
    """Return seconds as people read them: the two largest units, below a minute to 0.1 s."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    return format_duration(round(1000 * seconds), exact=False)


_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the reader's font
    "svg.hashsalt": "fairlead",  # the same comparison gives the same bytes
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def _figure(panels: int = 1) -> tuple[Any, Any]:
    """Return an empty figure in the ink of the page, and its axes, from top to bottom."""
    from matplotlib.figure import Figure

    height = 3.2 if panels == 1 else 0.6 + 0.9 * panels
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots(panels, sharex=True, squeeze=False)
    for panel in axes[:, 0]:
        panel.grid(True, color=_INK, alpha=0.15, linewidth=0.6)
    return figure, list(axes[:, 0])


def _legend(figure: Any, axes: Any) -> None:
    lines, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 4)
    figure.legend(lines, labels, loc="outside upper left", ncols=columns, frameon=False)


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


def _line(index: int) -> dict[str, Any]:
    colour, dashes = STYLES[index % len(STYLES)]
    return {"color": colour, "linestyle": dashes, "linewidth": 1.8}


def _ecdf(runs: Sequence[tuple[str, Columns]]) -> str:
    """Draw the distribution of waits."""
    figure, (axes,) = _figure()
    for index, (policy, cols) in enumerate(runs):
        wait = np.sort(cols.start - cols.submit) / 1000
        at = np.unique(np.linspace(0, len(wait) - 1, ECDF_POINTS).astype(int))
        axes.step(wait[at], (at + 1) / len(wait), where="post", label=policy, **_line(index))
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    ticks = [tick for tick in _WAIT_TICKS if tick[0] <= axes.get_xlim()[1]]
    axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.set_xlabel("wait")
    _legend(figure, axes)
    return _svg(figure, "waits")


_WAIT_TICKS = (
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


def _queue(runs: Sequence[tuple[str, Columns]], span: tuple[int, int]) -> str:
    """Draw how many jobs wait, over the time of all replays."""
    figure, (axes,) = _figure()
    at, label = _time_axis(span)
    for index, (policy, cols) in enumerate(runs):
        values = binned(*queue_length(cols), *span, BINS)
        axes.stairs(values, at, baseline=None, label=policy, **_line(index))
    axes.set_xlim(0, at[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_ylabel("jobs")
    _legend(figure, axes)
    return _svg(figure, "queue")


def _use(runs: Sequence[tuple[str, Columns]], span: tuple[int, int], cluster: Cluster) -> str:
    """Draw the use of the cluster over time, a panel per policy: lines would cross all over."""
    figure, panels = _figure(len(runs))
    at, label = _time_axis(span)
    for index, (panel, (policy, cols)) in enumerate(zip(panels, runs, strict=True)):
        values = 100 * binned(*busy_milli(cols), *span, BINS) / cluster.capacity_milli
        panel.stairs(values, at, fill=True, color=STYLES[index % len(STYLES)][0], alpha=0.8)
        panel.set_title(policy, loc="left", fontsize="medium")
        panel.set_xlim(0, at[-1])
        panel.set_ylim(0, 100)
        panel.set_yticks([0, 50, 100], ["0", "50", "100 %"])
    panels[-1].set_xlabel(label)
    return _svg(figure, "use")


def _time_axis(span: tuple[int, int]) -> tuple[Any, str]:
    """Return the edges of the bins in a unit that suits the span, and the label that names it."""
    unit_ms, unit = _time_unit(span[1] - span[0])
    edges = np.linspace(0, max(span[1] - span[0], 1), BINS + 1) / unit_ms
    return edges, f"{unit} since the first submission"


def _time_unit(span_ms: int) -> tuple[int, str]:
    for unit_ms, unit in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")):
        if span_ms >= 3 * unit_ms:
            return unit_ms, unit
    return 1000, "seconds"
