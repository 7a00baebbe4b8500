"""The page that `fairlead sim trace info --plots` writes."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fairlead.model.base import Misuse
from fairlead.sim import traces
from fairlead.sim.traces.info import summarise_trace
from fairlead.sim.traces.plots import render
from fairlead.sim.workload import Trace, TraceJob
from traces import EXCERPTS


def page_of(body: str, folder: Path, name: str = "trace") -> str:
    path = folder / name
    path.write_text(body)
    trace = traces.read(path)
    return render(trace, summarise_trace(trace))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    pytest.importorskip("matplotlib")
    return page_of(EXCERPTS["chronus"], tmp_path_factory.mktemp("page"))


def test_the_page_is_one_file_that_loads_nothing(page):
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "url(http" not in page and "@import" not in page and "<script" not in page


def test_there_are_plots_of_arrivals_run_times_widths_tenants_and_deadlines(page):
    labels = re.findall(r'<svg role="img" aria-label="([a-z]+)"', page)
    assert labels == ["arrivals", "runs", "widths", "tenants", "deadlines"]
    assert "vc_a" in page and "vc_b" in page


def test_a_trace_without_deadlines_has_no_plot_of_them(tmp_path):
    pytest.importorskip("matplotlib")
    assert page_of(EXCERPTS["muri"], tmp_path).count("<svg ") == 4


def test_plots_take_their_ink_from_the_page_and_scale_to_it(page):
    assert "currentColor" in page and "#010203" not in page
    for start in re.findall(r"<svg [^>]*>", page):
        assert "viewBox" in start and not re.search(r' (width|height)="', start)
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_ids_are_unique_and_every_plot_is_well_formed(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)
    for svg in re.findall(r"<svg .*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_jobs_and_work_differ_by_more_than_hue(page):
    assert "stroke-dasharray" in page  # the line of the work
    assert "<pattern" in page  # its bars


def test_what_was_dropped_and_the_deadlines_are_said_in_words(page):
    assert "0 GPUs (a fraction of one, rounded down)" in page
    assert re.search(r"2 jobs, of which\s+0 run for longer", page)


def test_the_same_trace_gives_the_same_page(page, tmp_path):
    assert page_of(EXCERPTS["chronus"], tmp_path) == page


def test_foreign_names_are_neither_markup_nor_formulas(tmp_path):
    pytest.importorskip("matplotlib")
    body = EXCERPTS["philly"].replace("aaa", "<b>$x_").replace("bbb", "$\x07" + "y" * 40)
    shown = page_of(body, tmp_path, name="<i>x.csv")
    assert "<b>" not in shown and "<i>" not in shown and "&lt;i&gt;x.csv" in shown
    assert "&lt;b&gt;$x_" in shown
    assert "y" * 18 not in shown


@pytest.mark.parametrize(
    "jobs",
    [
        (TraceJob(id=1, submit_ms=0, run_ms=0, processors=1),),
        (TraceJob(id=1, submit_ms=5, run_ms=2**50, processors=1, deadline_ms=5),),
        tuple(
            TraceJob(id=n, submit_ms=0, run_ms=0, processors=n, tenant=f"t{n}", deadline_ms=n)
            for n in range(1, 40)
        ),
    ],
    ids=["one empty job", "one endless job", "many at once"],
)
def test_extreme_traces_have_a_page_too(jobs):
    pytest.importorskip("matplotlib")
    trace = Trace(path="t", format="jsonl", jobs=jobs)
    assert render(trace, summarise_trace(trace)).count("<svg ") >= 4


def test_tenants_beyond_the_most_are_summed_as_others():
    pytest.importorskip("matplotlib")
    jobs = [
        TraceJob(id=n, submit_ms=0, run_ms=n, processors=1, tenant=f"t{n:02}") for n in range(14)
    ]
    for count, others in ((13, False), (14, True)):
        trace = Trace(path="t", format="jsonl", jobs=tuple(jobs[:count]))
        assert (">others<" in render(trace, summarise_trace(trace))) is others


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, tmp_path):
    genuine = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return genuine(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Misuse) as caught:
        page_of(EXCERPTS["muri"], tmp_path)
    assert caught.value.hint == "pip install 'fairlead[sim]'"
