from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.model.base import Misuse
from fairlead.model.resources import Device
from fairlead.sim.cluster import AMPLE_CORES, Cluster, parse_cluster


def error_of(text: str) -> Misuse:
    with pytest.raises(Misuse) as caught:
        parse_cluster(text)
    assert caught.value.field in ("cluster", "")
    return caught.value


def test_a_pool_is_one_node_of_so_many_cores():
    cluster = parse_cluster("pool:96")
    (node,) = cluster.nodes
    assert (node.name, node.cpu_milli, node.devices) == ("pool", 96_000, ())
    assert (cluster.kind, cluster.widest, cluster.capacity_milli) == ("core", 96, 96_000)


def test_gpu_nodes_without_named_cores_have_ample_cores_and_memory():
    cluster = parse_cluster("12x8gpu")
    assert len(cluster.nodes) == 12 and cluster.gpus == 96 and cluster.kind == "GPU"
    node = cluster.nodes[0]
    assert node.cpu_milli == 8 * 1000 * AMPLE_CORES
    assert node.memory_mib == 8 * 4 * 2**20
    assert node.devices == (Device(model="gpu", memory_mib=2**20),) * 8


def test_all_parts_are_read_in_any_case_and_with_spaces():
    for text in ("4x16cpu,64GiB,8gpu:A100:80GiB", "4 x 16CPUs, 64gib, 8GPU:A100:80G"):
        cluster = parse_cluster(text)
        assert len(cluster.nodes) == 4
        node = cluster.nodes[3]
        assert (node.name, node.cpu_milli, node.memory_mib) == ("node4", 16_000, 65_536)
        assert node.devices == (Device(model="A100", memory_mib=81_920),) * 8


def test_groups_are_joined_with_plus_and_named_through():
    cluster = parse_cluster("4x8gpu:A100:80GiB+8x4gpu:T4:16GiB")
    assert [len(node.devices) for node in cluster.nodes] == [8] * 4 + [4] * 8
    assert [node.name for node in cluster.nodes] == [f"node{number}" for number in range(1, 13)]
    assert cluster.describe() == "4x8gpu:A100:80GiB+8x4gpu:T4:16GiB (12 nodes, 64 GPUs)"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("12x8gup", 'cannot read "8gup"', 'did you mean "8gpu"?'),
        ("4x16", 'cannot read "16"', '"16cpu", "16gpu" or "16GiB"'),
        ("pol:96", 'cannot read "pol:96"', "pool:96"),
        ("pool", 'cannot read "pool"', "pool:96"),
        ("pool:0", "0 processors", "from 1 to"),
        ("pool:many", 'found "many"', "pool:96"),
        ("0x8gpu", "0 nodes", "from 1 to"),
        ("2x65gpu", "65 GPUs", "from 1 to 64"),
        ("9999999x1cpu", "9999999 nodes", "from 1 to"),
        ("600000x1cpu+600000x1cpu", "more than 1,000,000 nodes", "fewer"),
        ("3x8gpu,8gpu", "the same amount twice", "once"),
        ("4x64GiB", "neither cores nor GPUs", "16cpu"),
        ("pool:8+2x8gpu", "a pool stands alone", "pool:96"),
        ("", 'cannot read ""', "12x8gpu"),
        ("none.toml", "there is no such file", "TOML"),
    ],
)
def test_a_wrong_specification_is_refused_with_a_way_out(text, message, hint):
    error = error_of(text)
    assert message in error.message
    assert hint in error.hint


@given(st.text("0123456789xcpugGiB:,+pool. -", max_size=20))
def test_no_text_does_anything_but_parse_or_be_misuse(text):
    try:
        cluster = parse_cluster(text)
    except Misuse as error:
        assert error.message
    else:
        assert cluster.capacity_milli >= 0 and cluster.nodes


def test_toml_names_the_same_things(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        '[[nodes]]\ncount = 2\nname = "big"\ncpus = 16\nmemory = "64GiB"\ngpus = 8\n'
        'gpu_type = "A100"\ngpu_memory = "80GiB"\nrack = "r1"\n[[nodes]]\ncpus = 4\n'
    )
    cluster = parse_cluster(str(path))
    assert [node.name for node in cluster.nodes] == ["big1", "big2", "node3"]
    assert [node.rack for node in cluster.nodes] == ["r1", "r1", ""]
    assert (cluster.nodes[1].cpu_milli, cluster.nodes[1].memory_mib) == (16_000, 65_536)
    assert cluster.nodes[0].devices == (Device(model="A100", memory_mib=81_920),) * 8
    assert cluster.nodes[2].cpu_milli == 4000 and not cluster.nodes[2].devices
    path.write_text("pool = 12")
    assert parse_cluster(str(path)).capacity_milli == 12_000


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("[[nodes]]\ncpu = 4", "unknown key cpu", "did you mean cpus?"),
        ("[[nodes]]\ncpus = 4\ngpus = -1", 'found "-1"', ""),
        ("[[nodes]]\ncpus = 4\nmemory = 64", "the size 64 has no unit", "64G"),
        ("[[nodes]]\ncpus = 4\nrack = 3", "rack is text", "rack"),
        ("[[nodes]]\nmemory = '4G'", "neither cores nor GPUs", ""),
        ("nodes = 4", "no [[nodes]] tables", "[[nodes]]"),
        ("pool = 4\n[[nodes]]\ncpus = 4", "both a pool and nodes", ""),
        ("x = [", "", "TOML"),
        ("", "no [[nodes]] tables", ""),
    ],
)
def test_a_wrong_toml_file_is_refused_with_a_way_out(tmp_path, body, message, hint):
    path = tmp_path / "c.toml"
    path.write_text(body)
    with pytest.raises(Misuse) as caught:
        parse_cluster(str(path))
    assert message in caught.value.message
    assert hint in caught.value.hint


@given(
    processors=st.integers(1, 60),
    spec=st.sampled_from(["pool:60", "15x4cpu", "6x8gpu+4x3gpu", "1x32gpu+28x1gpu"]),
)
def test_a_width_becomes_equal_members_that_add_up_and_fit_if_anything_does(processors, spec):
    cluster: Cluster = parse_cluster(spec)
    shape = cluster.shape(processors)
    each = shape.gpus or shape.cpu_milli // 1000
    assert each * shape.members == processors
    assert each <= cluster.widest
    room = sum(count * (node // each) for node, count in cluster.widths.items())
    assert room >= shape.members  # all of these widths fit these clusters


def test_nodes_stand_in_racks_under_switches_and_gpus_are_linked_in_groups():
    cluster = parse_cluster("4x4gpu,rack:1,switch:2,nvlink:2,socket:4+3x4cpu,rack:2")
    assert [(node.rack, node.switch) for node in cluster.nodes] == [
        *(("rack1", "switch1"), ("rack2", "switch1"), ("rack3", "switch2"), ("rack4", "switch2")),
        *(("rack5", ""), ("rack5", ""), ("rack6", "")),
    ]
    islands = [(each.island, each.pcie, each.socket) for each in cluster.nodes[0].devices]
    assert islands == [(0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0)]


def test_a_file_tells_racks_by_name_and_the_cost_of_links_in_a_table(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(
        '[[nodes]]\ngpus = 3\nrack = "a"\nswitch = "s"\ngpu_links = [[0,1,5],[1,0,5],[5,5,0]]\n'
        "[[nodes]]\ncount = 4\ngpus = 4\nper_rack = 2\npcie = 2\n"
    )
    nodes = parse_cluster(str(file)).nodes
    assert nodes[0].links == ((0, 1, 5), (1, 0, 5), (5, 5, 0))
    assert [(node.rack, node.switch) for node in nodes] == [
        *(("a", "s"), ("rack2", ""), ("rack2", ""), ("rack3", ""), ("rack3", ""))
    ]
    assert [each.pcie for each in nodes[1].devices] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('rack = "a"\nper_rack = 2', "both rack and per_rack"),
        ("gpu_links = [[0,1],[1,0]]", "no table of 4 rows of 4 costs"),
        ("gpu_links = 7", "no table of 4 rows"),
        (f"gpu_links = [[0,1,1,1],[2,0,1,1],{[1, 1, 0, 1]},{[1, 1, 1, 0]}]", "depends on the way"),
        ("per_rack = 0", "0 nodes or GPUs for per_rack"),
        ("nvlnk = 2", "unknown key nvlnk"),
    ],
)
def test_places_that_cannot_be_are_refused(tmp_path, table, message):
    file = tmp_path / "c.toml"
    file.write_text(f"[[nodes]]\ngpus = 4\n{table}\n")
    with pytest.raises(Misuse) as caught:
        parse_cluster(str(file))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("4x8gpu,nvlnk:2", 'cannot read "nvlnk:2"', 'did you mean "nvlink:2"?'),
        ("4x8cpu,nvlink:2", "nvlink without GPUs", "8gpu,nvlink:2"),
        ("4x8gpu,rack:0", "0 in a group", "rack:2"),
        ("4x8gpu,rack:2,rack:3", "names the same amount twice", ""),
    ],
)
def test_groups_that_cannot_be_are_answered_with_what_to_write(text, message, hint):
    wrong = error_of(text)
    assert message in wrong.message and hint in wrong.hint
