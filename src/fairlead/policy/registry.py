"""Policies by name: ORDER[-MODE][-TRAIT][+PLACEMENT], for example priority-easy+worst-fit."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from fairlead.model.base import Misuse
from fairlead.model.jobs import PolicyConfig
from fairlead.model.limits import PRIORITY_MIN
from fairlead.policy import order
from fairlead.policy.fgd import LeastFragmentsPipeline
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.place.score import FRAGMENTS, PLACEMENTS

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
    "qssf": "least predicted run time x width first, strict; long and wide jobs may starve",
    "easy": "first come, first served; others start before their turn if the first that does not "
    "fit loses nothing by it (EASY), by time limits",
    "easy-expected": "EASY by predicted run times; time limits still stop jobs",
    "easy-sjbf": "EASY by time limits; the shortest are backfilled first",
    "easy++": "EASY by predicted run times, the shortest backfilled first (EASY++)",
    "priority-easy": "highest priority first, ageing, with EASY backfilling: nobody starves",
    "sjf-easy": "shortest first with EASY backfilling; long jobs may starve",
    "fifo-backfill4": "first come, first served; the first 4 that do not fit are promised a start",
    "conservative": "every waiting job is promised a start, which only moves earlier",
    "srtf": "least remaining time first, preemptive; long jobs may starve",
    "srsf": "least remaining time x width first, preemptive; long and wide jobs may starve",
    "las": "least attained service first in levels, preemptive, with promotion (Tiresias 2D-LAS)",
    "gittins": "highest Gittins index of past services first, preemptive; needs no estimates",
    "edf": "earliest deadline first, preemptive; jobs without a deadline come last",
    "priority-preempt": "highest priority first, ageing, preemptive",
}

# What a name may be made of: ORDER[-MODE][-TRAIT...]. A mode says what happens around a job that
# does not fit, a trait changes one setting.
_ORDERS = ("fifo", "sjf", "priority", "qssf", "srtf", "srsf", "las", "gittins", "edf")
_MODES: dict[str, dict[str, Any]] = {
    "strict": {"overtake_ms": 0},
    "skip": {"overtake_ms": None},
    "easy": {"backfill": 1},
    "conservative": {"backfill": None},
    "preempt": {"preempt": True},
}
_TRAITS: dict[str, dict[str, Any]] = {
    "expected": {"estimate": "expected"},
    "sjbf": {"shortest": True},
}
_ALIASES = {
    "easy": "fifo-easy",
    "easy-expected": "fifo-easy-expected",
    "easy-sjbf": "fifo-easy-sjbf",
    "easy++": "fifo-easy-expected-sjbf",
    "conservative": "fifo-conservative",
    "conservative-expected": "fifo-conservative-expected",
}
_DEFAULT_MODE = {"fifo": "strict", "sjf": "strict", "qssf": "strict"}
_PREEMPTIVE = ("srtf", "srsf", "las", "gittins", "edf")
LEVELS_GPU_MS = (3_600_000, 36_000_000)  # las: an hour and ten hours of one GPU
PROMOTE_PERCENT = 800
BACKFILL_MAX = 1_000_000


def policy_config(text: str) -> PolicyConfig:
    """Return the configuration that a policy's name stands for; Misuse suggests the nearest."""
    name, _, placement = text.strip().lower().replace("_", "-").partition("+")
    if placement.startswith("+"):  # easy++, easy+++worst-fit
        name, placement = f"{name}++", placement[1:].removeprefix("+")
    settings = _settings(_ALIASES.get(name, name))
    if settings is None:
        raise Misuse(
            f"there is no policy '{text}'", field="policy", hint=_suggest(name, list(POLICIES))
        )
    config = PolicyConfig(**settings)
    if placement:
        if placement not in PLACEMENTS:
            raise Misuse(
                f"there is no placement '{placement}'",
                field="policy",
                hint=_suggest(placement, list(PLACEMENTS)),
            )
        config = msgspec.structs.replace(config, placement=placement)
    return config


def _settings(name: str) -> dict[str, Any] | None:
    """Return the fields of the configuration that a full name stands for, None for no policy."""
    first, *rest = name.split("-")
    if first not in _ORDERS:
        return None
    settings: dict[str, Any] = {"order": first}
    if first == "las":
        settings |= {"levels_gpu_ms": LEVELS_GPU_MS, "promote_percent": PROMOTE_PERCENT}
    modes = [word for word in rest if word not in _TRAITS]
    if len(modes) > 1 or len(set(rest)) < len(rest):
        return None
    mode = modes[0] if modes else _DEFAULT_MODE.get(first, "")
    if first in _PREEMPTIVE:
        if modes and modes != ["preempt"]:
            return None
        mode = "preempt"
    if mode.startswith("backfill") and mode[8:].isdecimal():
        if not 1 <= int(mode[8:]) <= BACKFILL_MAX:
            return None
        settings["backfill"] = int(mode[8:])
    elif mode in _MODES:
        settings |= _MODES[mode]
    elif mode:
        return None
    for word in rest:
        settings |= _TRAITS.get(word, {})
    return settings


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    listed = "known: " + ", ".join(known)
    return f"did you mean '{close[0]}'? {listed}" if close else listed


def check(config: PolicyConfig) -> None:
    """Raise Misuse, in words, for a configuration that cannot work or has no starvation bound."""
    build(config)
    if config.overtake_ms is not None and config.overtake_ms < 0:
        raise Misuse("overtake cannot be negative", field="overtake")
    if config.order in order.RUNNING and not config.preempt:
        raise Misuse(
            f"the order {config.order} changes while jobs run: without preemption it is none",
            field="preempt",
            hint=f"set preempt to true, or start from the policy {config.order}",
        )
    if config.order == "las" and not config.levels_gpu_ms:
        raise Misuse(
            "the order las has no levels: all jobs would be equal",
            field="levels",
            hint="set levels, such as 1h and 10h, or start from the policy las",
        )
    if config.preempt and config.backfill != 0:
        raise Misuse(
            "a preemptive policy does not backfill: who comes first takes the place of who runs",
            field="backfill",
            hint="set backfill to 0, or preempt to false",
        )


def build(config: PolicyConfig) -> Pipeline:
    """Return the policy of a configuration."""
    return (LeastFragmentsPipeline if config.placement in FRAGMENTS else Pipeline)(config)


_ABOUT = {
    "fifo": "first come, first served",
    "sjf": "shortest expected run time first; no starvation bound: long jobs may wait for ever",
    "qssf": "least predicted run time x width first; no starvation bound",
    "srtf": "least remaining time first; no starvation bound: long jobs may wait for ever",
    "srsf": "least remaining time x width first; no starvation bound",
    "las": "least attained service first, in levels",
    "gittins": "highest Gittins index of past services first; no starvation bound",
    "edf": "earliest deadline first; jobs without one come last and may wait for ever",
}


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
    else:
        text = _ABOUT[config.order]
    if config.preempt:
        text += "; whoever comes first takes the place of who runs"
    elif config.backfill is None:
        text += "; every waiting job is promised a start that only moves earlier"
    elif config.backfill:
        who = "the first" if config.backfill == 1 else f"the first {config.backfill}"
        text += f"; {who} that does not fit is promised a start, and others may use what is left"
        text += ", the shortest first" if config.shortest else ""
    elif config.overtake_ms == 0:
        text += "; the first that does not fit blocks those behind it"
    elif config.overtake_ms is None:
        text += "; those that fit overtake: a wide job may wait for ever"
    else:
        minutes = config.overtake_ms // 60_000
        text += (
            f"; others may overtake a job that does not fit, but not once it has waited "
            f"{minutes} min"
        )
    if config.estimate == "expected":
        text += "; plans go by predicted run times"
    return f"{text}; placement: {config.placement}"


def _hours(ms: int) -> str:
    minutes = -(-ms // 60_000)
    return f"{minutes // 60} h {minutes % 60:02d} min"
