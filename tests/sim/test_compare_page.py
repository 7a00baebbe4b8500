from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fairlead.sim import tables
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.compare import compare
from fairlead.sim.generate import generate
from fairlead.sim.metrics import Summary, by_tenant, summarise
from fairlead.sim.outcome import Outcome
from fairlead.sim.replay import gate
from fairlead.sim.report import Source, render
from fairlead.sim.traces import jsonl
from fairlead.sim.workload import Trace, fit

POLICIES = ("fifo", "sjf", "priority")
MANY = tuple(
    f"{order}+{placement}"
    for order in ("fifo", "sjf", "sjf-skip", "priority", "priority-skip")
    for placement in ("best-fit", "worst-fit", "dot-product", "l2")
)


@dataclass(frozen=True)
class Made:
    """A page, the same as a tree, and what it was made from."""

    html: str
    root: ElementTree.Element
    outcomes: list[Outcome]
    summaries: list[Summary]

    def text(self, path: str) -> list[str]:
        return ["".join(each.itertext()).strip() for each in self.root.findall(path)]

    def rows(self, section: str) -> list[list[str]]:
        """Return the cells of a table, row by row, its head first."""
        table = self.root.find(f".//section[@aria-labelledby='{section}']//table")
        assert table is not None
        return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]

    def csv(self, section: str) -> list[dict[str, str]]:
        (text,) = self.text(f".//section[@aria-labelledby='{section}']//pre")
        return list(csv.DictReader(io.StringIO(text)))


def made_of(trace: Trace, *policies: str, spec: str = "2x4gpu", **source: str) -> Made:
    cluster = parse_cluster(spec)
    workload = fit(trace, cluster, gate(cluster))
    outcomes = list(compare(workload, cluster, policies))
    summaries = [summarise(outcome) for outcome in outcomes]
    named = Source(trace=source.pop("name", Path(trace.path).name), **source)
    html = render(named, cluster, list(zip(outcomes, summaries, strict=True)))
    # The page is HTML that is XML as well, so that "well-formed" can be checked.
    return Made(html, ElementTree.fromstring(html.split("\n", 1)[1]), outcomes, summaries)


def generated(tenants: int = 2, jobs: int = 80) -> Trace:
    cluster = parse_cluster("2x4gpu")
    header, lines = generate("diurnal", jobs=jobs, load=1, cluster=cluster, seed=3, tenants=tenants)
    text = b"".join(jsonl.encode(header, lines)).splitlines()
    return jsonl.parse("trace.jsonl", list(enumerate(text, 1)))


def lines_of(*lines: str) -> Trace:
    head = '{"format": "fairlead-trace", "version": 1, "cluster": "2x4gpu"}'
    return jsonl.parse("t.jsonl", [(n, each.encode()) for n, each in enumerate((head, *lines), 1)])


@cache
def few() -> Made:
    return made_of(generated(tenants=3), *POLICIES)


@cache
def many() -> Made:
    return made_of(generated(tenants=20), *MANY)


PAGES = pytest.mark.parametrize("make", [few, many], ids=["three policies", "twenty policies"])


@PAGES
def test_the_page_is_one_file_that_loads_nothing(make):
    page = make().html
    assert not re.search(r'\b(?:src|href|action)="(?!#)', page)
    assert not re.search(r"url\((?!#)|@import|https?:|//[a-z]", page)
    assert "default-src 'none'" in page


@PAGES
def test_ids_are_unique_and_all_references_lead_somewhere(make):
    root = make().root
    ids = [each.get("id") for each in root.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    wanted = set()
    for each in root.iter():
        for name in ("aria-labelledby", "aria-describedby", "data-copy"):
            wanted.update((each.get(name) or "").split())
        wanted.update(re.findall(r"^#(.+)", each.get("href") or ""))
    assert wanted and wanted <= set(ids)


@PAGES
def test_every_figure_has_a_title_and_says_what_is_good(make):
    figures = make().root.findall(".//figure")
    assert len(figures) == 6
    for figure in figures:
        assert figure.find("h3").text
        assert "better" in "".join(figure.find("figcaption").itertext())
    for picture in make().root.findall(".//*[@role='img']"):
        assert len(picture.get("aria-label")) > 20


def test_few_policies_share_a_figure_and_differ_in_colour_and_dash():
    root = few().root
    waits = [each for each in root.iter("path") if (each.get("id") or "").startswith("waits-")]
    assert [each.get("class") for each in waits] == ["l p0", "l p1", "l p2"]
    style = few().root.find(".//style").text
    looks = [re.search(rf"\.p{index} {{([^}}]*)}}", style)[1] for index in range(6)]
    dashes = [re.sub(r"stroke: [^;]*;?", "", look).strip() for look in looks]
    assert len(set(dashes)) == 6  # in grey too


def test_many_policies_get_a_panel_each_and_every_line_is_stored_once():
    page = many()
    for figure in ("waits", "slowdowns", "queue"):
        uses = [each.get("href") for each in page.root.iter("use")]
        assert uses.count(f"#{figure}-all") == 20
        assert [uses.count(f"#{figure}-{index}") for index in range(20)] == [1] * 20
    assert len(page.html) < 400_000


def test_the_main_table_has_the_numbers_of_the_summaries():
    head, *rows = few().rows("figures")
    for row, summary in zip(rows, few().summaries, strict=True):
        shown = dict(zip(head, row, strict=True))
        assert shown["policy"] == summary.policy
        assert shown["mean wait"] == tables.duration(summary.mean_wait_s)
        assert shown["95th pct. of wait"] == tables.duration(summary.p95_wait_s)
        assert shown["median bounded slowdown"] == f"{summary.median_bounded_slowdown:,.2f}"
        assert shown["utilisation"] == f"{100 * summary.utilisation_ratio:.1f} %"


def test_what_is_copied_has_every_number_in_full():
    keys = ("mean_wait_s", "p99_wait_s", "p95_bounded_slowdown", "makespan_s")
    for row, summary in zip(few().csv("figures"), few().summaries, strict=True):
        assert [float(row[key]) for key in keys] == [getattr(summary, key) for key in keys]
        assert row["digest"] == summary.digest
    (tsv,) = few().text(".//textarea[@id='figures-tsv']")
    head, *rows = [line.split("\t") for line in tsv.splitlines()]
    assert [dict(zip(head, row, strict=True)) for row in rows] == few().csv("figures")


def test_the_table_by_size_has_the_rows_of_the_summaries():
    head, jobs, shares, *rest = few().rows("sizes")
    first = few().summaries[0].by_size
    assert head[1:] == [row.size for row in first]
    assert jobs[1:] == [str(row.jobs) for row in first]
    assert shares[1:] == [f"{100 * row.share_ratio:.1f} %" for row in first]
    assert [row[0] for row in rest[::4]] == [name for name, *_ in tables.MEASURES]
    for index, summary in enumerate(few().summaries):
        assert rest[1 + index][1:] == [tables.duration(row.mean_wait_s) for row in summary.by_size]
        assert rest[9 + index][1:] == [
            tables.ratio(row.mean_bounded_slowdown) for row in summary.by_size
        ]


def test_the_table_by_tenant_has_the_figures_of_each_tenant():
    found = {(row["tenant"], row["policy"]): row for row in few().csv("tenants")}
    assert len(found) == 3 * len(POLICIES)
    for outcome in few().outcomes:
        for row in by_tenant(outcome):
            shown = found[row.tenant, outcome.policy]
            assert float(shown["p95_wait_s"]) == row.p95_wait_s
            assert float(shown["share_ratio"]) == row.share_ratio


def test_tenants_beyond_the_largest_share_a_column_and_nothing_is_lost():
    head, jobs, *_ = many().rows("tenants")
    assert len(head) == 1 + tables.TENANTS_SHOWN + 1 and head[-1].endswith(" others")
    assert sum(int(each) for each in jobs[1:]) == 80


def test_the_best_of_each_column_is_bold_the_most_for_utilisation_else_the_least():
    table = few().root.find(".//section[@aria-labelledby='figures']//table")
    _, *rows = table.iter("tr")
    keys = [column.key for column in tables.COLUMNS if not column.if_any]
    for index, key in enumerate(keys, 1):
        values = [float(row[key]) for row in few().csv("figures")]
        best = (max if key == "utilisation_ratio" else min)(values)
        cells = [row[index] for row in rows]
        alike = cells[values.index(best)].text
        all_equal = len({cell.text for cell in cells}) == 1
        expected = [cell.text == alike and not all_equal for cell in cells]
        assert [cell.get("class") == "best" for cell in cells] == expected
    assert len(rows[0]) == 1 + len(keys)
    assert any(cell.get("class") == "best" for row in rows for cell in row)


def test_the_page_says_how_to_make_it_again():
    page = made_of(
        generated(),
        "fifo",
        command="fairlead sim compare t --policies fifo",
        sha256="ab" * 32,
        format="jsonl",
        note="made up",
    )
    assert page.text(".//pre[@class='command']") == ["fairlead sim compare t --policies fifo"]
    said = " ".join(page.text(".//dd"))
    for part in ("ab" * 32, "made up", "2x4gpu (2 nodes, 8 GPUs)", "Python", "numpy"):
        assert part in said
    assert page.summaries[0].digest in said


def test_the_same_comparison_gives_the_same_page():
    assert made_of(generated(tenants=3), *POLICIES).html == few().html


def test_equal_schedules_are_named():
    page = made_of(generated(), "fifo", "fifo+best-fit")
    assert "fifo = fifo+best-fit" in page.html
    assert "same schedule" not in made_of(generated(), "fifo").html


def test_names_from_outside_cannot_become_markup_and_unprintable_signs_are_replaced():
    trace = lines_of(
        '{"id": 1, "submit_s": 0, "run_s": 9, "gpus": 1, "tenant": "<i>a&b"}',
        '{"id": 2, "submit_s": 0, "run_s": 9, "gpus": 1, "tenant": "=1+1"}',
    )
    page = made_of(trace, "fifo", name="<b>x\udcff\x00.jsonl")
    assert "<b>" not in page.html and "&lt;b&gt;x\ufffd\ufffd.jsonl" in page.html
    assert page.html.encode()
    assert {row["tenant"] for row in page.csv("tenants")} == {"<i>a&b", "=1+1"}
    (tsv,) = page.text(".//textarea[@id='tenants-tsv']")
    assert "'=1+1\t" in tsv  # text and not a formula where it is pasted


def test_what_went_wrong_is_mentioned_only_where_there_is_any():
    trace = lines_of(
        '{"id": 1, "submit_s": 0, "run_s": 90, "gpus": 1, "limit_s": 60}',
        '{"id": 2, "submit_s": 0, "run_s": 9, "gpus": 40}',
    )
    page = made_of(trace, "fifo", "sjf")
    assert "Rejected, because they can never run here" in page.html
    assert "Stopped at their time limit: 1 under every policy." in page.html
    assert "stopped at their limit" in page.rows("figures")[0]
    for word in ("Rejected", "Stopped at", "stopped at", "Dropped"):
        assert word not in few().html


def job(number: int, run_s: float, gpus: int = 1) -> str:
    return f'{{"id": {number}, "submit_s": 5, "run_s": {run_s}, "gpus": {gpus}}}'


@pytest.mark.parametrize(
    "lines",
    [
        [job(1, 600)],
        [job(1, 0)],
        [job(1, 0, gpus=0)],
        [job(number, 0.001) for number in range(1, 9)],
        [job(number, 2e6, gpus=4) for number in range(1, 99)],
    ],
    ids=["one job", "no run time", "no processors", "nobody waits", "years of waiting"],
)
@pytest.mark.parametrize("policies", [("fifo",), MANY[:7]], ids=["one policy", "seven"])
def test_odd_workloads_make_a_sensible_page(lines, policies):
    page = made_of(lines_of(*lines), *policies)
    assert not re.search(r"\b(nan|inf)\b", page.html)
    places = [float(at) for at in re.findall(r"(?:left|width|bottom):(-?[0-9.]+)%", page.html)]
    assert places and min(places) >= 0 and max(places) <= 100.01
    assert "All jobs belong to the tenant default" in page.html
    assert [row[0] for row in page.rows("figures")[1:]] == list(policies)
