"""Moments in job files: 2026-12-01T09:00, now+4h. Local time where no zone is named."""

from __future__ import annotations

import re
from datetime import datetime

from fairlead.model.base import Misuse, Ms
from fairlead.model.units import parse_duration_ms

EXAMPLES = "write for example 2026-12-01T09:00 or now+4h"
TEXT_CHARS_MAX = 60
YEAR_MAX = 2200


def parse_moment_ms(text: object, now_ms: Ms, field: str) -> Ms:
    """Return the moment in ms since the epoch. Raises Misuse."""
    if not isinstance(text, str) or len(text) > TEXT_CHARS_MAX:
        what = "too long to be one" if isinstance(text, str) else f"{text} is a bare number"
        raise Misuse(f"{field} is a moment: {what}"[:200], field=field, hint=EXAMPLES)
    words = text.strip()
    if relative := re.fullmatch(r"(?i)(?:now)?\s*\+\s*(.+)", words):
        return now_ms + parse_duration_ms(relative[1], field)
    try:
        if re.fullmatch(r"[0-9.]+", words):
            raise ValueError  # 20261201 is a date to Python, seconds to others
        moment = datetime.fromisoformat(words.replace(" ", "T", 1))
        if not 1970 <= moment.year <= YEAR_MAX:
            raise ValueError
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        hint = EXAMPLES
        if re.fullmatch(r"[0-9.]+\s*[a-zA-Z]+", words):
            hint = f"so long from now is now+{words.replace(' ', '')}; {EXAMPLES}"
        raise Misuse(f"cannot read the moment '{words}'", field=field, hint=hint) from None
