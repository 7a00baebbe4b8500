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
from fairlead.model.jobs import JobSpec, Queue
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape, Spread
from fairlead.model.units import (
    format_duration,
    parse_cpu_milli,
    parse_duration_ms,
    parse_size_bytes,
    parse_size_mib,
)
from fairlead.service.moments import parse_moment_ms
from fairlead.service.request import BODY, JOB, MembersRequest, ResourcesRequest, RetryRequest

PRIORITIES = {"low": 10, "normal": 50, "high": 90}
ARRAY_INDEX_MAX = 1_000_000_000
LABELS_MAX = 100
PATH_CHARS_MAX = 4096
LINE_CHARS_MAX = 200  # of a text that is quoted in a message
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
    _printable(whole.request, "request")
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
    queue = effective(defaults.queues, request.queue or defaults.queue)
    members, members_max = _members(request.members, "members")
    nodes, nodes_max = _members(request.nodes, "nodes")
    spec = JobSpec(
        shape=_shape(request.resources, members, nodes, request.spread, members_max or nodes_max),
        name=_printable(request.name, "name") if request.name else _name_of(request.run),
        user=defaults.user,
        tenant=_printable(request.tenant, "tenant") or defaults.tenant,
        queue=_printable(request.queue, "queue") or defaults.queue,
        priority=_priority(request.priority, queue.priority if queue else PRIORITIES["normal"]),
        command=_command(request.run),
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
        members_max=members_max or nodes_max,
        resize_signal=_resize_signal(request.resize_signal, members_max or nodes_max),
        counted=_named(request.licenses, "licenses") if request.licenses else (),
        may_acquire=_named(request.may_acquire, "may_acquire") if request.may_acquire else (),
        job_type=_printable(request.job_type.strip(), "job_type"),
        steps=request.steps or 0,
    )
    array = request.array
    return spec, parse_array(array if isinstance(array, str) else array.index) if array else ()


# One function per key.


@lru_cache(maxsize=256)
def _members(asked: int | str | MembersRequest | None, field: str) -> tuple[int | None, int]:
    """Return the least number of 4, "4", "2-8" or {min: 2, max: 8}, and the most; 0: no more."""
    if asked is None or isinstance(asked, int):
        return asked, 0
    if isinstance(asked, str):
        found = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", asked)
        if found is None:
            raise Misuse(
                f"cannot read {field} '{asked[:LINE_CHARS_MAX]}'",
                field=field,
                hint='write 4, or "2-8" for a job that can use more while it runs',
            )
        asked = MembersRequest(min=int(found[1]), max=int(found[2] or found[1]))
    if asked.max < asked.min:
        raise Misuse(
            f"{field}: the most, {asked.max}, is below the least, {asked.min}", field=field
        )
    if asked.max > limits.MEMBERS_MAX:
        raise Misuse(f"{field} must be 1 to {limits.MEMBERS_MAX}, not {asked.max}", field=field)
    return asked.min, asked.max if asked.max > asked.min else 0


@lru_cache(maxsize=1024)
def _shape(
    asked: ResourcesRequest,
    members: int | None,
    nodes: int | None,
    spread: Spread | None,
    most: int,
) -> Shape:
    gpus, gpu_milli, models = _gpus(asked)
    cpu_milli = parse_cpu_milli(asked.cpus, "resources.cpus")
    if cpu_milli == 0:
        raise Misuse("a job needs some CPU", field="resources.cpus", hint="write 0.1 for little")
    if nodes is not None:  # one member on each of so many nodes
        if members is not None or spread is not None:
            raise Misuse(
                "nodes is short for members with spread: distinct-nodes",
                field="nodes",
                hint="give nodes, or members and spread",
            )
        members, spread = nodes, "distinct-nodes" if max(nodes, most) > 1 else "any"
    members = 1 if members is None else members
    if not 1 <= members <= limits.MEMBERS_MAX:
        field = "nodes" if nodes is not None else "members"
        raise Misuse(f"{field} must be 1 to {limits.MEMBERS_MAX}, not {members}", field=field)
    return Shape(
        cpu_milli=cpu_milli,
        memory_mib=_mib(asked.memory, "resources.memory"),
        disk_mib=_mib(asked.disk, "resources.disk"),
        gpus=gpus,
        gpu_milli=gpu_milli,
        gpu_memory_mib=_mib(asked.gpu_memory, "resources.gpu_memory"),
        gpu_models=models,
        members=members,
        spread=spread or "any",
    )


def _mib(amount: Amount | None, field: str) -> int:
    return 0 if amount is None else parse_size_mib(amount, field)


def _gpus(asked: ResourcesRequest) -> tuple[int, int, tuple[str, ...]]:
    """Return whole devices, thousandths of one, and models of 2, 0.5, "H100:2" or "H100"."""
    count, models = asked.gpus, asked.gpu_type
    models = (models,) if isinstance(models, str) else models
    if isinstance(count, str) and not re.fullmatch(r"-?[0-9.]*m?", count):
        model, _, rest = count.partition(":")
        if models:
            raise Misuse(
                f"the type is given twice: gpus '{count}' and gpu_type", field="resources.gpu_type"
            )
        count, models = rest or 1, (model,)
    for model in models:
        if not model:
            raise Misuse("a GPU type is empty", field="resources.gpu_type")
        _printable(model, "resources.gpu_type")
    try:
        milli = parse_cpu_milli(count, "resources.gpus")
    except Misuse as wrong:
        if "negative" in wrong.message:
            raise Misuse("gpus cannot be negative", field=wrong.field) from None
        raise Misuse(
            f"cannot read gpus '{asked.gpus}'",
            field="resources.gpus",
            hint='write a whole number, a fraction such as 0.5, or "H100:2"',
        ) from None
    whole, part = divmod(milli, WHOLE_GPU_MILLI)
    if whole and part:
        raise Misuse(
            f"{asked.gpus} GPUs: ask for whole ones, or for a fraction of one",
            field="resources.gpus",
            hint=f"write {whole} or {whole + 1}, or members: 2 with a fraction each",
        )
    if whole > limits.DEVICES_PER_NODE_MAX:
        raise Misuse(
            f"{whole} GPUs are more than a node can have, {limits.DEVICES_PER_NODE_MAX}",
            field="resources.gpus",
            hint="ask for several members with fewer each",
        )
    if models and not milli:
        raise Misuse("a GPU type without gpus", field="resources.gpu_type", hint="add gpus: 1")
    return whole, part, tuple(sorted(set(models)))


def _printable(text: str, field: str) -> str:
    if len(text) > limits.NAME_CHARS_MAX:
        raise Misuse(f"{field} has more than {limits.NAME_CHARS_MAX} characters", field=field)
    if not text.isprintable():
        raise Misuse(f"{field} has characters that cannot be shown", field=field)
    return text


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
            (_printable(name, "labels"), _printable(str(value), "labels"))
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
    return tuple(sorted((_printable(name, field), amount) for name, amount in amounts.items()))


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
