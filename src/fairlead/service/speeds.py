"""How fast job types are on which devices: what is shown of it, and what people tell of it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.speeds import Key, pair_of
from fairlead.core.together import Side
from fairlead.model.base import Misuse, Refused
from fairlead.model.document import Closed, Level, convert
from fairlead.model.events import AnyEvent, SpeedDeleted, SpeedSet
from fairlead.model.jobs import LIVE, Phase, Speed
from fairlead.model.resources import WHOLE_GPU_MILLI
from fairlead.model.units import parse_cpu_milli
from fairlead.policy.together import WHOLE, rates_of, verdict
from fairlead.service import web
from fairlead.service.commands import Batch

if TYPE_CHECKING:
    from fairlead.service.api import Api
    from fairlead.service.shell import Shell

MICRO = 1_000_000
RATE_MAX = 10**9  # steps per second
NO_GPU = "cpu"  # what people write for jobs without GPUs, whose model is ""
_PER = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hr": 3600}
_RATE_HINT = 'write steps per second as 3.2, or "40/min", "900/h"; 0: it does not run there'


class SpeedRequest(Closed, frozen=True):
    """A speed as somebody tells it. `gpus` or `cpus`: how wide the jobs are, by default 1."""

    job_type: str = ""
    on: str = ""
    rate: str | int | float | None = None
    gpus: str | int | float | None = None
    cpus: str | int | float | None = None


SPEED = Level(
    SpeedRequest,
    what="a speed",
    example='write for example {"job_type": "bert", "on": "A100", "rate": 3.2}',
    aliases={"type": "job_type", "model": "on", "gpu_type": "on", "speed": "rate"},
)


def parse_rate_micro(value: object, field: str = "rate") -> int:
    """Return steps per million seconds of 3.2, "3.2", "40/min" or "900/h". Raises Misuse."""
    if value is None or isinstance(value, bool):
        raise Misuse("a rate is a number of steps per second", field=field, hint=_RATE_HINT)
    text, _, unit = str(value).strip().partition("/")
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or (unit.strip() or "s") not in _PER:
        raise Misuse(f"cannot read the rate '{value!s:.40}'", field=field, hint=_RATE_HINT)
    if number < 0:
        raise Misuse(f"a rate is not negative: {value!s:.40}", field=field, hint=_RATE_HINT)
    per_s = number / _PER[unit.strip() or "s"]
    if per_s > RATE_MAX:
        raise Misuse(f"{value!s:.40} is more than {RATE_MAX} steps per second", field=field)
    micro = round(per_s * MICRO)
    if number and not micro:
        raise Misuse(f"{value!s:.40} cannot be told from 0, which means never", field=field)
    return micro


def _key(core: Core, asked: SpeedRequest) -> Key:
    """Return where a told speed belongs; Refused for a device that no node has."""
    if not asked.job_type.strip():
        raise Misuse("which type of jobs?", field="job_type", hint="name one: fairlead speeds")
    if asked.on == NO_GPU:
        if asked.gpus is not None:
            raise Misuse("jobs on cpu have no GPUs", field="gpus", hint="say --cpus N")
        return (asked.job_type, _width(asked.cpus, "cpus"), "")
    if asked.cpus is not None:
        raise Misuse("cpus is the width of jobs without GPUs", field="cpus", hint="say --gpus N")
    models = models_of(core)
    if not asked.on or asked.on not in models:
        known = [each or NO_GPU for each in models]
        near = difflib.get_close_matches(asked.on, known, n=1, cutoff=0.5)
        what = f"no node has a GPU of type '{asked.on}'" if asked.on else "on which device?"
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        raise Refused(what, field="on", hint=hint, code="no-such-device")
    return (asked.job_type, _width(asked.gpus, "gpus"), asked.on)


def _width(value: str | int | float | None, field: str) -> int:
    width = WHOLE_GPU_MILLI if value is None else parse_cpu_milli(value, field)
    if not width:
        raise Misuse("a job is wider than 0", field=field)
    return width


def models_of(core: Core) -> list[str]:
    """Return the device models that nodes have, "" for work without GPUs first."""
    return sorted({"", *(device.model for node in core.nodes for device in node.spec.devices)})


class Tell:
    """Tell how fast a type of jobs is on a device; it holds whatever is measured."""

    def __init__(self, asked: SpeedRequest) -> None:
        self.asked = asked
        self.key: Key = ("", 0, "")

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse a device that there is not, and a rate that is none."""
        micro = parse_rate_micro(self.asked.rate)
        self.key = job_type, width, model = _key(batch.core, self.asked)
        if not micro and not model:
            raise Misuse("jobs without GPUs that do not run on cpu run nowhere", field="rate")
        speed = Speed(job_type=job_type, width_milli=width, model=model, micro_per_s=micro)
        return [SpeedSet(speed=speed)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return what is known there now."""
        return _cell(core, self.key, None)


class Forget:
    """Forget what was told and measured of a type of jobs: on one device, or everywhere."""

    def __init__(self, asked: SpeedRequest) -> None:
        self.asked = asked
        self.forgotten: list[dict[str, Any]] = []

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse it where nothing is known."""
        asked, speeds = self.asked, batch.core.speeds
        keys = sorted({*speeds.told, *speeds.measured})
        model = "" if asked.on == NO_GPU else asked.on
        wide = {
            _width(value, field)
            for value, field in ((asked.gpus, "gpus"), (asked.cpus, "cpus"))
            if value is not None
        }
        chosen = [
            key
            for key in keys
            if key[0] == asked.job_type
            and (not asked.on or key[2] == model)
            and (not wide or key[1] in wide)
        ]
        if not chosen:
            names = sorted({key[0] for key in keys})
            near = difflib.get_close_matches(asked.job_type, names, n=1)
            known = asked.job_type in names
            raise Refused(
                f"no speed of '{asked.job_type}' is known{' there' if known else ''}",
                field="on" if known else "job_type",
                hint=f"did you mean {near[0]}?" if near and not known else "see: fairlead speeds",
                code="no-such-speed",
            )
        self.forgotten = [_cell(batch.core, key, None) for key in chosen]
        return [SpeedDeleted(job_type=key[0], width_milli=key[1], model=key[2]) for key in chosen]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return what it was."""
        return {"forgotten": self.forgotten}


# ---- what is shown ----------------------------------------------------------------------------


def _cell(core: Core, key: Key, guess: int | None) -> dict[str, Any]:
    """Return what is known of a type of jobs on a device. `source` "": it cannot be compared."""
    told, measured = core.speeds.told.get(key), core.speeds.measured.get(key)
    mean = None if measured is None else measured.rate
    found = told if told is not None else mean if mean is not None else guess
    source = "told" if told is not None else "measured" if mean is not None else "filled"
    return {
        "job_type": key[0],
        "width_milli": key[1],
        "on": key[2] or NO_GPU,
        "per_s": _per_s(found),
        "source": "" if found is None else source,
        "measured_per_s": _per_s(mean),
        "low_per_s": _per_s(None if measured is None else measured.low),
        "high_per_s": _per_s(None if measured is None else measured.high),
        "runs": 0 if measured is None else measured.runs,
        "words": _words(found, source, key),
    }


def _words(found: int | None, source: str, key: Key) -> str:
    if found is None:
        return "not comparable: no measurements connect this type with this device"
    if not found:
        return "does not run there" + (", somebody told" if source == "told" else "")
    if source == "filled":
        return "from what other types gain, not measured"
    return ""


def _per_s(micro: int | None) -> float | None:
    return None if micro is None else micro / MICRO


def table(core: Core) -> tuple[list[dict[str, Any]], float | None]:
    """Return a cell per type of jobs and device, and the spread around the model of the filled."""
    from fairlead.solve.speeds import filled

    speeds = core.speeds
    known: dict[tuple[str, int], dict[str, int]] = {}
    for key in sorted({*speeds.told, *speeds.measured}):
        speed = speeds.get(key)
        if speed is not None:
            known.setdefault(key[:2], {})[key[2]] = speed
    on_gpus = {row: at for row, at in known.items() if any(at)}
    models = sorted({*models_of(core), *(model for at in on_gpus.values() for model in at)} - {""})
    more, spread = filled(on_gpus, models)
    cells = []
    for row, at in known.items():
        there: Iterable[str] = models if row in on_gpus else ()
        shown = [*(("",) if "" in at else ()), *there]
        cells += [_cell(core, (*row, model), more.get((row, model))) for model in shown]
    return cells, spread


def progress(shell: Shell, job: Job) -> dict[str, Any] | None:
    """Return how far a job is and how fast, by its own words; None: it has said nothing.

    `left_ms`: at the mean speed of this attempt. `ignored`: lines of its reports that made no
    sense or went backwards, `odd` the first of them.
    """
    known = job.progress
    said = shell.said(job) if job.phase in LIVE else None
    if known is None and said is None:
        return None
    steps = max(-1 if said is None else said.steps, -1 if known is None else known.steps)
    if said is not None and said.steps >= 0 and known is not None and known.attempt < job.attempt:
        steps = said.steps  # of an attempt that goes on from less than an earlier one had
    made, took = (known.steps - known.from_steps, known.at_ms - known.from_ms) if known else (0, 0)
    total = job.spec.steps
    left_ms = None
    if known is not None and total and made:
        left_ms = max(total - known.steps, 0) * took // made
        if job.phase is Phase.RUNNING:
            left_ms = max(left_ms - max(shell.now - known.at_ms, 0), 0)
    return {
        "steps": steps if steps >= 0 else None,
        "of": total or None,
        "samples": said.samples if said is not None and said.samples >= 0 else None,
        "at_ms": said.at_ms if said is not None else known.at_ms if known is not None else None,
        "per_s": made * 1000 / took if made and took else None,
        "left_ms": left_ms,
        "ignored": 0 if said is None else said.malformed + said.backwards,
        "odd": "" if said is None else said.odd,
    }


def pairs(core: Core) -> list[dict[str, Any]]:
    """Return what is known of types that share a GPU: their speeds there, and what follows."""
    speeds = core.speeds
    found = {pair_of(key[2], key[:2], side) for key, side in speeds.together} | speeds.parted
    return [_pair(core, *each) for each in sorted(found)]


def _pair(core: Core, model: str, one: Side, other: Side) -> dict[str, Any]:
    rates = rates_of(core, model, one, other)
    way, words, _ = verdict(core, core.policy, model, one, other)
    return {
        "on": model,
        "types": [one[0], other[0]],
        "widths_milli": [one[1], other[1]],
        "of_alone": None if rates is None else [rate / WHOLE for rate in rates],
        "shares": core.policy.share == "any" or way == "good",
        "parted": pair_of(model, one, other) in core.speeds.parted,
        "words": words,
    }


# ---- endpoints --------------------------------------------------------------------------------


async def list_speeds(api: Api, request: Request) -> Response:
    """List how fast types of jobs are on which device: told, measured, or filled in between."""
    web.Query(request, ())
    cells, spread = table(api.shell.core)
    core = api.shell.core
    body = {"speeds": cells, "spread": spread, "pairs": pairs(core), "share": core.policy.share}
    return web.respond({**body, "now_ms": api.shell.now})


async def set_speed(api: Api, request: Request) -> Response:
    """Tell how fast a type of jobs is on a device; 0: it does not run there."""
    asked = convert(await web.body_of(request), SPEED)
    return web.respond(await api.shell.ask(Tell(asked)))


async def forget_speeds(api: Api, request: Request) -> Response:
    """Forget what was told and measured of a type of jobs. Answers with what it was."""
    asked = convert(await web.body_of(request), SPEED)
    return web.respond(await api.shell.ask(Forget(asked)))


ROUTES = (
    ("GET", "/api/v1/speeds", list_speeds),
    ("POST", "/api/v1/speeds", set_speed),
    ("POST", "/api/v1/speeds:forget", forget_speeds),
)
