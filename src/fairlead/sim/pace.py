"""How far a job is whose speed changes while it lasts: its progress is the integral of its speed.

Two sorts have such a run: elastic jobs, as fast as they have members, and jobs with rates, as fast
as the devices on which they are. Exact, in integers: work is counted so that a millisecond does a
whole number of units. Fluid invariant: with linear speedups the member-milliseconds of a job that
loses nothing are its run time at the least size times that size, but for what is left over of the
last millisecond.
"""

from __future__ import annotations

from collections.abc import Collection

from fairlead.model.base import Ms
from fairlead.sim.workload import SimJob

ONE = 1000  # a speedup of one
STEP = 10**9  # units in a step: with one step per million seconds a millisecond does one unit


class Pace:
    """One job: the work that is left, and how fast it goes since when."""

    def __init__(self, job: SimJob) -> None:
        self.least = job.spec.shape.members
        self.speedups, self.rates = job.speedups, dict(job.rates)
        self.left = job.total_steps * STEP if self.rates else job.run_ms * ONE * self.least
        self.total = self.saved = self.left  # `saved`: what was left when the attempt began
        self.began: Ms = 0
        self.since: Ms = 0  # up to when it is accounted for
        self.members = self.least
        self.models: Collection[str] = ()
        self.company = ONE  # its speed beside those with whom it shares a GPU, of that alone

    def speed(self) -> int:
        """Return the work done in a millisecond as things are: a gang goes as its slowest part."""
        beyond = self.members - self.least
        if self.rates:
            return min(self.rates[model][beyond] for model in self.models) * self.company // ONE
        if not self.speedups:
            return ONE * self.members
        return self.speedups[beyond] * self.least

    def start(self, now: Ms, restart_ms: Ms, models: Collection[str]) -> Ms:
        """Begin an attempt at the least size, after a restart; return when it ends."""
        self.began, self.since = now, now + restart_ms
        self.saved, self.members, self.models = self.left, self.least, models
        self.company = ONE
        assert self.speed() > 0, f"it was started on {', '.join(models)}, where it does not run"
        return self.end()

    def resize(self, now: Ms, members: int, models: Collection[str]) -> Ms:
        """Go on with so many members; return when it ends."""
        self._advance(now)
        self.members, self.models = members, models
        return self.end()

    def accompany(self, now: Ms, company: int) -> Ms:
        """Go on so fast, of its speed alone; return when it ends."""
        self._advance(now)
        self.company = company
        return self.end()

    def stop(self, now: Ms, checkpoint_ms: Ms) -> Ms:
        """Stop; return how long it worked for nothing, with its restart.

        A job saves its work so often at the speed that it has now; what it did for nothing counts
        at that speed too, of an elastic job at its least size.
        """
        restart = min(max(self.since - self.began, 0), now - self.began) if now < self.since else 0
        self._advance(now)
        unit = self.speed() if self.rates else ONE * self.least
        lost = (self.saved - self.left) % (checkpoint_ms * unit) if checkpoint_ms else 0
        self.left += lost
        return restart + lost // unit

    def end(self) -> Ms:
        """Return when it ends if nothing changes."""
        return self.since - (-self.left // self.speed())

    def steps(self, now: Ms) -> int:
        """Return the steps made up to now, of a job with rates: what it would say of itself."""
        done = max(0, now - self.since) * self.speed()
        return max(0, self.total - max(0, self.left - done)) // STEP

    def _advance(self, now: Ms) -> None:
        if now > self.since:
            self.left = max(0, self.left - (now - self.since) * self.speed())
            self.since = now
