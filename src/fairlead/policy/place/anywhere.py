"""Placement at random, which may be done again: the measure that every other placement must beat.

A node's key is a number that its id and the count of events so far are mixed to (the finaliser of
splitmix64, Steele et al., OOPSLA 2014), so each that fits is as likely as any other, each decision
is independent of the last, and the same log gives the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fairlead.core.ledger import Columns, Ledger, Request
from fairlead.model.resources import WHOLE_GPU_MILLI, Slot
from fairlead.policy.place.fit import NO, Fit
from fairlead.policy.place.score import BestFit
from fairlead.policy.place.trial import Trial

_BITS = (1 << 64) - 1


class Anywhere(Fit):
    """Answers where members fit, any node and any GPU being as likely as another.

    Plans of the future compare nodes by best fit.
    """

    def __init__(self, ledger: Ledger, count: Callable[[], int], *, gpus_last: bool = True) -> None:
        """`count` grows with every placement: it is all that the choice depends on."""
        super().__init__(ledger, BestFit(), gpus_last=gpus_last)
        self._count = count

    def one(self, request: Request) -> Slot | None:
        """Return a slot for one member, None if nothing fits."""
        found = self.run(request, 1)
        return found[0] if found else None

    def run(self, request: Request, count: int) -> list[Slot]:
        """Return up to `count` slots for single members, in order, as if placed one by one."""
        keys = super()._keys(request)
        able = np.flatnonzero(keys != NO)
        spared = able[:0]  # nodes that are used when no other has room
        if self._last is not None and not request.picks:
            able, spared = able[self._last[able] == 0], able[self._last[able] > 0]
        trials: dict[int, Trial] = {}
        slots: list[Slot] = []
        turn = self._count()
        while len(slots) < count and (able.size or spared.size):
            if not able.size:
                able, spared = spared, able
            mixed = _mixed(able, turn + len(slots))
            at = int(mixed.argmin())
            while mixed[at] != NO:
                node = int(able[at])
                trial = trials.get(node) or Trial.now(self.ledger, node)
                devices = self._pick(request, trial, node, turn + len(slots))
                if devices is not None:
                    trials[node] = trial
                    trial.move(request, devices, -1)
                    slots.append(Slot(node=node, devices=devices))
                    break
                if node not in trials:
                    keys[node] = NO  # room, but not on a device that it may use; until it changes
                mixed[at] = NO
                at = int(mixed.argmin())
            able = able[mixed != NO]
        return slots

    def _pick(self, request: Request, trial: Trial, node: int, turn: int) -> tuple[int, ...] | None:
        """Return the devices of one more member on a node; for a share any that has room."""
        if not trial.fits(request):
            return None
        devices = trial.devices
        if request.picks != 1 or request.milli in (0, WHOLE_GPU_MILLI):
            return devices.pick(request) if request.picks else ()
        able = [index for index in range(len(devices.size)) if devices.free(index, request)]
        if not able:
            return None
        mixed = _mixed(np.array(able, np.int64) + 1_000_003 * (node + 1), turn)
        return (able[int(mixed.argmin())],)

    def _keys(self, request: Request) -> Columns:
        """Return the keys of all nodes in this turn, NO where nothing fits."""
        keys = super()._keys(request)
        mixed = _mixed(np.arange(len(keys)), self._count())
        if self._last is not None and not request.picks:
            mixed += self._last
        return np.where(keys == NO, NO, mixed)


def _mixed(values: Columns, turn: int) -> Columns:
    """Return a number from 0 to 2**62 for each value, another in every turn."""
    start = np.uint64((turn * 0x9E3779B97F4A7C15) & _BITS)
    mixed = (values.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD1342543DE82EF95) + start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    found: Columns = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(2)).astype(np.int64)
    return found
