"""Reservations and drains as clients ask for them and see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fairlead.core.engine import Core
from fairlead.core.reserve import DRAIN, check, check_name, check_times, is_drain, node_named
from fairlead.model import limits
from fairlead.model.base import Misuse, Ms, Record
from fairlead.model.events import AnyEvent, ReservationDeleted, ReservationSet
from fairlead.model.jobs import Reservation
from fairlead.model.units import parse_cpu_milli, parse_duration_ms, parse_size_mib
from fairlead.policy.place import score
from fairlead.policy.place.fit import Fit
from fairlead.policy.reserve import Amount, choose
from fairlead.service.commands import Batch

_REASON_CHARS_MAX = 1000


class ReservationRequest(Record, frozen=True):
    """What a client asks for: whole nodes, or GPUs, or cores; from when, and until when."""

    name: str
    start_ms: int | None = None  # None: now
    end_ms: int | None = None
    duration: str | None = None  # instead of end_ms, such as "3h"; neither: until it is deleted
    nodes: tuple[str, ...] = ()
    all_nodes: bool = False
    gpus: int = 0
    gpu_type: tuple[str, ...] = ()
    cpus: str | float = 0  # in all
    memory: str = ""  # in all
    tenants: tuple[str, ...] = ()  # who may use it; empty: nobody
    reason: str = ""


def parse(body: Any) -> ReservationRequest:
    """Return the request of a body; Misuse names the field."""
    if not isinstance(body, dict):
        raise Misuse("the body is a JSON object", hint="see /openapi.json")
    try:
        asked = msgspec.convert(body, ReservationRequest)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise Misuse(text, field=path.rstrip("`"), hint="see /openapi.json") from None
    if asked.end_ms is not None and asked.duration is not None:
        raise Misuse("an end and a duration too", field="duration", hint="give one of them")
    whole = bool(asked.nodes) or asked.all_nodes
    amount = bool(asked.gpus or asked.cpus or asked.memory)
    if whole and amount:
        raise Misuse("whole nodes and amounts", field="nodes", hint="make two reservations")
    if not whole and not amount:
        hint = "name nodes, or all nodes, or GPUs, or cores"
        raise Misuse("it does not say what to reserve", field="nodes", hint=hint)
    if asked.gpus < 0:
        raise Misuse(f"gpus: {asked.gpus}", field="gpus", hint="a whole number from 1 on")
    if asked.gpu_type and not asked.gpus:
        raise Misuse("a GPU type without GPUs", field="gpu_type", hint="say how many: gpus")
    _check_words(asked)
    return asked


def _check_words(asked: ReservationRequest) -> None:
    most = limits.NAME_CHARS_MAX
    if len(asked.tenants) > limits.RESERVATION_TENANTS_MAX:
        raise Misuse(f"more than {limits.RESERVATION_TENANTS_MAX} tenants", field="tenants")
    if not all(0 < len(tenant) <= most for tenant in asked.tenants):
        raise Misuse(f"a tenant's name has 1 to {most} characters", field="tenants")
    if len(asked.reason) > _REASON_CHARS_MAX:
        raise Misuse(f"more than {_REASON_CHARS_MAX} characters", field="reason")


def build(
    core: Core, asked: ReservationRequest, user: str, now: Ms, known: Mapping[str, Reservation]
) -> Reservation:
    """Return the reservation that is asked for; Misuse or Refused if it cannot be made."""
    check_name(asked.name, known)
    start = now if asked.start_ms is None else asked.start_ms
    end = asked.end_ms
    if asked.duration is not None:
        end = start + parse_duration_ms(asked.duration, "duration")
    check_times(start, end, now)
    made = Reservation(
        name=asked.name,
        start_ms=start,
        end_ms=end,
        tenants=tuple(dict.fromkeys(asked.tenants)),
        user=user,
        because=asked.reason,
    )
    if asked.all_nodes:
        made = msgspec.structs.replace(made, nodes=tuple(range(len(core.nodes))))
    elif asked.nodes:
        nodes = tuple(sorted({node_named(core, name) for name in asked.nodes}))
        made = msgspec.structs.replace(made, nodes=nodes)
    else:
        amount = Amount(
            cpu_milli=parse_cpu_milli(asked.cpus, "cpus"),
            memory_mib=parse_size_mib(asked.memory, "memory") if asked.memory else 0,
            gpus=asked.gpus,
            gpu_models=tuple(sorted(set(asked.gpu_type))),
        )
        gpus_last = core.policy.cpu_only == "last"
        fit = Fit(core.ledger, score.build(core.policy.placement), gpus_last=gpus_last)
        shape, slots = choose(core, fit, amount, start, end, now)
        made = msgspec.structs.replace(made, shape=shape, slots=slots)
    check(core, made, now, known)
    return made


class Reserve:
    """Make a reservation. Answers with it."""

    def __init__(self, body: Any, user: str, now: Ms) -> None:
        self.asked, self.user, self.now = parse(body), user, now
        self.made: Reservation | None = None

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Refuse what cannot be kept."""
        known = {**batch.core.reservations, **batch.reserved}
        now = max(self.now, batch.core.clock)
        if self.asked.start_ms is not None and self.now <= self.asked.start_ms < now:
            now = self.asked.start_ms  # it was not in the past when it was asked for
        made = build(batch.core, self.asked, self.user, now, known)
        self.made = batch.reserved[made.name] = made
        return [ReservationSet(reservation=made)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return the reservation as it was made."""
        assert self.made is not None
        return view(core, self.made)


class Unreserve:
    """Delete a reservation. Answers with what it was."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.was: Reservation | None = None

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """Misuse "not-found" when there is none."""
        known = {**batch.core.reservations, **batch.reserved}
        self.was = known.get(self.name)
        if self.was is None:
            from difflib import get_close_matches

            close = get_close_matches(self.name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "fairlead reservation list"
            message = f"there is no reservation '{self.name}'"
            raise Misuse(message, field="name", hint=hint, code="not-found")
        return [ReservationDeleted(name=self.name)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return what it was."""
        assert self.was is not None
        return view(core, self.was)


class Drain:
    """Start nothing new on a node, let end what runs. Answers with the drain; idempotent."""

    def __init__(self, node: str, reason: str, user: str, now: Ms) -> None:
        self.node, self.reason, self.user, self.now = node, reason, user, now
        self.made: Reservation | None = None

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """A node that is drained already stays as it is."""
        node = node_named(batch.core, self.node, "name")
        if len(self.reason) > _REASON_CHARS_MAX:
            raise Misuse(f"more than {_REASON_CHARS_MAX} characters", field="reason")
        name = DRAIN + self.node
        known = batch.core.reservations.get(name) or batch.reserved.get(name)
        if known is not None:
            self.made = known
            return ()
        now = max(self.now, batch.core.clock)
        self.made = batch.reserved[name] = Reservation(
            name=name, start_ms=now, nodes=(node,), user=self.user, because=self.reason
        )
        return [ReservationSet(reservation=self.made)]

    def answer(self, core: Core) -> dict[str, Any]:
        """Return the node's state and the jobs that still run there."""
        assert self.made is not None
        node = self.made.nodes[0]
        running = sorted({job.id for job in core.nodes[node].members.values()})
        return {"node": self.node, "drained": True, "jobs": running, **_when(self.made)}


class Resume:
    """Start jobs on a node again; idempotent."""

    def __init__(self, node: str) -> None:
        self.node, self.was = node, False

    def plan(self, batch: Batch) -> Sequence[AnyEvent]:
        """A node that is not drained stays as it is."""
        node_named(batch.core, self.node, "name")
        name = DRAIN + self.node
        self.was = name in batch.core.reservations or name in batch.reserved
        return [ReservationDeleted(name=name)] if self.was else ()

    def answer(self, core: Core) -> dict[str, Any]:
        """Return the node's state, and whether it was drained."""
        return {"node": self.node, "drained": False, "was_drained": self.was}


def _when(each: Reservation) -> dict[str, Any]:
    return {"start_ms": each.start_ms, "end_ms": each.end_ms, "reason": each.because}


def view(core: Core, each: Reservation) -> dict[str, Any]:
    """Return a reservation with every field, nodes by name, amounts in all."""
    names = [node.spec.name for node in core.nodes]
    shape, count = each.shape, len(each.slots)
    return {
        "name": each.name,
        "start_ms": each.start_ms,
        "end_ms": each.end_ms,
        "tenants": each.tenants,
        "nodes": [names[node] for node in each.nodes],
        "gpus": shape.gpus * count if shape else 0,
        "gpu_type": shape.gpu_models if shape else (),
        "cpu_milli": shape.cpu_milli * count if shape else 0,
        "memory_mib": shape.memory_mib * count if shape else 0,
        "slots": [{"node": names[slot.node], "devices": slot.devices} for slot in each.slots],
        "drain": is_drain(each),
        "active": each.start_ms <= core.clock,
        "user": each.user,
        "reason": each.because,
    }


def on_nodes(core: Core) -> dict[int, list[dict[str, Any]]]:
    """Return, for each node with reservations, what `nodes` says of them, earliest first."""
    found: dict[int, list[dict[str, Any]]] = {}
    for each in sorted(core.reservations.values(), key=lambda each: (each.start_ms, each.name)):
        for node in sorted({*each.nodes, *(slot.node for slot in each.slots)}):
            whole = node in each.nodes
            words = {"name": each.name, "tenants": each.tenants, "whole": whole, **_when(each)}
            found.setdefault(node, []).append({**words, "drain": is_drain(each)})
    return found
