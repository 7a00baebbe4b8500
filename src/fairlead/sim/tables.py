"""The tables of the page of a comparison: what people read, and the same numbers to copy."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fairlead.model.units import format_duration
from fairlead.sim.metrics import Figures, Summary, by_tenant, columns, grouped
from fairlead.sim.outcome import Outcome
from fairlead.sim.shares import ShareRow, Shares

TENANTS_SHOWN = 12  # the columns that still can be compared; the others share one
Groups: TypeAlias = Sequence[tuple[str, Sequence[Figures]]]  # name, and figures per policy
Best: TypeAlias = Callable[[Sequence[float]], float]


def duration(seconds: float) -> str:
    """Return seconds as people read them: the two largest units, below a minute to 0.1 s."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    return format_duration(round(1000 * seconds), exact=False)


def ratio(value: float) -> str:
    """Return a slowdown as people read it."""
    return f"{value:,.2f}"


def percent(value: float) -> str:
    """Return a share as people read it."""
    return f"{100 * value:.1f} %"


def count(value: float) -> str:
    """Return a count as people read it."""
    return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of the main table. `best` is min or max; `if_any`: only where one is not 0."""

    head: str
    key: str
    value: Callable[[Summary], float]
    words: Callable[[float], str]
    best: Best | None = None
    if_any: bool = False


COLUMNS = (
    Column("mean wait", "mean_wait_s", lambda s: s.mean_wait_s, duration, min),
    Column("median wait", "median_wait_s", lambda s: s.median_wait_s, duration, min),
    Column("95th pct. of wait", "p95_wait_s", lambda s: s.p95_wait_s, duration, min),
    Column("99th pct. of wait", "p99_wait_s", lambda s: s.p99_wait_s, duration, min),
    Column(
        "mean bounded slowdown",
        "mean_bounded_slowdown",
        lambda s: s.mean_bounded_slowdown,
        ratio,
        min,
    ),
    Column(
        "median bounded slowdown",
        "median_bounded_slowdown",
        lambda s: s.median_bounded_slowdown,
        ratio,
        min,
    ),
    Column(
        "95th pct. of slowdown",
        "p95_bounded_slowdown",
        lambda s: s.p95_bounded_slowdown,
        ratio,
        min,
    ),
    Column("mean completion", "mean_completion_s", lambda s: s.mean_completion_s, duration, min),
    Column("makespan", "makespan_s", lambda s: s.makespan_s, duration, min),
    Column("utilisation", "utilisation_ratio", lambda s: s.utilisation_ratio, percent, max),
    Column("stopped at their limit", "timeouts", lambda s: s.timeouts, count, if_any=True),
    Column("preemptions", "preemptions", lambda s: s.preemptions, count, if_any=True),
    Column("lost by preemption", "lost_s", lambda s: s.lost_s, duration, if_any=True),
)
# What is compared between groups of jobs; the share of use stands above these.
MEASURES: tuple[tuple[str, Callable[[Figures], float], Callable[[float], str]], ...] = (
    ("mean wait", lambda row: row.mean_wait_s, duration),
    ("95th percentile of wait", lambda row: row.p95_wait_s, duration),
    ("mean bounded slowdown", lambda row: row.mean_bounded_slowdown, ratio),
)


_QUEUE_KEYS = (
    *("got_ratio", "entitled_ratio", "mean_wait_s", "mean_completion_s", "preemptions", "max_rho"),
)
_OF_QUEUES: tuple[
    tuple[str, Callable[[ShareRow], float], Callable[[float], str], Best | None], ...
] = (
    ("got", lambda row: row.got_ratio, percent, None),
    ("due", lambda row: row.entitled_ratio or 0.0, percent, None),
    ("mean wait", lambda row: row.mean_wait_s, duration, min),
    ("mean completion", lambda row: row.mean_completion_s, duration, min),
    ("preemptions", lambda row: row.preemptions, count, None),
    ("worst rho", lambda row: row.max_rho, ratio, min),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A number in words; `best` if no other in its column and its part of the table beats it."""

    words: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that belong together, with their names; the title is "" where the table has one part."""

    title: str
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the page; `csv` and `tsv` have its numbers in full."""

    id: str
    title: str
    caption: str
    corner: str
    head: Sequence[str]
    parts: Sequence[Part]
    csv: str
    tsv: str


def main_table(summaries: Sequence[Summary]) -> Table:
    """Return the table with a row per policy."""
    kept = [
        column
        for column in COLUMNS
        if not column.if_any or any(column.value(each) for each in summaries)
    ]
    cells = [
        _cells([column.value(each) for each in summaries], column.words, column.best)
        for column in kept
    ]
    keys = ("policy", "jobs", *(column.key for column in kept), "digest")
    rows = [
        (each.policy, each.jobs, *(column.value(each) for column in kept), each.digest)
        for each in summaries
    ]
    return Table(
        id="figures",
        title="The figures",
        caption="One row per policy. Bold: the best of its column. Less is better, but for "
        "utilisation.",
        corner="policy",
        head=[column.head for column in kept],
        parts=[
            Part(
                "",
                [
                    (each.policy, row)
                    for each, row in zip(summaries, zip(*cells, strict=True), strict=True)
                ],
            )
        ],
        csv=_csv(keys, rows),
        tsv=_tsv(keys, rows),
    )


def size_table(summaries: Sequence[Summary], kind: str) -> Table:
    """Return the table by classes of sizes; these are the same under every policy."""
    groups = [
        (row.size, [each.by_size[index] for each in summaries])
        for index, row in enumerate(summaries[0].by_size)
    ]
    caption = (
        f"A column per class of jobs by the {kind}s they asked for, a row per policy. Look for "
        "wide jobs that pay for the good averages of small ones. Bold: the best of its column."
    )
    return _group_table("sizes", "By size", "size", caption, groups, summaries)


def tenant_table(outcomes: Sequence[Outcome], summaries: Sequence[Summary]) -> Table | None:
    """Return the table by tenants, those that used most first; None where there is only one."""
    names = [row.tenant for row in by_tenant(outcomes[0])]
    if len(names) < 2:
        return None
    most = TENANTS_SHOWN if len(names) > TENANTS_SHOWN + 1 else len(names)
    # Grouped by rank and not by name: a tenant may be called as the rest is.
    rank = {name: min(index, most) for index, name in enumerate(names)}
    titles = names[:most] + ([f"{len(names) - most:,} others"] if len(names) > most else [])
    found: list[list[Figures | None]] = [[None] * len(outcomes) for _ in titles]
    for index, outcome in enumerate(outcomes):
        ranks = [str(rank[job.spec.tenant]) for job in outcome.workload.jobs]
        for key, body in grouped(columns(outcome), ranks):
            found[int(key)][index] = Figures(**body)
    groups = [
        (title, [row for row in rows if row is not None])
        for title, rows in zip(titles, found, strict=True)
    ]
    caption = (
        "A column per tenant, those that used most first, a row per policy. Look for tenants that "
        "wait long though they use little. Bold: the best of its column."
    )
    return _group_table("tenants", "By tenant", "tenant", caption, groups, summaries)


def queue_table(shares: Sequence[Shares], summaries: Sequence[Summary]) -> Table | None:
    """Return the table by queues, those that got most first; None where there is one alone."""
    if not shares:
        return None
    names = [row.name for row in shares[0].queues][:TENANTS_SHOWN]
    rows = [[{row.name: row for row in each.queues}[name] for name in names] for each in shares]
    policies = [each.policy for each in summaries]
    parts = [Part("", [("weight", [Cell(count(row.weight)) for row in rows[0]])])]
    for title, value, words, best in _OF_QUEUES:
        lines = [[value(row) for row in each] for each in rows]
        cells = [_cells(column, words, best) for column in zip(*lines, strict=True)]
        named = list(zip(policies, zip(*cells, strict=True), strict=True))
        parts.append(Part(title, named))
    keys = ("queue", "policy", "weight", "jobs", *_QUEUE_KEYS)
    flat = [
        (name, policy, row.weight, row.jobs, *(getattr(row, key) for key in _QUEUE_KEYS))
        for index, name in enumerate(names)
        for policy, row in ((policies[i], each[index]) for i, each in enumerate(rows))
    ]
    index = ", ".join(
        f"{policy} {each.jain_queues:.3f}"
        for policy, each in zip(policies, shares, strict=True)
        if each.jain_queues is not None
    )
    caption = (
        "A column per queue, a row per policy. Got and due: parts of all use while somebody "
        "waited; due is by weight, and for who had nothing waiting what it used. Worst rho: "
        "completion over that with an equal part of the cluster. "
        f"Jain's index of got over due, 1 is fair: {index}."
    )
    return Table(
        id="queues",
        title="By queue",
        caption=caption,
        corner="policy",
        head=names,
        parts=parts,
        csv=_csv(keys, flat),
        tsv=_tsv(keys, flat),
    )


def _group_table(
    id: str, title: str, key: str, caption: str, groups: Groups, summaries: Sequence[Summary]
) -> Table:
    policies = [each.policy for each in summaries]
    jobs = [Cell(count(rows[0].jobs)) for _, rows in groups]
    shares = [
        [Cell(percent(rows[i].share_ratio)) for _, rows in groups] for i in range(len(policies))
    ]
    # Which jobs there are does not depend on the policy; what they used does if some were stopped.
    if all(each == shares[0] for each in shares):
        parts = [Part("", [("jobs", jobs), ("share of use", shares[0])])]
    else:
        named = list(zip(policies, shares, strict=True))
        parts = [Part("", [("jobs", jobs)]), Part("share of use", named)]
    for name, value, words in MEASURES:
        cells = [_cells([value(row) for row in rows], words, min) for _, rows in groups]
        rows = list(zip(policies, zip(*cells, strict=True), strict=True))
        parts.append(Part(name, rows))
    keys = (
        key,
        "policy",
        "jobs",
        "mean_wait_s",
        "p95_wait_s",
        "mean_bounded_slowdown",
        "share_ratio",
    )
    flat = [
        (
            name,
            policy,
            row.jobs,
            row.mean_wait_s,
            row.p95_wait_s,
            row.mean_bounded_slowdown,
            row.share_ratio,
        )
        for name, figures in groups
        for policy, row in zip(policies, figures, strict=True)
    ]
    return Table(
        id=id,
        title=title,
        caption=caption,
        corner="policy",
        head=[name for name, _ in groups],
        parts=parts,
        csv=_csv(keys, flat),
        tsv=_tsv(keys, flat),
    )


def _cells(values: Sequence[float], words: Callable[[float], str], best: Best | None) -> list[Cell]:
    """Return the values in words; the best are marked unless all read the same."""
    texts = [words(value) for value in values]
    if best is None or len(set(texts)) == 1:
        return [Cell(text) for text in texts]
    winner = words(best(values))  # what reads the same is as good
    return [Cell(text, text == winner) for text in texts]


def _csv(keys: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(keys)
    writer.writerows(rows)
    return target.getvalue()


def _tsv(keys: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    return "".join("\t".join(_plain(value) for value in row) + "\n" for row in (keys, *rows))


def _plain(value: object) -> str:
    """Return the text of a cell that a spreadsheet takes as it is."""
    if not isinstance(value, str):
        return str(value)
    text = " ".join(value.split())
    # A name from a trace must not become a formula where it is pasted.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
