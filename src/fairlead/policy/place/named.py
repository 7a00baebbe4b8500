"""Placements by name, over a ledger."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.core.ledger import Ledger
from fairlead.policy.place.anywhere import Anywhere
from fairlead.policy.place.fit import Fit
from fairlead.policy.place.least_fragments import BestProspects, LeastFragments, Popular
from fairlead.policy.place.score import build


def placing(
    name: str,
    ledger: Ledger,
    popular: Popular,
    count: Callable[[], int],
    *,
    gpus_last: bool = True,
) -> Fit:
    """Return what places by that name; Misuse if there is no such placement.

    `popular`: the classes of tasks, for those that go by them. `count`: a number that grows with
    every placement, for those that go by chance. `gpus_last` as Fit has it.
    """
    if name == "random":
        return Anywhere(ledger, count, gpus_last=gpus_last)
    if name == "pack":
        return BestProspects(ledger, popular, gpus_last=gpus_last)
    if name in ("fgd", "fgd-floored"):
        floored = name == "fgd-floored"
        return LeastFragments(ledger, popular, floored=floored, gpus_last=gpus_last)
    return Fit(ledger, build(name), gpus_last=gpus_last)
