"""Members with several GPUs of which they take unequal parts: 1.5 GPUs, or 0.5 of one and 0.25 of
another."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_close_gangs import World

from fairlead.core.admission import counted
from fairlead.core.ledger import Ledger, Request
from fairlead.model.base import Refused
from fairlead.model.events import QueueSet, TenantSet
from fairlead.model.jobs import Phase, Queue, Tenant
from fairlead.model.resources import GPU, GPU_MEMORY, Device, Node, Shape
from strategies import node

HALF_MORE = {"gpus": 1, "gpu_milli": 500}


@st.composite
def used(draw) -> tuple[Ledger, list[tuple[int, int]]]:
    """Return a node of which shares of the GPUs are taken, and what is left: (milli, memory)."""
    count = draw(st.integers(1, 5))
    devices = tuple(Device(memory_mib=draw(st.sampled_from([8000, 16_000]))) for _ in range(count))
    ledger = Ledger()
    ledger.join(0, Node(name="n", cpu_milli=10**6, devices=devices))
    left = []
    for index, device in enumerate(devices):
        milli = draw(st.sampled_from([0, 0, 100, 400, 500, 900]))
        memory = draw(st.sampled_from([0, 3000, 8000])) if milli else 0
        if milli:
            share = Request(Shape(cpu_milli=1, gpu_milli=milli, gpu_memory_mib=memory))
            ledger.take(0, share, (index,))
        left.append((1000 - milli, device.memory_mib - memory))
    return ledger, left


parts = st.lists(st.integers(1, 999), max_size=3).map(lambda each: sorted(each, reverse=True))


@given(used(), st.integers(0, 3), parts, st.sampled_from([0, 4000, 9000]))
def test_devices_are_found_exactly_when_some_choice_of_them_fits(node_, gpus, shares, memory):
    """Against all ways to choose; what is given is then taken, and given back to the last bit."""
    ledger, left = node_
    if gpus + len(shares) < 1:
        return
    shape = Shape(
        gpus=gpus,
        gpu_milli=sum(shares),
        gpu_parts=tuple(shares) if len(shares) > 1 else (),
        gpu_memory_mib=memory,
    )
    sizes = [device.memory_mib for device in ledger.devices[0].spec]

    def fits(way: tuple[int, ...]) -> bool:
        whole = all(left[i] == (1000, sizes[i]) and sizes[i] >= memory for i in way[:gpus])
        rest = zip(way[gpus:], shares, strict=True)
        return whole and all(left[i][0] >= share and left[i][1] >= memory for i, share in rest)

    ways = [way for way in permutations(range(len(left)), shape.devices) if fits(way)]
    request = Request(shape)
    found = ledger.devices[0].pick(request)
    assert (found is not None) == bool(ways)
    assert found is None or found in ways
    rows = all(ledger.room[row, 0] >= amount for row, amount in request.need)
    assert rows or not ways  # the rows never rule out what fits
    if found is not None:
        assert ledger.has_room(0, request, found)
        before = ledger.room.copy()
        ledger.take(0, request, found)
        taken = before[GPU, 0] - ledger.room[GPU, 0]
        assert taken == 1000 * gpus + sum(shares)
        ledger.give(0, request, found)
        assert (ledger.room == before).all()


@pytest.mark.parametrize("policy", ["fifo-skip", "fifo-skip+fgd", "easy", "conservative", "srtf"])
def test_two_jobs_with_half_a_gpu_more_share_the_one_between_them(policy):
    world = World(node("n", cpus=100, gpus=3), policy=policy)
    ms = {"limit_ms": 10_000, "expected_ms": 10_000}
    first, second = world.submit(**HALF_MORE, **ms), world.submit(**HALF_MORE, **ms)
    assert first.slots[0].devices == (1, 0) and second.slots[0].devices == (2, 0)
    assert world.core.ledger.devices[0].milli == [0, 0, 0]
    waits = world.submit(gpu_milli=1, **ms)
    assert waits.phase is Phase.PENDING
    world.end(first)
    assert waits.slots[0].devices == (0,)  # the fullest GPU


def test_a_gang_of_them_is_placed_whole_and_refused_where_it_can_never_be():
    world = World(node("a", cpus=100, gpus=3), node("b", cpus=100, gpus=2))
    gang = world.submit(3, **HALF_MORE)
    assert sorted(world.where(gang)) == ["a", "a", "b"]
    with pytest.raises(Refused) as no:
        world.submit(4, **HALF_MORE)
    assert "only 3 of 4 members fit" in no.value.message and "gpus: 1.5" in no.value.hint
    with pytest.raises(Refused) as no:
        world.submit(gpus=3, gpu_milli=500)
    assert no.value.hint == "the nearest that can run: cpus: 1, gpus: 3"
    with pytest.raises(Refused) as no:
        world.submit(gpu_milli=1000, gpu_parts=(400, 300, 200, 100))
    assert no.value.hint == "the nearest that can run: cpus: 1, gpu_split: [0.4, 0.3, 0.2]"


def test_quotas_count_what_they_take_and_never_less_memory_than_they_may_get():
    world = World(node("n", cpus=100, gpus=3))
    world.turn(QueueSet(queue=Queue(name="small", most={"gpu_milli": 2000})))
    world.submit(queue="small", **HALF_MORE)
    assert world.submit(queue="small", **HALF_MORE).phase is Phase.PENDING
    assert world.submit(queue="small", gpu_milli=500).phase is Phase.RUNNING
    tenant = Tenant(name="t", quota=(None, None, None, None, 50_000))
    world.turn(TenantSet(tenant=tenant))
    shape = Shape(gpu_memory_mib=5000, **HALF_MORE)
    assert counted(world.core, tenant, shape)[GPU_MEMORY] == 40_000 + 5000


@pytest.mark.parametrize("share", ["known", "trial"])
def test_where_only_known_pairs_share_they_get_whole_gpus(share):
    world = World(node("n", cpus=100, gpus=4), share=share)
    first, second = world.submit(**HALF_MORE), world.submit(**HALF_MORE)
    held = [device for job in (first, second) for device in job.slots[0].devices]
    assert sorted(held) == [0, 1, 2, 3]
    assert world.submit(**HALF_MORE).phase is Phase.PENDING
