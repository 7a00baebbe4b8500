"""The gate for reservations: what cannot be kept is refused, with the earliest that can.

A reservation is a promise to those it is for, so it is made only where nothing that runs now, by
its time limit, and no other reservation can be in its way. Draining asks nobody: a drain lets what
runs come to its end and starts nothing new.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

import msgspec

from fairlead.core.ends import FAR
from fairlead.core.engine import Core
from fairlead.core.jobs import Job
from fairlead.core.ledger import HOST
from fairlead.model import limits
from fairlead.model.base import JobId, Misuse, Ms, NodeId, Refused
from fairlead.model.jobs import LIVE, Phase, Reservation
from fairlead.model.units import format_duration, format_moment

DRAIN = "drain-"
NAMES_SHOWN = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def limit_of(job: Job) -> Ms:
    """Return how long an attempt of the job may run at most; FAR: nothing stops it."""
    return FAR if job.spec.limit_ms is None else job.spec.limit_ms


def last_end(core: Core, job: Job) -> Ms:
    """Return when a live job is gone at the latest, by its time limit."""
    if job.phase is Phase.STOPPING:
        return core.ends.get(job.id)
    started = core.clock if job.started_ms is None else job.started_ms
    return min(started + limit_of(job), FAR)


def end_of(reservation: Reservation) -> Ms:
    """Return when it ends; FAR: when it is deleted."""
    return FAR if reservation.end_ms is None else reservation.end_ms


def is_drain(reservation: Reservation) -> bool:
    """Whether it is a drained node rather than something that somebody planned."""
    return reservation.name.startswith(DRAIN)


def in_words(each: Reservation) -> str:
    """Return who it is for, from when, until when."""
    if is_drain(each):
        return "drained until somebody resumes it"
    who = f"for {', '.join(each.tenants)}" if each.tenants else "for nobody"
    until = "until it is deleted" if each.end_ms is None else f"to {format_moment(each.end_ms)}"
    return f"{who}, {format_moment(each.start_ms)} {until}"


def node_named(core: Core, name: str, field: str = "nodes") -> NodeId:
    """Return a node by its name; Misuse suggests the nearest."""
    node = core.node_ids.get(name)
    if node is None:
        close = difflib.get_close_matches(name, core.node_ids, n=1)
        known = ", ".join(sorted(core.node_ids)[:NAMES_SHOWN]) or "none yet"
        hint = f"did you mean '{close[0]}'?" if close else f"the nodes are: {known}"
        raise Misuse(f"there is no node '{name}'", field=field, hint=hint, code="not-found")
    return node


def check_times(start: Ms, end: Ms | None, now: Ms) -> None:
    """Raise Misuse for times that cannot be meant."""
    if start < now:
        ago = format_duration(now - start, exact=False)
        raise Misuse(f"the start is {ago} in the past", field="start", hint="write now, or later")
    if start - now > limits.RESERVATION_AHEAD_MS_MAX:
        most = format_duration(limits.RESERVATION_AHEAD_MS_MAX)
        raise Misuse(f"the start is more than {most} away", field="start", hint="an earlier one")
    if end is not None and end <= start:
        raise Misuse("the end is not after the start", field="end", hint="an end after the start")
    if end is not None and end - start > limits.RESERVATION_MS_MAX:
        most = format_duration(limits.RESERVATION_MS_MAX)
        hint = "a shorter one, or none at all: then it lasts until it is deleted"
        raise Misuse(f"it is longer than {most}", field="end", hint=hint)


def check_name(name: str, known: Mapping[str, Reservation]) -> None:
    """Raise Misuse for a name that cannot be one, Refused for one that is taken."""
    if not _NAME.fullmatch(name) or len(name) > limits.NAME_CHARS_MAX:
        hint = "letters, digits, dots, dashes, at most 200, such as kernel-2026-12"
        raise Misuse(f"'{name[:60]}' is no name for a reservation", field="name", hint=hint)
    if name.startswith(DRAIN):
        hint = f"fairlead node drain {name.removeprefix(DRAIN) or 'NODE'}"
        raise Misuse(f"names that begin with {DRAIN} are those of drains", field="name", hint=hint)
    if name in known:
        raise Refused(
            f"there is a reservation '{name}' already: {in_words(known[name])}",
            field="name",
            hint=f"another name, or first: fairlead reservation delete {name}",
            code="name-taken",
        )
    if len(known) >= limits.RESERVATIONS_MAX:
        raise Refused(
            f"there are {len(known)} reservations, the most there may be",
            field="name",
            hint="delete some: fairlead reservation list",
            code="too-many-reservations",
        )


def check(core: Core, asked: Reservation, now: Ms, known: Mapping[str, Reservation]) -> None:
    """Raise Misuse or Refused, in words, for a reservation that cannot be made now.

    `known`: those there are, with those that are about to be.
    """
    check_name(asked.name, known)
    check_times(asked.start_ms, asked.end_ms, now)
    others = [each for each in known.values() if end_of(each) > now]
    _check_capacity(core, asked)
    clash = _clash(core, asked, others)
    if clash is not None:
        raise Refused(
            f"it overlaps with reservation '{clash.name}' ({in_words(clash)})",
            field="start",
            hint=_earliest_hint(core, asked, others, now),
            code="overlaps",
        )
    promised = _promised(core, asked)
    if promised:
        shown = ", ".join(map(str, promised[:NAMES_SHOWN]))
        raise Refused(
            f"jobs were promised to run there for their deadlines: {shown}",
            field="start",
            hint="choose a time when they are done (fairlead why ID), or cancel them",
            code="promised",
        )
    running = _running(core, asked)
    if running:
        shown = ", ".join(f"{job.id} ({_until(core, job)})" for job in running[:NAMES_SHOWN])
        more = f" and {len(running) - NAMES_SHOWN} more" if len(running) > NAMES_SHOWN else ""
        raise Refused(
            f"jobs there could still run when it begins: {shown}{more}",
            field="start",
            hint=_earliest_hint(core, asked, others, now),
            code="in-use",
        )


def _until(core: Core, job: Job) -> str:
    end = last_end(core, job)
    return "no time limit" if end >= FAR else f"until {format_moment(end)} at the latest"


def _nodes(each: Reservation) -> set[NodeId]:
    return {*each.nodes, *(slot.node for slot in each.slots)}


def _amounts(those: Iterable[Reservation], node: NodeId) -> list[int]:
    total = [0] * HOST
    for each in those:
        count = sum(slot.node == node for slot in each.slots)
        if each.shape is not None and count:
            for row, amount in enumerate(each.shape.amounts()):
                total[row] += count * amount
    return total


def _devices(each: Reservation, node: NodeId) -> set[int]:
    return {device for slot in each.slots if slot.node == node for device in slot.devices}


def _too_much(core: Core, node: NodeId, amounts: list[int]) -> bool:
    capacity = core.ledger.capacity[:HOST, node].tolist()
    return any(amount > most for amount, most in zip(amounts, capacity, strict=True))


def _check_capacity(core: Core, asked: Reservation) -> None:
    if not _nodes(asked):
        raise Misuse("it reserves nothing", field="nodes", hint="name nodes, gpus or cpus")
    for node in asked.nodes:
        assert 0 <= node < len(core.nodes), "names have been looked up"
    for node in {slot.node for slot in asked.slots}:
        if _too_much(core, node, _amounts([asked], node)):
            name = core.nodes[node].spec.name
            raise Refused(f"that is more than node {name} has", field="cpus", code="never-fits")


def _clash(core: Core, asked: Reservation, others: Iterable[Reservation]) -> Reservation | None:
    """Return a reservation that cannot be kept beside the one asked for, None if there is none."""
    near = [
        each
        for each in others
        if each.start_ms < end_of(asked)
        and asked.start_ms < end_of(each)
        and _nodes(each) & _nodes(asked)
    ]
    near.sort(key=lambda each: (each.start_ms, each.name))
    for each in near:
        for node in _nodes(each) & _nodes(asked):
            whole = node in each.nodes or node in asked.nodes
            if whole or _devices(each, node) & _devices(asked, node):
                return each
            if _too_much(core, node, _amounts([asked, *near], node)):
                return each
    return None


def _promised(core: Core, asked: Reservation) -> list[JobId]:
    """Return the jobs of others with deadlines that were promised a start on its nodes."""
    found = []
    for job in core.promises.values():
        promise = job.promise
        if promise is None or job.spec.deadline_ms is None or job.spec.tenant in asked.tenants:
            continue
        there = {slot.node for slot in promise.slots} & _nodes(asked)
        if there and promise.start_ms < end_of(asked) and asked.start_ms < promise.end_ms:
            found.append(job.id)
    return found


def _running(core: Core, asked: Reservation) -> list[Job]:
    """Return the jobs of others that could still hold at its start what is asked for."""
    found: dict[int, Job] = {}
    for node in _nodes(asked):
        there = {job.id: job for job in core.nodes[node].members.values() if job.phase in LIVE}
        late = [
            job
            for job in there.values()
            if job.spec.tenant not in asked.tenants and last_end(core, job) > asked.start_ms
        ]
        if node in asked.nodes:
            found |= {job.id: job for job in late}
            continue
        amounts = _amounts([asked], node)
        for job in late:
            for its, slots in core.shapes[job.shape_id].split(job.slots):
                here = [slot for slot in slots if slot.node == node]
                if any(set(slot.devices) & _devices(asked, node) for slot in here):
                    found[job.id] = job
                for row, amount in enumerate(its.host):
                    amounts[row] += len(here) * amount
        if _too_much(core, node, amounts):
            found |= {job.id: job for job in late}
    return sorted(found.values(), key=lambda job: (-last_end(core, job), job.id))


def _earliest_hint(core: Core, asked: Reservation, others: list[Reservation], now: Ms) -> str:
    start = _earliest(core, asked, others)
    if start is not None:
        wait = format_duration(start - now, exact=False)
        return f"the earliest start that works: {format_moment(start)} (in {wait})"
    endless = [str(job.id) for job in _running(core, asked) if last_end(core, job) >= FAR]
    if endless:
        those = ", ".join(endless[:NAMES_SHOWN])
        return f"without a time limit nobody knows when they end: cancel {those}, or drain the node"
    return "no later start works either: delete the other reservation, or ask for less"


def _earliest(core: Core, asked: Reservation, others: list[Reservation]) -> Ms | None:
    """Return the first start, not before the one asked for, that nothing is in the way of."""
    jobs = {job.id: job for n in _nodes(asked) for job in core.nodes[n].members.values()}
    times = {end_of(each) for each in others} | {last_end(core, job) for job in jobs.values()}
    length = end_of(asked) - asked.start_ms
    for start in sorted(time for time in times if asked.start_ms < time < FAR):
        end = None if asked.end_ms is None else start + length
        later = msgspec.structs.replace(asked, start_ms=start, end_ms=end)
        if _clash(core, later, others) is None and not _running(core, later):
            return start
    return None
