"""Quotas in a tree: what may be used, against raising use one by one until a rule is broken."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.core.cohort import Branch

amounts = st.integers(0, 6)
limits = st.one_of(st.none(), amounts)


@st.composite
def trees(draw, depth: int = 3) -> tuple[Branch, list[Branch]]:
    """Return the root of a random tree and its leaves, which use nothing yet."""
    leaves: list[Branch] = []

    def grow(parent: Branch | None, name: str, left: int) -> Branch:
        branch = Branch(name, parent, 1)
        branch.quota = [draw(amounts)]
        if parent is not None:
            branch.borrow, branch.lend = [draw(limits)], [draw(limits)]
        count = draw(st.integers(0 if parent is not None else 1, 3)) if left else 0
        for index in range(count):
            grow(branch, f"{name}{index}", left - 1)
        if not count:
            leaves.append(branch)
        return branch

    root = grow(None, "r", depth)
    root.settle()
    return root, leaves


def sound(root: Branch) -> bool:
    """Whether no branch is beyond its limits, by the rules as they are stated for each."""
    waiting = [root]
    while waiting:
        branch = waiting.pop()
        used, borrow = branch.used[0], branch.borrow[0]
        if branch.parent is None:
            if used > branch.subtree[0]:
                return False
        elif borrow is not None and used > branch.subtree[0] + borrow:
            return False
        waiting += branch.children
    return True


def fill(draw, leaves: list[Branch]) -> None:
    for leaf in leaves:
        most = leaf.available(0)
        if most > 0:
            leaf.use(0, draw(st.integers(0, most)))


@given(trees(), st.data())
def test_what_is_available_can_be_used_and_one_more_breaks_a_limit(tree, data) -> None:
    root, leaves = tree
    fill(data.draw, leaves)
    assert sound(root)
    leaf = data.draw(st.sampled_from(leaves))
    more = leaf.available(0)
    assert more >= 0
    leaf.use(0, more)
    assert sound(root)
    leaf.use(0, 1)
    assert not sound(root)


@given(trees(), st.data())
def test_giving_back_restores_all_sums(tree, data) -> None:
    root, leaves = tree
    fill(data.draw, leaves)
    before = [list(leaf.used) for leaf in leaves], list(root.used)
    leaf = data.draw(st.sampled_from(leaves))
    amount = data.draw(st.integers(0, 9))
    leaf.use(0, amount)
    leaf.use(0, -amount)
    assert ([list(each.used) for each in leaves], list(root.used)) == before


@given(trees(), st.data())
def test_in_an_empty_tree_available_is_the_potential(tree, data) -> None:
    _, leaves = tree
    leaf = data.draw(st.sampled_from(leaves))
    assert leaf.available(0) == leaf.potential(0)


@given(trees(), st.data())
def test_a_queue_has_its_quota_less_what_others_legally_hold_of_it(tree, data) -> None:
    """Nobody uses more than its own quota: then everybody can have all of its own."""
    _, leaves = tree
    for leaf in leaves:
        leaf.use(0, data.draw(st.integers(0, leaf.quota[0])))
    assume(all(leaf.borrow[0] is None for leaf in leaves))
    for leaf in leaves:
        assert leaf.available(0) >= leaf.quota[0] - leaf.used[0]


def test_after_a_cut_of_quotas_nothing_more_is_available() -> None:
    root = Branch("", None, 1)
    queue = Branch("nlp", root, 1)
    queue.quota = [8]
    root.settle()
    queue.use(0, 8)
    queue.quota = [4]
    root.settle()
    assert queue.available(0) == -4
