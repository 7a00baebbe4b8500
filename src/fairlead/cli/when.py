"""When a job will start, in words: for `ps` short, for `submit`, `show` and `why` in a sentence."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fairlead.cli import output

SOON_MS = 60_000
DAY_MS = 24 * 3_600_000
Found = Mapping[str, Any]
_ENDINGS = {1: "st", 2: "nd", 3: "rd"}


@lru_cache(maxsize=4096)
def _clock(minute: int, form: str) -> str:
    return time.strftime(form, time.localtime(minute * 60))


def moment(now: int, at_ms: int) -> str:
    """Return a time near now as "14:05", within a week as "Sat 14:05", else with its date."""
    minute = at_ms // 60_000
    if _clock(minute, "%Y-%m-%d") == _clock(now // 60_000, "%Y-%m-%d"):
        return _clock(minute, "%H:%M")
    near = abs(at_ms - now) < 6 * DAY_MS
    return _clock(minute, "%a %H:%M" if near else "%Y-%m-%d %H:%M")


def short(now: int, eta: Found | None) -> str:
    """Return "14:05–15:40"; "soon" within a minute; "" where nothing is known."""
    if eta is None or eta["earliest_ms"] is None:
        return ""
    early, late = max(eta["earliest_ms"], now), max(eta["latest_ms"], now)
    if late - now < SOON_MS:
        return "soon"
    first, last = moment(now, early), moment(now, late)
    return f"~{first}" if first == last else f"{first}–{last}"


def sentence(now: int, eta: Found | None) -> str:
    """Return "in 2h10m (14:05–15:40)"; "" where nothing is known."""
    if eta is None or eta["earliest_ms"] is None:
        return ""
    span = short(now, eta)
    if span == "soon":
        return "within a minute"
    ahead = output.span(max(eta["likely_ms"] - now, 0))
    return f"in about {ahead} ({span})" if eta["likely_ms"] > now else f"about now ({span})"


def age(now: int, eta: Found) -> str:
    """Return how old an estimate is, "just now" below a second."""
    old = now - eta["made_ms"]
    return "just now" if old < 1000 else f"{output.span(old)} ago"


def explained(now: int, eta: Found | None, measured: Found) -> str:
    """Return the estimate with where it is from and how far it can be trusted."""
    if eta is None:
        return "starts at: nobody knows yet; ask again in a moment"
    if eta["earliest_ms"] is None:
        return "starts at: nothing that is known lets it start"
    compared, inside = measured["compared"], measured["inside"]
    right = (
        f"measured: {inside} of {compared} earlier estimates were right"
        if compared
        else "no earlier estimate to measure it by yet"
    )
    return (
        f"starts {sentence(now, eta)} by what is believed of those before it; "
        f"worked out {age(now, eta)}; 80 % band; {right}"
    )


def ordinal(number: int) -> str:
    """Return "1st", "2nd", "3rd", "4th", "11th"."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{_ENDINGS.get(number % 10, 'th')}"


def deadline(now: int, at_ms: int | None) -> str:
    """Return "14:05 (in 3h)" or "14:05 (2h ago)", "" for none."""
    if at_ms is None:
        return ""
    left = output.span(abs(at_ms - now))
    return f"{moment(now, at_ms)} ({'in ' + left if at_ms > now else left + ' ago'})"
