"""Durations, sizes and CPUs as people write them, and back. Amounts become exact integers.

Nothing here goes through floating point, and what is not a whole unit is rounded up: a request
never shrinks. The text that a `format_` function writes reads back as the same amount.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from fairlead.model.limits import AMOUNT_MAX, LIMIT_MS_MAX

if TYPE_CHECKING:
    from fairlead.model.base import Misuse

TEXT_CHARS_MAX = 40  # of one amount; longer text is never a number that anybody meant
MIB = 2**20

_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_MS |= {"sec": _MS["s"], "min": _MS["m"], "hr": _MS["h"], "day": _MS["d"], "days": _MS["d"]}
_BYTES = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}

# Text, not compiled patterns: whoever only formats does not pay for compiling them.
_NUMBER = r"([0-9]+)(?:\.([0-9]+))?"
_PARTS = rf"(?:{_NUMBER}\s*[a-z]+\s*)+"
_PART = rf"{_NUMBER}\s*([a-z]+)\s*"
_CLOCK = r"(?:([0-9]+)-)?([0-9]+):([0-5][0-9]):([0-5][0-9])"
_SIZE = rf"{_NUMBER}\s*([kmgtp])(?:ib|i|b)?"
_CPUS = rf"{_NUMBER}(m?)"


def _misuse(message: str, field: str, hint: str) -> Misuse:
    # Imported late: the command line formats with this module and does without msgspec.
    from fairlead.model.base import Misuse

    return Misuse(message, field=field, hint=hint)


def _clean(value: object, field: str, what: str, example: str) -> str:
    """Return the text of an amount, without a sign; refuse what cannot be one."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _misuse(
            f"a {what} is text such as {example}, not {type(value).__name__}",
            field,
            f"write {example}",
        )
    text = str(value).strip()
    if len(text) > TEXT_CHARS_MAX:
        raise _misuse(
            f"this {what} has more than {TEXT_CHARS_MAX} characters", field, f"write {example}"
        )
    if text.startswith("-"):
        raise _misuse(f"a {what} cannot be negative: {text}", field, f"write {example}")
    return text


def _scaled(whole: str, fraction: str | None, scale: int) -> int:
    """Return whole.fraction x scale, rounded up to an integer."""
    if not fraction:
        return int(whole) * scale
    unit: int = 10 ** len(fraction)
    return -(-(int(whole) * unit + int(fraction)) * scale // unit)


def _within(amount: int, limit: int, text: str, field: str, most: str) -> int:
    if amount > limit:
        raise _misuse(f"{text} is more than the largest amount, {most}", field, "ask for less")
    return amount


def parse_duration_ms(value: object, field: str = "") -> int:
    """Return the milliseconds of "1h30m", "90s", "2d", "01:30:00" or "1-02:00:00" (days-h:m:s).

    A bare number is a Misuse: Slurm would read minutes, Kubernetes seconds.
    """
    text = _clean(value, field, "duration", '"1h30m"')
    return _duration_ms(text, field)


@lru_cache(maxsize=4096)
def _duration_ms(text: str, field: str) -> int:
    if re.fullmatch(_NUMBER, text):
        raise _misuse(
            f"the duration {text} has no unit",
            field,
            f'write "{text}s" (seconds), "{text}m" (minutes) or "{text}h" (hours)',
        )
    if clock := re.fullmatch(_CLOCK, text):
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        if clock[1] is None or hours < 24:
            total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
            return _within(total * 1000, LIMIT_MS_MAX, text, field, "ten years")
    parts = re.findall(_PART, text.lower()) if re.fullmatch(_PARTS, text.lower()) else []
    if not parts or any(unit not in _MS for _, _, unit in parts):
        raise _misuse(
            f"cannot read the duration '{text}'",
            field,
            'write for example "90s", "1h30m", "2d", "01:30:00" or "1-02:00:00"',
        )
    amount = sum(_scaled(whole, fraction, _MS[unit]) for whole, fraction, unit in parts)
    return _within(amount, LIMIT_MS_MAX, text, field, "ten years")


def parse_size_bytes(value: object, field: str = "") -> int:
    """Return the bytes of "16G", "1.5GiB", "512M"; G, GB, Gi and GiB are all 2**30.

    A bare number is a Misuse: tools disagree whether it means bytes or MiB.
    """
    text = _clean(value, field, "size", '"16G"')
    return _size_bytes(text, field)


@lru_cache(maxsize=4096)
def _size_bytes(text: str, field: str) -> int:
    if re.fullmatch(_NUMBER, text):
        raise _misuse(
            f"the size {text} has no unit",
            field,
            f'write "{text}G" (GiB) or "{text}M" (MiB)',
        )
    parts = re.fullmatch(_SIZE, text.lower())
    if parts is None:
        raise _misuse(
            f"cannot read the size '{text}'", field, 'write for example "16G", "1.5GiB" or "512M"'
        )
    amount = _scaled(parts[1], parts[2], _BYTES[parts[3]])
    return _within(amount, AMOUNT_MAX * MIB, text, field, f"{AMOUNT_MAX // 2**30}P")


def parse_size_mib(value: object, field: str = "") -> int:
    """Return the MiB of "16G", "1.5GiB", "512M", rounded up; a bare number is a Misuse."""
    return -(-parse_size_bytes(value, field) // MIB)


def parse_cpu_milli(value: object, field: str = "") -> int:
    """Return thousandths of a core of 2, 0.5, "2", "0.5" or "500m", rounded up."""
    text = _clean(value, field, "number of CPUs", '2, 0.5 or "500m"')
    return _cpu_milli(text, field)


@lru_cache(maxsize=4096)
def _cpu_milli(text: str, field: str) -> int:
    parts = re.fullmatch(_CPUS, text)
    if parts is None:
        raise _misuse(f"cannot read the CPUs '{text}'", field, 'write for example 2, 0.5 or "500m"')
    amount = _scaled(parts[1], parts[2], 1 if parts[3] else 1000)
    return _within(amount, AMOUNT_MAX, text, field, format_cpus(AMOUNT_MAX))


def format_duration(ms: int, *, exact: bool = True) -> str:
    """Return "1h30m" for 5,400,000; `exact=False` keeps the two largest units ("1d3h")."""
    if not exact and ms >= 1000:
        ms -= ms % 1000
    parts: list[str] = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, ms = divmod(ms, _MS[unit])
        if count:
            parts.append(f"{count}{unit}")
        if not exact and parts and (len(parts) == 2 or not count):
            break  # neighbours only: "1d3h", but "1d" rather than "1d5s"
    return "".join(parts) or "0s"


def format_moment(ms: int) -> str:
    """Return "2026-12-01 09:00 UTC" for a time since the epoch; seconds where there are any."""
    days, rest = divmod(ms // 1000, 86_400)
    era, day = divmod(days + 719_468, 146_097)  # of 400 years that begin in March
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5 - 1
    month += 3 if month < 10 else -9
    year += 400 * era + (month <= 2)
    seconds = f":{rest % 60:02d}" if rest % 60 else ""
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}{seconds}"
    return f"{year}-{month:02d}-{day:02d} {clock} UTC"


def format_size(mib: int, *, exact: bool = True) -> str:
    """Return "1.5GiB" for 1536, "1500MiB" for 1500; `exact=False` rounds to tenths: "1.5GiB"."""
    for unit, scale in (("PiB", 2**30), ("TiB", 2**20), ("GiB", 2**10)):
        if mib < scale:
            continue
        hundredths, rest = divmod(mib * 100, scale)
        if not exact:
            hundredths, rest = (mib * 20 + scale) // (2 * scale) * 10, 0
        if not rest:
            return _decimal(hundredths, 100) + unit
    return f"{mib}MiB"


def format_cpus(milli: int) -> str:
    """Return "2" for 2000 thousandths of a core, "0.5" for 500."""
    return _decimal(milli, 1000)


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}".rstrip("0")
