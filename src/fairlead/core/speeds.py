"""How fast jobs are on which kind of device: told, or measured from what they report.

A speed belongs to a job type, a width, and a device model, and is of the whole job, in steps per
million seconds. What is measured is the mean over the last hours: older steps fade.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec.structs import replace

from fairlead.core import future, together
from fairlead.core.jobs import Job, Progress
from fairlead.core.together import Side
from fairlead.model.base import Ms, Record
from fairlead.model.events import Parted, Progressed, SpeedDeleted, SpeedSet
from fairlead.model.jobs import Forecast, JobSpec, Phase, Speed
from fairlead.model.resources import Shape, Slot, width_milli

if TYPE_CHECKING:
    from fairlead.core.engine import Core

Key: TypeAlias = tuple[str, int, str]  # job type, width, device model
Pair: TypeAlias = tuple[str, Side, Side]  # device model, and both sides in order
WINDOW_MS: Ms = 4 * 3_600_000  # measured for so long, the older half fades
NANO = 1_000_000_000  # (steps per ms) in steps per million seconds
TOLERATED = 50  # a measured speed is another one once it has changed by one part in so many
MEASURED_MAX = 10_000  # types, widths and models of which something is known
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
        self.together: dict[tuple[Key, Side], Measured] = {}  # of the first beside the second
        self.parted: set[Pair] = set()  # who does not go well together
        self.version = 0  # how often something changed that plans may go by
        self.never: dict[tuple[str, int], set[str]] = {}  # models told to be impossible
        self._points: tuple[int, dict[str, int]] = (-1, {})

    def copy(self) -> Speeds:
        """Return an independent copy."""
        other = Speeds()
        other.told, other.measured = dict(self.told), dict(self.measured)
        other.together, other.parted = dict(self.together), set(self.parted)
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
        old = self.measured.pop(key, Measured())
        new = self.measured[key] = _added(old, steps, ms, first)
        self.version += new.used != old.used and key not in self.told
        _bound(self.measured)

    def add_together(self, key: Key, other: Side, steps: int, ms: Ms, *, first: bool) -> None:
        """The same, of a job that shares its GPU with one of another kind all the time."""
        old = self.together.pop((key, other), Measured())
        self.together[key, other] = _added(old, steps, ms, first)
        _bound(self.together)

    def forget(self, key: Key) -> None:
        """Nothing is known of it any more, alone and beside others."""
        self.told.pop(key, None)
        self.measured.pop(key, None)
        side, model = key[:2], key[2]
        for pair in [each for each in self.together if each[0] == key or _is(each, side, model)]:
            del self.together[pair]
        self.parted = {each for each in self.parted if each[0] != model or side not in each[1:]}


def _bound(table: dict[Any, Measured]) -> None:
    """Forget what was measured longest ago: whoever names every job anew does not fill the core."""
    if len(table) > MEASURED_MAX:
        del table[next(iter(table))]


def _is(pair: tuple[Key, Side], side: Side, model: str) -> bool:
    return pair[1] == side and pair[0][2] == model


def pair_of(model: str, one: Side, other: Side) -> Pair:
    """Return the two, whichever is named first."""
    return (model, *sorted((one, other)))  # type: ignore[return-value]


def _added(old: Measured, steps: int, ms: Ms, first: bool) -> Measured:
    now = steps * NANO // ms
    if not old.ms:
        old = replace(old, low=now, high=now)
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
    return replace(new, used=new.rate) if _differs(new.rate, old.used) else new


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
    elif before.disturbed or (job.team is not None and (job.team.resized_ms or 0) > before.at_ms):
        # It was another job meanwhile, or in other company.
        total_ms = before.total_ms
        job.progress = Progress(event.steps, at_ms, job.attempt, event.steps, at_ms, total_ms)
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
        steps, ms = now.steps - before.steps, now.at_ms - before.at_ms
        others = together.beside(core, job)
        if not others:
            core.speeds.add(key, steps, ms, first=first)
        elif len(others) == 1 and others[0].phase is Phase.RUNNING and together.may_share(job):
            core.speeds.add_together(key, together.side_of(others[0]), steps, ms, first=first)
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
    return _less(core, spec.shape, never) if never else spec.shape


def _less(core: Core, shape: Shape, never: Collection[str]) -> Shape:
    if shape.kinds:
        return shape.with_kinds([_less(core, kind, never) for kind in shape.kinds])
    if not (shape.gpus or shape.gpu_milli):
        return shape
    asked = shape.gpu_models or {d.model for node in core.nodes for d in node.spec.devices}
    return replace(shape, gpu_models=tuple(sorted(set(asked).difference(never))) or NOWHERE)


def by_speed(core: Core, spec: JobSpec) -> Forecast | None:
    """Return how long a job takes by its steps and the speed of its type, None if not known.

    Where it may get one of several models, on the slowest of those whose speed is known: what
    plans for the others would have to be given up where it gets that one.
    """
    shape = shape_of(core, spec)
    wants = bool(shape.gpus or shape.gpu_milli)
    there = {d.model for node in core.nodes for d in node.spec.devices} if wants else {""}
    models = there & set(shape.gpu_models) if shape.gpu_models else there
    known = [speed for model in models if (speed := core.speeds.of(spec, model))]
    if not spec.steps or not known:
        return None
    run_ms = max(spec.steps * NANO // min(known), 1)
    limit_ms = run_ms if spec.limit_ms is None else spec.limit_ms
    return Forecast(expected_ms=min(run_ms, limit_ms), model="steps and speed")


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
    core.speeds.forget((event.job_type, event.width_milli, event.model))
    _told(core)


def parted(core: Core, event: Parted) -> None:
    """Two types do not go well together."""
    job, other = core.jobs[event.job], core.jobs[event.other]
    pair = pair_of(event.model, together.side_of(job), together.side_of(other))
    core.speeds.parted.add(pair)
    core.wakeups += 1


def _told(core: Core) -> None:
    before = core.speeds.never
    core.speeds.renew()
    core.speeds.version += 1
    core.wakeups += 1
    if core.speeds.never != before:
        reshape(core)
