"""GPUs of one host by the cost of links, nodes by the levels of a tree."""

from __future__ import annotations

from typing import Any

from fairlead.core.links import pick_gpus
from fairlead.policy.place.topology import pick_nodes


def answer(given: dict[str, Any]) -> dict[str, Any]:
    if given["mode"] == "links":
        pick = pick_gpus(given["link_cost"], given["free"], given["k"])
        assert pick is not None and pick.exact
        return {"set": list(pick.gpus), "cost": pick.cost}
    found = pick_nodes(given["free"], given["k"], per_node=given.get("per_node_max"))
    assert found is not None
    return {"domain": found.name, "split": found.split}
