"""The kind `fair_tree`, answered by policy/fair/fairtree.py."""

from fractions import Fraction

from fairlead.policy.fair.fairtree import Member, levels, ranking


def member(given: dict) -> Member:
    below = tuple(map(member, given.get("children", ())))
    return Member(given["name"], given["shares"], given.get("usage", 0), below)


def answer(given: dict) -> dict:
    tree = member(given["tree"])
    ranked = ranking(tree)
    values: dict = {}

    def note(account: Member) -> None:
        for each, level in zip(account.below, levels(account.below), strict=True):
            values[each.name] = "inf" if level is None else level
            note(each)

    note(tree)
    return {
        "level_fs": values,
        "factor": {user.name: Fraction(rank, len(ranked)) for rank, user in ranked},
    }
