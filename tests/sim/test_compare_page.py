from __future__ import annotations

import builtins
import re
from xml.etree import ElementTree

import pytest

from fairlead.model.base import Misuse
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.compare import compare
from fairlead.sim.generate import generate
from fairlead.sim.metrics import summarise
from fairlead.sim.replay import gate
from fairlead.sim.report import render
from fairlead.sim.traces import jsonl
from fairlead.sim.workload import fit


def page_of(*policies: str, name: str = "trace.jsonl", tenants: int = 2) -> str:
    cluster = parse_cluster("2x4gpu")
    header, lines = generate("diurnal", jobs=80, load=1, cluster=cluster, seed=3, tenants=tenants)
    text = b"".join(jsonl.encode(header, lines)).splitlines()
    trace = jsonl.parse(name, list(enumerate(text, 1)))
    workload = fit(trace, cluster, gate(cluster))
    outcomes = compare(workload, cluster, policies)
    return render(trace.path, cluster, [(outcome, summarise(outcome)) for outcome in outcomes])


@pytest.fixture(scope="module")
def page() -> str:
    pytest.importorskip("matplotlib")
    return page_of("fifo", "sjf", "priority")


def test_the_page_is_one_file_with_three_plots_that_loads_nothing(page):
    assert page.count("<svg ") == 3
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "url(http" not in page and "@import" not in page and "<script" not in page


def test_plots_take_their_ink_from_the_page_and_scale_to_it(page):
    assert "currentColor" in page and "#010203" not in page
    for start in re.findall(r"<svg [^>]*>", page):
        assert "viewBox" in start and not re.search(r' (width|height)="', start)
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_ids_in_the_page_are_unique_and_all_references_lead_somewhere(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_every_plot_is_well_formed(page):
    for svg in re.findall(r"<svg .*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_the_table_names_every_policy_and_what_it_does(page):
    for policy in ("fifo", "sjf", "priority"):
        assert f"<tr><td>{policy}<td>" in page
    assert "no starvation bound" in page


def test_the_same_comparison_gives_the_same_page(page):
    assert page_of("fifo", "sjf", "priority") == page


def test_names_from_outside_cannot_become_markup():
    pytest.importorskip("matplotlib")
    shown = page_of("fifo", name="<b>x.jsonl")
    assert "<b>" not in shown and "&lt;b&gt;x.jsonl" in shown


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Misuse) as caught:
        page_of("fifo")
    assert caught.value.hint == "pip install 'fairlead[sim]'"
