"""Predictors by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from fairlead.model.base import Misuse
from fairlead.predict.base import Predictor
from fairlead.predict.lastk import Limit, last_k, tsafrir
from fairlead.predict.online import Online

K_MAX = 50

PREDICTORS: dict[str, str] = {
    "limit": "the job's own time limit, as the user set it",
    "tsafrir": "the mean of the user's last two run times, the limit until there are two",
    "last2": "the mean of the last two of the same user, name and GPUs, then of ever less alike "
    "ones; last5, last5-median and so on likewise",
    "online": "the user's latest jobs, the more alike the more, learnt from at every end; made for "
    "backfilling the shortest first",
    "learned": "quantiles by gradient boosting on all that is known at submission, or the last "
    "two where they are better; needs scikit-learn",
}
_LAST_K = re.compile(r"last([1-9][0-9]?)(-mean|-median)?")


def build(name: str) -> Predictor:
    """Return a new predictor that has seen nothing; Misuse suggests the nearest name."""
    text = name.strip().lower().replace("_", "-")
    text = re.sub(r"^last-(?=[0-9k])", "last", text)
    text = "last2" if text == "lastk" else text
    made = _MAKERS.get(text)
    if made is not None:
        return made()
    matched = _LAST_K.fullmatch(text)
    if matched is None:
        close = difflib.get_close_matches(text, PREDICTORS, n=1)
        known = f"did you mean: {close[0]}" if close else f"known: {', '.join(PREDICTORS)}"
        raise Misuse(f"there is no predictor '{name}'", field="predictor", hint=known)
    if int(matched[1]) > K_MAX:
        hint = f"at most last{K_MAX}"
        raise Misuse(f"'{name}' looks back too far", field="predictor", hint=hint)
    return last_k(text.removesuffix("-mean"))


def _learned() -> Predictor:
    from fairlead.predict.learned import Learned

    return Learned()


_MAKERS: dict[str, Callable[[], Predictor]] = {
    "limit": Limit,
    "tsafrir": tsafrir,
    "online": Online,
    "learned": _learned,
}
