"""Moments as people write them: 2026-12-01T09:00, now, now+2h.

Local time where no zone is named. Imports what reads dates late: `ps` only shows them.
"""

from __future__ import annotations

import re
import time

from fairlead.cli.errors import misuse
from fairlead.model.units import parse_duration_ms

EXAMPLES = "write for example 2026-12-01T09:00, now or now+2h"
_UTC = r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)? UTC"
YEAR_MAX = 2200


def parse_time_ms(text: str, now_ms: int, field: str) -> int:
    """Return the moment in ms since the epoch; Misuse names the field and says what to write."""
    from datetime import datetime

    words = text.strip()
    if words.lower() == "now":
        return now_ms
    if relative := re.fullmatch(r"(?i)(?:now)?\s*\+\s*(.+)", words):
        return now_ms + parse_duration_ms(relative[1], field)
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", words):
        hint = f"{EXAMPLES}; seconds since the epoch are not read"
        raise misuse(f"{field}: {words} is a bare number, not a time", field=field, hint=hint)
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", words):
        day = time.strftime("%Y-%m-%d", time.localtime(now_ms / 1000))
        hint = f"write {day}T{words.zfill(5)}, or now+2h"
        raise misuse(f"{field}: {words} says no day", field=field, hint=hint)
    try:
        moment = datetime.fromisoformat(words.replace(" ", "T", 1))
        if not 1970 <= moment.year <= YEAR_MAX:
            raise ValueError
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise misuse(f"{field}: cannot read '{text}'", field=field, hint=_near(words)) from None


def _near(words: str) -> str:
    """Return the same moment as it has to be written, where it is clear what was meant."""
    from datetime import datetime

    if re.fullmatch(r"[0-9.]+\s*[a-zA-Z]+", words):
        return f"from now on that is now+{words.replace(' ', '')}; {EXAMPLES}"
    for form in ("%d.%m.%Y %H:%M", "%d.%m.%Y", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y-%m-%d %H"):
        try:
            moment = datetime.strptime(words, form)
        except ValueError:
            continue
        return f"write {moment.strftime('%Y-%m-%dT%H:%M')}"
    return EXAMPLES


def moment(ms: int | None) -> str:
    """Return a moment in local time, to the minute where it is a whole one; "-" for none."""
    if ms is None:
        return "-"
    form = "%Y-%m-%d %H:%M" if ms % 60_000 < 1000 else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, time.localtime(ms / 1000))


def localised(text: str) -> str:
    """Return a text of the service with its moments, which are in UTC, in local time."""

    if " UTC" not in text:
        return text
    from datetime import datetime

    def local(found: re.Match[str]) -> str:
        at = datetime.fromisoformat(found[0].removesuffix(" UTC").replace(" ", "T") + "+00:00")
        return moment(round(at.timestamp() * 1000))

    return re.sub(_UTC, local, text)
