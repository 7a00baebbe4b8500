"""Clusters from lists of nodes."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fairlead.model.base import Misuse
from fairlead.sim import traces
from fairlead.sim.cluster import parse_cluster
from fairlead.sim.workload import cluster_for

OPENB = "sn,cpu_milli,memory_mib,gpu,model\nn-0,64000,262144,2,P100\nn-1,32000,1024,0,\n"
SPOT = "gpu_model,gpu_capacity_num,cpu_num,node_name\nA10,4,192,7\n"
PAI = "machine,gpu_type,cap_cpu,cap_mem,cap_gpu\nabc,T4,96,512,2\n"
SWITCHES = "num_switch,num_node_p_switch,num_gpu_p_node,num_cpu_p_node,mem_p_node\n2,3,8,92,520\n"
MACHINES = "0\tseth\t3\t2\t1\t1048576\n1 wide 1 48 1 2097152\n"


@pytest.mark.parametrize(
    ("name", "body", "names", "gpus", "cpu_milli", "memory_mib"),
    [
        ("a.csv", OPENB, ["n-0", "n-1"], [2, 0], [64_000, 32_000], [262_144, 1024]),
        ("a.csv", SPOT, ["node7"], [4], [192_000], None),
        ("a.csv", PAI, ["abc"], [2], [96_000], [524_288]),
        ("a.csv", SWITCHES, [f"node{n}" for n in range(1, 7)], [8] * 6, [92_000] * 6, None),
        (
            *("a.machines", MACHINES, ["seth1", "seth2", "seth3", "wide"], [0] * 4),
            *([2000] * 3 + [48_000], [1024] * 3 + [2048]),
        ),
    ],
    ids=["openb", "spot", "pai", "switches", "machines"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_list_of_nodes_is_a_cluster(
    tmp_path: Path, name, body, names, gpus, cpu_milli, memory_mib, packed
):
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(body.encode()) if packed else body.encode())
    nodes = parse_cluster(str(path)).nodes
    assert [node.name for node in nodes] == names
    assert [len(node.devices) for node in nodes] == gpus
    assert [node.cpu_milli for node in nodes] == cpu_milli
    if memory_mib is not None:
        assert [node.memory_mib for node in nodes] == memory_mib


def test_a_path_with_spaces_is_found(tmp_path):
    path = tmp_path / "my nodes.csv"
    path.write_text(OPENB)
    assert parse_cluster(f" {path}").nodes[0].devices[0].model == "P100"


@pytest.mark.parametrize(
    ("name", "body", "message", "field"),
    [
        (
            "a.csv",
            OPENB.replace("64000", "many"),
            ':2: column cpu_milli: found "many"',
            "cpu_milli",
        ),
        ("a.csv", OPENB.replace("64000", "-1"), ":2: column cpu_milli", "cpu_milli"),
        ("a.csv", OPENB.replace(",2,P100", ",900,P100"), "to 64", "gpu"),
        ("a.csv", OPENB.replace("memory_mib", "memory"), "no column memory_mib", "memory_mib"),
        ("a.csv", "fruit,colour\napple,red\n", "expected those of a known list", ""),
        ("a.csv", OPENB.splitlines()[0], "it has no nodes", "cluster"),
        ("a.csv", "", "is empty", "cluster"),
        ("a.machines", MACHINES + "2 x 1\n", ":3: found 3 columns", ""),
        ("a.machines", MACHINES.replace(" 48 ", " x "), "column cpus_per_node", "cpus_per_node"),
    ],
)
def test_a_damaged_list_is_one_clear_error(tmp_path, name, body, message, field):
    path = tmp_path / name
    path.write_text(body)
    with pytest.raises(Misuse) as caught:
        parse_cluster(str(path))
    assert message in caught.value.message
    assert caught.value.field == field


def test_a_list_that_is_not_there_is_about_the_cluster(tmp_path):
    with pytest.raises(Misuse, match="there is no file") as caught:
        parse_cluster(str(tmp_path / "none.csv"))
    assert caught.value.field == "cluster"


def test_the_machines_that_lie_beside_a_log_are_offered(tmp_path):
    log = tmp_path / "x.swf.gz"
    log.write_bytes(gzip.compress(b"1 0 0 5 1 -1 -1 1 9 -1 1 1 1 -1 -1 -1 -1 -1\n"))
    trace = traces.read(log)
    for machines, hint in ((False, "--cluster pool:96"), (True, f"{tmp_path}/x.swf.machines")):
        if machines:
            (tmp_path / "x.swf.machines").write_text(MACHINES)
        with pytest.raises(Misuse, match="does not say what cluster") as caught:
            cluster_for(trace, None)
        assert hint in caught.value.hint
