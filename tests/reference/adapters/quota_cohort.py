"""Quotas in a cohort tree, by fairlead.core.cohort: the same branches that the core books on."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from fairlead.core.cohort import Branch


def answer(given: dict[str, Any]) -> dict[str, Any]:
    branches: list[Branch] = []
    weights: dict[str, int] = {}
    used: dict[str, int] = {}

    def grow(node: dict[str, Any], parent: Branch | None) -> Branch:
        branch = Branch(node["name"], parent, 1)
        branch.quota = [node["nominal"]]
        branch.borrow = [node.get("borrow_limit")]
        branch.lend = [node.get("lend_limit")]
        branches.append(branch)
        weights[branch.name] = node.get("weight", 1)
        if "usage" in node:
            used[branch.name] = node["usage"]
        for child in node.get("children", ()):
            grow(child, branch)
        return branch

    grow(given["tree"], None).settle()
    queues = [branch for branch in branches if branch.name in used]
    for queue in queues:
        queue.use(0, used[queue.name])
    return {
        "subtree_quota": {each.name: each.subtree[0] for each in branches},
        "local_quota": {each.name: each.local[0] for each in branches},
        "node_usage": {each.name: each.used[0] for each in branches},
        "available": {each.name: each.available(0) for each in queues},
        "potential": {each.name: each.potential(0) for each in queues},
        "borrowed": {each.name: each.borrowed(0) for each in queues},
        "drs": {each.name: _share(each, weights[each.name]) for each in queues},
    }


def _share(queue: Branch, weight: int) -> Fraction:
    assert queue.parent is not None
    return Fraction(1000 * queue.borrowed(0), queue.parent.potential(0) * weight)
