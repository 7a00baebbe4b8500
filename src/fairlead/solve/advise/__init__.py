"""Advisers by name: each answers a question of a world with a plan (model/advice.py).

They may be slow and use floats: their answers are facts, and the policy that carries them out
checks every placement against the ledger.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeAlias

from fairlead.model.advice import Question
from fairlead.model.base import Misuse
from fairlead.model.events import Advised

Adviser: TypeAlias = Callable[[Question], Advised]

# Where each one is: imported when it is asked for, since solvers take long to load.
ADVISERS: dict[str, str] = {
    "assignment": "fairlead.solve.advise.assignment:advise",
    "gavel-maxmin": "fairlead.solve.advise.gavel:max_min",
    "gavel-waterfill": "fairlead.solve.advise.gavel:water_fill",
    "gavel-tree": "fairlead.solve.advise.gavel:tree",
    "gavel-tree-fifo": "fairlead.solve.advise.gavel:tree_fifo",
    "gavel-makespan": "fairlead.solve.advise.gavel:makespan",
    "gavel-ftf": "fairlead.solve.advise.gavel:ftf",
    "gavel-throughput": "fairlead.solve.advise.gavel:throughput",
    "gavel-cost": "fairlead.solve.advise.gavel:cost",
    "gavel-slo": "fairlead.solve.advise.gavel:cost_slo",
    "gavel-fifo": "fairlead.solve.advise.simple:fifo",
    "gavel-fifo-blind": "fairlead.solve.advise.simple:fifo_blind",
    "gavel-las": "fairlead.solve.advise.simple:las",
    "allox": "fairlead.solve.advise.allox:match",
    "sia": "fairlead.solve.advise.elastic:sia",
    "pollux": "fairlead.solve.advise.elastic:pollux",
}


def adviser(name: str) -> Adviser:
    """Return the adviser of a policy. Raises Misuse for an unknown one."""
    try:
        module, _, function = ADVISERS[name].partition(":")
    except KeyError:
        known = ", ".join(ADVISERS)
        raise Misuse(f"there is no plan '{name}'", field="plan", hint=f"one of: {known}") from None
    found: Adviser = getattr(importlib.import_module(module), function)
    return found
