"""Placements by name, over a ledger."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.core.ledger import Ledger
from fairlead.policy.place.anywhere import Anywhere
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.least_fragments import BestProspects, LeastFragments, Popular
from fairlead.policy.place.score import build


def placing(name: str, ledger: Ledger, popular: Popular, count: Callable[[], int]) -> Fit:
    """Return what places by that name; Misuse if there is no such placement.

    `popular`: the classes of tasks, for those that go by them. `count`: a number that grows with
    every placement, for those that go by chance.
    """
    if name == "random":
        return Anywhere(ledger, count)
    if name == "pack":
        return BestProspects(ledger, popular)
    if name in ("fgd", "fgd-floored"):
        return LeastFragments(ledger, popular, floored=name == "fgd-floored")
    return Fit(ledger, build(name))
