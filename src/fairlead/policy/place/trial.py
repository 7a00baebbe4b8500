"""One node's free amounts, copied, to try things on."""

from __future__ import annotations

from fairlead.core.ledger import Devices, Ledger, Request
from fairlead.model.resources import DIMENSIONS, GPU, GPU_MEMORY

D = len(DIMENSIONS)


class Trial:
    """What is free on a node, now or at some later time. Taking and giving change only this."""

    __slots__ = ("devices", "free")

    def __init__(self, free: list[int], devices: Devices) -> None:
        self.free, self.devices = free, devices

    @classmethod
    def now(cls, ledger: Ledger, node: int) -> Trial:
        """Return what is free on a node now."""
        devices = ledger.devices[node]
        return cls(ledger.room[:D, node].tolist(), devices.copy() if devices.size else devices)

    def copy(self) -> Trial:
        """Return an independent copy."""
        return Trial(self.free.copy(), self.devices.copy() if self.devices.size else self.devices)

    def fits(self, request: Request) -> bool:
        """Whether the host has room for one more member (devices are asked by `take`)."""
        free = self.free
        for row, amount in request.held:  # noqa: SIM110 (asked very often: no generator)
            if free[row] < amount:
                return False
        return True

    def pick(self, request: Request) -> tuple[int, ...] | None:
        """Return the devices of one more member, () for none needed; None if it does not fit."""
        if not self.fits(request):
            return None
        return self.devices.pick(request) if request.picks else ()

    def take(self, request: Request) -> tuple[int, ...] | None:
        """Take one member; None if the devices have no room."""
        devices = self.devices.pick(request) if request.picks else ()
        if devices is None:
            return None
        self.move(request, devices, -1)
        return devices

    def move(self, request: Request, devices: tuple[int, ...], sign: int) -> None:
        """Take (sign -1) or give back (+1) one member with these devices."""
        free = self.free
        for row, amount in request.held:
            free[row] += sign * amount
        if devices:
            milli, memory = self.devices.move(request, devices, sign)
            free[GPU] += milli
            free[GPU_MEMORY] += memory

    def has_room(self, request: Request, devices: tuple[int, ...]) -> bool:
        """Whether one more member with these very devices fits."""
        if not self.fits(request):
            return False
        return all(self.devices.free(index, request, at) for at, index in enumerate(devices))

    def copies(self, request: Request, most: int) -> int:
        """Return how many members fit together, at most `most`."""
        for row, amount in request.held:
            most = min(most, self.free[row] // amount)
        if most <= 0 or not request.picks:
            return max(most, 0)
        if request.gpus and request.simple:
            return min(most, self.devices.summary()[0] // request.gpus)
        devices = self.devices.copy()
        for done in range(most):
            chosen = devices.pick(request)
            if chosen is None:
                return done
            devices.move(request, chosen, -1)
        return most

    def least(self, other: Trial) -> Trial:
        """Return what is free in both: a member that fits there fits in each of them."""
        result = Trial(
            [min(mine, its) for mine, its in zip(self.free, other.free, strict=True)],
            self.devices,
        )
        if self.devices.size:
            devices = self.devices.copy()
            for index in range(len(devices.size)):
                devices.milli[index] = min(devices.milli[index], other.devices.milli[index])
                devices.memory[index] = min(devices.memory[index], other.devices.memory[index])
            result.devices = devices
        return result
