"""Decayed usage, by the account that the core keeps of a user in a queue.

The account holds an average; use decayed by half-lives is that average x half-life / ln 2.
"""

from __future__ import annotations

from math import log
from typing import Any

from fairlead.core.decay import AVERAGE_ONE
from fairlead.core.shares import Account


def answer(given: dict[str, Any]) -> dict[str, Any]:
    half_life_ms = 1000 * given["half_life_s"]
    account = Account(5, 0)
    whole = 0
    times = {each[key] for each in given["segments"] for key in ("start", "end")}
    for at in sorted(time for time in times if time <= given["at"]):
        whole += account.held[0] * (at - account.at_ms // 1000)
        account.bring_up(1000 * at, half_life_ms)
        rates = [each["rate"] for each in given["segments"] if each["start"] <= at < each["end"]]
        account.held = [sum(rates), 0, 0, 0, 0]
    whole += account.held[0] * (given["at"] - account.at_ms // 1000)
    average = account.as_of(1000 * given["at"], half_life_ms)[0]
    return {
        "usage": average / AVERAGE_ONE * given["half_life_s"] / log(2),
        "usage_undecayed": whole,
    }
