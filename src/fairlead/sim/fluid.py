"""Fluid sharing of one server of unit speed: what time slicing becomes as slices go to nothing.

PS: all jobs present run at rate 1/n. FB (continuous least attained service): only the jobs with
the least attained service run, sharing equally. Source: algorithms.md 2.2; Kleinrock 1976.

Times are of one type, Fraction (exact, for small cases) or float (300,000 jobs in seconds). PS
takes O(log n) per event; FB merges queues the smaller into the larger, O(log^2 n) amortised.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from fairlead.model.base import Misuse
from fairlead.sim.workload import Trace

Number = TypeVar("Number")
Sharing: TypeAlias = Literal["ps", "fb"]


class Fluid(msgspec.Struct, Generic[Number], frozen=True):
    """When each job ended, in the order given; and two integrals over time, kept by the server.

    `area` is that of the number of jobs inside (by Little's law the sum of all response times),
    `busy` the time during which there were any.
    """

    finish: list[Number]
    area: Number
    busy: Number


class FluidSummary(msgspec.Struct, frozen=True):
    """The figures of a trace on one server; slowdown is over jobs that need any time at all."""

    policy: str
    jobs: int
    load_ratio: float | None  # work over the time in which it came; None: all came at once
    mean_response_s: float
    mean_slowdown: float
    longest_response_s: float
    busy_s: float
    end_s: float  # of the last job, from the first submission
    cpu_s: float


def of_trace(policy: str, trace: Trace, limit_jobs: int | None = None) -> FluidSummary:
    """Return how one server would serve a trace's first jobs, their run times as sizes.

    Raises Misuse for an unknown policy.
    """
    jobs = trace.jobs[:limit_jobs]
    first = jobs[0].submit_ms
    arrivals = [(job.submit_ms - first) / 1000 for job in jobs]
    sizes = [job.run_ms / 1000 for job in jobs]
    began = time.thread_time()
    done = fluid(policy, arrivals, sizes)
    took = [end - at for end, at in zip(done.finish, arrivals, strict=True)]
    slow = [each / size for each, size in zip(took, sizes, strict=True) if size > 0]
    return FluidSummary(
        policy=policy,
        jobs=len(jobs),
        load_ratio=sum(sizes) / arrivals[-1] if arrivals[-1] else None,
        mean_response_s=sum(took) / len(took),
        mean_slowdown=sum(slow) / len(slow) if slow else 1.0,
        longest_response_s=max(took),
        busy_s=done.busy,
        end_s=max(done.finish),
        cpu_s=round(time.thread_time() - began, 6),
    )


def fluid(policy: str, arrivals: Sequence[Number], sizes: Sequence[Number]) -> Fluid[Number]:
    """Return what becomes of jobs that arrive in this order; sizes are run times alone.

    Raises Misuse for an unknown policy, arrivals out of order, and negative times.
    """
    servers: dict[str, Callable[[Any], _Server]] = {"ps": _Ps, "fb": _Fb}
    if policy not in servers:
        raise Misuse(f"there is no fluid policy '{policy}'", field="policy", hint="ps or fb")
    _check(arrivals, sizes)
    zero: Any = arrivals[0] - arrivals[0] if arrivals else 0  # type: ignore[operator]
    server = servers[policy](zero)
    finish: list[Any] = [zero] * len(arrivals)
    area = busy = now = zero
    come, count = 0, len(arrivals)
    while come < count or server.inside:
        # Rounding may carry floats an ulp past an event: time does not run backwards for that.
        after = max(server.until(), zero) if server.inside else None
        arrival: Any = arrivals[come] if come < count else None
        if after is None or (arrival is not None and arrival < now + after):
            step = arrival - now
            if server.inside:
                area, busy = area + server.inside * step, busy + step
                server.run(step)
            now = arrival
            # Jobs of one instant come one by one: those before are inside, and have run 0.
            server.add(come, sizes[come])
            come += 1
            continue
        area, busy, now = area + server.inside * after, busy + after, now + after
        for index in server.arrive(after):
            finish[index] = now
    return Fluid(finish=finish, area=area, busy=busy)


def _check(arrivals: Sequence[Any], sizes: Sequence[Any]) -> None:
    if len(arrivals) != len(sizes):
        raise Misuse(f"{len(arrivals)} arrivals and {len(sizes)} sizes", field="sizes")
    if any(size < 0 for size in sizes):
        raise Misuse("a job has a negative size", field="sizes")
    if any(a > b for a, b in pairwise(arrivals)):
        raise Misuse("the arrivals are not in order", field="arrivals")


class _Server:
    """The jobs inside, and when the next of their events comes if nobody arrives before it."""

    inside = 0

    def until(self) -> Any:
        """Return the time to the next event; there are jobs inside."""
        raise NotImplementedError

    def run(self, step: Any) -> None:
        """Let time pass, less than `until`."""
        raise NotImplementedError

    def arrive(self, step: Any) -> list[int]:
        """Let the time to the next event pass; return the jobs that ended with it."""
        raise NotImplementedError

    def add(self, index: int, size: Any) -> None:
        """Take in a job."""
        raise NotImplementedError


class _Ps(_Server):
    """All run alike: a job ends when the service that everybody got since has its size."""

    def __init__(self, zero: Any) -> None:
        self.zero = self.given = zero
        self.ends: list[tuple[Any, int]] = []  # heap of (given at its end, index)

    def until(self) -> Any:
        return (self.ends[0][0] - self.given) * self.inside

    def run(self, step: Any) -> None:
        self.given += step / self.inside

    def arrive(self, step: Any) -> list[int]:
        ends, self.given = self.ends, self.ends[0][0]  # as it is, not as floats would add it up
        done = []
        while ends and ends[0][0] <= self.given:
            done.append(heapq.heappop(ends)[1])
        self.inside -= len(done)
        if not ends:
            self.given = self.zero  # floats stay small, and so exact
        return done

    def add(self, index: int, size: Any) -> None:
        heapq.heappush(self.ends, (self.given + size, index))
        self.inside += 1


class _Fb(_Server):
    """Groups of equal attained service, the least on top: only the top runs."""

    def __init__(self, zero: Any) -> None:
        self.zero = zero
        self.levels: list[Any] = []  # attained by each group
        self.groups: list[list[tuple[Any, int]]] = []  # heap of (size, index) of each

    def _target(self) -> Any:
        """Return the attained service at which the top group ends a job or meets the next."""
        size = self.groups[-1][0][0]
        return min(size, self.levels[-2]) if len(self.levels) > 1 else size

    def until(self) -> Any:
        return (self._target() - self.levels[-1]) * len(self.groups[-1])

    def run(self, step: Any) -> None:
        self.levels[-1] += step / len(self.groups[-1])

    def arrive(self, step: Any) -> list[int]:
        level = self.levels[-1] = self._target()
        top, done = self.groups[-1], []
        while top and top[0][0] <= level:
            done.append(heapq.heappop(top)[1])
        self.inside -= len(done)
        if len(self.levels) > 1 and self.levels[-2] <= level:
            self._merge()
        elif not top:
            self.levels.pop()
            self.groups.pop()
        return done

    def _merge(self) -> None:
        self.levels.pop()
        small, large = sorted((self.groups.pop(), self.groups.pop()), key=len)
        for each in small:
            heapq.heappush(large, each)
        self.groups.append(large)

    def add(self, index: int, size: Any) -> None:
        if not self.levels or self.levels[-1] > self.zero:
            self.levels.append(self.zero)
            self.groups.append([])
        heapq.heappush(self.groups[-1], (size, index))
        self.inside += 1
