"""What is free on one node over time, in steps: what plans are made of."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator

from fairlead.core.ends import FAR
from fairlead.core.ledger import Request
from fairlead.model.base import Ms
from fairlead.policy.place.trial import Trial


class Line:
    """What is free on one node over time: state i holds from times[i] until times[i + 1]."""

    def __init__(self, now: Ms, state: Trial) -> None:
        self.times: list[Ms] = [now]
        self.states: list[Trial] = [state]

    def cut(self, at: Ms) -> int:
        """Return the index of the state that begins at a time, made by a split if need be."""
        if at <= self.times[0]:
            return 0
        index = bisect_left(self.times, at)
        if index == len(self.times) or self.times[index] != at:
            self.times.insert(index, at)
            self.states.insert(index, self.states[index - 1].copy())
        return index

    def move(
        self, request: Request, devices: tuple[int, ...], start: Ms, end: Ms, sign: int
    ) -> None:
        """Take (sign -1) or give back (+1) one member during [start, end)."""
        first, last = self.cut(start), (self.cut(end) if end < FAR else len(self.times))
        for state in self.states[first:last]:
            state.move(request, devices, sign)

    def block(self, start: Ms, end: Ms) -> None:
        """Nothing at all is free during [start, end)."""
        first, last = self.cut(start), (self.cut(end) if end < FAR else len(self.times))
        for state in self.states[first:last]:
            state.free = [min(amount, 0) for amount in state.free]
            devices = state.devices
            if devices.size:
                devices.milli = [0] * len(devices.size)
                devices.memory = [0] * len(devices.size)

    def least(self, start: Ms, end: Ms) -> Trial:
        """Return the least that is free at any time in [start, end)."""
        first = max(bisect_right(self.times, start) - 1, 0)
        last = bisect_left(self.times, end, first + 1)
        state = self.states[first]
        if last - first == 1:
            return state.copy()
        for other in self.states[first + 1 : last]:
            state = state.least(other)
        return state

    def allows(self, request: Request, devices: tuple[int, ...], start: Ms, end: Ms) -> bool:
        """Whether one more member with these devices fits in all of [start, end)."""
        times, states = self.times, self.states
        at = max(bisect_right(times, start) - 1, 0)
        while True:
            if not states[at].has_room(request, devices):
                return False
            at += 1
            if at == len(times) or times[at] >= end:
                return True

    def earliest(self, request: Request, run_ms: Ms, now: Ms, until: Ms = FAR) -> Ms | None:
        """Return the first time from now on, before `until`, at which one member fits for run_ms.

        None: never. Goes on after the state that was too full, so every state is seen few times.
        """
        times, states = self.times, self.states
        count, full = len(times), _fullness(request)
        first = max(bisect_right(times, now) - 1, 0)
        while first < count:
            start = max(times[first], now)
            if start >= until:
                return None
            end = start + run_ms
            at = first
            while at < count and times[at] < end:
                if full(states[at]):
                    break
                at += 1
            else:
                if not request.picks or self.least(start, end).pick(request) is not None:
                    return start
                first += 1
                continue
            first = at + 1
        return None

    def changes(self, run_ms: Ms) -> Iterator[Ms]:
        """Yield the times at which what fits for run_ms may change: where a state begins, and just
        after the last start that ends before it."""
        for at in self.times:
            yield at
            if at - run_ms >= self.times[0]:
                yield at - run_ms + 1


def _fullness(request: Request) -> Callable[[Trial], bool]:
    """Return the quickest test of whether a state has no room for one member."""
    if not request.picks and len(request.held) == 1:
        ((row, amount),) = request.held
        return lambda state: state.free[row] < amount
    return lambda state: state.pick(request) is None
