"""When a waiting job will start: earliest, likely and latest, and how far that can be trusted.

The raw band is what several runs into the future gave (policy/ahead.py). They know nothing of jobs
that are yet to come, of failures, or of forecasts that are wrong all together; what that did to
earlier estimates is measured and put right: an estimate is compared with the truth when its job
starts, and the ends of the band are moved by what covered the wanted share of the latest of them
(conformalised quantiles, Romano et al. 2019, over a sliding window, each end on its own).

Integers throughout: errors are in thousandths of a job's own scale.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.model.base import JobId, Ms, Record
from fairlead.policy.ahead import starts_ahead

RUNS = (11, 5)  # for few and for many waiting jobs; primes: a job's draws are spread evenly
MANY = 200
TAIL_PERCENT = 10  # each end of the band is to miss so many: 80 % lie inside
WINDOW = 400  # comparisons that count
COMPARED_MIN = 20  # before so many, bands are shown as the runs gave them
SCALE_MIN_MS = 60_000


class Eta(Record, frozen=True):
    """When a job is expected to start. None: nothing that is known lets it start.

    `made_ms` is when this was worked out; `sure` whether enough earlier estimates have been
    compared with the truth to trust the band.
    """

    earliest_ms: Ms | None
    likely_ms: Ms | None
    latest_ms: Ms | None
    made_ms: Ms
    sure: bool = False


class Raw(Record, frozen=True):
    """What the runs said of one job, before anything is put right."""

    made_ms: Ms
    low_ms: Ms
    likely_ms: Ms
    high_ms: Ms

    @property
    def scale_ms(self) -> Ms:
        """Return in what the errors of this estimate are measured."""
        wait = self.likely_ms - self.made_ms
        return SCALE_MIN_MS + (self.high_ms - self.low_ms) // 2 + wait // 4


class Window:
    """The latest errors on one side of the band, in thousandths of each estimate's scale."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._sorted: list[int] = []

    def add(self, error: int) -> None:
        """Take in an error; the oldest goes when there are too many."""
        self._order.append(error)
        insort(self._sorted, error)
        if len(self._order) > WINDOW:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]

    def __len__(self) -> int:
        return len(self._sorted)

    def covering(self, percent: int) -> int:
        """Return the error that so many percent did not exceed, by the rank ceil((n + 1) p)."""
        rank = -(-(len(self._sorted) + 1) * percent // 100)
        return self._sorted[min(rank, len(self._sorted)) - 1]


class Calibration:
    """What earlier estimates have taught: how far the ends of the band have to move."""

    def __init__(self) -> None:
        self.early, self.late = Window(), Window()
        self.compared = self.inside = 0

    @property
    def sure(self) -> bool:
        """Whether enough has been compared."""
        return len(self.late) >= COMPARED_MIN

    def apply(self, raw: Raw) -> Eta:
        """Return the estimate with its ends moved."""
        low, high = raw.low_ms, raw.high_ms
        if self.sure:
            low -= self.early.covering(100 - TAIL_PERCENT) * raw.scale_ms // 1000
            high += self.late.covering(100 - TAIL_PERCENT) * raw.scale_ms // 1000
        low = max(raw.made_ms, min(low, raw.likely_ms))
        return Eta(
            earliest_ms=low,
            likely_ms=raw.likely_ms,
            latest_ms=max(high, raw.likely_ms),
            made_ms=raw.made_ms,
            sure=self.sure,
        )

    def compare(self, raw: Raw, shown: Eta, started_ms: Ms) -> None:
        """A job has started: learn from the estimate that it was given."""
        assert shown.earliest_ms is not None and shown.latest_ms is not None
        self.compared += 1
        self.inside += shown.earliest_ms <= started_ms <= shown.latest_ms
        self.early.add(1000 * (raw.low_ms - started_ms) // raw.scale_ms)
        self.late.add(1000 * (started_ms - raw.high_ms) // raw.scale_ms)


def runs_for(core: Core) -> int:
    """Return how many runs an estimate of all waiting jobs takes: what is still quick."""
    return RUNS[len(core.pending) > MANY]


class Etas:
    """The estimates of all waiting jobs, worked out anew when something has changed."""

    def __init__(self) -> None:
        self.of: dict[JobId, Eta] = {}
        self.made_ms: Ms = 0
        self.seq = -1  # of the state that they are about
        self.calibration = Calibration()
        self._first: dict[JobId, tuple[Raw, Eta]] = {}  # to be compared with the truth

    def take(self, seq: int, now: Ms, starts: Mapping[JobId, Sequence[Ms | None]]) -> None:
        """Take in what runs into the future said of the state after event `seq`."""
        self.of = {}
        for job, times in starts.items():
            raw, self.of[job] = self.band(now, times)
            if raw is not None:
                self._first.setdefault(job, (raw, self.of[job]))
        self.seq, self.made_ms = seq, now

    def compute(self, core: Core) -> None:
        """Work them out here and now."""
        self.take(core.seq, core.clock, starts_ahead(core, runs=runs_for(core)))

    def band(self, now: Ms, times: Sequence[Ms | None]) -> tuple[Raw | None, Eta]:
        """Return what the runs said of one job, None for nothing, and the estimate of it."""
        known = sorted(at for at in times if at is not None)
        if 2 * len(known) <= len(times):
            return None, Eta(earliest_ms=None, likely_ms=None, latest_ms=None, made_ms=now)
        last = len(known) - 1
        raw = Raw(
            made_ms=now,
            low_ms=known[last * TAIL_PERCENT // 100],
            likely_ms=known[last // 2],
            high_ms=known[last - last * TAIL_PERCENT // 100],
        )
        return raw, self.calibration.apply(raw)

    def first(self, job: JobId) -> tuple[Raw, Eta] | None:
        """Return the first estimate of a waiting job, as it was made and as it was shown."""
        return self._first.get(job)

    def started(self, job: Job) -> None:
        """A job has started: compare with its first estimate."""
        first = self._first.pop(job.id, None)
        if first is not None and job.placed_ms is not None:
            self.calibration.compare(*first, job.placed_ms)
        self.of.pop(job.id, None)

    def gone(self, job: JobId) -> None:
        """A job was cancelled before it started."""
        self._first.pop(job, None)
        self.of.pop(job, None)
