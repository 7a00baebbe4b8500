"""How far an elastic job is in the simulator: its progress is the integral of its speed.

Exact, in integers: work is counted in ms of a run at the least size x thousandths x that size, so
that a linear speedup, the default, needs no division. Fluid invariant: with linear speedups the
member-milliseconds of a job that loses nothing are its run time at the least size times that size,
but for what is left over of the last millisecond.
"""

from __future__ import annotations

from fairlead.model.base import Ms
from fairlead.sim.workload import SimJob

ONE = 1000  # a speedup of one


class ElasticRun:
    """One elastic job: the work that is left, and how fast it goes since when."""

    def __init__(self, job: SimJob) -> None:
        self.least = job.spec.shape.members
        self.speedups = job.speedups
        self.left = job.run_ms * ONE * self.least
        self.saved = self.left  # what was left when the attempt began
        self.began: Ms = 0
        self.since: Ms = 0  # up to when it is accounted for
        self.members = self.least

    def speed(self) -> int:
        """Return the work done in a millisecond, at the present size."""
        if not self.speedups:
            return ONE * self.members
        return self.speedups[self.members - self.least] * self.least

    def start(self, now: Ms, restart_ms: Ms) -> Ms:
        """Begin an attempt at the least size, after a restart; return when it ends."""
        self.began, self.since = now, now + restart_ms
        self.saved, self.members = self.left, self.least
        return self.end()

    def resize(self, now: Ms, members: int) -> Ms:
        """Go on with so many members; return when it ends."""
        self._advance(now)
        self.members = members
        return self.end()

    def stop(self, now: Ms, checkpoint_ms: Ms) -> Ms:
        """Stop; return how long, at the least size, it worked for nothing, with its restart."""
        restart = min(max(self.since - self.began, 0), now - self.began) if now < self.since else 0
        self._advance(now)
        done = self.saved - self.left
        lost = done % (checkpoint_ms * ONE * self.least) if checkpoint_ms else 0
        self.left += lost
        return restart + lost // (ONE * self.least)

    def end(self) -> Ms:
        """Return when it ends if nothing changes."""
        return self.since - (-self.left // self.speed())

    def _advance(self, now: Ms) -> None:
        if now > self.since:
            self.left = max(0, self.left - (now - self.since) * self.speed())
            self.since = now
