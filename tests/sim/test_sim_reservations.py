"""Reservations in a TOML file, through `sim run` and `sim compare`."""

from __future__ import annotations

import csv
import json

import pytest

from fairlead.cli.main import main
from fairlead.model.base import Misuse
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.reservations import read_reservations

WINDOW = '[[reservations]]\nname = "kernel"\nstart_s = 100\nend_s = 160\n'


@pytest.fixture
def trace(tmp_path):
    """A job of 2 cores for 60 s and one of 2 cores for 40 s on 4 cores, at 50 s."""
    path = tmp_path / "t.swf"
    rows = [(1, 50, 60, 2), (2, 50, 40, 2)]
    path.write_text(
        "; MaxProcs: 4\n"
        + "".join(
            f"{n} {at} -1 {length} {cores} -1 -1 {cores} {length} -1 1 1 1 1 1 -1 -1 -1\n"
            for n, at, length, cores in rows
        )
    )
    return path


def test_a_replay_keeps_the_window_free(trace, tmp_path, capsys):
    windows, starts = tmp_path / "w.toml", tmp_path / "starts.csv"
    windows.write_text(WINDOW + "all_nodes = true\n")
    words = ["sim", "run", str(trace), "--policy", "fifo-skip", "--cluster", "4cpu"]
    with pytest.raises(SystemExit) as end:
        main(
            [
                *words,
                "--reservations",
                str(windows),
                "--estimates",
                "limit",
                "--starts",
                str(starts),
            ]
        )
    assert end.value.code == 0, capsys.readouterr().err
    rows = list(csv.DictReader(starts.open()))
    column = next(name for name in rows[0] if name.startswith("start"))
    assert [float(row[column]) for row in rows] in ([160.0, 50.0], [160_000.0, 50_000.0])
    with pytest.raises(SystemExit) as end:
        main(["sim", "compare", str(trace), "--cluster", "4cpu", "--policies", "fifo-skip",
              "--reservations", str(windows), "--estimates", "limit", "--json"])  # fmt: skip
    assert end.value.code == 0
    (result,) = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert result["mean_wait_s"] == 55.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (WINDOW + 'nodes = ["nod1"]', "there is no node 'nod1'"),
        (WINDOW, "give nodes, or all_nodes"),
        (WINDOW + "gpus = 9", "all nodes together have 4"),
        (WINDOW + "gpus = 1.5", "gpus is a whole number"),
        (WINDOW + "gpus = 1\nnodes = ['node1']", "give nodes, or all_nodes"),
        (WINDOW.replace("160", "60") + "gpus = 1", "the end is not after the start"),
        (WINDOW.replace("start_s = 100", "strt_s = 100"), "unknown key strt_s"),
        (WINDOW.replace("end_s = 160", ""), "end_s is missing"),
        (WINDOW + "gpus = 3\n" + WINDOW.replace("kernel", "b") + "gpus = 2", "not so much is free"),
        (WINDOW + "gpus = 1\n" + WINDOW + "gpus = 1", "there is a reservation 'kernel' already"),
        ("[nodes]\n", "other things than reservations"),
        ("reservations = 3", "other things than reservations"),
        ("a =", "cannot read"),
    ],
)
def test_a_wrong_file_says_which_and_what(tmp_path, text, says):
    path = tmp_path / "w.toml"
    path.write_text(text)
    with pytest.raises(Misuse) as wrong:
        read_reservations(str(path), parse_cluster("2x2gpu"))
    assert says in wrong.value.message and wrong.value.field == "reservations"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Misuse, match="No such file"):
        read_reservations(str(tmp_path / "none.toml"), parse_cluster("4cpu"))
