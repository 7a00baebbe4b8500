"""Who is stuck, a cycle where it means something, and whom to stop."""

from __future__ import annotations

from typing import Any

from fairlead.policy.deadlock.detect import Waiter, cycle, deadlocked, victim


def answer(given: dict[str, Any]) -> dict[str, Any]:
    waiters = {
        name: Waiter(held, given["waits"].get(name, {}), (priority, sum(held.values())))
        for name, held in given["holds"].items()
        for priority in [given["priority"][name]]
    }
    free = given["free"]
    return {
        "deadlocked": deadlocked(waiters, free),
        "cycle": cycle(waiters, free),
        "victim": victim(waiters, free),
    }
