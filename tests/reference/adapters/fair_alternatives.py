"""The kind `fair_alternatives`, answered by policy/fair/drf.py."""

from fairlead.policy.fair.drf import Asker, asset, equal_incomes, fluid


def answer(given: dict) -> dict:
    askers = [Asker(name, demand) for name, demand in given["demands"].items()]

    def named(tasks: list) -> dict:
        return dict(zip(given["demands"], tasks, strict=True))

    capacity = given["capacity"]
    return {
        "drf": named(fluid(capacity, askers)),
        "asset": named(asset(capacity, askers)),
        "ceei": named(equal_incomes(capacity, askers)),
    }
