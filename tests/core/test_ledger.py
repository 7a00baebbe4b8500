"""Columns of room: take and give undo each other, devices are chosen as promised."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.fits import copies
from fairlead.core.ledger import ROWS, UP, WHOLE, Ledger, Request
from fairlead.model.resources import Device, Shape
from strategies import node, nodes, shapes


def ledger_of(*specs) -> Ledger:
    ledger = Ledger()
    for index, each in enumerate(specs):
        ledger.join(index, each)
    return ledger


def test_more_nodes_than_the_first_columns_keep_their_amounts():
    ledger = ledger_of(*(node(f"n{i}", cpus=i + 1, gpus=i % 3) for i in range(70)))
    assert ledger.count == 70 and ledger.view().shape == (ROWS, 70)
    assert ledger.view()[0].tolist() == [1000 * (i + 1) for i in range(70)]
    assert ledger.view()[WHOLE].tolist() == [i % 3 for i in range(70)]


def test_the_view_cannot_be_written():
    ledger = ledger_of(node())
    with pytest.raises(ValueError, match="read-only"):
        ledger.view()[0, 0] = 7
    assert ledger.room.flags.writeable


@given(st.lists(nodes(), min_size=1, max_size=3), st.lists(shapes(members=1), max_size=8))
def test_what_is_taken_and_given_back_in_any_order_leaves_nothing(specs, asked):
    ledger = ledger_of(*specs)
    empty = ledger.room.copy()
    rng = Random(len(asked))
    held = []
    for shape in asked:
        request, where = Request(shape), rng.randrange(len(specs))
        devices = ledger.devices[where].pick(request)
        if devices is None or not ledger.has_room(where, request, devices):
            continue
        before = ledger.room[:5, where].copy()
        ledger.take(where, request, devices)
        held.append((where, request, devices))
        taken = before - ledger.room[:5, where]
        assert taken[:3].tolist() == list(request.host)
        assert (ledger.room[:5, where] >= 0).all()
    rng.shuffle(held)
    for where, request, devices in held:
        ledger.give(where, request, devices)
    assert np.array_equal(ledger.room, empty)


@given(nodes(), shapes(members=1))
def test_the_rows_that_a_request_needs_never_rule_out_what_fits(each, shape):
    ledger, request = ledger_of(each), Request(shape)
    rows_say = all(ledger.room[row, 0] >= amount for row, amount in request.need)
    fits = copies(ledger, request, 0, 1, empty=False) == 1
    assert rows_say or not fits
    if request.simple:
        assert rows_say == fits


def test_whole_devices_are_given_lowest_index_first_and_shares_pack_the_fullest():
    ledger = ledger_of(node(gpus=4))
    devices = ledger.devices[0]
    half, quarter, pair = (
        Request(Shape(gpu_milli=500)),
        Request(Shape(gpu_milli=250)),
        Request(Shape(gpus=2)),
    )
    assert devices.pick(half) == (0,)
    ledger.take(0, half, (0,))
    assert devices.pick(pair) == (1, 2)
    ledger.take(0, quarter, (1,))
    assert devices.pick(quarter) == (0,)  # 500 free is fuller than 750
    ledger.take(0, half, (0,))
    assert devices.pick(quarter) == (1,)
    assert devices.pick(pair) == (2, 3)
    assert devices.pick(Request(Shape(gpus=3))) is None


def test_a_share_needs_its_memory_on_the_same_device():
    ledger = ledger_of(
        node(devices=(Device(memory_mib=10_000), Device(memory_mib=80_000, model="B")))
    )
    devices = ledger.devices[0]
    large = Request(Shape(gpu_milli=100, gpu_memory_mib=50_000))
    assert devices.pick(large) == (1,)
    ledger.take(0, large, (1,))
    assert devices.pick(large) is None  # 30,000 left there, and 10,000 on the other
    assert devices.pick(Request(Shape(gpus=1, gpu_memory_mib=20_000))) is None
    assert devices.pick(Request(Shape(gpu_milli=100, gpu_models=("B",)))) == (1,)


def test_devices_of_others_are_given_to_nobody():
    ledger = ledger_of(node(gpus=2))
    ledger.set_foreign(0, (0, 0, 0, 0, 0), (0,))
    assert ledger.devices[0].pick(Request(Shape(gpus=1))) == (1,)
    assert ledger.devices[0].pick(Request(Shape(gpus=2))) is None
    assert not ledger.has_room(0, Request(Shape(gpus=1)), (0,))


def test_a_node_that_is_down_has_room_for_nobody():
    ledger = ledger_of(node())
    ledger.down(0)
    assert ledger.room[UP, 0] == 0
    assert not ledger.has_room(0, Request(Shape()), ())


def test_every_change_of_a_node_is_written_down_for_caches():
    ledger = ledger_of(node("n0"), node("n1", gpus=1))
    seen = ledger.changes
    request = Request(Shape(gpus=1))
    ledger.take(1, request, (0,))
    ledger.set_foreign(0, (1, 0, 0, 0, 0), ())
    ledger.give(1, request, (0,))
    assert ledger.touched[seen - ledger.forgotten :] == [1, 0, 1]


def test_what_caches_have_read_long_ago_is_dropped_and_counted():
    ledger = ledger_of(node())
    request = Request(Shape(cpu_milli=1))
    for _ in range(40_000):
        ledger.take(0, request, ())
        ledger.give(0, request, ())
    assert ledger.changes == 80_001
    assert len(ledger.touched) <= 65_536 and ledger.forgotten > 0
