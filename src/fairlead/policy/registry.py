"""Policies by name. `NAME[-skip|-strict][+PLACEMENT]`, for example sjf-skip+worst-fit."""

from __future__ import annotations

import difflib

import msgspec

from fairlead.model.base import Misuse
from fairlead.model.jobs import PolicyConfig
from fairlead.model.limits import PRIORITY_MIN
from fairlead.policy import order
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.place.score import SCORERS

POLICIES: dict[str, str] = {
    "fifo": "first come, first served; the first that does not fit blocks all others (strict)",
    "fifo-skip": "first come, first served; what does not fit is passed over, wide jobs may starve",
    "sjf": "shortest expected run time first, strict; long jobs may starve",
    "sjf-skip": "shortest expected run time first; what does not fit is passed over",
    "priority": "highest priority first, ageing while waiting; others may overtake a job that does "
    "not fit until it has waited 15 minutes: nobody starves",
    "priority-strict": "highest priority first, ageing; the first that does not fit blocks",
    "priority-skip": "highest priority first, ageing; what does not fit is passed over, wide jobs "
    "may starve",
}

_CONFIGS: dict[str, PolicyConfig] = {
    "fifo": PolicyConfig(order="fifo", overtake_ms=0),
    "fifo-skip": PolicyConfig(order="fifo", overtake_ms=None),
    "sjf": PolicyConfig(order="sjf", overtake_ms=0),
    "sjf-skip": PolicyConfig(order="sjf", overtake_ms=None),
    "priority": PolicyConfig(),
    "priority-strict": PolicyConfig(overtake_ms=0),
    "priority-skip": PolicyConfig(overtake_ms=None),
}


def policy_config(text: str) -> PolicyConfig:
    """Return the configuration that a policy's name stands for; Misuse suggests the nearest."""
    name, _, placement = text.strip().lower().replace("_", "-").partition("+")
    name = name.removesuffix("-strict") if name in ("fifo-strict", "sjf-strict") else name
    config = _CONFIGS.get(name)
    if config is None:
        raise Misuse(
            f"there is no policy '{text}'", field="policy", hint=_suggest(name, list(_CONFIGS))
        )
    if placement:
        if placement not in SCORERS:
            raise Misuse(
                f"there is no placement '{placement}'",
                field="policy",
                hint=_suggest(placement, list(SCORERS)),
            )
        config = msgspec.structs.replace(config, placement=placement)
    return config


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    listed = "known: " + ", ".join(known)
    return f"did you mean '{close[0]}'? {listed}" if close else listed


def check(config: PolicyConfig) -> None:
    """Raise Misuse, in words, for a configuration that cannot work or has no starvation bound."""
    Pipeline(config)
    if config.overtake_ms is not None and config.overtake_ms < 0:
        raise Misuse("overtake cannot be negative", field="overtake")


def build(config: PolicyConfig) -> Pipeline:
    """Return the policy of a configuration."""
    return Pipeline(config)


def describe(config: PolicyConfig) -> str:
    """Return what a configuration does, with its starvation bound."""
    if config.order == "priority":
        per_hour = config.ageing_per_hour
        worst = order.protected_after_ms(PRIORITY_MIN, 0, per_hour)
        assert worst is not None
        text = (
            f"highest priority first; waiting adds {per_hour} points an hour, so no job is ordered "
            f"behind one that arrives more than {_hours(worst)} after it"
        )
    elif config.order == "sjf":
        text = "shortest expected run time first; no starvation bound: long jobs may wait for ever"
    else:
        text = "first come, first served"
    if config.overtake_ms == 0:
        text += "; the first that does not fit blocks those behind it"
    elif config.overtake_ms is None:
        text += "; those that fit overtake: a wide job may wait for ever"
    else:
        minutes = config.overtake_ms // 60_000
        text += (
            f"; others may overtake a job that does not fit, but not once it has waited "
            f"{minutes} min"
        )
    return f"{text}; placement: {config.placement}"


def _hours(ms: int) -> str:
    minutes = -(-ms // 60_000)
    return f"{minutes // 60} h {minutes % 60:02d} min"
