from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.sim import draw

SECONDS = st.lists(st.integers(0, 10**7).map(lambda ms: ms / 1000), min_size=1, max_size=50)


def walked(path: str) -> list[tuple[int, int]]:
    """Return the corners of a path, with heights counted from below."""
    start = re.match(r"M0 (\d+)", path)
    assert start
    x, y = 0, draw.HIGH - int(start[1])
    corners = [(x, y)]
    for letter, amount in re.findall(r"([hv])(-?\d+)", path):
        x, y = (x + int(amount), y) if letter == "h" else (x, y - int(amount))
        corners.append((x, y))
    return corners


def height_at(corners: list[tuple[int, int]], x: int) -> int:
    """Return the last height that a path has at a place or before it."""
    return [high for at, high in corners if at <= x][-1]


@given(SECONDS)
def test_the_distribution_drawn_is_at_every_place_the_share_of_values_up_to_there(values):
    waits = np.array(values)
    axis = draw.wait_axis(waits.max())
    corners = walked(draw.cdf(waits, axis))
    for x in axis.grid(waits).tolist():
        share = (axis.grid(waits) <= x).mean()
        assert height_at(corners, x) == pytest.approx(draw.HIGH * share, abs=0.51)
    assert corners[-1] == (draw.WIDE, draw.HIGH)
    assert corners == sorted(corners)  # it only goes right and up


@given(st.lists(st.floats(0, 1), min_size=1, max_size=draw.WIDE))
def test_stairs_have_every_height_at_the_middle_of_its_step_and_span_the_width(values):
    corners = walked(draw.stairs(np.array(values), 1.0))
    assert corners[-1][0] == draw.WIDE and all(0 <= y <= draw.HIGH for _, y in corners)
    for index, value in enumerate(values):
        left = round(draw.WIDE * index / len(values))
        assert height_at(corners, left) == round(draw.HIGH * value)


def test_a_distribution_of_three_waits_is_the_path_worked_out_by_hand():
    axis = draw.Axis(lambda values: values / 60, ())
    assert draw.cdf(np.array([0, 30, 30, 60]), axis) == "M0 400v-100h300v-200h300v-100"


def test_stairs_of_three_heights_are_the_path_worked_out_by_hand():
    assert draw.stairs(np.array([0.5, 0.5, 1]), 1.0) == "M0 200h400v-200h200"
    assert draw.below("M0 200h600") == "M0 200h600V400H0z"


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_scales_keep_the_order_and_stay_on_the_page(one, two):
    most = max(one, two)
    for axis, least in ((draw.wait_axis(most), 0), (draw.slowdown_axis(1 + most), 1)):
        small, large = (axis.percent(least + value) for value in sorted((one, two)))
        assert 0 <= small <= large <= 100.01


@given(st.floats(0, 1e10))
def test_ticks_stand_apart_begin_at_the_left_and_are_never_many(most):
    top, counts = draw.count_axis(most)
    assert top >= most and counts[0] == (0, "0") and counts[-1][0] == 100
    for axis in (draw.wait_axis(most), draw.slowdown_axis(most)):
        places = [at for at, _ in axis.ticks]
        assert places[0] == 0 and 2 <= len(places) <= 9 and places[-1] <= 100.01
        gaps = [after - before for before, after in pairwise(places)]
        assert min(gaps) >= 100 * draw.GAP - 0.02


@given(st.integers(0, 10**12))
def test_ticks_of_time_are_round_and_fit_the_span(span_ms):
    ticks, label = draw.time_axis(span_ms)
    assert ticks[0] == (0, "0") and len(ticks) <= 8 and ticks[-1][0] <= 100.01
    unit_ms = {"days": 86_400_000, "hours": 3_600_000, "minutes": 60_000, "seconds": 1000}
    for at, words in ticks:
        where = 100 * float(words) * unit_ms[label.split()[0]] / max(span_ms, 1)
        assert at == pytest.approx(where, abs=0.01)


@given(SECONDS)
def test_boxes_have_their_parts_in_order_and_the_words_have_the_numbers(values):
    waits = np.array(values)
    box = draw.box(waits, draw.wait_axis(waits.max()), lambda seconds: f"{seconds:.3f}")
    places = [box.low, box.first, box.median, box.third, box.high, box.most]
    assert places == sorted(places) and box.low <= box.mean + 0.01 and box.mean <= box.most + 0.01
    assert f"median {sorted(values)[(len(values) - 1) // 2]:.3f}" in box.words
    assert f"most {max(values):.3f}" in box.words
