"""Gangs on an engine that places workers one by one: reserve all, then start.

Each unit is reserved under a lease of the gang. A gang starts only with all of its units under a
lease that still holds; when it lapses first, everything goes back at once, and the gang tries again
after a back-off. Or one gang reserves at a time: the admission lock. `fairlead sim leases` goes
through every interleaving. Source: algorithms.md 12.4, obligation 3; Gray and Cheriton, SOSP 1989.
"""

from __future__ import annotations

from fairlead.model.base import Ms

DOUBLINGS_MAX = 10


class Leases:
    """Which gang has which units, by number: reserved under a lease, or started. Times in ms.

    lease_ms: how long a reservation may take; None: for ever, which can end in a deadlock unless
    `alone`: one gang reserves at a time.
    """

    def __init__(self, units: int, lease_ms: Ms | None, *, alone: bool = False) -> None:
        self.units, self.lease_ms, self.alone = units, lease_ms, alone
        self.holder: dict[int, str] = {}
        self.until: dict[str, Ms | None] = {}  # of gangs that reserve
        self.started: set[str] = set()

    def copy(self) -> Leases:
        """Return an independent copy."""
        other = Leases(self.units, self.lease_ms, alone=self.alone)
        other.holder, other.until = dict(self.holder), dict(self.until)
        other.started = set(self.started)
        return other

    def has(self, gang: str) -> int:
        """Return how many units a gang has."""
        return sum(each == gang for each in self.holder.values())

    def reserve(self, now: Ms, gang: str) -> bool:
        """Reserve the lowest free unit for a gang; whether there was one, and it was its turn.

        Its first unit begins its lease; one that has lapsed must be given back before.
        """
        if gang in self.started or not self._holds(now, gang):
            return False
        if self.alone and self.until.keys() - {gang}:
            return False
        unit = next((each for each in range(self.units) if each not in self.holder), None)
        if unit is None:
            return False
        self.holder[unit] = gang
        if gang not in self.until:
            self.until[gang] = None if self.lease_ms is None else now + self.lease_ms
        return True

    def _holds(self, now: Ms, gang: str) -> bool:
        until = self.until.get(gang)
        return until is None or now < until

    def start(self, now: Ms, gang: str, members: int) -> bool:
        """Start a gang that has all it needs under a lease that holds; whether it did."""
        if gang not in self.until or not self._holds(now, gang) or self.has(gang) != members:
            return False
        del self.until[gang]
        self.started.add(gang)
        return True

    def lapse(self, now: Ms) -> list[str]:
        """Give back all that is reserved under leases that have ended; return whose, sorted."""
        gone = sorted(gang for gang in self.until if not self._holds(now, gang))
        for gang in gone:
            del self.until[gang]
            self._give_back(gang)
        return gone

    def release(self, gang: str) -> bool:
        """Give back what a gang has, reserved or started; whether it had any: the first time."""
        had = gang in self.until or gang in self.started
        self.until.pop(gang, None)
        self.started.discard(gang)
        self._give_back(gang)
        return had

    def _give_back(self, gang: str) -> None:
        for unit in [unit for unit, each in self.holder.items() if each == gang]:
            del self.holder[unit]

    def next_lapse(self) -> Ms | None:
        """Return when the next lease ends, None if none does."""
        return min((until for until in self.until.values() if until is not None), default=None)


def back_off_ms(base_ms: Ms, tries: int, draw: int) -> Ms:
    """Return how long a gang waits after so many tries that lapsed, from 1 on.

    Doubled with each try, and half of it by chance, so that two gangs do not meet again and again.
    `draw`: any random integer; the caller's, since what is pure has none.
    """
    span = base_ms << min(tries - 1, DOUBLINGS_MAX)
    return span // 2 + draw % (span - span // 2 + 1)
