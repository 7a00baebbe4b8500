"""How fast jobs are on which kind of device: told, or measured from what they report.

A speed belongs to a job type, a width, and a device model, and is of the whole job, in steps per
million seconds. What is measured is the mean over the last hours: older steps fade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from fairlead.core import future
from fairlead.core.jobs import Job, Progress
from fairlead.model.base import Ms, Record
from fairlead.model.events import Progressed, SpeedDeleted, SpeedSet
from fairlead.model.jobs import JobSpec, Phase, Speed
from fairlead.model.resources import Shape, Slot, width_milli

if TYPE_CHECKING:
    from fairlead.core.engine import Core

Key: TypeAlias = tuple[str, int, str]  # job type, width, device model
WINDOW_MS: Ms = 4 * 3_600_000  # measured for so long, the older half fades
NANO = 1_000_000_000  # (steps per ms) in steps per million seconds
TOLERATED = 50  # a measured speed is another one once it has changed by one part in so many
NOWHERE = ("",)  # no device has such a model
MOVING = (Phase.RUNNING, Phase.STOPPING)


class Measured(Record, frozen=True):
    """Steps that were made in so much time, by all jobs of a type together."""

    steps: int = 0
    ms: Ms = 0
    used: int = 0  # the speed that policies were last told
    runs: int = 0  # attempts of jobs that have been measured
    low: int = 0  # the least and the greatest speed between two reports, of late
    high: int = 0

    @property
    def rate(self) -> int:
        """Return the mean, in steps per million seconds."""
        return self.steps * NANO // self.ms


class Speeds:
    """The table of one core. Only its handlers write to it."""

    def __init__(self) -> None:
        self.told: dict[Key, int] = {}
        self.measured: dict[Key, Measured] = {}
        self.version = 0  # how often something changed that plans may go by
        self.never: dict[tuple[str, int], set[str]] = {}  # models told to be impossible
        self._points: tuple[int, dict[str, int]] = (-1, {})

    def copy(self) -> Speeds:
        """Return an independent copy."""
        other = Speeds()
        other.told, other.measured = dict(self.told), dict(self.measured)
        other.version = self.version
        other.renew()
        return other

    def renew(self) -> None:
        """Work out anew what jobs can never run on, from what is told."""
        self.never = {}
        for (job_type, width, model), speed in self.told.items():
            if not speed and model:
                self.never.setdefault((job_type, width), set()).add(model)

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

    def widths(self) -> dict[str, list[int]]:
        """Return the widths of which something is known, by job type, rising."""
        found: dict[str, set[int]] = {}
        for kind, width, _ in (*self.told, *self.measured):
            found.setdefault(kind, set()).add(width)
        return {kind: sorted(each) for kind, each in found.items()}

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

    def add(self, key: Key, steps: int, ms: Ms, *, first: bool) -> None:
        """So many steps were made in so much time; `first`: by an attempt not measured before."""
        now = steps * NANO // ms
        old = self.measured.get(key, Measured(low=now, high=now))
        if old.ms > WINDOW_MS:
            mean = old.rate
            old = replace(old, steps=old.steps // 2, ms=old.ms // 2, low=mean, high=mean)
        new = Measured(
            steps=old.steps + steps,
            ms=old.ms + ms,
            used=old.used,
            runs=old.runs + first,
            low=min(old.low, now),
            high=max(old.high, now),
        )
        if _differs(new.rate, old.used):
            new = replace(new, used=new.rate)
            self.version += key not in self.told
        self.measured[key] = new


def _differs(new: int, old: int) -> bool:
    return abs(new - old) * TOLERATED > old


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
    if job is None or job.attempt != event.attempt or job.phase not in MOVING:
        return
    at_ms = core.now if event.at_ms is None else min(event.at_ms, core.now)
    before = job.progress
    if before is None or before.attempt != job.attempt:
        # It may be less than before: it goes on from what was saved.
        total_ms = None if before is None else before.total_ms
        first = Progress(event.steps, at_ms, job.attempt, event.steps, at_ms, total_ms)
        job.progress = first
    elif at_ms <= before.at_ms or event.steps < before.steps:
        return  # repeated, or backwards
    elif job.team is not None and (job.team.resized_ms or 0) > before.at_ms:
        # It was another job meanwhile.
        job.progress = before._replace(
            steps=event.steps, at_ms=at_ms, from_steps=event.steps, from_ms=at_ms
        )
    else:
        job.progress = before._replace(steps=event.steps, at_ms=at_ms)
        _measure(core, job, before, job.progress)
    core.note(job)


def _measure(core: Core, job: Job, before: Progress, now: Progress) -> None:
    if job.phase is not Phase.RUNNING:
        return  # while it stops it saves its work, and does something else
    if job.spec.kind and not mixed(core, job.slots):
        key = key_of(job.spec, model_of(core, job.slots), len(job.slots))
        first = before.at_ms == before.from_ms
        core.speeds.add(key, now.steps - before.steps, now.at_ms - before.at_ms, first=first)
    total_ms = _total_ms(job, now)
    if total_ms is not None and (now.total_ms is None or _differs(total_ms, now.total_ms)):
        job.progress = now._replace(total_ms=total_ms)
        future.believe(core, job, core.now if job.started_ms is None else job.started_ms)
        core.wakeups += 1


def _total_ms(job: Job, now: Progress) -> Ms | None:
    """Return how long all attempts take together if this one goes on as it did until now."""
    made = now.steps - now.from_steps
    if not job.spec.steps or made <= 0 or job.started_ms is None:
        return None
    left = max(job.spec.steps - now.steps, 0)
    ran = max(now.at_ms - job.started_ms, 0)
    return job.served_ms + ran + left * (now.at_ms - now.from_ms) // made


def shape_of(core: Core, spec: JobSpec) -> Shape:
    """Return what a job asks for, less the device models that it is told not to run on."""
    never = core.speeds.never and core.speeds.never.get(key_of(spec, "")[:2])
    shape = spec.shape
    if not never or shape.kinds or not (shape.gpus or shape.gpu_milli):
        return shape
    asked = shape.gpu_models or {d.model for node in core.nodes for d in node.spec.devices}
    return replace(shape, gpu_models=tuple(sorted(set(asked) - never)) or NOWHERE)


def reshape(core: Core) -> None:
    """Ask anew on which models jobs run: what is told of them, or what there is, has changed."""
    for job in core.jobs.values():
        shape_id = core.intern(shape_of(core, job.spec))
        if shape_id == job.shape_id:
            continue
        waits = job.phase is Phase.PENDING
        if waits:
            core.shares.wait(job, -1)
        job.shape_id = shape_id
        if waits:
            core.shares.wait(job, 1)
            future.line_up(core, job)
    core.wakeups += 1


def speed_set(core: Core, event: SpeedSet) -> None:
    """Somebody tells a speed."""
    speed: Speed = event.speed
    key = (speed.job_type, speed.width_milli, speed.model)
    core.speeds.told[key] = speed.micro_per_s
    _told(core)


def speed_deleted(core: Core, event: SpeedDeleted) -> None:
    """A speed is forgotten."""
    key = (event.job_type, event.width_milli, event.model)
    core.speeds.told.pop(key, None)
    core.speeds.measured.pop(key, None)
    _told(core)


def _told(core: Core) -> None:
    before = core.speeds.never
    core.speeds.renew()
    core.speeds.version += 1
    core.wakeups += 1
    if core.speeds.never != before:
        reshape(core)
