"""What jobs ask for, as it has come so far: how many members of each shape were submitted.

Placements go by the counts as they were when they were last settled, so that what they derive from
them lasts for a while; when that is follows from the log alone, as all else.
"""

from __future__ import annotations

from fairlead.model.base import JobId
from fairlead.model.resources import Shape

AGAIN = 8  # settled again when one in so many more has come


class Demand:
    """Counts of members by shape. Only the core writes to it."""

    __slots__ = ("counts", "next_job", "settled")

    def __init__(self) -> None:
        self.counts: dict[Shape, int] = {}
        self.settled: dict[Shape, int] = {}  # as of the last settling
        self.next_job: JobId = 1  # the job with which they are settled again

    def copy(self) -> Demand:
        """Return an independent copy."""
        other = Demand()
        other.counts, other.settled = dict(self.counts), self.settled
        other.next_job = self.next_job
        return other

    def add(self, job: JobId, shape: Shape) -> None:
        """A job was submitted. O(1), but O(shapes) where it settles them."""
        for kind in shape.parts():
            self.counts[kind] = self.counts.get(kind, 0) + kind.members
        if job >= self.next_job:
            self.settled = dict(self.counts)
            self.next_job = job + max(1, job // AGAIN)
