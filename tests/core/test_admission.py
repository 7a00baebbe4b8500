"""The gate: what can never run is refused at once, with the nearest that can."""

from __future__ import annotations

import pytest
from hypothesis import given

from fairlead.core.admission import admit, asked_in_all, describe, describe_lack
from fairlead.core.engine import Core
from fairlead.core.fits import lacking, largest, members_that_fit
from fairlead.core.ledger import Request
from fairlead.model.base import Misuse, Refused
from fairlead.model.events import ForeignUsage, NodeJoined, NodeLost, TenantSet
from fairlead.model.jobs import JobSpec, Tenant
from fairlead.model.resources import Device
from strategies import cluster, clusters, node, queue, shapes, spec, submit


def refusal(core, cpus=1, **more) -> Misuse:
    with pytest.raises(Misuse) as no:
        admit(core, spec(cpus, **more))
    return no.value


@pytest.fixture
def core():
    return cluster(
        node("n0", cpus=8, memory=32_768), node("n1", cpus=16, memory=65_536, gpus=2, disk_mib=1024)
    )


@pytest.mark.parametrize(
    ("asked", "lack", "nearest"),
    [
        ({"cpus": 17}, "2 nodes: CPU", "cpus: 16"),
        ({"memory_mib": 2**20}, "2 nodes: memory", "cpus: 1, memory: 64GiB"),
        ({"cpus": 9, "disk_mib": 2048}, "1 node: CPU and disk; 1 node: disk", "disk: 1GiB"),
        ({"gpus": 3}, "2 nodes: GPUs", "cpus: 1, gpus: 2"),
        ({"gpus": 1, "gpu_models": ("H100",)}, "1 node: GPU type; 1 node: GPUs", "no node has any"),
        ({"gpus": 1, "gpu_memory_mib": 50_000}, "1 node: GPU memory; 1 node: GPUs", "gpu_memory"),
        ({"gpu_milli": 500, "gpu_memory_mib": 50_000}, "1 node: GPU memory", "gpus: 0.5"),
    ],
)
def test_what_fits_no_node_is_refused_with_counts_and_the_nearest_that_fits(
    core, asked, lack, nearest
):
    no = refusal(core, **asked)
    assert isinstance(no, Refused) and no.code == "never-fits"
    assert f"no node is large enough: {lack}" in no.message
    assert nearest in no.hint


def test_a_gang_that_never_fits_whole_is_refused_with_the_size_that_does(core):
    no = refusal(core, cpus=4, members=7)
    assert "only 6 of 7 members fit at once" in no.message
    assert no.hint == "the nearest that can run: cpus: 4, members: 6"
    assert "only 2 of 3" in refusal(core, members=3, spread="distinct-nodes").message
    assert "only 16 of 17" in refusal(core, members=17, spread="same-node").message
    admit(core, spec(cpus=4, members=6))


def test_what_others_hold_now_and_nodes_that_are_down_do_not_matter(core):
    core.apply(0, ForeignUsage(node=1, amounts=(16_000, 0, 0, 0, 0), devices=(0, 1)))
    core.apply(0, NodeLost(node=1))
    admit(core, spec(cpus=16, gpus=2))


def test_a_larger_node_that_joins_makes_room(core):
    refusal(core, cpus=32)
    core.apply(0, NodeJoined(node=2, spec=node("n2", cpus=32)))
    admit(core, spec(cpus=32))


def test_a_node_that_comes_back_smaller_takes_the_room_away(core):
    admit(core, spec(cpus=16))
    core.apply(0, NodeJoined(node=1, spec=node("n1", cpus=12)))
    assert "no node is large enough" in refusal(core, cpus=16).message


def test_before_any_node_is_known_nothing_is_too_large():
    admit(Core(), spec(cpus=1000))


def test_a_queue_that_is_full_or_unknown_refuses(core):
    queue(core, name="small", pending_max=1)
    admit(core, spec(queue="small"))
    submit(core, queue="small")
    no = refusal(core, queue="small")
    assert (no.code, no.field) == ("queue-full", "queue")
    assert refusal(core, queue="smal").hint == "did you mean 'small'?"
    assert refusal(core, queue="zzz").hint == "the queues are: default, small"


@pytest.mark.parametrize("asked", [None, 60_001])
def test_a_queue_bounds_the_time_limit(core, asked):
    queue(core, name="short", limit_ms=60_000)
    no = refusal(core, queue="short", limit_ms=asked)
    assert "at most 60 s" in no.message and no.field == "time_limit"
    admit(core, spec(queue="short", limit_ms=60_000))


def test_more_than_the_quota_of_a_tenant_is_refused(core):
    quota = (4000, None, None, 1000, None)
    core.apply(0, TenantSet(tenant=Tenant(name="t", quota=quota)))
    admit(core, spec(cpus=4, gpus=1, tenant="t"))
    no = refusal(core, cpus=2, members=3, tenant="t")
    assert no.code == "over-quota" and "asks for 6" in no.message
    assert "asks for 2" in refusal(core, gpus=2, tenant="t").message
    admit(core, spec(cpus=2, members=3, tenant="other"))


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"gpu_milli": 500, "gpu_parts": (300, 300)}, "resources.gpu_split"),
        ({"gpu_memory_mib": 1}, "resources.gpu_memory"),
        ({"members": 0}, "members"),
        ({"members": 100_001}, "members"),
        ({"cpus": 0}, "resources"),
    ],
)
def test_a_shape_that_makes_no_sense_is_misuse(core, asked, field):
    assert refusal(core, **asked).field == field


def test_lack_is_told_by_the_most_common_first():
    assert describe_lack({"GPUs": 2, "memory": 4, "": 3, "CPU": 1}) == (
        "4 nodes: memory; 2 nodes: GPUs; 1 node: CPU"
    )
    assert describe_lack({"": 3}) == "no nodes"


def test_a_request_in_words():
    words = describe(spec(2.5, memory_mib=1536, gpu_milli=250, members=3).shape)
    assert words == "cpus: 2.5, memory: 1.5GiB, gpus: 0.25, members: 3"


@given(clusters(), shapes())
def test_the_nearest_that_fits_does_fit_and_asks_for_no_more(specs, shape):
    core = cluster(*specs)
    request = Request(shape)
    if members_that_fit(core.ledger, request, empty=True) >= shape.members:
        admit(core, JobSpec(shape=shape))
        return
    with pytest.raises(Refused) as caught:
        admit(core, JobSpec(shape=shape))
    no = caught.value
    near = largest(core.ledger, request)
    if near is None:
        assert no.hint == "no node has any of that"
        return
    assert describe(near) in no.hint
    admit(core, JobSpec(shape=near))
    for mine, asked in zip(asked_in_all(near), asked_in_all(shape), strict=True):
        assert mine <= asked
    assert near != shape


@given(clusters(), shapes(members=1))
def test_the_counts_of_what_nodes_lack_are_those_of_a_look_at_each(specs, shape):
    core = cluster(*specs)
    counts = lacking(core.ledger, Request(shape))
    expected: dict[str, int] = {}
    for each in specs:
        lack = " and ".join(lacks(each, shape))
        expected[lack] = expected.get(lack, 0) + 1
    assert counts == expected


def lacks(each, shape) -> list[str]:
    """Say what an empty node lacks for a shape, by common sense."""
    found = [
        name
        for name, asked, has in (
            ("CPU", shape.cpu_milli, each.cpu_milli),
            ("memory", shape.memory_mib, each.memory_mib),
            ("disk", shape.disk_mib, each.disk_mib),
        )
        if asked > has
    ]
    if not shape.gpus and not shape.gpu_milli:
        return found
    wanted = shape.devices
    right = [d for d in each.devices if not shape.gpu_models or d.model in shape.gpu_models]
    large = [d for d in right if d.memory_mib >= shape.gpu_memory_mib]
    if len(large) >= wanted:
        return found
    if each.devices and not right:
        return [*found, "GPU type"]
    return [*found, "GPU memory" if len(right) >= wanted else "GPUs"]


def test_a_device_of_the_right_kind_that_is_in_use_is_a_lack_of_gpus():
    core = cluster(node(devices=(Device(model="A", memory_mib=10), Device(model="B"))))
    core.apply(0, ForeignUsage(node=0, amounts=(0,) * 5, devices=(0,)))
    request = Request(spec(gpus=1, gpu_models=("A",)).shape)
    assert lacking(core.ledger, request) == {"GPUs": 1}
    assert lacking(core.ledger, request, empty=True) == {"": 1}
