"""Earliest start beside reservations, through a plan of one machine: its cores are the nodes."""

from __future__ import annotations

from typing import Any

from fairlead.core.engine import Core
from fairlead.core.ledger import Request
from fairlead.model.events import (
    AnyEvent,
    MemberStarted,
    NodeJoined,
    Placed,
    ReservationSet,
    Submitted,
)
from fairlead.model.jobs import JobSpec, Reservation
from fairlead.model.resources import Node, Shape, Slot
from fairlead.policy.place import score
from fairlead.policy.place.fit import Fit
from fairlead.policy.plan import Plan

HERE = (Slot(node=0),)


def answer(given: dict[str, Any]) -> dict[str, Any]:
    core, now = Core(), given["now"]
    events: list[AnyEvent] = [
        NodeJoined(node=0, spec=Node(name="all", cpu_milli=1000 * given["nodes"]))
    ]
    for number, job in enumerate(given["running"], 1):
        spec = JobSpec(shape=cores(job["nodes"]), limit_ms=job["ends_by"] - now)
        events.append(Submitted(job=number, spec=spec))
        events.append(Placed(job=number, attempt=1, slots=HERE))
        events.append(MemberStarted(job=number, attempt=1, rank=0))
    for number, each in enumerate(given["reservations"]):
        made = Reservation(
            name=f"r{number}",
            start_ms=each["start"],
            end_ms=each["end"],
            tenants=(each["owner"],) if "owner" in each else (),
            shape=cores(each["nodes"]),
            slots=HERE,
        )
        events.append(ReservationSet(reservation=made))
    for event in events:
        core.apply(now, event)
    job = given["job"]
    plan = Plan(core, Fit(core.ledger, score.build("best-fit")), job.get("owner", ""))
    found = plan.earliest(Request(cores(job["nodes"])), job["limit"])
    return {"start": None if found is None else found[0]}


def cores(count: int) -> Shape:
    return Shape(cpu_milli=1000 * count)
