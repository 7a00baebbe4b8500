"""GPUs close together: nothing cheaper exists, and no fewer nodes would do."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.core.links import pair_cost, pick_gpus
from fairlead.model.base import Misuse
from fairlead.policy.place.topology import pick_nodes

# Two sockets with two switches each, NVLink between neighbours.
HOST = [
    [0 if a == b else 1 if a // 2 == b // 2 else 3 if a // 4 == b // 4 else 6 for b in range(8)]
    for a in range(8)
]


@st.composite
def costs(draw):
    size = draw(st.integers(1, 7))
    table = [[0] * size for _ in range(size)]
    for one, other in combinations(range(size), 2):
        table[one][other] = table[other][one] = draw(st.integers(0, 4))
    return table


@given(costs(), st.data())
def test_no_cheaper_set_exists_and_ties_go_to_the_first(table, data):
    free = data.draw(st.sets(st.integers(0, len(table) - 1), min_size=1))
    count = data.draw(st.integers(1, len(table)))
    pick = pick_gpus(table, free, count)
    if count > len(free):
        assert pick is None
        return
    best = min((pair_cost(table, each), each) for each in combinations(sorted(free), count))
    assert (pick.cost, pick.gpus) == best
    assert pick.exact


def test_of_equal_cost_the_set_may_be_taken_that_leaves_the_best_pair():
    free = [0, 1, 2]  # 0 and 1 are neighbours; a single GPU costs nothing anywhere
    assert pick_gpus(HOST, free, 1).gpus == (0,)
    assert pick_gpus(HOST, free, 1, keep_pair=True).gpus == (2,)


def test_a_large_host_is_answered_by_growing_sets_and_says_so():
    size = 32
    table = [
        [0 if a == b else 1 + 5 * (a // 8 != b // 8) for b in range(size)] for a in range(size)
    ]
    pick = pick_gpus(table, range(3, 32), 8)
    assert pick.gpus == tuple(range(8, 16))
    assert not pick.exact


trees = st.dictionaries(
    st.builds("{}/{}".format, st.sampled_from("ab"), st.sampled_from("wxyz")),
    st.integers(0, 8),
    min_size=1,
)


@given(trees, st.integers(1, 30))
def test_the_lowest_level_with_room_and_the_fewest_nodes_in_it(free, count):
    found = pick_nodes(free, count)
    if sum(free.values()) < count:
        assert found is None
        return
    assert sum(found.split.values()) == count
    assert all(0 < gpus <= free[node] for node, gpus in found.split.items())
    inside = [gpus for node, gpus in free.items() if found.name in ("root", node, node[0])]
    fewest = next(n for n in range(1, 9) if sum(sorted(inside)[-n:]) >= count)
    assert len(found.split) == fewest
    racks = {node[0] for node in free}
    if found.level != "node":
        assert max(free.values()) < count
    if found.level == "root":
        assert all(sum(g for n, g in free.items() if n[0] == rack) < count for rack in racks)


def test_a_required_level_is_never_left_and_a_preferred_one_is_where_it_begins():
    free = {"r1/a": 4, "r1/b": 4, "r2/c": 2, "r2/d": 3}
    assert pick_nodes(free, 5).name == "r2"
    assert pick_nodes(free, 5, required="node") is None
    assert pick_nodes(free, 9, required="rack") is None
    assert pick_nodes(free, 9).name == "root"
    assert pick_nodes(free, 3).name == "r2/d"
    assert pick_nodes(free, 3, preferred="rack").name == "r2"
    assert pick_nodes(free, 4, per_node=2).split == {"r2/c": 2, "r2/d": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: pick_gpus([[0, 1], [2, 0]], [0, 1], 1),
        lambda: pick_gpus([[0, 1]], [0], 1),
        lambda: pick_gpus(HOST, [8], 1),
        lambda: pick_gpus(HOST, [0], 0),
        lambda: pick_nodes({"a": 1}, 1),
        lambda: pick_nodes({"a/b": 1}, 1, required="row"),
        lambda: pick_nodes({"a/b": 1}, 1, required="node", preferred="rack"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(Misuse):
        wrong()
