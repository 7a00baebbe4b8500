"""The kind `drf`, answered by policy/fair/drf.py."""

from fractions import Fraction

from fairlead.policy.fair.drf import Asker, by_task, dominant, fluid


def answer(given: dict) -> dict:
    capacity = given["capacity"]
    askers = [
        Asker(each["id"], each["demand"], each["weight"], each.get("max_tasks"))
        for each in given["users"]
    ]
    sequence = by_task(capacity, askers) if given["mode"] == "integer" else []
    if given["mode"] == "integer":
        tasks = {each.name: sequence.count(each.name) for each in askers}
    else:
        tasks = dict(zip((a.name for a in askers), fluid(capacity, askers), strict=True))
    shares = {each.name: tasks[each.name] * dominant(capacity, each.demand) for each in askers}
    return {
        "tasks": tasks,
        "dominant_share": shares,
        "sequence": sequence,
        "level": {each.name: Fraction(shares[each.name]) / each.weight for each in askers},
    }
