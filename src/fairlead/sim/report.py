"""The page of a comparison: one file with its plots inside, for any screen, in light or dark."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fairlead
from fairlead.model.base import Record
from fairlead.policy.registry import describe
from fairlead.sim import draw, tables
from fairlead.sim.cluster import Cluster
from fairlead.sim.metrics import (
    Columns,
    Summary,
    binned,
    bounded_slowdown,
    busy_milli,
    columns,
    queue_length,
)
from fairlead.sim.outcome import Outcome
from fairlead.sim.shares import Shares
from fairlead.sim.workload import Trace

BINS = 300  # steps of a line over time: half as many as the grid of a figure is wide
_SHARES: tuple[draw.Tick, ...] = ((0, "0"), (25, ""), (50, "50 %"), (75, ""), (100, "100 %"))
Run = tuple[str, Columns]


class Source(Record, frozen=True):
    """Where a comparison comes from: all that somebody needs to make the same page again."""

    trace: str  # the file's name
    command: str = ""
    sha256: str = ""
    format: str = ""
    note: str = ""


def source_of(trace: Trace, command: str) -> Source:
    """Return where a comparison of this trace comes from, with the file's checksum."""
    try:
        with Path(trace.path).open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # gone since it was read: no reason to lose the long work
        checksum = ""
    return Source(
        trace=Path(trace.path).name,
        command=command,
        sha256=checksum,
        format=trace.format,
        note=trace.notes.get("note", ""),
    )


def render(
    source: Source,
    cluster: Cluster,
    outcomes: Sequence[tuple[Outcome, Summary]],
    shares: Sequence[Shares] = (),
) -> str:
    """Return the page; `shares` has one for each outcome, or none where there is one queue."""
    # Imported late: a service that never writes a page need not load a template engine.
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    summaries = [summary for _, summary in outcomes]
    found = [
        tables.main_table(summaries),
        tables.size_table(summaries, cluster.kind),
        tables.tenant_table([outcome for outcome, _ in outcomes], summaries),
        tables.queue_table(shares, summaries),
    ]
    environment = Environment(
        loader=PackageLoader("fairlead.sim"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("compare.html.j2").render(
        source=source,
        cluster=cluster,
        nodes=_nodes(cluster),
        versions=f"Fairlead {fairlead.__version__}, Python {platform.python_version()}, "
        f"numpy {np.__version__}",
        policies=[
            (each.policy, describe(outcome.config), each.digest) for outcome, each in outcomes
        ],
        first=summaries[0],
        short=_in_short(summaries),
        same=_same(summaries),
        happened=[
            (words, _counts(counts))
            for words, counts in _happened(summaries)
            if any(count for _, count in counts)
        ],
        figures=_figures(outcomes, cluster),
        tables=[table for table in found if table is not None],
        tenant=outcomes[0][0].workload.jobs[0].spec.tenant,
        wide=draw.WIDE,
        high=draw.HIGH,
    )


def _printable(value: Any) -> Any:
    """Return text without what no page may have: names of files and tenants can be anything."""
    if type(value) is not str or value.isprintable():
        return value
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in value)


def _nodes(cluster: Cluster) -> list[str]:
    """Return the nodes of a cluster in words; a file's name alone would say nothing."""
    if not cluster.spec.endswith(".toml") and "/" not in cluster.spec:
        return []
    alike = Counter(
        (
            node.cpu_milli,
            node.memory_mib,
            tuple(
                sorted(
                    Counter((device.model, device.memory_mib) for device in node.devices).items()
                )
            ),
        )
        for node in cluster.nodes
    )
    words = []
    for (cpu_milli, memory_mib, devices), count in alike.items():
        gpus = "".join(f", {n} × {model} with {mib:,} MiB" for (model, mib), n in devices)
        words.append(f"{count} × {cpu_milli / 1000:,g} cores, {memory_mib:,} MiB{gpus}")
    return words


def _in_short(summaries: Sequence[Summary]) -> list[tuple[str, str, str]]:
    """Return for the most telling figures their name, who is best, and who is worst."""
    shown = ("mean_wait_s", "p99_wait_s", "mean_bounded_slowdown", "utilisation_ratio")
    found: list[tuple[str, str, str]] = []
    for column in tables.COLUMNS:
        values = [column.value(each) for each in summaries]
        texts = [column.words(value) for value in values]
        if column.key not in shown or len(set(texts)) == 1:
            continue
        least, most = texts[int(np.argmin(values))], texts[int(np.argmax(values))]
        ends = (most, least) if column.best is max else (least, most)
        best, worst = (f"{_who(summaries, texts, text)} ({text})" for text in ends)
        found.append((column.head.replace("pct.", "percentile"), best, worst))
    return found


def _who(summaries: Sequence[Summary], texts: Sequence[str], text: str) -> str:
    names = [each.policy for each, its in zip(summaries, texts, strict=True) if its == text]
    return ", ".join(names if len(names) < 4 else [*names[:2], f"{len(names) - 2} more"])


def _happened(summaries: Sequence[Summary]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Return what happened to jobs under each policy that a reader has to know of."""
    return [
        ("Stopped at their time limit", [(each.policy, each.timeouts) for each in summaries]),
        ("Preemptions", [(each.policy, each.preemptions) for each in summaries]),
    ]


def _counts(counts: Sequence[tuple[str, int]]) -> str:
    """Return in words how many there were of something under each policy."""
    if len(counts) > 1 and len({count for _, count in counts}) == 1:
        return f"{counts[0][1]:,} under every policy"
    return ", ".join(f"{count:,} under {policy}" for policy, count in counts)


def _same(summaries: Sequence[Summary]) -> list[list[str]]:
    """Return the policies that made equal schedules, together."""
    alike: dict[str, list[str]] = {}
    for each in summaries:
        alike.setdefault(each.digest, []).append(each.policy)
    return [names for names in alike.values() if len(names) > 1]


def _figures(outcomes: Sequence[tuple[Outcome, Summary]], cluster: Cluster) -> list[draw.Figure]:
    runs = [(outcome.policy, columns(outcome)) for outcome, _ in outcomes]
    waits = [cols.wait / 1000 for _, cols in runs]
    slowdowns = [bounded_slowdown(cols) for _, cols in runs]
    wait_axis = draw.wait_axis(max(float(each.max()) for each in waits))
    slow_axis = draw.slowdown_axis(max(float(each.max()) for each in slowdowns))
    return [
        _cdf("waits", "How many waited how long", _WAITS, "wait", waits, wait_axis),
        _boxes("wait-boxes", "Waits", _BOXES, "wait", waits, wait_axis, tables.duration),
        _cdf(
            "slowdowns",
            "Bounded slowdown of how many",
            _SLOW,
            "bounded slowdown",
            slowdowns,
            slow_axis,
        ),
        _boxes(
            "slowdown-boxes",
            "Bounded slowdowns",
            _BOXES,
            "bounded slowdown",
            slowdowns,
            slow_axis,
            tables.ratio,
        ),
        *_over_time(runs, cluster),
    ]


_WAITS = (
    "Share of the jobs that waited at most so long in all. Higher and further left is better; "
    "a long tail at the right is somebody who waited very long."
)
_SLOW = (
    "Share of the jobs whose bounded slowdown is at most so much. Higher and further left is "
    "better; at 1 nothing was waited for."
)
_BOXES = (
    "Box: the middle half of the jobs; thick line: the median; thin line: 5th to 95th percentile; "
    "dot: the mean; small tick: the most. Short and far left is better; a mean far right of its "
    "box is made by few jobs that fare badly."
)
_QUEUE = (
    "Jobs that wait, on average over each part of the time shown. Lower is better; a queue that "
    "only grows means more work than the cluster can do."
)
_USE = (
    "Share of the {kind}s in use, on average over each part of the time shown. Fuller is better as "
    "long as jobs wait; gaps while they do are what a policy leaves unused."
)


def _lines(series: Sequence[Any]) -> str:
    return "lines" if len(series) <= draw.LINES_MAX else "panels"


def _cdf(
    id: str, title: str, caption: str, label: str, values: Sequence[draw.Numbers], axis: draw.Axis
) -> draw.Figure:
    return draw.Figure(
        id=id,
        title=title,
        caption=caption,
        kind=_lines(values),
        x_label=f"{label} (logarithmic)",
        x=axis.ticks,
        y=_SHARES,
        series=[draw.Series(draw.cdf(each, axis)) for each in values],
    )


def _boxes(
    id: str,
    title: str,
    caption: str,
    label: str,
    values: Sequence[draw.Numbers],
    axis: draw.Axis,
    words: Callable[[float], str],
) -> draw.Figure:
    return draw.Figure(
        id=id,
        title=title,
        caption=caption,
        kind="boxes",
        x_label=f"{label} (logarithmic)",
        x=axis.ticks,
        boxes=[draw.box(each, axis, words) for each in values],
    )


def _over_time(runs: Sequence[Run], cluster: Cluster) -> list[draw.Figure]:
    """Draw use and queue over the time of all replays, so that their lines can be compared."""
    low = min(int(cols.submit.min()) for _, cols in runs)
    high = max(int(cols.end.max()) for _, cols in runs)
    ticks, label = draw.time_axis(high - low)
    use = [binned(*busy_milli(cols), low, high, BINS) / cluster.capacity_milli for _, cols in runs]
    queue = [binned(*queue_length(cols), low, high, BINS) for _, cols in runs]
    top, jobs = draw.count_axis(max(float(each.max()) for each in queue))
    paths = [draw.stairs(each, 1.0) for each in use]
    return [
        draw.Figure(
            id="use",
            title="Use of the cluster",
            caption=_USE.format(kind=cluster.kind),
            kind="panels",
            x_label=label,
            x=ticks,
            y=((0, "0"), (50, "50 %"), (100, "100 %")),
            series=[draw.Series(path, draw.below(path)) for path in paths],
        ),
        draw.Figure(
            id="queue",
            title="Jobs waiting",
            caption=_QUEUE,
            kind=_lines(queue),
            x_label=label,
            x=ticks,
            y=jobs,
            series=[draw.Series(draw.stairs(each, top)) for each in queue],
        ),
    ]
