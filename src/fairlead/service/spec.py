"""Job requests as users write them (JSON, YAML, TOML), turned into validated `JobSpec`s.

request.py knows the keys and their types; here is what each value may be. Nothing is looked up
outside: whether a queue exists or a request can ever fit is for `core.admission`.
"""

from __future__ import annotations

import difflib
import posixpath
import re
import signal
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from msgspec.structs import replace

from fairlead.core.capacity import effective
from fairlead.model import limits
from fairlead.model.base import JobId, Misuse, Ms
from fairlead.model.document import Amount, convert
from fairlead.model.jobs import JobSpec, Queue, Workers
from fairlead.model.resources import Shape, gang_of
from fairlead.model.topology import Closeness
from fairlead.model.units import (
    format_duration,
    parse_duration_ms,
    parse_size_bytes,
)
from fairlead.service.moments import parse_moment_ms
from fairlead.service.request import (
    BODY,
    JOB,
    JobRequest,
    ResourcesRequest,
    RetryRequest,
    WorkersRequest,
)
from fairlead.service.shapes import LINE_CHARS_MAX, closeness, members_of, printable, shape_of

PRIORITIES = {"low": 10, "normal": 50, "high": 90}
ARRAY_INDEX_MAX = 1_000_000_000
LABELS_MAX = 100
PATH_CHARS_MAX = 4096
_PRIORITY_RANGE = f"{limits.PRIORITY_MIN} to {limits.PRIORITY_MAX}"


class Defaults(NamedTuple):
    """What a job gets for the keys that it does not name. `queues` is `core.queues`."""

    user: str
    workdir: str = "/"
    env: Mapping[str, str] = {}
    tenant: str = "default"
    queue: str = "default"
    queues: Mapping[str, Queue] = {}
    now_ms: Ms | None = None  # what "now" means in a deadline; None: the wall clock


class Submission(NamedTuple):
    """The jobs of one call, arrays expanded, and its idempotency key ("" for none)."""

    jobs: list[JobSpec]
    request: str


def parse_body(body: object, defaults: Defaults, first_id: JobId = 1) -> Submission:
    """Return the jobs of a POST body: one request, or {"jobs": […], "request", "env", "workdir"}.

    `first_id` is the id that the first of these jobs will get; arrays refer to it. Raises Misuse.
    """
    if not isinstance(body, Mapping) or "jobs" not in body:
        return Submission(parse_jobs([body], defaults, first_id=first_id), "")
    whole = convert(body, BODY)
    printable(whole.request, "request")
    defaults = defaults._replace(
        env=_env(whole.env, defaults.env), workdir=_workdir(whole.workdir, defaults.workdir)
    )
    return Submission(parse_jobs(whole.jobs, defaults, first_id=first_id), whole.request)


def parse_jobs(
    requests: Sequence[object], defaults: Defaults, *, first_id: JobId = 1
) -> list[JobSpec]:
    """Return the specs of these requests in order, arrays expanded; raises Misuse.

    With several requests the field of an error begins with its position: "jobs[3].name".
    """
    if not requests:
        raise Misuse("there is no job in this submission", field="jobs")
    specs: list[JobSpec] = []
    for position, request in enumerate(requests):
        try:
            spec, indices = _parse(request, defaults)
            _check_count(len(specs) + max(len(indices), 1))
        except Misuse as wrong:
            if len(requests) > 1:
                wrong.field = f"jobs[{position}].{wrong.field}".rstrip(".")
            raise
        if not indices:
            specs.append(spec)
            continue
        first = first_id + len(specs)
        specs += [
            replace(spec, array=first, array_index=index, array_count=len(indices))
            for index in indices
        ]
    return specs


def parse_job(request: object, defaults: Defaults) -> JobSpec:
    """Return the spec of one request that is not an array; raises Misuse."""
    specs = parse_jobs([request], defaults)
    if specs[0].array is not None:
        raise Misuse("this is an array, not one job", field="array")
    return specs[0]


def _check_count(jobs: int) -> None:
    if jobs > limits.SUBMIT_BATCH_MAX:
        raise Misuse(
            f"more than {limits.SUBMIT_BATCH_MAX} jobs in one call",
            hint="submit them in several calls",
            code="too-many",
        )


def _parse(raw: object, defaults: Defaults) -> tuple[JobSpec, Sequence[int]]:
    """Return one spec and the indices of its array (none: it is a single job)."""
    request = convert(raw, JOB)
    shape, workers = _gang(request)
    run = request.run if request.run is not None else _first_run(request)
    queue = effective(defaults.queues, request.queue or defaults.queue)
    most = max(members_of(request.members, "members")[1], members_of(request.nodes, "nodes")[1])
    spec = JobSpec(
        shape=shape,
        workers=workers,
        name=printable(request.name, "name") if request.name else _name_of(run),
        user=defaults.user,
        tenant=printable(request.tenant, "tenant") or defaults.tenant,
        queue=printable(request.queue, "queue") or defaults.queue,
        priority=_priority(request.priority, queue.priority if queue else PRIORITIES["normal"]),
        command=_command(run),
        workdir=_workdir(request.workdir, defaults.workdir),
        env=_env(request.env or {}, defaults.env),
        limit_ms=_limit(request.time_limit, queue),
        expected_ms=_positive(request.expected, "expected"),
        stop_signal=_signal(request.preempt.signal, "preempt.signal"),
        grace_ms=_grace(request.preempt.grace),
        retries=_retries(request.retry),
        output_bytes=_output_bytes(request.output_limit),
        labels=_labels(request.labels) if request.labels else (),
        deadline_ms=_deadline(request.deadline, defaults.now_ms),
        preemptible=request.preemptible,
        restart_ms=_restart(request.preempt.restart_cost),
        checkpoint_path=_path(request.checkpoint.path, "checkpoint.path"),
        checkpoint_every_ms=_positive(request.checkpoint.every, "checkpoint.every"),
        members_max=most,
        resize_signal=_resize_signal(request.resize_signal, most),
        counted=_named(request.licenses, "licenses") if request.licenses else (),
        may_acquire=_named(request.may_acquire, "may_acquire") if request.may_acquire else (),
        job_type=printable(request.job_type.strip(), "job_type"),
        steps=request.steps or 0,
    )
    array = request.array
    return spec, parse_array(array if isinstance(array, str) else array.index) if array else ()


# One function per key.


def _gang(request: JobRequest) -> tuple[Shape, tuple[Workers, ...]]:
    """Return the shape of all members, and who they are where they differ."""
    if request.workers:
        return _different(request)
    members, members_max = members_of(request.members, "members")
    nodes, nodes_max = members_of(request.nodes, "nodes")
    most = members_max or nodes_max
    asked = (request.resources, members, nodes, request.spread, most, request.topology)
    return shape_of(*asked), ()


def _first_run(request: JobRequest) -> str | tuple[str, ...]:
    """Return what stands for the command of a job whose workers all have their own."""
    runs = [each.run for each in request.workers if each.run is not None]
    if not runs or len(runs) < len(request.workers):
        raise Misuse("run is missing", field="run", hint="say what to run")
    return runs[0]


def _different(request: JobRequest) -> tuple[Shape, tuple[Workers, ...]]:
    """Return the shape of a gang with different workers, and who they are, rank by rank."""
    for key in ("members", "nodes"):
        if getattr(request, key) is not None:
            raise Misuse(
                f"{key} beside workers: these say how many there are",
                field=key,
                hint="give each kind of workers a count; a job that can grow has equal members",
            )
    kinds: list[Shape] = []
    workers: list[Workers] = []
    for at, each in enumerate(request.workers):
        try:
            kind, worker = _workers(each, request.resources)
            if worker.name in {other.name for other in workers}:
                raise Misuse(f"two kinds of workers have the name {worker.name}", field="name")
        except Misuse as wrong:
            wrong.field = f"workers[{at}].{wrong.field}"
            raise
        kinds.append(kind)
        workers.append(worker)
    members = sum(kind.members for kind in kinds)
    if members > limits.MEMBERS_MAX:
        raise Misuse(f"{members} workers, at most {limits.MEMBERS_MAX}", field="workers")
    close = closeness(request.topology, request.spread) if members > 1 else Closeness()
    shape = gang_of(kinds, request.spread or "any", close.required, close.preferred)
    return shape, tuple(workers)


def _workers(asked: WorkersRequest, resources: ResourcesRequest) -> tuple[Shape, Workers]:
    """Return one kind of workers; `resources` are the job's, for one that names none."""
    if not asked.name:
        raise Misuse("the name is empty", field="name", hint="name: worker")
    if not 1 <= asked.count <= limits.MEMBERS_MAX:
        raise Misuse(f"count must be 1 to {limits.MEMBERS_MAX}, not {asked.count}", field="count")
    name = printable(asked.name, "name")
    shape = shape_of(asked.resources or resources, asked.count, None, None, 0, "")
    command = () if asked.run is None else _command(asked.run)
    return shape, Workers(name=name, members=asked.count, command=command)


def _name_of(run: str | tuple[str, ...]) -> str:
    """Return the default name: the program without its folder."""
    words = run.split(None, 1) if isinstance(run, str) else run
    name = words[0].rsplit("/", 1)[-1] if words else ""
    return "".join(filter(str.isprintable, name))[: limits.NAME_CHARS_MAX] or "job"


def _command(run: str | tuple[str, ...]) -> tuple[str, ...]:
    command = ("/bin/sh", "-c", run) if isinstance(run, str) else run
    if not command or not command[2 if isinstance(run, str) else 0].strip():
        raise Misuse("run is empty", field="run", hint="say what to run")
    text = "\0".join(command)
    if text.count("\0") != len(command) - 1:
        raise Misuse("run has a NUL character, which no program can be given", field="run")
    _check_bytes(text, limits.COMMAND_BYTES_MAX, "run", "put it into a script file")
    return command


def _check_bytes(text: str, most: int, field: str, hint: str) -> None:
    if len(text) < most and text.isascii():
        return  # the usual case, without encoding anything
    try:
        size = len(text.encode()) + 1
    except UnicodeEncodeError:
        raise Misuse(f"{field} has characters that are not Unicode", field=field) from None
    if size > most:
        raise Misuse(f"{field} has {size} bytes, allowed are {most}", field=field, hint=hint)


def _env(own: Mapping[str, str | int | float], base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with a job's own variables over it; the same dict where it has none."""
    if not own and isinstance(base, dict):
        return base
    env = {**base, **{name: str(value) for name, value in own.items()}}
    for name in own:
        if not name or "=" in name:
            raise Misuse(
                f"'{name}' cannot be the name of a variable",
                field="env",
                hint="write env: {NAME: value}",
            )
    text = "\0".join([*env, *env.values()])
    if text.count("\0") >= 2 * len(env):
        raise Misuse("a variable has a NUL character, which no program can be given", field="env")
    _check_bytes(text, limits.ENV_BYTES_MAX, "env", "put large values into a file")
    return env


def _path(path: str, field: str) -> str:
    if "\0" in path or len(path) > PATH_CHARS_MAX:
        raise Misuse("this is not the name of a file or folder", field=field)
    return path


def _restart(asked: Amount | None) -> Ms | None:
    return None if asked is None else parse_duration_ms(asked, "preempt.restart_cost")


def _workdir(path: str, base: str) -> str:
    if not path:
        return base
    _path(path, "workdir")
    return path if path[0] == "/" else posixpath.normpath(posixpath.join(base, path))


def _priority(priority: int | str | None, of_queue: int) -> int:
    if priority is None:
        return of_queue
    if isinstance(priority, str):
        known = PRIORITIES.get(priority.lower())
        if known is not None:
            return known
        if not re.fullmatch(r"-?[0-9]{1,9}", priority):
            raise Misuse(
                f"there is no priority '{priority}'",
                field="priority",
                hint=f"write {_PRIORITY_RANGE}, or one of {', '.join(PRIORITIES)}",
            )
        priority = int(priority)
    if not limits.PRIORITY_MIN <= priority <= limits.PRIORITY_MAX:
        raise Misuse(
            f"the priority {priority} is out of range",
            field="priority",
            hint=f"write {_PRIORITY_RANGE}; higher goes first",
        )
    return priority


def _limit(asked: Amount | None, queue: Queue | None) -> Ms | None:
    if asked is None:
        return queue.limit_ms if queue else None
    return _positive(asked, "time_limit")


def _deadline(asked: Amount | None, now_ms: Ms | None) -> Ms | None:
    if asked is None:
        return None
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return parse_moment_ms(asked, now_ms, "deadline")


def _positive(asked: Amount | None, field: str) -> Ms | None:
    if asked is None:
        return None
    ms = parse_duration_ms(asked, field)
    if ms == 0:
        raise Misuse(f"{field} must be more than nothing", field=field)
    return ms


@lru_cache(maxsize=256)
def _signal(name: str | int, field: str) -> int:
    text = str(name).strip().upper()
    numbers = {each.name.removeprefix("SIG"): each.value for each in signal.Signals}
    if text.isascii() and text.isdigit():
        number = int(text) if int(text) in numbers.values() else None
    else:
        number = numbers.get(text.removeprefix("SIG"))
    if number is None:
        close = difflib.get_close_matches(text, numbers, n=1)
        hint = f"did you mean {close[0]}?" if close else "write for example TERM, INT or USR1"
        raise Misuse(f"there is no signal '{name}'", field=field, hint=hint)
    if number in (signal.SIGKILL, signal.SIGSTOP):
        raise Misuse(
            f"no program can notice {text}",
            field=field,
            hint="write for example TERM, INT or USR1; KILL follows after the grace",
        )
    return number


def _resize_signal(name: str | int | None, members_max: int) -> int:
    if name is None:
        return 0
    if not members_max:
        raise Misuse(
            "resize_signal has no effect: the number of members never changes",
            field="resize_signal",
            hint='leave it out, or write members: "2-8"',
        )
    return _signal(name, "resize_signal")


def _grace(asked: Amount | None) -> Ms:
    if asked is None:
        return limits.GRACE_MS_DEFAULT
    ms = parse_duration_ms(asked, "preempt.grace")
    if ms > limits.GRACE_MS_MAX:
        most = format_duration(limits.GRACE_MS_MAX)
        raise Misuse(
            f"a grace of {asked} is more than {most}", field="preempt.grace", hint="ask for less"
        )
    return ms


def _output_bytes(asked: Amount | None) -> int:
    if asked is None:
        return limits.OUTPUT_BYTES_DEFAULT
    return parse_size_bytes(asked, "output_limit")


def _retries(retry: int | RetryRequest) -> int:
    count = retry if isinstance(retry, int) else retry.max
    if not 0 <= count <= limits.RETRIES_MAX:
        raise Misuse(f"retry must be 0 to {limits.RETRIES_MAX}, not {count}", field="retry")
    return count


def _labels(labels: Mapping[str, str | int | float]) -> tuple[tuple[str, str], ...]:
    if len(labels) > LABELS_MAX:
        raise Misuse(f"more than {LABELS_MAX} labels", field="labels")
    if "" in labels:
        raise Misuse("a label has no name", field="labels")
    return tuple(
        sorted(
            (printable(name, "labels"), printable(str(value), "labels"))
            for name, value in labels.items()
        )
    )


def _named(amounts: Mapping[str, int], field: str) -> tuple[tuple[str, int], ...]:
    """Return amounts of named resources, sorted by name."""
    for name, amount in amounts.items():
        if not 1 <= amount <= limits.AMOUNT_MAX:
            raise Misuse(
                f"{amount} {name}: nobody can ask for that", field=field, hint="1 or more of each"
            )
    return tuple(sorted((printable(name, field), amount) for name, amount in amounts.items()))


_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10})(?::([0-9]{1,10}))?)?")


@lru_cache(maxsize=64)
def parse_array(text: str) -> tuple[int, ...]:
    """Return the indices of "0-9", "0-99:2" (step) or "1,3,5-7", in order; raises Misuse."""
    indices: dict[int, None] = {}
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if "%" in part:
            raise Misuse("a limit (%) on an array is not supported yet", field="array")
        if found is None:
            raise Misuse(
                f"cannot read the array '{text}'"[:LINE_CHARS_MAX],
                field="array",
                hint='write for example "0-9", "0-99:2" or "1,3,5-7"',
            )
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if last < first or step == 0:
            raise Misuse(f"the range '{part}' is empty", field="array")
        if last > ARRAY_INDEX_MAX:
            raise Misuse(f"an array index is at most {ARRAY_INDEX_MAX}", field="array")
        several = range(first, last + 1, step)
        _check_count(len(indices) + len(several))  # before any of them is made
        if any(index in indices for index in several):
            raise Misuse(f"the range '{part}' repeats an index", field="array")
        indices.update(dict.fromkeys(several))
    return tuple(indices)
