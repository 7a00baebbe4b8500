"""The Gittins index of a job from the services of past jobs: who is likeliest to end soon.

With S a past service (each of n samples weighs 1/n) and a what a job has attained, in one integer
unit (milliseconds, GPU-milliseconds),

    G(a) = sup over D > 0 of P(S - a <= D | S > a) / E[min(S - a, D) | S > a];

the highest index runs first. Source: algorithms.md 2.3; Gittins 1979; Gu et al., NSDI 2019.

With F(t) the number of samples up to t and H(t) the sum of min(S, t), G(a) is the steepest slope
from the point (H(a), F(a)) to one of the points (H(v), F(v)) of the samples v > a. Those that can
be the steepest form the upper hull of what lies to the right, so one pass from the right links
every sample to the next on its hull, and a lookup is a search for the tangent: O(log samples).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from typing import TypeAlias

from fairlead.model.base import Misuse

Key: TypeAlias = tuple[int, Fraction]
_ZERO: Key = (1, Fraction(0))  # no sample ends within the look-ahead
_NONE: Key = (2, Fraction(0))  # older than every sample


class GittinsTable:
    """Ranks attained services; `delta` is a fixed look-ahead, None the supremum over all.

    Raises Misuse for a negative sample or a look-ahead below 1.
    """

    def __init__(self, samples: Sequence[int], delta: int | None = None) -> None:
        if min(samples, default=0) < 0:
            raise Misuse(f"a past service of {min(samples)} is negative", field="samples")
        if delta is not None and delta < 1:
            raise Misuse(f"a look-ahead of {delta} sees nothing", field="delta", hint="1 or more")
        self.delta = delta
        self.values = sorted(set(samples))
        self._count = len(samples)
        ordered = sorted(samples)
        sums = [0]
        for each in ordered:
            sums.append(sums[-1] + each)
        # [i] is about the samples below values[i]; the last entry is about all of them
        self._below = [0, *(bisect_right(ordered, value) for value in self.values)]
        self._sums = [sums[count] for count in self._below]
        self._link()

    def _link(self) -> None:
        """Link each sample to the next on the hull of those right of it, and further ahead.

        The far links (Myers 1983) make a search of the chain logarithmic.
        """
        last = len(self.values) - 1
        self._next = [last] * (last + 1)
        self._far = [last] * (last + 1)
        depth = [0] * (last + 1)
        for at in range(last - 1, -1, -1):
            height, width = self._below[at + 1], self._cost(at)
            top = at + 1
            while top != self._next[top] and self._steeper(height, width, self._next[top], top):
                top = self._next[top]
            far = self._far[top]
            even = depth[top] - depth[far] == depth[far] - depth[self._far[far]]
            self._next[at], depth[at] = top, depth[top] + 1
            self._far[at] = self._far[far] if even else top

    def _cost(self, index: int) -> int:
        """Return H at a sample: the sum over all samples of min(S, values[index])."""
        after = index + 1
        return self._sums[after] + (self._count - self._below[after]) * self.values[index]

    def _steeper(self, height: int, width: int, one: int, other: int) -> bool:
        """Whether a sample is seen at a steeper slope than another from (width, height)."""
        rise, run = self._below[one + 1] - height, self._cost(one) - width
        return rise * (self._cost(other) - width) > (self._below[other + 1] - height) * run

    def _best(self, attained: int) -> tuple[int, int, int] | None:
        """Return (rise, run, look-ahead) of the slope that is the index; None: no sample left."""
        first = bisect_right(self.values, attained)
        if first == len(self.values):
            return None
        height = self._below[first]
        width = self._sums[first] + (self._count - height) * attained
        if self.delta is not None:
            end = bisect_right(self.values, attained + self.delta)
            seen = self._sums[end] + (self._count - self._below[end]) * (attained + self.delta)
            return self._below[end] - height, seen - width, self.delta
        at = first
        while self._steeper(height, width, self._next[at], at):
            far = self._far[at]
            # Equal slopes do not move on: the smallest of the look-aheads that are best.
            ahead = self._steeper(height, width, self._next[far], far)
            at = far if ahead else self._next[at]
        return self._below[at + 1] - height, self._cost(at) - width, self.values[at] - attained

    def index(self, attained: int) -> Fraction | None:
        """Return G(attained), per unit of service; None when no sample exceeds it."""
        found = self._best(attained)
        return None if found is None else Fraction(found[0], found[1])

    def best_delta(self, attained: int) -> int | None:
        """Return the smallest look-ahead that attains the index; None when no sample exceeds."""
        found = self._best(attained)
        return None if found is None else found[2]

    def key(self, attained: int) -> Key:
        """Return the place in the order: smaller runs sooner, exactly as the indices compare.

        It is 1/G, the service spent per job that ends; beyond every sample is last of all.
        """
        found = self._best(attained)
        if found is None:
            return _NONE
        return (0, Fraction(found[1], found[0])) if found[0] else _ZERO

    def falls_after(self, attained: int) -> int | None:
        """Return the next attained service at which the index can fall; None: never again.

        Between samples an index only rises: a job that runs keeps its lead until then.
        """
        at = bisect_right(self.values, attained)
        return self.values[at] if at < len(self.values) else None
