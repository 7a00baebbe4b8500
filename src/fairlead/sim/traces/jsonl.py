"""Our own format: JSON lines, a header object and then one object per job.

docs/reference/traces/jsonl.md lists the keys. Times are seconds (fractions to the millisecond),
cores may be fractions, memory is MiB. A job names what it needs either as `processors` (whatever
the cluster is made of) or as `cpus`, `memory_mib`, `gpus` … per member.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from fairlead.model import limits
from fairlead.model.base import Misuse, Record
from fairlead.model.jobs import Resource
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape, gang_of
from fairlead.model.topology import Closeness, parse_topology
from fairlead.sim.steps import Step, most_acquired
from fairlead.sim.traces.lines import PROCESSORS_MAX, TIME_MS_MAX, Lines, damaged, shown
from fairlead.sim.workload import Rates, Trace, TraceJob, in_order

T = TypeVar("T")

SPEED_ONE = 1000
RATE_MAX = 1_000_000  # steps per second
MICRO = 1_000_000
FORMAT = "fairlead-trace"
VERSION = 1

Seconds = Annotated[float, Meta(ge=0, le=TIME_MS_MAX // 1000)]
Amount = Annotated[int, Meta(ge=0, le=limits.AMOUNT_MAX)]
Count = Annotated[int, Meta(ge=1, le=limits.AMOUNT_MAX)]
Speedup = Annotated[float, Meta(gt=0, le=limits.MEMBERS_MAX)]
Rate = Annotated[float, Meta(ge=0, le=RATE_MAX)]
Members = Annotated[int, Meta(ge=1, le=limits.MEMBERS_MAX)]
Text = Annotated[str, Meta(max_length=limits.NAME_CHARS_MAX)]
Word = Annotated[str, Meta(min_length=1, max_length=limits.NAME_CHARS_MAX)]


class Named(Record, frozen=True):
    """A named resource in the header."""

    amount: Count = 1
    kind: Literal["licence", "volume", "lock"] = "licence"


class Header(Record, frozen=True):
    """The first line of a trace. `cluster` is the specification to use where none is asked for.

    `resources` are the named ones: how many there are of each, or what else is known of it.
    """

    format: str
    version: int = VERSION
    cluster: str = ""
    note: str = ""
    resources: dict[Word, Count | Named] = {}


class Asked(Record, frozen=True):
    """What one member asks for."""

    cpus: Annotated[float, Meta(ge=0, le=limits.AMOUNT_MAX // 1000)] | None = None
    memory_mib: Amount = 0
    disk_mib: Amount = 0
    gpus: Annotated[int, Meta(ge=0, le=limits.DEVICES_PER_NODE_MAX)] = 0
    gpu_milli: Annotated[int, Meta(ge=0, le=WHOLE_GPU_MILLI)] = 0
    gpu_parts: tuple[Annotated[int, Meta(ge=1, le=WHOLE_GPU_MILLI)], ...] = ()
    gpu_memory_mib: Amount = 0
    gpu_type: Word | tuple[Word, ...] = ()


class Workers(Asked, frozen=True):
    """Some of the members of a gang with different workers."""

    count: Members = 1


class Line(Asked, frozen=True, kw_only=True):
    """One job of a trace."""

    id: int | Word
    submit_s: Seconds
    run_s: Seconds
    processors: Annotated[int, Meta(ge=1, le=PROCESSORS_MAX)] | None = None
    members: Members = 1
    workers: tuple[Workers, ...] = ()
    topology: Word | dict[Word, Word] = ""
    members_max: Annotated[int, Meta(ge=0, le=limits.MEMBERS_MAX)] = 0
    speedups: tuple[Speedup, ...] = ()
    name: Text = ""
    user: Text = ""
    tenant: Word = "default"
    queue: Word = "default"
    priority: Annotated[int, Meta(ge=limits.PRIORITY_MIN, le=limits.PRIORITY_MAX)] = 50
    limit_s: Annotated[float, Meta(gt=0, le=limits.LIMIT_MS_MAX // 1000)] | None = None
    licenses: dict[Word, Count] = {}
    may_acquire: dict[Word, Count] | None = None
    steps: tuple[tuple[Seconds, Literal["acquire", "release"], Word, Count], ...] = ()
    job_type: Text = ""
    total_steps: Count | None = None
    rates: dict[Word, Rate | tuple[Rate, ...]] = {}
    beside: dict[Word, Annotated[float, Meta(gt=0, le=1)]] = {}


# What a job of equal members says of them.
_OF_MEMBER = (
    *("cpus", "gpus", "gpu_milli", "gpu_parts", "gpu_memory_mib", "gpu_type"),
    *("memory_mib", "disk_mib"),
)
_KEYS = tuple(
    dict.fromkeys(
        (
            *("id", "submit_s", "run_s", "processors"),
            *(*Line.__struct_fields__, *Workers.__struct_fields__),
        )
    )
)
_HEADERS = msgspec.json.Decoder(Header)
_LINES = msgspec.json.Decoder(Line)
_PATH = re.compile(r"(?P<text>.*) - at `\$\.(?P<field>[a-z_]+).*`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`")


def parse(path: str, lines: Lines) -> Trace:
    """Return the trace; a Misuse names the line and key that are wrong."""
    header = _decode(_HEADERS, path, *lines[0], tuple(Header.__struct_fields__))
    if header.format != FORMAT or header.version != VERSION:
        raise damaged(
            path,
            lines[0][0],
            f'found format "{header.format}" version {header.version}, '
            f'expected "{FORMAT}" version {VERSION}',
            field="format",
        )
    jobs: list[TraceJob] = []
    seen: dict[int | str, int] = {}
    for number, text in lines[1:]:
        line = _decode(_LINES, path, number, text, _KEYS)
        if seen.setdefault(line.id, number) != number:
            raise damaged(
                path, number, f"the id {line.id} is that of line {seen[line.id]} too", field="id"
            )
        try:
            jobs.append(_job(line))
        except Misuse as wrong:
            raise damaged(path, number, wrong.message, field=wrong.field, hint=wrong.hint) from None
    return Trace(
        path=path,
        format="jsonl",
        jobs=in_order(path, jobs),
        cluster=header.cluster,
        notes={"note": header.note} if header.note else {},
        resources=tuple(_resource(name, each) for name, each in sorted(header.resources.items())),
    )


def _job(line: Line) -> TraceJob:
    steps = _steps(line)
    rates = _rates(line)
    fastest = max((each[0] for _, each in rates), default=0)
    total = line.total_steps or max(1, round(line.run_s * fastest / MICRO)) if rates else 0
    return TraceJob(
        id=line.id,
        submit_ms=round(1000 * line.submit_s),
        run_ms=-(-total * 10**9 // fastest) if rates else round(1000 * line.run_s),
        job_type=line.job_type,
        total_steps=total,
        rates=rates,
        beside=_beside(line),
        processors=line.processors or 0,
        shape=_shape(line),
        members_max=_members_max(line),
        speedups=tuple(round(SPEED_ONE * each) for each in line.speedups),
        name=line.name,
        user=line.user,
        tenant=line.tenant,
        queue=line.queue,
        priority=line.priority,
        limit_ms=None if line.limit_s is None else max(1, round(1000 * line.limit_s)),
        counted=tuple(sorted(line.licenses.items())),
        may_acquire=_most(line, steps),
        steps=steps,
    )


def _rates(line: Line) -> Rates:
    """Return the speeds by model, in steps per million seconds; check them."""
    if not line.rates:
        if line.total_steps is not None:
            raise Misuse("found total_steps without rates, expected both", field="total_steps")
        return ()
    if line.steps or line.speedups:
        other = "steps" if line.steps else "speedups"
        raise Misuse(f"found rates and {other}, expected one of them", field=other)
    count = max(line.members_max - line.members, 0) + 1
    found: list[tuple[str, tuple[int, ...]]] = []
    for model, said in sorted(line.rates.items()):
        each = said if isinstance(said, tuple) else (said,)
        if len(each) != count:
            raise Misuse(
                f"rates of {model}: found {len(each)}, expected {count}: one for each number of "
                f"members from {line.members}",
                field="rates",
            )
        found.append((model, tuple(round(MICRO * rate) for rate in each)))
    if not any(rates[0] for _, rates in found):
        raise Misuse("rates: found 0 alone, expected a model on which it runs", field="rates")
    return tuple(found)


def _beside(line: Line) -> tuple[tuple[str, int], ...]:
    """Return the speeds beside others, in thousandths of that alone."""
    if line.beside and not (line.rates and line.gpu_milli):
        lacks = "gpu_milli" if line.rates else "rates"
        raise Misuse(f"found beside without {lacks}, expected both", field="beside")
    return tuple((kind, max(round(1000 * part), 1)) for kind, part in sorted(line.beside.items()))


def _resource(name: str, found: int | Named) -> Resource:
    named = Named(amount=found) if isinstance(found, int) else found
    return Resource(name=name, kind=named.kind, amount=named.amount)


def _steps(line: Line) -> tuple[Step, ...]:
    steps = tuple(
        Step(at_ms=round(1000 * at), verb=verb, name=name, amount=amount)
        for at, verb, name, amount in line.steps
    )
    if steps and steps[-1].at_ms > round(1000 * line.run_s):
        raise Misuse(f"a step after {line.steps[-1][0]:g} s, when the job has ended", field="steps")
    return steps


def _most(line: Line, steps: tuple[Step, ...]) -> tuple[tuple[str, int], ...]:
    """Return the most that a job may acquire: what the trace says, else what its steps come to."""
    needed = most_acquired(steps)
    said = needed if line.may_acquire is None else line.may_acquire
    for name, amount in needed.items():
        if amount > said.get(name, 0):
            raise Misuse(
                f"the steps come to {amount} {name}, may_acquire says {said.get(name, 0)}",
                field="may_acquire",
                hint="leave may_acquire out: it is what the steps come to",
            )
    return tuple(sorted(said.items()))


def _members_max(line: Line) -> int:
    """Return the most members of an elastic job, 0 of one that is not; check its speedups."""
    if not line.members_max:
        if line.speedups:
            raise Misuse(
                "found speedups without members_max, expected both",
                field="speedups",
                hint="the speed of a job whose members never change is in its run_s",
            )
        return 0
    if line.steps:
        raise Misuse("found steps and members_max, expected one of them", field="members_max")
    if line.processors:
        raise Misuse("found processors and members_max, expected one of them", field="members_max")
    if line.members_max <= line.members:
        raise Misuse(
            f"members_max: found {line.members_max}, expected more than members, {line.members}",
            field="members_max",
        )
    count = line.members_max - line.members + 1
    if line.speedups and len(line.speedups) != count:
        raise Misuse(
            f"speedups: found {len(line.speedups)}, expected {count}: for {line.members}, "
            f"{line.members + 1}, … {line.members_max} members",
            field="speedups",
        )
    rising = all(a <= b for a, b in pairwise(line.speedups))
    if line.speedups and (line.speedups[0] != 1 or not rising):
        raise Misuse("speedups: expected to begin with 1 and never to fall", field="speedups")
    return line.members_max


def _shape(line: Line) -> Shape | None:
    asked = [key for key in (*_OF_MEMBER, "topology", "workers") if getattr(line, key)]
    if line.processors:
        if asked or line.members > 1:
            raise Misuse(
                f"found processors and {(asked or ['members'])[0]}, expected one of them",
                field="processors",
                hint="processors are GPUs or cores, whichever the cluster has",
            )
        return None
    if line.workers:
        others = [key for key in _OF_MEMBER if getattr(line, key)]
        others += ["members"] * (line.members > 1) + ["members_max"] * (line.members_max > 0)
        if others:
            raise Misuse(
                f"found workers and {others[0]}, expected one of them",
                field="workers",
                hint="each kind of workers says how many there are, and what each asks for",
            )
    kinds = [_member(each, each.count) for each in line.workers]
    kinds = kinds or [_member(line, line.members)]
    gang = max(sum(kind.members for kind in kinds), line.members_max) > 1
    close = parse_topology(line.topology) if line.topology else Closeness()
    close = close if gang else Closeness()
    return gang_of(kinds, "any", close.required, close.preferred)


def _member(line: Asked, members: int) -> Shape:
    """Return what so many equal members ask for."""
    milli, parts = line.gpu_milli, tuple(sorted(line.gpu_parts, reverse=True))
    if parts and milli:
        raise Misuse("found gpu_milli and gpu_parts, expected one of them", field="gpu_parts")
    milli, parts = milli or sum(parts), parts if len(parts) > 1 else ()
    wants_gpu = bool(line.gpus or milli)
    if (line.gpu_memory_mib or line.gpu_type) and not wants_gpu:
        raise Misuse("found gpu_memory_mib or gpu_type without GPUs", field="gpus", hint="add gpus")
    if not wants_gpu and not line.memory_mib and not line.disk_mib and line.cpus == 0:
        raise Misuse("the job asks for nothing at all", field="cpus", hint="ask for some cpus")
    models = (line.gpu_type,) if isinstance(line.gpu_type, str) else line.gpu_type
    return Shape(
        cpu_milli=1000 if line.cpus is None else round(1000 * line.cpus),
        memory_mib=line.memory_mib,
        disk_mib=line.disk_mib,
        gpus=line.gpus,
        gpu_milli=milli,
        gpu_parts=parts,
        gpu_memory_mib=line.gpu_memory_mib,
        gpu_models=tuple(sorted(set(models))),
        members=members,
    )


def _decode(
    decoder: msgspec.json.Decoder[T], path: str, number: int, text: bytes, keys: tuple[str, ...]
) -> T:
    """Return the record of one line; the error says what was found and what belongs there."""
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = str(error)
    hint = field = ""
    if unknown := _UNKNOWN.search(message):
        field = unknown["key"]
        near = difflib.get_close_matches(field, keys, n=1)
        message = f"unknown key {shown(field)}"
        hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}"
    elif missing := _MISSING.search(message):
        field = missing["key"]
        message = f"found no {field}, expected one in every line: {shown(text)}"
    elif wrong := _PATH.fullmatch(message):
        field = wrong["field"]
        message = f"{field}: {_found(text, field)}{wrong['text'][:1].lower()}{wrong['text'][1:]}"
    else:
        message = f"expected one JSON object, found {shown(text)} ({message})"
    raise damaged(path, number, message, field=field, hint=hint)


def _found(text: bytes, field: str) -> str:
    """Return what stands in a field, if the line is whole: it may be wrong in two places."""
    try:
        return f"found {shown(msgspec.json.encode(msgspec.json.decode(text)[field]))}; "
    except (msgspec.MsgspecError, UnicodeError, LookupError, TypeError):
        return ""


def encode(header: Header, lines: Iterable[Line]) -> Iterator[bytes]:
    """Return the lines of a trace, each with its newline."""
    yield _encoded(header, {"format": header.format, "version": header.version})
    for line in lines:
        yield _encoded(line, {"id": line.id, "submit_s": line.submit_s, "run_s": line.run_s})


def _encoded(record: Record, always: dict[str, object]) -> bytes:
    """Return the record as JSON; seconds that are whole are written without a fraction."""
    body = always | msgspec.to_builtins(record)
    for key, value in body.items():
        if isinstance(value, float) and value.is_integer():
            body[key] = int(value)
    return msgspec.json.encode(body) + b"\n"
