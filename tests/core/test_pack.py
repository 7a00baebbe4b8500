"""Gangs with different workers: placed exactly, all of them or none, beside what others hold."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.core import pack as packing
from fairlead.core.ledger import Ledger, Request
from fairlead.model.resources import Device, Node, Shape, gang_of
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.score import BestFit
from fairlead.sim.faults.truth import can_ever_run
from strategies import clusters, gangs


def ledger_of(*specs: Node) -> Ledger:
    ledger = Ledger()
    for index, spec in enumerate(specs):
        ledger.join(index, spec)
    return ledger


def gpus(count: int, model: str = "A", memory: int = 40_000) -> tuple[Device, ...]:
    return (Device(model=model, memory_mib=memory),) * count


PS = Shape(cpu_milli=8000)
WORKER = Shape(cpu_milli=4000, gpus=2, members=4)
EVALUATOR = Shape(cpu_milli=1000, gpu_milli=500)
TRAINING = gang_of([PS, WORKER, EVALUATOR])


def rack(node: Node) -> str:
    return node.rack or node.name


def take(ledger: Ledger, request: Request, slots) -> None:
    """Book the slots as the core does: whatever does not fit stops the test."""
    for part, its in request.split(slots):
        for slot in its:
            assert ledger.has_room(slot.node, part, slot.devices)
            ledger.take(slot.node, part, slot.devices)


@settings(max_examples=300, deadline=None)
@given(clusters(1, 3), gangs(), st.lists(st.sampled_from(["", "r"]), min_size=3, max_size=3))
def test_a_gang_with_different_workers_is_placed_exactly_when_some_way_to_place_it_exists(
    specs, shape, racks
):
    specs = [
        Node(
            name=spec.name,
            cpu_milli=spec.cpu_milli,
            memory_mib=spec.memory_mib,
            disk_mib=spec.disk_mib,
            devices=spec.devices[:3],
            rack=its,
        )
        for spec, its in zip(specs, racks, strict=False)
    ]
    ledger, request = ledger_of(*specs), Request(shape)
    slots = Fit(ledger, BestFit()).gang(request)
    # The oracle of the fault world tries every member on every node with every device.
    assert (slots is not None) == can_ever_run(shape, specs)
    if slots is None:
        return
    assert len(slots) == shape.members
    before = ledger.room.copy()
    take(ledger, request, slots)
    nodes = [slot.node for slot in slots]
    if shape.spread == "same-node":
        assert len(set(nodes)) == 1
    if shape.spread == "distinct-nodes":
        assert len(set(nodes)) == shape.members
    if shape.within == "rack":
        assert len({rack(specs[node]) for node in nodes}) == 1
    for part, its in request.split(slots):
        for slot in its:
            ledger.give(slot.node, part, slot.devices)
    assert (ledger.room == before).all()


def test_a_server_four_workers_and_an_evaluator_share_two_nodes_that_hold_no_more():
    nodes = [
        Node(name="a", cpu_milli=17_000, devices=gpus(5)),
        Node(name="b", cpu_milli=8000, devices=gpus(4)),
    ]
    ledger, request = ledger_of(*nodes), Request(TRAINING)
    slots = Fit(ledger, BestFit()).gang(request)
    assert slots is not None
    ps, *workers, evaluator = slots
    assert ps.devices == ()
    assert [len(worker.devices) for worker in workers] == [2, 2, 2, 2]
    assert len(evaluator.devices) == 1
    take(ledger, request, slots)
    assert sum(ledger.room[0, :2].tolist()) == 25_000 - 8000 - 4 * 4000 - 1000 == 0


def test_what_kind_by_kind_leaves_out_is_found_by_looking_at_all_ways():
    """The hard kind fits best where the other kind, which fits nowhere else, has to go."""
    nodes = [
        Node(name="small", cpu_milli=4000, memory_mib=64_000),
        Node(name="large", cpu_milli=6000, memory_mib=1000),
    ]
    wide = Shape(cpu_milli=4000)
    hungry = Shape(cpu_milli=1000, memory_mib=32_000)
    ledger = ledger_of(*nodes)
    slots = Fit(ledger, BestFit()).gang(Request(gang_of([wide, hungry])))
    assert slots is not None
    assert [slot.node for slot in slots] == [1, 0]


def test_equal_neighbours_are_one_kind_and_a_gang_of_one_kind_is_one_of_equal_members():
    one = Shape(cpu_milli=1000)
    assert gang_of([one, one]) == Shape(cpu_milli=1000, members=2)
    assert gang_of([one, PS, one]).kinds == (one, PS, one)
    assert gang_of([one, one, PS], "distinct-nodes").kinds[0].members == 2


def test_a_full_packing_is_found_within_the_steps_and_unknown_when_there_are_too_few(monkeypatch):
    """6 + 4 fill a node, and so do 4 + 3 + 3: that is the one way, and best fit alone misses it."""
    ledger = ledger_of(*(Node(name=f"n{i}", cpu_milli=10_000) for i in range(40)))
    kinds = [
        Shape(cpu_milli=cpu, members=count) for cpu, count in ((6000, 20), (4000, 40), (3000, 40))
    ]
    request = Request(gang_of(kinds))
    found = Fit(ledger, BestFit()).kinds(request)
    assert found.slots is not None
    take(ledger, request, found.slots)
    assert ledger.room[0, :40].sum() == 0
    for part, its in request.split(found.slots):
        for slot in its:
            ledger.give(slot.node, part, slot.devices)
    monkeypatch.setattr(packing, "STEPS_MAX", 100)
    assert Fit(ledger, BestFit()).kinds(request) == (None, False)
    too_much = Request(gang_of([*kinds, Shape(cpu_milli=1)]))
    assert Fit(ledger, BestFit()).kinds(too_much) == (None, True)


def test_ways_to_place_are_counted_alike_whatever_the_order_of_the_kinds():
    nodes = [
        Node(name="a", cpu_milli=8000, devices=(*gpus(1, "A"), *gpus(1, "B"))),
        Node(name="b", cpu_milli=2000, devices=gpus(1, "B", 16_000)),
    ]
    kinds = [
        Shape(cpu_milli=1000, gpus=1, gpu_models=("B",)),
        Shape(cpu_milli=1000, gpus=1),
        Shape(cpu_milli=1000, gpu_milli=500, gpu_memory_mib=8000),
    ]
    ledger = ledger_of(*nodes)
    for order in permutations(kinds):
        shape = gang_of(order)
        fits = Fit(ledger, BestFit()).gang(Request(shape)) is not None
        assert fits and can_ever_run(shape, nodes)
