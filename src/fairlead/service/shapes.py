"""What one member of a job asks for, and how many there are and where: from words to a `Shape`."""

from __future__ import annotations

import re
from functools import lru_cache

from fairlead.model import limits
from fairlead.model.base import Misuse
from fairlead.model.document import Amount
from fairlead.model.resources import WHOLE_GPU_MILLI, Shape, Spread
from fairlead.model.topology import Closeness, parse_topology
from fairlead.model.units import parse_cpu_milli, parse_size_mib
from fairlead.service.request import MembersRequest, ResourcesRequest, TopologyRequest

LINE_CHARS_MAX = 200  # of a text that is quoted in a message


@lru_cache(maxsize=256)
def members_of(asked: int | str | MembersRequest | None, field: str) -> tuple[int | None, int]:
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
def shape_of(
    asked: ResourcesRequest,
    members: int | None,
    nodes: int | None,
    spread: Spread | None,
    most: int,
    topology: str | TopologyRequest,
) -> Shape:
    """Return what one member asks for, and the rules of the gang; raises Misuse.

    `most` is the most members of a job that can use more while it runs, else 0.
    """
    (gpus, gpu_milli), models = _gpus(asked)
    parts: tuple[int, ...] = ()
    if asked.gpu_split:
        gpus, parts = _split(asked)
        gpu_milli = sum(parts)
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
    close = closeness(topology, spread)
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
        gpu_parts=parts if len(parts) > 1 else (),
        gpu_memory_mib=_mib(asked.gpu_memory, "resources.gpu_memory"),
        gpu_models=models,
        members=members,
        spread=spread or "any",
        within=close.required if max(members, most) > 1 else "",
        near=close.preferred if max(members, most) > 1 else "",
    )


def closeness(asked: str | TopologyRequest, spread: Spread | None) -> Closeness:
    """Return how close together members have to be; raises Misuse."""
    if not asked:
        return Closeness()
    if isinstance(asked, str):
        return parse_topology(asked, spread or "any")
    levels = {"required": asked.required, "preferred": asked.preferred}
    return parse_topology({word: level for word, level in levels.items() if level}, spread or "any")


def _mib(amount: Amount | None, field: str) -> int:
    return 0 if amount is None else parse_size_mib(amount, field)


def _gpus(asked: ResourcesRequest) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Return whole devices, thousandths of one more, and models of 2, 1.5, "H100:2" or "H100"."""
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
        printable(model, "resources.gpu_type")
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
    _check_count(whole + bool(part), "resources.gpus")
    if models and not (milli or asked.gpu_split):
        raise Misuse("a GPU type without gpus", field="resources.gpu_type", hint="add gpus: 1")
    return (whole, part), tuple(sorted(set(models)))


def _split(asked: ResourcesRequest) -> tuple[int, tuple[int, ...]]:
    """Return whole devices, and the thousandths of others, of [1, 0.5] or "0.5,0.25"."""
    field = "resources.gpu_split"
    if asked.gpus:
        raise Misuse("gpus and gpu_split both say how much", field=field, hint="keep one of them")
    parts = asked.gpu_split
    if isinstance(parts, str):
        parts = tuple(part.strip() for part in parts.split(","))
    _check_count(len(parts), field)
    taken = sorted((_part(part, field) for part in parts), reverse=True)
    whole = taken.count(WHOLE_GPU_MILLI)
    return whole, tuple(taken[whole:])


def _part(part: Amount, field: str) -> int:
    """Return the thousandths that are taken of one GPU."""
    hint = "write what it takes of each, up to 1: [1, 0.5]"
    try:
        milli = parse_cpu_milli(part, field)
    except Misuse:
        raise Misuse(f"cannot read '{part}' in gpu_split", field=field, hint=hint) from None
    if not 1 <= milli <= WHOLE_GPU_MILLI:
        raise Misuse(f"gpu_split: {part} is no part of one GPU", field=field, hint=hint)
    return milli


def _check_count(devices: int, field: str) -> None:
    if devices > limits.DEVICES_PER_NODE_MAX:
        raise Misuse(
            f"{devices} GPUs are more than a node can have, {limits.DEVICES_PER_NODE_MAX}",
            field=field,
            hint="ask for several members with fewer each",
        )


def printable(text: str, field: str) -> str:
    """Return a text that can be shown; Misuse for one that cannot, or is too long."""
    if len(text) > limits.NAME_CHARS_MAX:
        raise Misuse(f"{field} has more than {limits.NAME_CHARS_MAX} characters", field=field)
    if not text.isprintable():
        raise Misuse(f"{field} has characters that cannot be shown", field=field)
    return text
