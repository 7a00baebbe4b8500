"""How fast jobs are on which kind of device: told, or measured from what they report.

A speed belongs to a job type, a width, and a device model, and is of the whole job, in steps per
million seconds. What is measured is the mean over the last hours: older steps fade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fairlead.core.jobs import Job, Progress
from fairlead.model.base import Ms, Record
from fairlead.model.events import Progressed, SpeedDeleted, SpeedSet
from fairlead.model.jobs import JobSpec, Phase, Speed
from fairlead.model.resources import Slot, width_milli

if TYPE_CHECKING:
    from fairlead.core.engine import Core

Key: TypeAlias = tuple[str, int, str]  # job type, width, device model
WINDOW_MS: Ms = 4 * 3_600_000  # measured for so long, the older half fades
NANO = 1_000_000_000  # (steps per ms) in steps per million seconds
TOLERATED = 50  # a measured speed is another one once it has changed by one part in so many


class Measured(Record, frozen=True):
    """Steps that were made in so much time, by all jobs of a type together."""

    steps: int = 0
    ms: Ms = 0
    used: int = 0  # the speed that policies were last told


class Speeds:
    """The table of one core. Only its handlers write to it."""

    def __init__(self) -> None:
        self.told: dict[Key, int] = {}
        self.measured: dict[Key, Measured] = {}
        # Told to be zero, by type and width: there these jobs never run.
        self.never: dict[tuple[str, int], frozenset[str]] = {}
        self.version = 0  # how often something changed that plans may go by
        self._points: tuple[int, dict[str, int]] = (-1, {})

    def copy(self) -> Speeds:
        """Return an independent copy."""
        other = Speeds()
        other.told, other.measured = dict(self.told), dict(self.measured)
        other.version, other.never = self.version, dict(self.never)
        return other

    def get(self, key: Key) -> int | None:
        """Return the speed in steps per million seconds, None where nothing is known."""
        told = self.told.get(key)
        if told is not None:
            return told
        found = self.measured.get(key)
        return None if found is None or not found.used else found.used

    def of(self, spec: JobSpec, model: str, members: int | None = None) -> int | None:
        """Return the speed of a job on a device model, by default at its least size."""
        return self.get(key_of(spec, model, members))

    def tell(self, key: Key, speed: int | None) -> None:
        """Take in a speed that was told, None: it is told no more."""
        job_type, width, model = key
        never = self.never.pop((job_type, width), frozenset()) - {model}
        if speed is None:
            self.told.pop(key, None)
        else:
            self.told[key] = speed
            never |= {model} if speed == 0 else frozenset()
        if never:
            self.never[job_type, width] = never
        self.version += 1

    def closed(self, spec: JobSpec) -> frozenset[str]:
        """Return the device models on which a job never runs; "" stands for nodes without any."""
        if not self.never:
            return frozenset()
        return self.never.get((spec.kind, width_milli(spec.shape)), frozenset())

    def points(self) -> dict[str, int]:
        """Return for each device model over how many others jobs are faster there, by type."""
        if self._points[0] != self.version:
            found: dict[str, int] = {}
            rows: dict[tuple[str, int], list[tuple[str, int]]] = {}
            for job_type, width, model in {**self.measured, **self.told}:
                speed = self.get((job_type, width, model)) or 0
                rows.setdefault((job_type, width), []).append((model, speed))
            for row in rows.values():
                for model, speed in row:
                    beaten = sum(other < speed for _, other in row)
                    found[model] = found.get(model, 0) + beaten
            self._points = (self.version, found)
        return self._points[1]

    def add(self, key: Key, steps: int, ms: Ms) -> None:
        """So many steps were made in so much time."""
        old = self.measured.get(key, Measured())
        if old.ms > WINDOW_MS:
            old = Measured(old.steps // 2, old.ms // 2, old.used)
        steps, ms = old.steps + steps, old.ms + ms
        rate = steps * NANO // ms
        moved = abs(rate - old.used) * TOLERATED > old.used
        self.measured[key] = Measured(steps, ms, rate if moved else old.used)
        self.version += moved and key not in self.told


def key_of(spec: JobSpec, model: str, members: int | None = None) -> Key:
    """Return where the speed of a job on a device model is kept."""
    width = width_milli(spec.shape)
    if members is not None:
        width = width // spec.shape.members * members
    return (spec.kind, width, model)


def model_of(core: Core, slots: tuple[Slot, ...]) -> str:
    """Return the device model on which a job runs, "" without devices; of a mixture, the first."""
    for slot in slots:
        for device in slot.devices:
            return core.nodes[slot.node].spec.devices[device].model
    return ""


def mixed(core: Core, slots: tuple[Slot, ...]) -> bool:
    """Whether a job runs on several device models at once: nothing can be told from its speed."""
    models = {core.nodes[s.node].spec.devices[d].model for s in slots for d in s.devices}
    return len(models) > 1


def progressed(core: Core, event: Progressed) -> None:
    """A job says how far it is; late words of an attempt that is over are ignored."""
    job = core.jobs.get(event.job)
    if job is None or job.attempt != event.attempt or job.phase is not Phase.RUNNING:
        return
    at_ms = core.now if event.at_ms is None else min(event.at_ms, core.now)
    before = job.progress
    if before is not None and before.attempt == job.attempt:
        if at_ms <= before.at_ms or event.steps < before.steps:
            return  # repeated, or backwards: a job that starts again from a checkpoint is another
        _measure(core, job, before, event.steps, at_ms)
    job.progress = Progress(event.steps, at_ms, job.attempt)
    core.note(job)


def _measure(core: Core, job: Job, before: Progress, steps: int, at_ms: Ms) -> None:
    resized = None if job.team is None else job.team.resized_ms
    if resized is not None and resized > before.at_ms:
        return  # it was another job meanwhile
    if job.spec.kind and not mixed(core, job.slots):
        key = key_of(job.spec, model_of(core, job.slots), len(job.slots))
        core.speeds.add(key, steps - before.steps, at_ms - before.at_ms)


def speed_set(core: Core, event: SpeedSet) -> None:
    """Somebody tells a speed."""
    speed: Speed = event.speed
    core.speeds.tell((speed.job_type, speed.width_milli, speed.model), speed.micro_per_s)
    core.wakeups += 1


def speed_deleted(core: Core, event: SpeedDeleted) -> None:
    """A speed is forgotten."""
    key = (event.job_type, event.width_milli, event.model)
    core.speeds.tell(key, None)
    core.speeds.measured.pop(key, None)
    core.wakeups += 1
