"""The settings of a policy in people's words: `[policy]` in config.toml, --set on a command line.

A value may be text or the type that a TOML file has for it; both mean the same.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec.structs import replace

from fairlead.model.base import Misuse, Ms
from fairlead.model.jobs import PolicyConfig
from fairlead.model.limits import WEIGHT_MAX
from fairlead.model.units import parse_duration_ms
from fairlead.policy.assigned import ASSIGNMENT
from fairlead.policy.fair.orders import NAMES as FAIR
from fairlead.policy.fair.orders import PAST
from fairlead.policy.fair.terms import TERMS
from fairlead.policy.finish import LEASED
from fairlead.policy.registry import BACKFILL_MAX, PRICED, check, policy_config

Setting: TypeAlias = str | int | bool | Sequence[str]
LEVELS_MAX = 16
PERCENT_MAX = 1_000_000


def _text(value: Setting, key: str) -> str:
    return str(value).strip()


def _whole(least: int, most: int) -> Callable[[Setting, str], int]:
    def read(value: Setting, key: str) -> int:
        text = _text(value, key)
        if isinstance(value, bool) or not text.isdecimal() or not least <= int(text) <= most:
            raise Misuse(
                f"{key} is {text}, expected a whole number from {least} to {most}", field=key
            )
        return int(text)

    return read


def _or(words: Mapping[str, Any], read: Callable[[Setting, str], Any]) -> Any:
    """Return a reader that also knows some words."""

    def either(value: Setting, key: str) -> Any:
        if isinstance(value, str) and value in words:
            return words[value]
        try:
            return read(value, key)
        except Misuse as wrong:
            known = " or ".join(f'"{word}"' for word in words)
            wrong.hint = f"{wrong.hint}; or {known}".removeprefix("; ")
            raise

    return either


def _one_of(*words: str) -> Callable[[Setting, str], str]:
    def read(value: Setting, key: str) -> str:
        if value not in words:
            said = " or ".join(f'"{word}"' for word in words)
            raise Misuse(f"{key} is {value}, expected {said}", field=key)
        return str(value)

    return read


def _yes(value: Setting, key: str) -> bool:
    known = {"true": True, "false": False}
    found = known.get(str(value).lower())
    if found is None:
        raise Misuse(f"{key} is {value}, expected true or false", field=key)
    return found


def _levels(value: Setting, key: str) -> tuple[Ms, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, int) or not 1 <= len(parts) <= LEVELS_MAX:
        raise Misuse(
            f"{key} are 1 to {LEVELS_MAX} times of one GPU", field=key, hint='such as "1h", "10h"'
        )
    levels = tuple(parse_duration_ms(part.strip(), key) for part in parts)
    if list(levels) != sorted(set(levels)) or not levels[0]:
        raise Misuse(
            f"{key} do not grow from each to the next", field=key, hint='such as "1h", "10h"'
        )
    return levels


def _weights(value: Setting, key: str) -> tuple[int, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, int):
        parts = [str(parts)]
    found = dict.fromkeys(TERMS, 0)
    for part in parts:
        name, _, number = part.strip().partition(":")
        if name not in TERMS:
            close = difflib.get_close_matches(name, TERMS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise Misuse(
                f"{key} has no term '{name}'",
                field=key,
                hint=f"{hint}the terms are {', '.join(TERMS)}; such as age:1000,fair:10000",
            )
        found[name] = _whole(0, WEIGHT_MAX)(number.strip(), f"{key}.{name}")
    return tuple(found.values())


def _prices(value: Setting, key: str) -> tuple[tuple[str, int], ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, int):
        parts = [str(parts)]
    found: dict[str, int] = {}
    for part in parts:
        model, _, number = part.strip().rpartition(":")
        match = _PRICE.fullmatch(number.strip())
        if not model or match is None or model.strip() in found:
            raise Misuse(
                f"{key} has no price per GPU hour in '{part.strip()}'",
                field=key,
                hint='each model once, such as "v100:2.5,p100:1.2"',
            )
        found[model.strip()] = int(match[1]) * 10**6 + int(match[2].ljust(6, "0") or 0)
    if not all(found.values()):
        raise Misuse(f"{key}: a price is above zero", field=key)
    return tuple(found.items())


def _by_model(value: Setting, key: str) -> bool:
    return _one_of("by-share", "by-model")(value, key) == "by-model"


_PRICE = re.compile(r"([0-9]{1,9})(?:\.|(?=$))([0-9]{0,6})")
_SETTINGS: dict[str, tuple[str, Callable[[Setting, str], Any]]] = {
    "order": ("order", _text),
    "placement": ("placement", _text),
    "cpu_only": ("cpu_only", _one_of("last", "any")),
    "overtake": ("overtake_ms", _or({"never": 0, "always": None}, parse_duration_ms)),
    "ageing_per_hour": ("ageing_per_hour", _whole(0, PERCENT_MAX)),
    "ageing_cap": ("ageing_cap", _whole(0, PERCENT_MAX)),
    "backfill": ("backfill", _or({"all": None}, _whole(0, BACKFILL_MAX))),
    "estimate": ("estimate", _one_of("limit", "expected")),
    "shortest": ("shortest", _yes),
    "preempt": ("preempt", _yes),
    "min_run": ("min_run_ms", parse_duration_ms),
    "preemptions_max": ("preemptions_max", _or({"unlimited": None}, _whole(0, PERCENT_MAX))),
    "levels": ("levels_gpu_ms", _levels),
    "elastic": ("elastic", _one_of("never", "idle", "beside")),
    "resize_every": ("resize_every_ms", parse_duration_ms),
    "rebuild": ("rebuild_ms", _or({"never": 0}, parse_duration_ms)),
    "promote": ("promote_percent", _or({"never": None}, _whole(1, PERCENT_MAX))),
    "deadlock": ("deadlock", _one_of("avoid", "detect", "ordered")),
    "reclaim": ("reclaim", _one_of("any", "lower-priority", "never")),
    "within": ("within", _one_of("lower-priority", "never")),
    "defrag": ("defrag", _one_of("never", "when-worth")),
    "restart_cost": ("restart_ms", parse_duration_ms),
    "history": ("history_percent", _whole(0, 100)),
    "half_life": ("half_life_ms", parse_duration_ms),
    "weights": ("weights", _weights),
    "max_age": ("max_age_ms", parse_duration_ms),
    "lease": ("lease_ms", parse_duration_ms),
    "rounds": ("by_model", _by_model),
    "prices": ("prices", _prices),
    "auction": ("auction_percent", _whole(1, 100)),
    "share": ("share", _one_of("any", "known", "trial")),
    "trial": ("trial_ms", parse_duration_ms),
    "share_gain": ("gain_percent", _whole(0, 100)),
    "share_rate": ("rate_percent", _whole(0, 100)),
    "part": ("part_percent", _whole(1, 100)),
}
KEYS = tuple(_SETTINGS)
_PREEMPTIVE = "preemptive policies, and for reclaim, within and defrag"


def _counts_losses(config: PolicyConfig) -> bool:
    return any(each != "never" for each in (config.within, config.reclaim, config.defrag))


def _may_preempt(config: PolicyConfig) -> bool:
    return config.preempt or _counts_losses(config)


def _sums(config: PolicyConfig) -> bool:
    return config.order == "multifactor"


_EFFECT: dict[str, tuple[Callable[[PolicyConfig], bool], str]] = {
    "min_run": (lambda config: _may_preempt(config), _PREEMPTIVE),
    "preemptions_max": (lambda config: _may_preempt(config), _PREEMPTIVE),
    "restart_cost": (
        lambda config: _counts_losses(config) or config.plan == "sia",
        "reclaim, within, defrag and sia",
    ),
    **dict.fromkeys(
        ("trial", "share_gain", "share_rate"),
        (lambda config: config.share != "any", "share = known and share = trial"),
    ),
    "within": (lambda config: not config.preempt, "orders that do not preempt anyway"),
    "defrag": (lambda config: not config.preempt, "orders that do not preempt anyway"),
    "levels": (lambda config: config.order == "las", "las"),
    "promote": (lambda config: config.order == "las", "las"),
    "lease": (
        lambda config: config.order in LEASED or config.plan not in ("", ASSIGNMENT),
        "ftf, themis, and policies that carry out plans",
    ),
    "rounds": (lambda config: bool(config.plan), "policies that carry out plans"),
    "prices": (lambda config: config.plan in PRICED, "gavel-cost and gavel-slo"),
    "auction": (lambda config: config.order == "themis", "themis"),
    "part": (lambda config: config.plan == "allox", "allox"),
    "ageing_per_hour": (
        lambda config: config.order == "priority" or (config.order in FAIR and not _sums(config)),
        "orders by priority",
    ),
    "ageing_cap": (lambda config: config.order == "priority", "orders by priority"),
    "history": (lambda config: config.order == "fair", "fair"),
    "half_life": (lambda config: config.order in PAST, "orders by past use"),
    "weights": (lambda config: _sums(config), "multifactor"),
    "max_age": (lambda config: _sums(config), "multifactor"),
    "shortest": (
        lambda config: bool(config.backfill) and not config.preempt,
        "policies that backfill",
    ),
}


def effective(config: PolicyConfig, key: str) -> bool:
    """Whether a setting changes anything under this configuration."""
    return key not in _EFFECT or _EFFECT[key][0](config)


def parse(words: Sequence[str]) -> dict[str, str]:
    """Return the settings in texts such as "min_run=5m"; Misuse for unknown or doubled keys."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not value.strip():
            raise Misuse(f"'{word}' is no KEY=VALUE", field="set", hint="such as min_run=5m")
        known(key)
        if key in found:
            raise Misuse(f"{key} is set twice", field="set")
        found[key] = value.strip()
    return found


def known(key: str) -> None:
    """Raise Misuse for a key that no policy has."""
    if key not in _SETTINGS:
        close = difflib.get_close_matches(key, KEYS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        hint += "the keys are: " + ", ".join(sorted(KEYS))
        raise Misuse(f"there is no setting {key}", field=key, hint=hint, code="unknown-key")


def override(config: PolicyConfig, settings: Mapping[str, Setting]) -> PolicyConfig:
    """Return the configuration with these settings; Misuse for what cannot work or does nothing."""
    config, idle = _override(config, settings)
    for key in idle:
        raise _no_effect(key)
    return config


def _no_effect(key: str) -> Misuse:
    return Misuse(
        f"{key} has no effect here",
        field=key,
        hint=f"leave it out: it is for {_EFFECT[key][1]}",
    )


def _override(
    base: PolicyConfig, settings: Mapping[str, Setting]
) -> tuple[PolicyConfig, list[str]]:
    """Return the configuration, and the settings that it does not heed: they are left out.

    What sets a value that is there anyway does no harm.
    """
    changed: dict[str, Any] = {}
    for key, value in settings.items():
        known(key)
        name, read = _SETTINGS[key]
        changed[name] = read(value, key)
    config = replace(base, **changed)
    idle = [
        key
        for key in settings
        if not effective(config, key) and changed[_name(key)] != getattr(base, _name(key))
    ]
    ignored = {_name(key) for key in idle}
    config = replace(base, **{name: changed[name] for name in changed.keys() - ignored})
    check(config)
    return config, idle


def _name(key: str) -> str:
    return _SETTINGS[key][0]


def configured(names: Sequence[str], settings: Mapping[str, Setting]) -> dict[str, PolicyConfig]:
    """Return the configurations of several policies, each with the settings that concern it.

    Raises Misuse for a setting that concerns none of them.
    """
    found: dict[str, PolicyConfig] = {}
    idle = set(settings)
    for name in names:
        found[name], here = _override(policy_config(name), settings)
        idle &= set(here)
    for key in settings:
        if key in idle:
            raise _no_effect(key)
    return found
