"""Policies by name: ORDER[-MODE][-TRAIT][+PLACEMENT], for example priority-easy+worst-fit."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from fairlead.model.base import Misuse
from fairlead.model.jobs import PolicyConfig
from fairlead.model.units import format_duration
from fairlead.policy import bounds, order
from fairlead.policy.assigned import ASSIGNMENT
from fairlead.policy.fair.orders import NAMES as FAIR
from fairlead.policy.finish import LEASED
from fairlead.policy.ordered import PLANS
from fairlead.policy.pipeline import Pipeline
from fairlead.policy.place.score import PLACEMENTS

GAVEL = {
    "maxmin": "equal normalised speeds for all, on the devices that suit each (Gavel's max-min)",
    "waterfill": "the same, then as much more for each as costs nobody (water filling)",
    "tree": "water filling among queues by their weights, then among the jobs of each",
    "tree-fifo": "water filling among queues by their weights, in each first come, first served",
    "makespan": "all jobs done as soon as can be; needs the steps of jobs",
    "ftf": "the worst finish-time fairness as low as can be; needs the steps of jobs",
    "throughput": "the greatest sum of normalised speeds; slow jobs may starve",
    "cost": "the most steps for the money, by prices; dear jobs may starve",
    "slo": "the most steps for the money, with all deadlines kept",
    "fifo": "first come, first served, each on the fastest kind of device that is free; strict",
    "fifo-blind": "first come, first served, on what is faster for most jobs; strict",
    "las": "equal time for all, as if all kinds of devices were equally fast",
}
PRICED = ("gavel-cost", "gavel-slo")
BLIND = ("gavel-las", "gavel-fifo-blind")
BY_STEPS = ("gavel-makespan", "gavel-ftf", "gavel-slo")  # they go by what is left to do

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
    "ftf": "worst finish-time fairness first, preemptive between leases",
    "themis": "those worst off by finish-time fairness bid for the GPUs of each lease (Themis)",
    "edf": "earliest deadline first, preemptive; jobs without a deadline come last",
    "priority-preempt": "highest priority first, ageing, preemptive",
    "fair": "whoever uses least of its share of the tree of queues and users (hierarchical DRF), "
    "now and in the past; others may overtake a job that does not fit until it has waited 15 "
    "minutes",
    "fair-easy": "the same, with EASY backfilling",
    "fair-skip": "the same; what does not fit is passed over, wide jobs may starve",
    "hdrf": "hierarchical DRF of present use alone",
    "usage": "hierarchical fair shares of past use alone",
    "drf": "whoever uses least of its dominant resource, users side by side whatever their queue",
    "maxmin": "whoever is farthest below its entitlement by weighted max-min with quotas",
    "multifactor": "weighted sum of age, fair share, priority, ... (Slurm's multifactor)",
    "fairtree": "users ranked level by level by shares and past use (Slurm's Fair Tree)",
    ASSIGNMENT: "who waits is matched to kinds of hardware: as many as can be, then least time",
    **{f"gavel-{name}": about for name, about in GAVEL.items()},
    "allox": "least mean time to the end on devices of different speed: jobs are matched with "
    "places in the queues of device models; nobody is preempted (AlloX)",
    "sia": "the best device model and number of members for each elastic job, in rounds (Sia)",
    "pollux": "the best number of members for each elastic job, all alike, in rounds (Pollux)",
}

# What a name may be made of: ORDER[-MODE][-TRAIT...]. A mode says what happens around a job that
# does not fit, a trait changes one setting.
_ORDERS = (
    *("fifo", "sjf", "priority", "qssf", "srtf", "srsf", "las", "gittins", "edf"),
    *("ftf", "themis", *FAIR),
)
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
# Orders that stand for another with settings of its own.
_ORDER_ALIASES: dict[str, dict[str, Any]] = {
    "hdrf": {"order": "fair", "history_percent": 0},
    "usage": {"order": "fair", "history_percent": 100},
}
_DEFAULT_MODE = {"fifo": "strict", "sjf": "strict", "qssf": "strict"}
_PREEMPTIVE = ("srtf", "srsf", "las", "gittins", "edf", "ftf", "themis")
LEASE_MIN_MS = 1_000
TRIAL_MIN_MS = 20_000  # two reports of progress, at least
ROUND_MS = 6 * 60_000  # of plans: Gavel's
ORDERED_MS = 60_000  # of plans for which new jobs wait: AlloX', Pollux' and Sia's
RESTART_MS = 30_000  # what sia, which moves jobs, believes that it costs to start again
LEVELS_GPU_MS = (3_600_000, 36_000_000)  # las: an hour and ten hours of one GPU
PROMOTE_PERCENT = 800
BACKFILL_MAX = 1_000_000


def policy_config(text: str) -> PolicyConfig:
    """Return the configuration that a policy's name stands for; Misuse suggests the nearest."""
    name, _, placement = text.strip().lower().replace("_", "-").partition("+")
    if placement.startswith("+"):  # easy++, easy+++worst-fit
        name, placement = f"{name}++", placement[1:].removeprefix("+")
    settings = _planned(name) or _settings(_ALIASES.get(name, name))
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


def _planned(name: str) -> dict[str, Any] | None:
    """Return the fields of a policy that carries out plans, None for another."""
    if name == ASSIGNMENT:
        return {"order": "fifo", "overtake_ms": None, "plan": name}
    if name not in POLICIES or not name.startswith(("gavel-", *PLANS)):
        return None
    overtake = 0 if name.startswith("gavel-fifo") else None
    settings = {"order": "fifo", "overtake_ms": overtake, "plan": name, "lease_ms": ROUND_MS}
    if name in PLANS:
        settings["lease_ms"] = ORDERED_MS
    if name == "sia":
        settings["restart_ms"] = RESTART_MS
    return {**settings, "blind": name in BLIND}


def _settings(name: str) -> dict[str, Any] | None:
    """Return the fields of the configuration that a full name stands for, None for no policy."""
    first, *rest = name.split("-")
    if first not in _ORDERS and first not in _ORDER_ALIASES:
        return None
    settings: dict[str, Any] = _ORDER_ALIASES.get(first, {"order": first}).copy()
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
    elif mode == "preempt" and settings["order"] in FAIR:
        return None
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
    if config.preempt and config.order in FAIR:
        raise Misuse(
            f"the order {config.order} is not preemptive: shares change with every start",
            field="preempt",
            hint="leave preempt out; what a queue lent comes back by its quota (reclaim)",
        )
    if config.half_life_ms <= 0:
        raise Misuse(
            "a half-life of zero forgets all use at once: no past is left to count",
            field="half_life",
            hint="set history to 0 to go by present use alone, or half_life to 1h or more",
        )
    if config.lease_ms < LEASE_MIN_MS:
        raise Misuse("a lease is at least a second", field="lease", hint='such as "20m"')
    if config.share != "any" and (config.preempt or config.plan or config.defrag != "never"):
        raise Misuse(
            "policies that preempt, carry out plans or move jobs do not choose who shares a GPU",
            field="share",
            hint='leave share at "any", or choose another policy',
        )
    if config.share != "any" and config.trial_ms < TRIAL_MIN_MS:
        raise Misuse("a trial is at least 20 seconds", field="trial", hint='such as "60s"')
    if config.preempt and config.backfill != 0:
        raise Misuse(
            "a preemptive policy does not backfill: who comes first takes the place of who runs",
            field="backfill",
            hint="set backfill to 0, or preempt to false",
        )


def build(config: PolicyConfig) -> Pipeline:
    """Return the policy of a configuration."""
    return Pipeline(config)


_ABOUT = {
    "fifo": "first come, first served",
    "sjf": "shortest expected run time first",
    "qssf": "least predicted run time x width first",
    "srtf": "least remaining time first",
    "srsf": "least remaining time x width first",
    "las": "least attained service first, in levels",
    "gittins": "highest Gittins index of past services first",
    "edf": "earliest deadline first; jobs without one come last",
    "drf": "whoever uses least of its dominant resource",
    "maxmin": "whoever is farthest below its entitlement",
    "multifactor": "highest weighted sum of age, fair share and other terms",
    "fairtree": "users by shares and past use, level by level",
    "ftf": "worst finish-time fairness first",
    "themis": "the worst off by finish-time fairness bid for the GPUs of each lease",
}


def describe(config: PolicyConfig) -> str:
    """Return what a configuration does, with its starvation bound."""
    if config.plan:
        text = POLICIES[config.plan]
    elif config.order == "priority":
        per_hour = config.ageing_per_hour
        text = f"highest priority first; waiting adds {per_hour} points an hour"
    elif config.order == "fair":
        text = (
            f"whoever uses least of its share of the tree; past use counts {config.history_percent}"
            f" of 100, with a half-life of {format_duration(config.half_life_ms)}"
        )
    else:
        text = _ABOUT[config.order]
    if config.plan == ASSIGNMENT:
        text += "; nobody who runs is moved"
    elif config.order in LEASED or config.plan:
        text += f"; places change hands every {format_duration(config.lease_ms)}"
    elif config.preempt:
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
        text += "; those that fit overtake"
    else:
        minutes = config.overtake_ms // 60_000
        text += (
            f"; others may overtake a job that does not fit, but not once it has waited "
            f"{minutes} min"
        )
    if config.share != "any":
        tried = " or tried" if config.share == "trial" else ""
        text += f"; GPUs are shared by pairs known{tried} to go well"
    if config.estimate == "expected":
        text += "; plans go by predicted run times"
    if config.defrag != "never":
        text += "; jobs move for a blocked one where that saves more than it costs"
    return f"{text}; {bounds.in_words(config)}; placement: {config.placement}"
