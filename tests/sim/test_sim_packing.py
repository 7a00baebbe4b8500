"""Packing by the published protocol, through `fairlead sim pack`."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli.main import main
from fairlead.cli.sim import sim
from fairlead.model.resources import Shape
from fairlead.policy.place.score import PLACEMENTS
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.packing import compare, pack, read_tasks, stream
from strategies import shapes

HEAD = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,"
HEAD += "deletion_time,scheduled_time"


def pods(path, *lines: str) -> str:
    """Write a list of pods "cores, GPUs, milli" and return its path; none was ever scheduled."""
    rows = [
        f"pod-{number},{1000 * int(cores)},1024,{gpus},{milli},,LS,Pending,0,9,"
        for number, (cores, gpus, milli) in enumerate(line.split() for line in lines)
    ]
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return str(path)


def call(*words: object) -> str:
    result = CliRunner().invoke(sim, ["pack", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(capsys, *words: object) -> str:
    with pytest.raises(SystemExit) as left:
        main(["sim", "pack", *map(str, words)])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err and "internal error" not in err
    return err


def test_whatever_the_order_tasks_of_half_a_gpu_fill_all_until_what_came_asks_for_all(tmp_path):
    trace = pods(tmp_path / "pods.csv", *["1 1 500"] * 4)
    body = json.loads(call(trace, "--cluster", "2x2gpu", "--placements", "random,pack", "--json"))
    assert [each["placement"] for each in body["results"]] == ["random", "pack"]
    for each in body["results"]:
        assert each["allocated_percent"] == 100
        assert each["by_seed"] == {str(seed): 100 for seed in range(42, 47)}
        assert (each["tasks"], each["dropped"]) == ([8] * 5, [0] * 5), "drawn again up to 130 %"
    half = json.loads(call(trace, "--cluster", "2x2gpu", "--demand", 50, "--json"))
    assert {each["allocated_percent"] for each in half["results"]} == {50}


def test_what_does_not_fit_is_dropped_and_counts_as_come(tmp_path):
    # Of three GPUs two tasks of 600 thousandths each need one: the fourth and fifth find none.
    trace = pods(tmp_path / "pods.csv", "1 1 600")
    body = json.loads(call(trace, "--cluster", "1x3gpu", "--placements", "best-fit", "--json"))
    (result,) = body["results"]
    assert result["tasks"] == [5] * 5
    assert result["dropped"] == [2] * 5
    assert result["allocated_percent"] == 60
    text = call(trace, "--cluster", "1x3gpu", "--placements", "best-fit")
    assert "60.00 %" in text and "2 of 5" in text


def test_every_placement_packs_by_name_and_none_gives_away_more_than_there_is(tmp_path):
    lines = ["4 1 1000", "2 1 470", "2 1 810", "8 0 0", "16 2 1000", "1 1 160"]
    trace = read_tasks(pods(tmp_path / "pods.csv", *lines))
    cluster = parse_cluster("3x32cpu,64GiB,4gpu:A")
    found = {each.placement: each for each in compare(cluster, trace, PLACEMENTS, seeds=2)}
    assert list(found) == list(PLACEMENTS)
    for each in found.values():
        assert [run.seed for run in each.runs] == [42, 43]
        assert 50 < each.mean_percent <= 100
    again = list(compare(cluster, trace, ["random", "pack"], seeds=2))
    for each in again:
        before = found[each.placement].runs
        assert [run.allocated_percent for run in each.runs] == [
            run.allocated_percent for run in before
        ]
    live = list(compare(cluster, trace, ["pack"], seeds=2, live=True))
    assert live[0].mean_percent > 50


def test_shares_that_fill_a_gpu_together_are_kept_for_each_other():
    # 470 + 470 and 320 + 650 fill two GPUs; 320 beside the first 470 leaves one 470 without any.
    cluster = parse_cluster("1x64cpu,2gpu")
    order = [Shape(cpu_milli=1, gpu_milli=milli) for milli in (470, 320, 650, 470)]
    packed = {name: pack(cluster, order, name) for name in ("best-fit", "pack")}
    assert (packed["pack"].dropped, packed["pack"].allocated_percent) == (0, 95.5)
    assert (packed["best-fit"].dropped, packed["best-fit"].allocated_percent) == (1, 72)


@given(
    asked=st.lists(shapes(), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
    percent=st.integers(1, 300),
)
def test_all_tasks_come_once_before_any_comes_again(asked, seed, percent):
    cluster = parse_cluster("2x4cpu,4gpu")
    if not any(map(cluster.used_milli, asked)):
        return
    order = stream(asked, cluster, seed, percent)
    assert Counter(order[: len(asked)]) == Counter(asked)
    total = sum(map(cluster.used_milli, order))
    assert 100 * total >= percent * cluster.capacity_milli
    if len(order) > len(asked):
        before = total - cluster.used_milli(order[-1])
        assert 100 * before < percent * cluster.capacity_milli
    assert order == stream(asked, cluster, seed, percent)


def test_a_cluster_without_gpus_is_packed_by_its_cores(tmp_path):
    trace = pods(tmp_path / "pods.csv", "4 0 0", "2 0 0")
    text = call(trace, "--cluster", "4x8cpu", "--placements", "best-fit", "--seeds", 1)
    assert "32 cores" in text
    assert "93.75 %" in text, "30 of 32: the next task would ask for more than there is"


def test_what_makes_no_sense_is_refused_in_words(capsys, tmp_path):
    trace = pods(tmp_path / "pods.csv", "1 1 500")
    cores = pods(tmp_path / "cores.csv", "1 0 0")
    there = ("--cluster", "2x2gpu")
    assert "did you mean 'pack'" in fails(capsys, trace, *there, "--placements", "pak")
    assert "no placement is named" in fails(capsys, trace, *there, "--placements", ",")
    assert "from 1 to 1000" in fails(capsys, trace, *there, "--seeds", "0")
    assert "from 1 to 1000" in fails(capsys, trace, *there, "--demand", "0")
    assert "--cluster" in fails(capsys, trace)
    assert "asks for a GPU" in fails(capsys, cores, *there)
    assert "there is no file" in fails(capsys, tmp_path / "none.csv", *there)
    assert "there is no format" in fails(capsys, trace, *there, "--format", "opnb")
