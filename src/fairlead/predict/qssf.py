"""Helios's quasi-shortest-service-first: order by predicted GPU time, from names alike and a model.

The rolling estimate is the mean run time of the user's jobs whose names are closest (difflib,
cut-off 0.6), those with as many GPUs first. Source: Hu et al., SC'21, and its published code
(HeliosArtifact, estimators/estimator.py). Sorting by run time instead of GPU time is another
policy; so is preempting. Without ageing, large jobs may starve.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Mapping
from fractions import Fraction

from fairlead.model.base import Ms
from fairlead.model.jobs import JobSpec
from fairlead.predict.base import width

LAMBDA = Fraction(1, 10)  # weight of the rolling estimate where there is a model too
CUTOFF = 0.6
NAMES_MAX = 3  # closest names that are averaged
NAMES_KEPT = 200  # per user and width; the oldest go
TIMES_KEPT = 20  # per name


def priority(
    gpus: int, rolling: Fraction | int, model: Fraction | int, share: Fraction = LAMBDA
) -> Fraction:
    """Return the predicted GPU time, less is sooner; a model that says nothing says 0."""
    believed = Fraction(rolling) if model <= 0 else share * rolling + (1 - share) * model
    return gpus * believed


class Rolling:
    """Run times by user, width and name."""

    def __init__(self) -> None:
        self._users: dict[str, dict[tuple[str, int], dict[str, deque[Ms]]]] = {}

    def add(self, job: JobSpec, ran_ms: Ms) -> None:
        """Remember a job that has ended."""
        names = self._users.setdefault(job.user, {}).setdefault(width(job), {})
        times = names.pop(job.name, None)
        if times is None:
            times = deque(maxlen=TIMES_KEPT)
            if len(names) >= NAMES_KEPT:
                del names[next(iter(names))]
        names[job.name] = times
        times.append(ran_ms)

    def estimate(self, job: JobSpec) -> Fraction | None:
        """Return the mean of the closest names; None if this user has none that is alike."""
        by_width = self._users.get(job.user, {})
        same = by_width.get(width(job), {})
        merged: dict[str, list[Ms]] = {}
        for names in by_width.values():
            for name, times in names.items():
                merged.setdefault(name, []).extend(times)
        return _closest(job.name, same) or _closest(job.name, merged)


def _closest(name: str, known: Mapping[str, deque[Ms] | list[Ms]]) -> Fraction | None:
    names = [name] if name in known else difflib.get_close_matches(name, known, NAMES_MAX, CUTOFF)
    times = [time for each in names for time in known[each]]
    return Fraction(sum(times), len(times)) if times else None
