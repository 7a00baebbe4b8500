"""Who is in the gang of an elastic job: members that come and leave while it runs.

A member is known by a number: its rank when the job starts, and never used twice in an attempt,
so that a late word of one that has left is not taken for one of its successor. The rank that the
program sees is the place in the order of the numbers, among those that stay: ranks are dense.
"""

from __future__ import annotations

from fairlead.model.base import Ms


class Team:
    """The members of one attempt of an elastic job. Only the core writes to it."""

    __slots__ = (
        *("generation", "joined", "leave_ms", "leaving", "lost", "numbers", "resized_ms"),
        "unused",
    )

    def __init__(self, members: int) -> None:
        self.numbers = list(range(members))  # of the members that hold slots, in their order
        self.unused = members  # the next number
        self.leaving: set[int] = set()  # told to go, not confirmed gone
        self.leave_ms: Ms = 0  # when all of these are gone at the latest
        self.joined: dict[int, int] = {}  # who came later -> length of the log that launches it
        self.generation = 0  # how often the membership has changed
        self.resized_ms: Ms | None = None  # when it last did
        self.lost = 0  # how many members were lost against the will of all

    def copy(self) -> Team:
        """Return an independent copy."""
        other = Team(0)
        other.numbers, other.unused = self.numbers.copy(), self.unused
        other.leaving, other.leave_ms = self.leaving.copy(), self.leave_ms
        other.joined, other.generation = self.joined.copy(), self.generation
        other.resized_ms, other.lost = self.resized_ms, self.lost
        return other

    @property
    def size(self) -> int:
        """How many members stay."""
        return len(self.numbers) - len(self.leaving)

    def staying(self) -> list[int]:
        """Return the numbers of those who stay, in the order of their ranks."""
        return [number for number in self.numbers if number not in self.leaving]

    def changed(self, now: Ms) -> None:
        """The membership is another one from now on."""
        self.generation += 1
        self.resized_ms = now
