"""The kind `hdrf`, answered by policy/fair/hdrf.py."""

from collections import Counter

from fairlead.policy.fair.hdrf import Share, launch, leaves, promised


def share(given: dict) -> Share:
    return Share(
        name=given["name"],
        weight=given["weight"],
        below=tuple(map(share, given.get("children", ()))),
        demand=given.get("demand", {}),
        most=given.get("max_tasks"),
    )


def answer(given: dict) -> dict:
    tree = share(given["tree"])
    done = Counter(launch(given["capacity"], tree))
    return {
        "tasks": {leaf.name: done[leaf.name] for leaf in leaves(tree)},
        "guarantee": promised(tree),
    }
